//! Entries of streams, read as bytes: somebody may have added what is no text, or has other fields, or none.

use bytes::Bytes;
use fred::types::Value;
use shared::channel::ENTRY_FIELD;

/// An entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its place in the stream, with which it is confirmed.
    pub(super) id: String,
    body: Option<Bytes>,
}

impl Entry {
    /// What it says, if it is text.
    pub(super) fn text(&self) -> Option<&str> {
        std::str::from_utf8(self.body.as_deref()?).ok()
    }
}

/// Reads the answer to `XREADGROUP`: by stream, its entries.
pub(super) fn parse_read(answer: Value) -> Vec<Entry> {
    match answer {
        Value::Map(streams) => streams.inner().into_values().flat_map(entries).collect(),
        // As older versions of the protocol have it: pairs.
        Value::Array(streams) => {
            streams.into_iter().filter_map(array).filter_map(|mut pair| pair.pop()).flat_map(entries).collect()
        }
        _ => Vec::new(),
    }
}

/// Reads the answer to `XAUTOCLAIM`: where to go on, the entries, and those that are gone.
pub(super) fn parse_claimed(answer: Value) -> Vec<Entry> {
    array(answer).and_then(|answer| answer.into_iter().nth(1)).map(entries).unwrap_or_default()
}

fn entries(value: Value) -> Vec<Entry> {
    array(value).unwrap_or_default().into_iter().filter_map(entry).collect()
}

/// An id, and fields with their values. Of an entry that was trimmed meanwhile only the id is left.
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
    fn an_entry_that_is_no_text_or_not_ours_or_gone_is_still_an_entry() {
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
