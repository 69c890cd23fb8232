//! Strict queries of URLs. Both services reject unknown parameters and repeated ones.

use percent_encoding::percent_decode_str;

use crate::contract::error_code::ProblemCode;
use crate::contract::http::problem::{InputError, Problem};
use crate::kit::json::is_plain_name;

/// A parameter that a path knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Whether it is a list, written as several parameters of the same name.
    pub may_repeat: bool,
}

/// Why a query asks for nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueryError {
    /// It is not percent-encoded UTF-8.
    Undecodable,
    /// Parameters are wrong.
    Invalid(Vec<InputError>),
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Undecodable => {
                Self::new(ProblemCode::MalformedQuery, "The query is not percent-encoded UTF-8. Correct the query.")
            }
            QueryError::Invalid(errors) => Self::of_input(errors),
        }
    }
}

/// Unknown parameters that one error reports at most.
const MAX_REPORTED_ERRORS: usize = 20;

/// The names and values of a query.
///
/// # Errors
/// [`QueryError::Undecodable`]
pub fn pairs(query: &str) -> Result<Vec<(String, String)>, QueryError> {
    match is_percent_encoded_utf8(query) {
        true => Ok(form_urlencoded::parse(query.as_bytes()).into_owned().collect()),
        false => Err(QueryError::Undecodable),
    }
}

/// Name and value of one pair, which is the text between two `&`. `None` for what is not percent-encoded UTF-8.
#[must_use]
pub fn pair(text: &str) -> Option<(String, String)> {
    let mut pairs = form_urlencoded::parse(text.as_bytes()).into_owned();
    is_percent_encoded_utf8(text).then(|| pairs.next().unwrap_or_default())
}

/// The name of one pair, even if its value cannot be decoded.
#[must_use]
pub fn name(text: &str) -> Option<String> {
    pair(text.split('=').next().unwrap_or_default()).map(|(name, _)| name)
}

/// Reads a query that may have these parameters.
///
/// # Errors
/// [`QueryError`]
pub fn parse(query: &str, known: &[Parameter]) -> Result<Vec<(String, String)>, QueryError> {
    let pairs = pairs(query)?;
    let is_list = |name: &str| known.iter().any(|known| known.may_repeat && known.name == name);
    for (place, (name, _)) in pairs.iter().enumerate() {
        if !is_list(name) && pairs[..place].iter().any(|(before, _)| before == name) {
            return Err(QueryError::Invalid(vec![repeated_parameter(name)]));
        }
    }
    let unknown = pairs.iter().filter(|(name, _)| !known.iter().any(|known| known.name == *name));
    let errors: Vec<_> = unknown
        .take(MAX_REPORTED_ERRORS)
        .map(|(name, _)| parameter_error(ProblemCode::UnknownParameter, name, "is not one of this request"))
        .collect();
    if errors.is_empty() { Ok(pairs) } else { Err(QueryError::Invalid(errors)) }
}

/// The error of a parameter that is given more than once.
#[must_use]
pub fn repeated_parameter(name: &str) -> InputError {
    parameter_error(ProblemCode::RepeatedParameter, name, "is given more than once")
}

/// A name with unusual characters may be message content, so an error does not repeat it.
fn parameter_error(code: ProblemCode, name: &str, predicate: &str) -> InputError {
    match is_plain_name(name) {
        true => InputError::parameter(code, name, predicate),
        false => InputError::new(code, "?", format!("A parameter {predicate}.")),
    }
}

/// `form_urlencoded` follows the URL standard: it replaces what is no UTF-8 and keeps a `%` without digits. A request that was
/// damaged on its way would then ask for something else, so such text is rejected before. `&` and `=` are no part of another
/// character in UTF-8, so a whole query is as good as each of its pairs.
fn is_percent_encoded_utf8(text: &str) -> bool {
    let is_byte = |after: &str| after.len() >= 2 && after.bytes().take(2).all(|digit| digit.is_ascii_hexdigit());
    text.split('%').skip(1).all(is_byte) && percent_decode_str(text).decode_utf8().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn known() -> [Parameter; 2] {
        [("limit", false), ("user_id", true)].map(|(name, may_repeat)| Parameter { name: name.to_owned(), may_repeat })
    }

    #[test]
    fn known_parameters_are_read_in_any_encoding() {
        let pairs = parse("user_id=a%20b&l%69mit=5&&user_id=c+d", &known()).unwrap();
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("user_id", "a b"), ("limit", "5"), ("user_id", "c d")]);
        assert_eq!(parse("", &known()), Ok(vec![]));
        assert_eq!(parse("&&", &[]), Ok(vec![]));
    }

    #[test]
    fn unknown_parameters_are_named_if_plain() {
        let pointers = |query| match parse(query, &known()) {
            Err(QueryError::Invalid(errors)) => errors.into_iter().map(|error| error.pointer).collect::<Vec<_>>(),
            other => panic!("{query}: {other:?}"),
        };
        assert_eq!(pointers("limit=5&Limit=6&x&y="), ["?Limit", "?x", "?y"]);
        assert_eq!(pointers("%6cimits=1"), ["?limits"]);
        assert_eq!(pointers("my%20diagnosis=1&=2"), ["?", "?"]);
        let many: String = (0..100).map(|n| format!("&p{n}=1")).collect();
        assert_eq!(pointers(&many).len(), MAX_REPORTED_ERRORS);
    }

    #[test]
    fn repeated_parameters_are_rejected() {
        for query in ["limit=5&limit=5", "limit=5&l%69mit=6", "x=1&x=2", "limit=&limit", "a b=1&a b=2"] {
            let problem = Problem::from(parse(query, &known()).unwrap_err());
            assert_eq!((problem.status, problem.code), (400, ProblemCode::RepeatedParameter), "{query}");
        }
        let problem = Problem::from(parse("limit=5&limit=6", &known()).unwrap_err());
        assert_eq!(problem.detail, "The parameter `limit` is given more than once.");
        assert_eq!(problem.errors[0].pointer, "?limit");
    }

    #[test]
    fn invalid_percent_encoding_is_rejected() {
        for query in ["limit=%zz", "limit=%e4", "x=%", "%f=1", "limit=%2"] {
            assert_eq!(parse(query, &known()), Err(QueryError::Undecodable), "{query}");
        }
    }

    #[test]
    fn damaged_value_leaves_its_name_readable() {
        assert_eq!(pair("a+b=c=%26"), Some(("a b".to_owned(), "c=&".to_owned())));
        for text in ["a=%zz", "a=%e4", "a=%4", "a=%"] {
            assert_eq!((pair(text), name(text).as_deref()), (None, Some("a")), "{text}");
        }
        assert_eq!((name("%zz=a"), name("%61").as_deref(), name("=a").as_deref()), (None, Some("a"), Some("")));
        // The replacement character itself is a character like any other.
        assert_eq!(pair("a=%EF%BF%BD"), Some(("a".to_owned(), "\u{FFFD}".to_owned())));
    }

    proptest! {
        #[test]
        fn encoded_pairs_are_read_back(pairs in prop::collection::vec(("\\PC{1,10}", "\\PC{0,10}"), 0..5)) {
            let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(&pairs).finish();
            prop_assert_eq!(super::pairs(&query), Ok(pairs));
        }

        #[test]
        fn pairs_are_readable_together_if_each_is(texts in prop::collection::vec("[%0-9a-fE=+]{0,8}", 0..5)) {
            let each: Option<Vec<_>> = texts.iter().filter(|text| !text.is_empty()).map(|text| pair(text)).collect();
            prop_assert_eq!(super::pairs(&texts.join("&")).ok(), each);
        }

        #[test]
        fn query_parser_never_panics(query in "[ -~]{0,100}", garbage in "\\PC{0,50}") {
            let _ = (parse(&query, &known()), parse(&garbage, &known()));
        }
    }
}
