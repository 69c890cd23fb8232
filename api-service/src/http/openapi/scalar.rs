//! Scalars of the OpenAPI document, as inline schemas: identifiers, times, counts, and what each may lack.

use std::sync::LazyLock;

use poem_openapi::registry::MetaSchema;
use poem_openapi::types::{ParseError, ParseFromJSON, ParseResult, ToJSON};
use serde_json::{Value, json};
use shared::contract::error_code::ProblemCode;
use shared::contract::ids::{ID_PATTERN, MAX_ID_LENGTH};

use crate::model::message::MAX_CONTENT_CHARS;

/// Gives a type an inline schema. poem-openapi's derived types are either named, and references to named scalars break client
/// generators, or cannot state a pattern, a length and an example.
macro_rules! inline_type {
    ($name:ident, $required:expr, |$value:ident| $is_none:expr, $schema:expr) => {
        impl poem_openapi::types::Type for $name {
            const IS_REQUIRED: bool = $required;

            type RawValueType = Self;
            type RawElementValueType = Self;

            fn name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn schema_ref() -> poem_openapi::registry::MetaSchemaRef {
                poem_openapi::registry::MetaSchemaRef::Inline(Box::new($schema))
            }

            fn as_raw_value(&self) -> Option<&Self> {
                Some(self)
            }

            fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
                Box::new(self.as_raw_value().into_iter())
            }

            fn is_none(&self) -> bool {
                let $value = self;
                $is_none
            }
        }
    };
}
pub(crate) use inline_type;

/// A scalar of an object. Absent optional fields are omitted; only nullable fields may be `null`.
macro_rules! scalar {
    ($(#[$doc:meta])* $name:ident, $required:literal, $schema:expr) => {
        $(#[$doc])*
        #[derive(Debug, Default, PartialEq)]
        pub(crate) struct $name(Value);

        inline_type!($name, $required, |scalar| !$required && scalar.0.is_null(), $schema);

        impl ParseFromJSON for $name {
            fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
                let (value, schema): (_, MetaSchema) = (value.unwrap_or_default(), $schema);
                match value.is_null() && $required && !schema.nullable {
                    true => Err(ParseError::expected_type(value)),
                    false => Ok(Self(value)),
                }
            }
        }

        impl ToJSON for $name {
            fn to_json(&self) -> Option<Value> {
                Some(self.0.clone())
            }
        }
    };
}

/// The schema of an identifier.
pub(crate) fn id_schema(example: &'static str) -> MetaSchema {
    let mut schema = MetaSchema::new("string");
    schema.min_length = Some(1);
    schema.max_length = Some(MAX_ID_LENGTH);
    schema.pattern = Some(ID_PATTERN.to_owned());
    schema.example = Some(json!(example));
    schema
}

/// A schema of which every value is one of the caller's, so it has no example.
pub(crate) fn without_example(mut schema: MetaSchema) -> MetaSchema {
    schema.example = None;
    schema
}

fn text(format: &'static str, example: &'static str) -> MetaSchema {
    let mut schema = MetaSchema::new_with_format("string", format);
    schema.example = Some(json!(example));
    schema
}

fn nullable(mut schema: MetaSchema) -> MetaSchema {
    schema.nullable = true;
    without_example(schema)
}

fn count(format: &'static str) -> MetaSchema {
    let mut schema = MetaSchema::new_with_format("integer", format);
    schema.minimum = Some(0.0);
    schema
}

fn content() -> MetaSchema {
    let mut schema = MetaSchema::new("string");
    schema.min_length = Some(1);
    schema.max_length = Some(MAX_CONTENT_CHARS);
    // U+0000 cannot be stored.
    schema.pattern = Some("^[^\\u0000]*$".to_owned());
    schema.example = Some(json!("Hello patient!"));
    schema
}

/// What each code means, as a table.
static CODES: LazyLock<String> = LazyLock::new(|| {
    let rows = ProblemCode::ALL
        .iter()
        .map(|code| format!("| `{code}` | {} | {} | {} |\n", code.status(), code.meaning(), code.action()));
    format!(
        "The cause, for programs. It never changes its meaning; a later version may add codes. A socket says the same code for \
         the same cause.\n\n| code | status | meaning | what to do |\n| --- | --- | --- | --- |\n{}",
        rows.collect::<String>()
    )
});

/// The cause of a problem.
fn code() -> MetaSchema {
    let mut schema = MetaSchema::new("string");
    schema.enum_items = ProblemCode::ALL.iter().map(|code| json!(code)).collect();
    schema.description = Some(&CODES);
    schema
}

pub(super) const UUID_EXAMPLE: &str = "0199b1d2-7c1e-7b39-a1f0-3c5d7e9a1b2c";
pub(super) const TIME_EXAMPLE: &str = "2026-11-22T12:00:00.123456Z";

scalar!(/** A location. */ Location, true, id_schema("loc1"));
scalar!(/** A user. */ User, true, id_schema("doc123"));
scalar!(/** A user. Optional. */ OptionalUser, false, id_schema("doc123"));
scalar!(/** Another user. Optional. */ OtherUser, false, without_example(id_schema("")));
scalar!(/** A contact. Optional. */ OptionalContact, false, id_schema("pat456"));
scalar!(/** Another contact. Optional. */ OtherContact, false, without_example(id_schema("")));
scalar!(/** A message's text. */ Content, true, content());
scalar!(/** A UUID. */ Id, true, text("uuid", UUID_EXAMPLE));
scalar!(/** A UUID, or nothing. */ OptionalId, false, without_example(text("uuid", "")));
scalar!(/** A UUID, or null. */ NullableId, true, nullable(text("uuid", "")));
scalar!(/** RFC 3339, UTC, microseconds. */ Timestamp, true, text("date-time", TIME_EXAMPLE));
scalar!(/** The same, or null. */ NullableTimestamp, true, nullable(text("date-time", "")));
scalar!(/** A place in a conversation. */ Seq, true, { let mut schema = count("int64"); schema.minimum = Some(1.0); schema });
scalar!(/** A place in a conversation. Optional. */ OptionalSeq, false, {
    let mut schema = count("int64");
    schema.minimum = Some(1.0);
    schema
});
scalar!(/** A number of messages. */ Count, true, count("int32"));
scalar!(/** A cursor, or null. */ NullableCursor, true, nullable(MetaSchema::new("string")));

scalar!(
    /** Any text, or nothing. */
    OptionalText,
    false,
    {
        let mut schema = MetaSchema::new("string");
        schema.min_length = Some(1);
        schema.max_length = Some(256);
        schema
    }
);
scalar!(/** The cause of a problem. */ Code, true, code());
scalar!(/** A time. Optional. */ OptionalTime, false, without_example(text("date-time", "")));

scalar!(
    /** A participant's role. */
    DevRole,
    true,
    {
        let mut schema = MetaSchema::new("string");
        schema.enum_items = vec![json!("user"), json!("contact")];
        schema.example = Some(json!("user"));
        schema
    }
);
