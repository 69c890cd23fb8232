//! The codes of everything that both services reject: what a program compares, while the `detail` beside it is for people.
//!
//! A code never changes its meaning. [`ProblemCode`] is the `code` of a problem body, and each has one HTTP status. A socket says
//! the same code for the same cause; [`SocketCode`] adds the causes that only a socket has.
//! `docs/api/http.md` and `docs/api/websocket.md` list the codes; the tests below compare.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The text is no code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown code")]
pub struct UnknownCode;

/// A closed list of codes: for each its name, its HTTP status, what it means, and what the caller can do.
macro_rules! problem_codes {
    ($($variant:ident $name:literal $status:literal $meaning:literal $action:literal)+) => {
        /// The cause of a problem.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum ProblemCode {
            $(#[doc = $meaning] #[serde(rename = $name)] $variant,)+
        }

        impl ProblemCode {
            /// All of them, by status.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its name.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The HTTP status of its problem.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)+ }
            }

            /// What it means, for documents.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)+ }
            }

            /// What the caller can do, for documents.
            #[must_use]
            pub const fn action(self) -> &'static str {
                match self { $(Self::$variant => $action,)+ }
            }
        }
    };
}

problem_codes! {
    Malformed "malformed" 400 "The body or the frame is not JSON, or has a key twice. A frame without `type` counts too." "Correct it."
    MalformedRequest "malformed_request" 400 "The request is not valid HTTP, or its body ended early." "Correct the client. Send a broken upload again."
    MalformedQuery "malformed_query" 400 "The query is not percent-encoded UTF-8, or a number in it is not a number." "Correct the query."
    RepeatedParameter "repeated_parameter" 400 "A query parameter is given more than once." "Give it once."
    RepeatedHeader "repeated_header" 400 "A header that may be there once is there twice." "Send it once."
    InvalidHost "invalid_host" 400 "`Host` is missing, is not a host, or differs from the target." "Send one valid `Host`."
    InvalidHandshake "invalid_handshake" 400 "The WebSocket handshake has a body, a wrong key, `bearer.` without `chat.v1`, or both ticket and token." "Correct the handshake."
    TokenMissing "token_missing" 401 "The request has no token." "Send `Authorization: Bearer <JWT>`."
    TokenMalformed "token_malformed" 401 "The token is not a JWT, or is longer than 8 KiB." "Send the token as it was issued."
    TokenUnsupported "token_unsupported" 401 "The algorithm of the token, or its header `crit`, is not accepted." "Sign with an algorithm that the server accepts."
    TokenKeyUnknown "token_key_unknown" 401 "The key of the token is not named, is not known, or was removed." "Get a new token. Compare its `kid` with the JWKS."
    TokenSignatureInvalid "token_signature_invalid" 401 "The signature does not match." "Compare the keys of the issuer and the server."
    TokenExpired "token_expired" 401 "The token has expired." "Get a new token."
    TokenRevoked "token_revoked" 401 "The token was revoked." "Sign in again."
    TokenNotYetValid "token_not_yet_valid" 401 "`nbf` or `iat` lies in the future." "Correct the issuer's clock."
    TokenClaimMissing "token_claim_missing" 401 "A required claim is missing." "Add the claim that `detail` names."
    TokenClaimInvalid "token_claim_invalid" 401 "A claim is invalid, or names another issuer or audience." "Correct the claim that `detail` names."
    TicketInvalid "ticket_invalid" 401 "The ticket is unknown, was used, or has expired." "Get a new ticket."
    Forbidden "forbidden" 403 "The token does not allow this location, participant or conversation. Or the load balancer refuses the request." "Use a token that allows it."
    AdminRequired "admin_required" 403 "Only a `service` token with `\"admin\": true` may do this." "Use such a token."
    OriginNotAllowed "origin_not_allowed" 403 "Pages of this origin may not use the server." "Ask the operator to add the origin to `ALLOWED_ORIGINS`."
    NotFound "not_found" 404 "There is nothing at this path." "Correct the path."
    MethodNotAllowed "method_not_allowed" 405 "The path does not serve this method." "Use a method that `Allow` lists."
    RequestTimeout "request_timeout" 408 "The request did not arrive in time." "Send it again."
    ClientMessageIdReused "client_message_id_reused" 409 "The `client_message_id` belongs to a different message." "Give a new message a new id."
    BodyTooLarge "body_too_large" 413 "The body is larger than 256 KiB." "Send less at once."
    UriTooLong "uri_too_long" 414 "The query is longer than 4 KiB, or the target is too long." "Shorten it."
    UnsupportedMediaType "unsupported_media_type" 415 "The body is not `application/json` in UTF-8." "Send JSON with this content type."
    UnsupportedEncoding "unsupported_encoding" 415 "The body has a `Content-Encoding`." "Send it without."
    MissingField "missing_field" 422 "A required field is missing." "Add the field."
    MissingParameter "missing_parameter" 422 "A required query parameter is missing." "Add the parameter."
    UnknownField "unknown_field" 422 "The body has a field that the request does not have." "Remove it, or correct its name."
    UnknownParameter "unknown_parameter" 422 "The query has a parameter that the request does not have." "Remove it, or correct its name."
    ConflictingFields "conflicting_fields" 422 "Two fields exclude each other." "Give one of them."
    ConflictingParameters "conflicting_parameters" 422 "Two query parameters exclude each other." "Give one of them."
    InvalidType "invalid_type" 422 "A value has the wrong JSON type." "Send the type that the schema names."
    InvalidIdentifier "invalid_identifier" 422 "An identifier is not 1 to 64 characters from `A-Z a-z 0-9 . _ ~ -`." "Correct the identifier."
    InvalidUuid "invalid_uuid" 422 "A value is not a UUID with hyphens." "Correct the UUID."
    InvalidTime "invalid_time" 422 "A value is not an RFC 3339 time." "Correct the time."
    InvalidCursor "invalid_cursor" 422 "The cursor is not one that this server gave out." "Start without a cursor."
    OutOfRange "out_of_range" 422 "A number, or the number of elements, is too small or too large." "Stay within the limits that `errors` names."
    InvalidValue "invalid_value" 422 "A value is not one of those that are allowed." "Send one that `errors` names."
    ContentEmpty "content_empty" 422 "The content is empty, or has only spaces and invisible characters." "Send visible text."
    ContentTooLong "content_too_long" 422 "The content is longer than 8,000 characters." "Send several messages."
    ContentInvalid "content_invalid" 422 "The content contains U+0000." "Remove this character."
    ContactToContact "contact_to_contact" 422 "A conversation needs at least one user." "Name a user."
    SameParticipant "same_participant" 422 "Both sides of the conversation are the same participant." "Name two participants."
    InvalidInput "invalid_input" 422 "Several values are wrong, each for another cause." "Correct each value that `errors` lists."
    UpgradeRequired "upgrade_required" 426 "This path serves WebSockets only." "Send a WebSocket handshake."
    WebsocketVersionUnsupported "websocket_version_unsupported" 426 "The version of the WebSocket protocol is not 13." "Send `Sec-WebSocket-Version: 13`."
    RateLimited "rate_limited" 429 "Too many requests, messages, frames, handshakes or refused tokens came at once." "Wait as `Retry-After` says, then retry."
    ResponsesUnread "responses_unread" 429 "Earlier responses to the caller are not read yet." "Read them, then retry."
    HeadTooLarge "head_too_large" 431 "The head is larger than 16 KiB, or has more than 100 headers." "Send fewer or shorter headers."
    InternalError "internal_error" 500 "The server failed. The cause is in its log." "Retry once. Then give the operator the `request_id`."
    BadGateway "bad_gateway" 502 "A server failed while it processed the request, which may have taken effect." "Retry, a message with the same `client_message_id`."
    Overloaded "overloaded" 503 "The server has too much to do. Nothing was changed." "Wait as `Retry-After` says, then retry."
    DeadlineExceeded "deadline_exceeded" 503 "The request took too long. Nothing was changed." "Wait as `Retry-After` says, then retry."
    Starting "starting" 503 "The server is starting." "Wait as `Retry-After` says, then retry."
    ShuttingDown "shutting_down" 503 "The server is shutting down." "Retry now: another server answers."
    DatabaseUnavailable "database_unavailable" 503 "The database is out of reach." "Retry, a message with the same `client_message_id`."
    DatabaseIncompatible "database_incompatible" 503 "The database does not fit this service." "The operator finds the cause at `/readyz` of the admin port."
    ConversationBusy "conversation_busy" 503 "Too many changes of one conversation came at once. Nothing was changed." "Wait as `Retry-After` says, then retry."
    TicketsUnavailable "tickets_unavailable" 503 "Tickets can be neither issued nor redeemed at present." "Retry, or open the socket with a token."
    PresenceUnavailable "presence_unavailable" 503 "It is not known at present who is online." "Wait as `Retry-After` says, then retry."
    RelayUnavailable "relay_unavailable" 503 "Live delivery is interrupted, so no socket can be opened." "Retry. Load messages over HTTP meanwhile."
    NoServerAvailable "no_server_available" 503 "The load balancer has no server for the request. Nothing was processed." "Wait as `Retry-After` says, then retry."
    GatewayTimeout "gateway_timeout" 504 "A server did not answer in time. The request may have taken effect." "Retry, a message with the same `client_message_id`."
}

impl fmt::Display for ProblemCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ProblemCode {
    type Err = UnknownCode;

    fn from_str(name: &str) -> Result<Self, UnknownCode> {
        Self::ALL.iter().copied().find(|code| code.as_str() == name).ok_or(UnknownCode)
    }
}

/// The cause of an `error` frame, and the reason of a close frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketCode {
    /// A cause that HTTP has too.
    Problem(ProblemCode),
    /// The `type` of a frame is unknown.
    UnknownType,
    /// The frame needs the socket of a conversation.
    ConversationRequired,
    /// A frame broke RFC 6455.
    ProtocolError,
    /// A text is not UTF-8.
    InvalidUtf8,
    /// A frame or message is too large.
    FrameTooLarge,
    /// The client reads too slowly.
    ClientTooSlow,
    /// The client has sent nothing for too long.
    ClientSilent,
    /// The participant or its address has too many sockets.
    TooManySockets,
}

impl SocketCode {
    /// The causes that HTTP does not have.
    pub const OWN: [Self; 8] = [
        Self::UnknownType,
        Self::ConversationRequired,
        Self::ProtocolError,
        Self::InvalidUtf8,
        Self::FrameTooLarge,
        Self::ClientTooSlow,
        Self::ClientSilent,
        Self::TooManySockets,
    ];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Problem(code) => code.as_str(),
            Self::UnknownType => "unknown_type",
            Self::ConversationRequired => "conversation_required",
            Self::ProtocolError => "protocol_error",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::FrameTooLarge => "frame_too_large",
            Self::ClientTooSlow => "client_too_slow",
            Self::ClientSilent => "client_silent",
            Self::TooManySockets => "too_many_sockets",
        }
    }

    /// The kind of an `error` frame: one of six, which never become more. [`Self::as_str`] is its cause.
    #[must_use]
    pub fn frame_code(self) -> &'static str {
        match self {
            Self::Problem(ProblemCode::Malformed | ProblemCode::Forbidden | ProblemCode::RateLimited)
            | Self::UnknownType => self.as_str(),
            Self::Problem(code) if code.status() == 401 => "unauthorized",
            _ => "invalid",
        }
    }
}

impl From<ProblemCode> for SocketCode {
    fn from(code: ProblemCode) -> Self {
        Self::Problem(code)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn is_snake_case(name: &str) -> bool {
        name.starts_with(|first: char| first.is_ascii_lowercase())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    }

    fn is_sentence(text: &str) -> bool {
        text.ends_with('.') && text.starts_with(|first: char| first.is_uppercase() || first == '`')
    }

    #[test]
    fn codes_are_unique_snake_case_names() {
        let all = ProblemCode::ALL.iter().copied().map(SocketCode::from).chain(SocketCode::OWN);
        let mut seen = HashSet::new();
        for name in all.map(SocketCode::as_str) {
            assert!(is_snake_case(name) && seen.insert(name), "{name}");
        }
    }

    #[test]
    fn names_are_read_back() {
        for code in ProblemCode::ALL {
            assert_eq!(code.as_str().parse(), Ok(*code));
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
        assert_eq!("Malformed".parse::<ProblemCode>(), Err(UnknownCode));
    }

    #[test]
    fn statuses_are_errors_in_ascending_order() {
        let statuses: Vec<u16> = ProblemCode::ALL.iter().map(|code| code.status()).collect();
        assert!(statuses.is_sorted() && statuses.iter().all(|status| (400..600).contains(status)), "{statuses:?}");
    }

    #[test]
    fn meanings_and_actions_are_sentences() {
        for code in ProblemCode::ALL {
            assert!(is_sentence(code.meaning()) && is_sentence(code.action()), "{code}");
        }
    }

    /// The rows of a document's tables whose first cell is a code.
    fn rows(document: &str) -> Vec<Vec<&str>> {
        let rows = document.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
        let rows = rows.map(|row| row.split(" | ").map(str::trim).collect::<Vec<_>>());
        rows.filter(|cells| cells[0].starts_with('`') && is_snake_case(cells[0].trim_matches('`'))).collect()
    }

    #[test]
    fn http_document_lists_every_code() {
        let document = include_str!("../../../docs/api/http.md");
        let (_, codes) = document.split_once("### Codes").expect("the section of the codes");
        let rows = rows(codes);
        let listed: Vec<String> = rows.iter().map(|cells| format!("| {} |", cells.join(" | "))).collect();
        let expected: Vec<String> = ProblemCode::ALL
            .iter()
            .map(|code| format!("| `{}` | {} | {} | {} |", code.as_str(), code.status(), code.meaning(), code.action()))
            .collect();
        assert!(listed == expected, "the table must be:\n{}", expected.join("\n"));
    }

    #[test]
    fn balancer_sends_known_codes() {
        let config = include_str!("../../../deploy/haproxy.cfg");
        let mut problems = 0;
        for line in config.lines().filter(|line| line.contains("about:blank")) {
            let member = |name: &str| {
                let value = line.split_once(&format!("\"{name}\":")).unwrap_or_else(|| panic!("no {name}: {line}")).1;
                value.split(['"', ',']).find(|part| !part.is_empty()).unwrap().to_owned()
            };
            let code: ProblemCode = member("code").parse().unwrap_or_else(|_| panic!("unknown code: {line}"));
            assert_eq!(member("status"), code.status().to_string(), "{line}");
            assert!(line.contains(&format!(" status {} ", code.status())), "{line}");
            let detail = line.split_once("\"detail\":\"").unwrap().1.split_once("\",\"").unwrap().0;
            assert!(is_sentence(detail), "{detail}");
            problems += 1;
        }
        assert!(problems >= 10, "{problems}");
    }
}
