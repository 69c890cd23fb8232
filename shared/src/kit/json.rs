//! JSON as both services take it from strangers: one grammar for bodies and frames.
//!
//! It refuses what two readers can understand in two ways: a key that an object has twice, however it is spelt
//! (RFC 8259, section 4; RFC 7493, section 2.3). A byte order mark in front is ignored (RFC 8259, section 8.1).

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::map::Entry;
use serde_json::{Map, Number, Value};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Why text is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// It is not JSON. serde_json's own words may quote the input; line and column say enough.
    #[error("is not JSON (line {line}, column {column})")]
    Syntax {
        /// Counted from one.
        line: usize,
        /// Counted from one; zero at the end of a line.
        column: usize,
    },
    /// An object has a key twice.
    #[error("has a key more than once")]
    RepeatedKey {
        /// JSON pointer to the member, or to the object if the key may be message content.
        pointer: String,
    },
}

/// Reads one JSON value and nothing behind it.
///
/// # Errors
/// [`JsonError`]
pub fn parse(bytes: &[u8]) -> Result<Value, JsonError> {
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    let repeated = RefCell::new(None);
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let read = Node { path: &Path::Root, repeated: &repeated }.deserialize(&mut reader);
    let read = read.and_then(|value| reader.end().map(|()| value));
    read.map_err(|error| match repeated.take() {
        Some(pointer) => JsonError::RepeatedKey { pointer },
        None => JsonError::Syntax { line: error.line(), column: error.column() },
    })
}

/// A step of a JSON pointer (RFC 6901) for a member's name. `None` for names with unusual characters: they may be message
/// content, and an error does not repeat them.
#[must_use]
pub fn pointer_step(name: &str) -> Option<String> {
    is_plain_name(name).then(|| format!("/{}", name.replace('~', "~0").replace('/', "~1")))
}

/// Whether a stranger's name for a field or parameter can be repeated to it.
#[must_use]
pub fn is_plain_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.~/".contains(&b))
}

/// Where a value stands.
enum Path<'a> {
    Root,
    Member(&'a Path<'a>, &'a str),
    Element(&'a Path<'a>, usize),
}

impl Path<'_> {
    /// As far as its names can be repeated.
    fn pointer(&self) -> Result<String, String> {
        match self {
            Self::Root => Ok(String::new()),
            Self::Member(parent, name) => {
                let parent = parent.pointer()?;
                match pointer_step(name) {
                    Some(step) => Ok(parent + &step),
                    None => Err(parent),
                }
            }
            Self::Element(parent, place) => Ok(format!("{}/{place}", parent.pointer()?)),
        }
    }
}

/// Reads the value at a path.
#[derive(Clone, Copy)]
struct Node<'a> {
    path: &'a Path<'a>,
    repeated: &'a RefCell<Option<String>>,
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        loop {
            let path = Path::Element(self.path, array.len());
            match elements.next_element_seed(Node { path: &path, ..self })? {
                Some(element) => array.push(element),
                None => return Ok(Value::Array(array)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            match object.entry(name) {
                Entry::Vacant(place) => {
                    let path = Path::Member(self.path, place.key());
                    let value = members.next_value_seed(Node { path: &path, ..self })?;
                    place.insert(value);
                }
                Entry::Occupied(there) => {
                    let pointer = Path::Member(self.path, there.key()).pointer();
                    self.repeated.replace(Some(pointer.unwrap_or_else(|parent| parent)));
                    return Err(A::Error::custom("a key is there twice"));
                }
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn repeated(text: &str) -> String {
        match parse(text.as_bytes()) {
            Err(JsonError::RepeatedKey { pointer }) => pointer,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn repeated_key_is_rejected_in_any_spelling() {
        for (text, pointer) in [
            (r#"{"a":1,"a":2}"#, "/a"),
            (r#"{"a":1,"a":1}"#, "/a"),
            (r#"{"a":null,"b":2,"a":null}"#, "/a"),
            (r#"{"content":"x","\u0063ontent":"y"}"#, "/content"),
            (r#"{"a/b":1,"a\/b":2}"#, "/a~1b"),
            (r#"{"a":{"b":[0,{"c":1,"c":2}]}}"#, "/a/b/1/c"),
            (r#"[{"a":1},{"a":1,"a":2}]"#, "/1/a"),
        ] {
            assert_eq!(repeated(text), pointer, "{text}");
        }
    }

    #[test]
    fn unusual_names_are_not_repeated_in_errors() {
        assert_eq!(repeated(r#"{"a":{"my diagnosis":1,"my diagnosis":2}}"#), "/a");
        assert_eq!(repeated(r#"{"my diagnosis":{"a":1,"a":2}}"#), "");
        assert_eq!(repeated(r#"{"":1,"":2}"#), "");
    }

    #[test]
    fn same_key_in_different_objects_is_accepted() {
        let text = r#"{"a":{"a":1},"b":[{"a":1},{"a":2}]}"#;
        assert_eq!(parse(text.as_bytes()), Ok(json!({"a": {"a": 1}, "b": [{"a": 1}, {"a": 2}]})));
    }

    #[test]
    fn leading_byte_order_mark_is_ignored() {
        assert_eq!(parse(b"\xef\xbb\xbf{}"), Ok(json!({})));
        for text in [&b"{\xef\xbb\xbf}"[..], b"\xef\xbb\xbf\xef\xbb\xbf{}", b"\xfe\xff\0{\0}", b"\xef\xbb\xbf"] {
            assert!(matches!(parse(text), Err(JsonError::Syntax { .. })), "{text:?}");
        }
    }

    #[test]
    fn syntax_errors_name_line_and_column() {
        assert_eq!(parse(b"{\n\"a\" 1}"), Err(JsonError::Syntax { line: 2, column: 5 }));
        for text in ["", "{} x", "{'a':1}", "{\"a\":01}", "[1,]", "\"\\ud800\"", "1e999", "NaN", "{\"a\":1}}"] {
            assert!(matches!(parse(text.as_bytes()), Err(JsonError::Syntax { .. })), "{text}");
        }
        assert!(matches!(parse("[".repeat(100_000).as_bytes()), Err(JsonError::Syntax { .. })));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "\\PC{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map("\\PC{0,4}", inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn parser_agrees_with_serde_json(value in any_json()) {
            let text = value.to_string();
            prop_assert_eq!(parse(text.as_bytes()).unwrap(), serde_json::from_str::<Value>(&text).unwrap());
        }

        #[test]
        fn json_parser_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = parse(&bytes);
        }
    }
}
