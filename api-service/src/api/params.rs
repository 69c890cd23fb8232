//! Query parameters: checked while they are read, without regular expressions.

use std::borrow::Cow;

use poem_openapi::registry::{MetaSchema, MetaSchemaRef};
use poem_openapi::types::{ParseError, ParseFromParameter, ParseResult, Type};
use serde_json::json;
use shared::ids::{ID_PATTERN, LocationId, MAX_ID_LENGTH, PersonId};

use crate::domain::inbox::InboxCursor;

const NOT_A_NUMBER: &str = "is not a whole number";
const GIVEN_TWICE: &str = "is given more than once";
const MISSING: &str = "is missing";

/// Whether the query could not even be parsed (400), as against one that is well-formed but invalid (422).
pub(super) fn is_unparsable(reason: &str) -> bool {
    reason == NOT_A_NUMBER || reason == GIVEN_TWICE
}

macro_rules! parameter {
    ($(#[$doc:meta])* $name:ident($inner:ty), $schema:expr, $parse:expr) => {
        $(#[$doc])*
        pub(super) struct $name(pub(super) $inner);

        impl Type for $name {
            const IS_REQUIRED: bool = true;
            type RawValueType = Self;
            type RawElementValueType = Self;

            fn name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn schema_ref() -> MetaSchemaRef {
                MetaSchemaRef::Inline(Box::new($schema))
            }

            fn as_raw_value(&self) -> Option<&Self> {
                Some(self)
            }

            fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
                Box::new(self.as_raw_value().into_iter())
            }
        }

        impl ParseFromParameter for $name {
            fn parse_from_parameter(value: &str) -> ParseResult<Self> {
                let parse: fn(&str) -> Result<$inner, String> = $parse;
                parse(value).map(Self).map_err(ParseError::custom)
            }

            fn parse_from_parameters<I: IntoIterator<Item = A>, A: AsRef<str>>(values: I) -> ParseResult<Self> {
                let mut values = values.into_iter();
                match (values.next(), values.next()) {
                    (Some(value), None) => Self::parse_from_parameter(value.as_ref()),
                    (None, _) => Err(ParseError::custom(MISSING)),
                    (Some(_), Some(_)) => Err(ParseError::custom(GIVEN_TWICE)),
                }
            }
        }
    };
}

/// The schema of an identifier.
pub(super) fn id_schema(example: &'static str) -> MetaSchema {
    let mut schema = MetaSchema::new("string");
    schema.min_length = Some(1);
    schema.max_length = Some(MAX_ID_LENGTH);
    schema.pattern = Some(ID_PATTERN.to_owned());
    schema.example = Some(json!(example));
    schema
}

fn number_schema(minimum: f64, maximum: Option<f64>) -> MetaSchema {
    let mut schema = MetaSchema::new_with_format("integer", "int64");
    schema.minimum = Some(minimum);
    schema.maximum = maximum;
    schema
}

fn number(text: &str, low: i64, high: i64) -> Result<i64, String> {
    let number: i64 = text.parse().map_err(|_| NOT_A_NUMBER.to_owned())?;
    match (low..=high).contains(&number) {
        true => Ok(number),
        false => Err(format!("must lie between {low} and {high}")),
    }
}

/// Most rows that a page may have.
const MAX_PAGE: i64 = 200;

parameter! {
    /// A location.
    LocationParam(LocationId), id_schema("loc1"), |text| text.parse().map_err(|error| format!("{error}"))
}
parameter! {
    /// A user.
    UserParam(PersonId), id_schema("doc123"), |text| text.parse().map_err(|error| format!("{error}"))
}
parameter! {
    /// A contact.
    ContactParam(PersonId), id_schema("pat456"), |text| text.parse().map_err(|error| format!("{error}"))
}
parameter! {
    /// How many rows a page may have.
    LimitParam(u16),
    {
        let mut schema = number_schema(1.0, Some(MAX_PAGE as f64));
        schema.default = Some(json!(50));
        schema
    },
    |text| Ok(number(text, 1, MAX_PAGE)?.unsigned_abs() as u16)
}
parameter! {
    /// A place in a conversation.
    SeqParam(i64), number_schema(0.0, None), |text| number(text, 0, i64::MAX)
}
parameter! {
    /// A place in the inbox.
    CursorParam(InboxCursor), {
        let mut schema = MetaSchema::new("string");
        schema.max_length = Some(64);
        schema
    }, |text| text.parse().map_err(str::to_owned)
}
