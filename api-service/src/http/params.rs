//! Query parameters, validated while they are parsed.
//!
//! They are types of their own, because poem-openapi's `validator(pattern)` compiles its expression at every check (up to 79 ms),
//! its `Query` takes the first of a repeated parameter, and its errors quote the value.

use poem_openapi::registry::MetaSchema;
use poem_openapi::types::{ParseError, ParseFromParameter, ParseResult};
use serde_json::json;
use shared::contract::ids::{LocationId, ParticipantId};

use crate::http::openapi::schema::{id_schema, inline_type};
use crate::model::inbox::InboxCursor;

const NOT_A_NUMBER: &str = "is not a whole number";
const GIVEN_TWICE: &str = "is given more than once";
const MISSING: &str = "is missing";

/// The error text of a parameter, without the type names that poem-openapi adds.
pub(crate) fn cause(reason: &str) -> &str {
    let cause = reason.split_once("\": ").map_or(reason, |(_, cause)| cause);
    cause.split_once(" (occurred while parsing").map_or(cause, |(cause, _)| cause)
}

/// Whether the query was malformed (400) rather than well-formed but invalid (422).
pub(crate) fn is_unparsable(reason: &str) -> bool {
    reason == NOT_A_NUMBER || reason == GIVEN_TWICE
}

macro_rules! parameter {
    ($(#[$doc:meta])* $name:ident($inner:ty), $schema:expr, $parse:expr) => {
        $(#[$doc])*
        pub(crate) struct $name(pub(crate) $inner);

        inline_type!($name, true, |_parameter| false, $schema);

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

/// Maximum rows per page.
const MAX_PAGE: i64 = 200;

parameter! {
    LocationParam(LocationId), id_schema("loc1"), |text| text.parse().map_err(|error| format!("{error}"))
}
parameter! {
    UserParam(ParticipantId), id_schema("doc123"), |text| text.parse().map_err(|error| format!("{error}"))
}
parameter! {
    ContactParam(ParticipantId), id_schema("pat456"), |text| text.parse().map_err(|error| format!("{error}"))
}
parameter! {
    /// Rows per page.
    LimitParam(u16),
    {
        let mut schema = number_schema(1.0, Some(MAX_PAGE as f64));
        schema.default = Some(json!(50));
        schema
    },
    |text| Ok(number(text, 1, MAX_PAGE)?.unsigned_abs() as u16)
}
parameter! {
    /// A `seq` within a conversation.
    SeqParam(i64), number_schema(0.0, None), |text| number(text, 0, i64::MAX)
}
parameter! {
    /// A cursor of the inbox.
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
    fn parameter_errors_omit_type_names() {
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
