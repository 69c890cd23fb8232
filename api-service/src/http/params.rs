//! Query parameters, validated while they are parsed.
//!
//! They are types of their own, because poem-openapi's `validator(pattern)` compiles its expression at every check (up to 79 ms),
//! its `Query` takes the first of a repeated parameter, and its errors quote the value.

use std::fmt::Display;
use std::str::FromStr;

use poem_openapi::registry::MetaSchema;
use poem_openapi::types::{ParseError, ParseFromParameter, ParseResult};
use serde_json::json;
use shared::contract::error_code::ProblemCode;
use shared::contract::ids::{InvalidId, LocationId, ParticipantId};

use crate::http::openapi::scalar::{id_schema, inline_type, without_example};
use crate::model::inbox::InboxCursor;

/// What is wrong with a parameter. poem-openapi's error has room for one text only, so the code is its first word.
fn fault(code: ProblemCode, predicate: impl Display) -> String {
    format!("{code} {predicate}")
}

/// The code and the predicate of a [`fault`], without the type names that poem-openapi adds.
pub(crate) fn cause(reason: &str) -> (ProblemCode, &str) {
    let cause = reason.split_once("\": ").map_or(reason, |(_, cause)| cause);
    let cause = cause.split_once(" (occurred while parsing").map_or(cause, |(cause, _)| cause);
    let fault = cause.split_once(' ').and_then(|(code, predicate)| Some((code.parse().ok()?, predicate)));
    fault.unwrap_or((ProblemCode::InvalidValue, "is not valid"))
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
                    (None, _) => Err(ParseError::custom(fault(ProblemCode::MissingParameter, "is missing"))),
                    (Some(_), Some(_)) => {
                        Err(ParseError::custom(fault(ProblemCode::RepeatedParameter, "is given more than once")))
                    }
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
    let number: i64 = text.parse().map_err(|_| fault(ProblemCode::MalformedQuery, "is not a whole number"))?;
    match (low..=high).contains(&number) {
        true => Ok(number),
        false => Err(fault(ProblemCode::OutOfRange, format_args!("must lie between {low} and {high}"))),
    }
}

fn id<T: FromStr<Err = InvalidId>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error| fault(ProblemCode::InvalidIdentifier, error))
}

/// Maximum rows per page.
const MAX_PAGE: i64 = 200;

parameter! {
    LocationParam(LocationId), id_schema("loc1"), id
}
parameter! {
    UserParam(ParticipantId), id_schema("doc123"), id
}
parameter! {
    ContactParam(ParticipantId), id_schema("pat456"), id
}
parameter! {
    /// A participant that a request may name in place of another, so it has no example: the request is valid without it.
    OtherParam(ParticipantId), without_example(id_schema("")), id
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
    }, |text| text.parse().map_err(|error: &str| fault(ProblemCode::InvalidCursor, error))
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
        assert_eq!(cause(&reason("abc")), (ProblemCode::MalformedQuery, "is not a whole number"));
        assert_eq!(cause(&reason("0")), (ProblemCode::OutOfRange, "must lie between 1 and 200"));
        let twice =
            LimitParam::parse_from_parameters(["1", "1"]).err().map(poem_openapi::types::ParseError::into_message);
        let given_twice = (ProblemCode::RepeatedParameter, "is given more than once");
        assert_eq!(twice.as_deref().map(cause), Some(given_twice));
        assert_eq!(cause("a text of the library"), (ProblemCode::InvalidValue, "is not valid"));
    }
}
