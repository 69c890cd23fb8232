//! Stream entries, parsed as bytes: an entry may hold no text, other fields or none.

use bytes::Bytes;
use fred::types::Value;
use shared::contract::redis::keys::ENTRY_FIELD;

/// A stream entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its id, used to acknowledge it.
    pub(super) id: String,
    body: Option<Bytes>,
}

impl Entry {
    /// Its body, if that is text.
    pub(super) fn text(&self) -> Option<&str> {
        std::str::from_utf8(self.body.as_deref()?).ok()
    }
}

/// Parses a reply to XREADGROUP: entries by stream.
pub(super) fn parse_read(answer: Value) -> Vec<Entry> {
    match answer {
        Value::Map(streams) => streams.inner().into_values().flat_map(entries).collect(),
        // RESP2 returns pairs.
        Value::Array(streams) => {
            streams.into_iter().filter_map(array).filter_map(|mut pair| pair.pop()).flat_map(entries).collect()
        }
        _ => Vec::new(),
    }
}

/// Parses a reply to XAUTOCLAIM: the next start, the entries, and deleted ids.
pub(super) fn parse_claimed(answer: Value) -> Vec<Entry> {
    array(answer).and_then(|answer| answer.into_iter().nth(1)).map(entries).unwrap_or_default()
}

fn entries(value: Value) -> Vec<Entry> {
    array(value).unwrap_or_default().into_iter().filter_map(entry).collect()
}

/// An id and its fields. A trimmed entry has only the id.
fn entry(value: Value) -> Option<Entry> {
    let mut parts = array(value)?.into_iter();
    let id = parts.next()?.into_string()?;
    let mut fields = parts.next().and_then(array).unwrap_or_default().into_iter();
    let mut body = None;
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        if name.as_bytes() == Some(ENTRY_FIELD.as_bytes()) {
            body = value.into_bytes();
        }
    }
    Some(Entry { id, body })
}

fn array(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(values) => Some(values),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(id: &str, fields: Value) -> Value {
        Value::Array(vec![id.into(), fields])
    }

    fn bytes(bytes: &'static [u8]) -> Value {
        Value::Bytes(Bytes::from_static(bytes))
    }

    #[test]
    fn foreign_or_trimmed_entry_is_parsed_without_body() {
        let answer = vec![
            stored("1-0", Value::Array(vec!["r".into(), "good".into()])),
            stored("2-0", Value::Array(vec!["r".into(), bytes(b"\xff\xfe")])),
            stored("3-0", Value::Array(vec![bytes(b"\xff"), "x".into()])),
            stored("4-0", Value::Null),
        ];
        let expected = [("1-0", Some("good")), ("2-0", None), ("3-0", None), ("4-0", None)];
        let by_name = Value::Array(vec![Value::Array(vec!["name".into(), Value::Array(answer.clone())])]);
        let claim = Value::Array(vec!["0-0".into(), Value::Array(answer), Value::Array(vec![])]);
        for entries in [parse_read(by_name), parse_claimed(claim)] {
            let seen: Vec<_> = entries.iter().map(|entry| (entry.id.as_str(), entry.text())).collect();
            assert_eq!(seen, expected);
        }
        assert!(parse_read(Value::Null).is_empty() && parse_claimed(Value::Null).is_empty());
    }
}
