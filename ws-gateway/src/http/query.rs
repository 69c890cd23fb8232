//! The query of a handshake: a conversation with an optional cursor, or an inbox.
//!
//! As in the API service, a malformed query is a 400; a missing or invalid value is a 422. Unknown parameters are
//! rejected.

use std::fmt::Display;
use std::str::FromStr;

use shared::contract::error_code::ProblemCode;
use shared::contract::event::Cursor;
use shared::contract::http::problem::InputError;
use shared::contract::http::query::{self, Parameter, QueryError};
use shared::contract::participant::{Conversation, InvalidPair, Participant};

use crate::socket::Topic;

/// A parsed query.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ConnectQuery {
    pub(crate) topic: Topic,
    /// The last event that the client has. An inbox has no cursor.
    pub(crate) cursor: Option<Cursor>,
}

const NAMES: [&str; 6] = ["location_id", "user_id", "contact_id", "peer_user_id", "cursor", TICKET];

/// Stands in for a token.
const TICKET: &str = "ticket";

pub(crate) fn parse(query: &str) -> Result<ConnectQuery, QueryError> {
    let [location, user, contact, peer, cursor, _ticket] = values(query)?;
    let mut errors = Vec::new();
    if location.is_none() {
        errors.push(missing("location_id", "is missing"));
    }
    match (&user, &contact, &peer) {
        (None, None, None) => errors.push(missing("user_id", "or `contact_id` is missing")),
        (None, _, Some(_)) => errors.push(missing("user_id", "is missing")),
        _ => {}
    }
    if contact.is_some() && peer.is_some() {
        let detail = "The parameters `contact_id` and `peer_user_id` exclude each other. Give one of them.";
        errors.push(InputError::new(ProblemCode::ConflictingParameters, "?peer_user_id", detail));
    }
    // A participant without a peer means its inbox.
    let of_inbox = peer.is_none() && user.is_some() != contact.is_some();
    let location = read(ProblemCode::InvalidIdentifier, "location_id", location, &mut errors);
    let user = read(ProblemCode::InvalidIdentifier, "user_id", user, &mut errors).map(Participant::user);
    let contact = read(ProblemCode::InvalidIdentifier, "contact_id", contact, &mut errors).map(Participant::contact);
    let peer = read(ProblemCode::InvalidIdentifier, "peer_user_id", peer, &mut errors).map(Participant::user);
    let cursor = read(ProblemCode::InvalidCursor, "cursor", cursor, &mut errors);
    if of_inbox && cursor.is_some() {
        let detail = "An inbox has no cursor, because nothing is replayed. Remove the parameter.";
        errors.push(InputError::new(ProblemCode::ConflictingParameters, "?cursor", detail));
    }
    let other = contact.or(peer);
    let (location, (one, other)) = match (location, user.or_else(|| other.clone()), other) {
        (Some(location), Some(one), _) if of_inbox && errors.is_empty() => {
            return Ok(ConnectQuery { topic: Topic::Inbox(location, one), cursor: None });
        }
        (Some(location), Some(one), Some(other)) if errors.is_empty() => (location, (one, other)),
        _ => return Err(QueryError::Invalid(errors)),
    };
    let conversation = Conversation::new(location, one, other).map_err(|error| {
        let pointer = match error {
            InvalidPair::TwoContacts => "?contact_id",
            InvalidPair::Same => "?peer_user_id",
        };
        QueryError::Invalid(vec![InputError::new(error.code(), pointer, error.to_string())])
    })?;
    Ok(ConnectQuery { topic: Topic::Conversation(conversation), cursor })
}

/// The topic of a query, even if another parameter is invalid.
pub(crate) fn topic(query: &str) -> Option<Topic> {
    let names = |pair: &&str| query::name(pair).is_some_and(|name| NAMES[..4].contains(&name.as_str()));
    let pairs: Vec<&str> = query.split('&').filter(names).collect();
    parse(&pairs.join("&")).ok().map(|connect_query| connect_query.topic)
}

/// The ticket, if there is one. Authentication comes before the rest of the query is parsed.
pub(crate) fn ticket(query: &str) -> Result<Option<String>, QueryError> {
    let mut tickets = query.split('&').filter(|pair| query::name(pair).as_deref() == Some(TICKET));
    match (tickets.next(), tickets.next()) {
        (None, _) => Ok(None),
        (Some(pair), None) => match query::pair(pair) {
            Some((_, ticket)) => Ok(Some(ticket)),
            None => Err(QueryError::Undecodable),
        },
        (Some(_), Some(_)) => Err(QueryError::Invalid(vec![query::repeated_parameter(TICKET)])),
    }
}

fn values(query: &str) -> Result<[Option<String>; NAMES.len()], QueryError> {
    let known = NAMES.map(|name| Parameter { name: name.to_owned(), may_repeat: false });
    let mut values: [Option<String>; NAMES.len()] = Default::default();
    for (name, value) in query::parse(query, &known)? {
        if let Some((_, slot)) = NAMES.iter().zip(&mut values).find(|(known, _)| **known == name) {
            *slot = Some(value);
        }
    }
    Ok(values)
}

fn missing(name: &str, predicate: &str) -> InputError {
    InputError::parameter(ProblemCode::MissingParameter, name, predicate)
}

fn read<T>(code: ProblemCode, name: &str, value: Option<String>, errors: &mut Vec<InputError>) -> Option<T>
where
    T: FromStr<Err: Display>,
{
    match value?.parse() {
        Ok(value) => Some(value),
        Err(error) => {
            errors.push(InputError::parameter(code, name, error));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use shared::contract::http::problem::Problem;

    fn pointers(query: &str) -> Vec<String> {
        match parse(query) {
            Err(QueryError::Invalid(errors)) => errors.into_iter().map(|error| error.pointer).collect(),
            other => panic!("{query}: {other:?}"),
        }
    }

    #[test]
    fn query_names_either_kind_of_conversation() {
        let connect_query = |query| {
            let ConnectQuery { topic, cursor } = parse(query).unwrap();
            let Topic::Conversation(conversation) = topic else { panic!("{topic:?}") };
            (conversation, cursor)
        };
        let (conversation, cursor) = connect_query("location_id=loc1&user_id=doc123&contact_id=pat456&ticket=x");
        assert_eq!(conversation.second().to_string(), "contact:pat456");
        assert_eq!(cursor, None);
        let (conversation, cursor) = connect_query("peer_user_id=a&user_id=b&location_id=loc%31&cursor=5-1");
        assert_eq!(conversation.first().to_string(), "user:a");
        assert_eq!(conversation.location().as_str(), "loc1");
        assert_eq!(cursor, Some("5-1".parse().unwrap()));
    }

    #[test]
    fn participant_without_peer_is_inbox_without_cursor() {
        for (query, participant) in [("user_id=a", "user:a"), ("contact_id=a&ticket=x", "contact:a")] {
            let query = format!("location_id=l&{query}");
            let topic = Topic::Inbox("l".parse().unwrap(), participant.parse().unwrap());
            assert_eq!(parse(&query).unwrap(), ConnectQuery { topic, cursor: None });
            assert_eq!(pointers(&format!("{query}&cursor=5-1")), ["?cursor"]);
        }
        assert_eq!(pointers("location_id=l&user_id=a/b"), ["?user_id"]);
        assert_eq!(pointers("user_id=a"), ["?location_id"]);
    }

    #[test]
    fn malformed_query_differs_from_invalid_query() {
        for query in [
            "location_id=l&user_id=a&contact_id=b&user_id=a",
            "location_id=l&user_id=%zz&contact_id=b",
            "location_id=l&user_id=%e4&contact_id=b",
            "location_id=l&user_id=a&contact_id=b&x=%",
        ] {
            assert_eq!(Problem::from(parse(query).unwrap_err()).status, 400, "{query}");
        }
    }

    #[test]
    fn unknown_parameters_are_rejected() {
        let good = "location_id=l&user_id=a&contact_id=b";
        for (more, pointer) in [("utm=x", "?utm"), ("User_id=a", "?User_id"), ("limit=5", "?limit"), ("x", "?x")] {
            assert_eq!(pointers(&format!("{good}&{more}")), [pointer]);
        }
    }

    #[test]
    fn every_invalid_parameter_is_reported() {
        assert_eq!(
            pointers("location_id=&user_id=a/b&contact_id=c%20d&cursor=x"),
            ["?location_id", "?user_id", "?contact_id", "?cursor"]
        );
        assert_eq!(pointers("location_id=l&user_id=a&contact_id=b&peer_user_id=c"), ["?peer_user_id"]);
        assert_eq!(pointers(""), ["?location_id", "?user_id"]);
        assert_eq!(pointers("location_id=l"), ["?user_id"]);
        assert_eq!(pointers("user_id=a&contact_id=b"), ["?location_id"]);
        assert_eq!(pointers("contact_id=a/b&cursor=x"), ["?location_id", "?contact_id", "?cursor"]);
        assert_eq!(pointers("location_id=l&contact_id=a&peer_user_id=b"), ["?user_id", "?peer_user_id"]);
        assert_eq!(pointers("location_id=l&peer_user_id=a"), ["?user_id"]);
        assert_eq!(pointers("location_id=l&user_id=a&peer_user_id=a"), ["?peer_user_id"]);
    }

    #[test]
    fn topic_is_found_despite_other_errors() {
        let good = "location_id=l&user_id=a&contact_id=b";
        let about = parse(good).unwrap().topic;
        for more in ["", "&utm=x", "&cursor=x", "&cursor=1-0&cursor=1-0", "&x=%zz", "&ticket=a&ticket=b"] {
            assert_eq!(topic(&format!("{good}{more}")), Some(about.clone()), "{more}");
        }
        for unknown in ["", "location_id=l", "location_id=l&user_id=a&user_id=a&contact_id=b", "user_id=a&contact_id=b"]
        {
            assert_eq!(topic(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn ticket_is_found_in_query() {
        assert_eq!(ticket("a=b&ticket=x-_"), Ok(Some("x-_".to_owned())));
        assert_eq!(ticket("t%69cket=%41"), Ok(Some("A".to_owned())));
        assert_eq!(ticket("ticket"), Ok(Some(String::new())));
        assert_eq!(ticket("a=ticket&tickets=x"), Ok(None));
        for query in ["ticket=x&ticket=x", "ticket=x&t%69cket=y", "ticket=%z"] {
            assert_eq!(Problem::from(ticket(query).unwrap_err()).status, 400, "{query}");
        }
    }

    proptest! {
        #[test]
        fn parser_never_panics_on_queries(query in "[ -~]{0,100}", garbage in "\\PC{0,50}") {
            let _ = (parse(&query), topic(&query), ticket(&query));
            let _ = parse(&format!("location_id=l&user_id=a&contact_id={garbage}"));
        }
    }
}
