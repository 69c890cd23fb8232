//! Query parameters: checked while they are read, without regular expressions.

use poem_openapi::registry::MetaSchema;
use poem_openapi::types::{ParseError, ParseFromParameter, ParseResult};
use serde_json::json;
use shared::ids::{ID_PATTERN, LocationId, MAX_ID_LENGTH, ParticipantId};

use crate::http::openapi::inline::inline_type;
use crate::model::inbox::InboxCursor;

const NOT_A_NUMBER: &str = "is not a whole number";
const GIVEN_TWICE: &str = "is given more than once";
const MISSING: &str = "is missing";

/// What one of these parameters found wrong, without the names of types that poem-openapi puts around it.
pub(crate) fn cause(reason: &str) -> &str {
    let cause = reason.split_once("\": ").map_or(reason, |(_, cause)| cause);
    cause.split_once(" (occurred while parsing").map_or(cause, |(cause, _)| cause)
}

/// Whether the query could not even be parsed (400), as against one that is well-formed but invalid (422).
pub(crate) fn is_unparsable(reason: &str) -> bool {
    reason == NOT_A_NUMBER || reason == GIVEN_TWICE
}

macro_rules! parameter {
    ($(#[$doc:meta])* $name:ident($inner:ty), $schema:expr, $parse:expr) => {
        $(#[$doc])*
        pub(crate) struct $name(pub(crate) $inner);

        inline_type!($name, true, $schema);

        impl $name {
            /// A parameter that was given is something.
            fn is_null(&self) -> bool {
                false
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
pub(crate) fn id_schema(example: &'static str) -> MetaSchema {
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
    UserParam(ParticipantId), id_schema("doc123"), |text| text.parse().map_err(|error| format!("{error}"))
}
parameter! {
    /// A contact.
    ContactParam(ParticipantId), id_schema("pat456"), |text| text.parse().map_err(|error| format!("{error}"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_parameter_is_told_without_the_names_of_types() {
        let reason = |value: &str| {
            let parsed = Option::<LimitParam>::parse_from_parameters([value]);
            parsed.err().map(poem_openapi::types::ParseError::into_message).unwrap_or_default()
        };
        assert_eq!(cause(&reason("abc")), NOT_A_NUMBER);
        assert_eq!(cause(&reason("0")), "must lie between 1 and 200");
        assert!(is_unparsable(cause(&reason("abc"))) && !is_unparsable(cause(&reason("0"))));
        let twice =
            LimitParam::parse_from_parameters(["1", "1"]).err().map(poem_openapi::types::ParseError::into_message);
        assert_eq!(twice.as_deref().map(cause), Some(GIVEN_TWICE));
    }
}
