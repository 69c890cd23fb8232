use super::*;
use crate::http::credential::Credential;
use hyper::header::{ALLOW, AUTHORIZATION, HOST, WWW_AUTHENTICATE};
use shared::contract::http::problem::REQUEST_ID_HEADER;
use shared::contract::participant::ParticipantKind;
use shared::contract::ticket::Ticket;
use shared::contract::token::{Role, Verifier, issue};
use std::time::Duration;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const QUERY: &str = "location_id=loc1&user_id=doc123&contact_id=pat456";
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

fn token(subject: &str, kind: Option<ParticipantKind>) -> String {
    let locations = ["loc1".parse().unwrap()];
    let role = kind.map_or(Role::Service, Role::Participant);
    issue(&SECRET.parse().unwrap(), &subject.parse().unwrap(), role, &locations, Duration::from_secs(60)).unwrap()
}

const SITE: Site<'_> = Site { host: Some("localhost"), is_tls: false };

fn request(query: &str, headers: &[(HeaderName, &str)]) -> Request<()> {
    let mut request = Request::builder()
        .uri(format!("/ws?{query}"))
        .header(HOST, "localhost")
        .header(CONNECTION, "keep-alive, Upgrade")
        .header(UPGRADE, "WebSocket")
        .header(SEC_WEBSOCKET_VERSION, "13")
        .header(SEC_WEBSOCKET_KEY, KEY)
        .body(())
        .unwrap();
    for (name, value) in headers {
        match *value {
            "" => drop(request.headers_mut().remove(name)),
            value => drop(request.headers_mut().insert(name, value.parse().unwrap())),
        }
    }
    request
}

fn check(query: &str, headers: &[(HeaderName, &str)]) -> Result<UpgradeRequest, HttpError> {
    let request = request(query, headers);
    check_handshake(&request, &AllowedOrigins::default(), &SITE)?;
    let principal = match credential(&request)? {
        Credential::Token(token) => Verifier::from_secret(&SECRET.parse().unwrap()).verify(token),
        Credential::Ticket(_) => panic!("tickets are in Redis"),
    };
    authorize(&request, &principal.map_err(|error| HttpError::invalid_token(&error))?, &mut AuditContext::default())
}

fn ask(query: &str, headers: &[(HeaderName, &str)]) -> Result<UpgradeRequest, Box<HttpResponse>> {
    check(query, headers).map_err(|error| Box::new(error.into_response("r1")))
}

fn status(query: &str, headers: &[(HeaderName, &str)]) -> u16 {
    ask(query, headers).unwrap_err().status().as_u16()
}

#[test]
fn token_is_read_from_header_or_subprotocol() {
    let token = token("doc123", Some(ParticipantKind::User));
    let upgrade_request = ask(QUERY, &[(AUTHORIZATION, &format!("Bearer {token}"))]).unwrap();
    assert!(!upgrade_request.subprotocol);
    // RFC 6455, section 1.3
    assert_eq!(upgrade_request.accept_key, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    let upgrade_request = ask(QUERY, &[(SEC_WEBSOCKET_PROTOCOL, &format!("chat.v1, bearer.{token}"))]).unwrap();
    assert!(upgrade_request.subprotocol);
    let Topic::Conversation(conversation) = upgrade_request.topic else { panic!("{upgrade_request:?}") };
    assert_eq!(conversation.second().to_string(), "contact:pat456");
}

#[test]
fn handshake_errors_have_fixed_precedence() {
    let good = format!("Bearer {}", token("doc123", Some(ParticipantKind::User)));
    let stranger = format!("Bearer {}", token("doc9", Some(ParticipantKind::User)));
    assert_eq!(status("", &[(UPGRADE, "")]), 426);
    assert_eq!(status("", &[(SEC_WEBSOCKET_VERSION, "8")]), 426);
    assert_eq!(status("", &[]), 401);
    assert_eq!(status("", &[(AUTHORIZATION, "Bearer x")]), 401);
    assert_eq!(status("", &[(AUTHORIZATION, &good)]), 422);
    assert_eq!(status("user_id=%zz", &[(AUTHORIZATION, &good)]), 400);
    assert_eq!(status(QUERY, &[(AUTHORIZATION, &stranger), (SEC_WEBSOCKET_KEY, "short")]), 400);
    assert_eq!(status(QUERY, &[(AUTHORIZATION, &stranger), (SEC_WEBSOCKET_PROTOCOL, "bearer.x")]), 400);
    assert_eq!(status("location_id=loc1&user_id=doc9&contact_id=a%20b", &[(AUTHORIZATION, &good)]), 422);
    assert_eq!(status(QUERY, &[(AUTHORIZATION, &stranger)]), 403);
    assert_eq!(status(&QUERY.replace("loc1", "loc2"), &[(AUTHORIZATION, &good)]), 403);
    // Authorization comes before any other error in the query.
    for more in ["&cursor=x", "&utm=x", "&cursor=1-0&cursor=1-0", "&x=%zz"] {
        assert_eq!(status(&format!("{QUERY}{more}"), &[(AUTHORIZATION, &stranger)]), 403, "{more}");
    }
    assert_eq!(status(&format!("{QUERY}&cursor=x"), &[(AUTHORIZATION, &good)]), 422);
}

#[test]
fn error_responses_carry_required_headers() {
    let response = ask("", &[(SEC_WEBSOCKET_VERSION, "8")]).unwrap_err();
    assert_eq!(response.headers()[SEC_WEBSOCKET_VERSION], "13");
    assert_eq!(response.headers()[UPGRADE], "websocket");
    let challenge = |headers: &[(HeaderName, &str)]| {
        ask("", headers).unwrap_err().headers()[WWW_AUTHENTICATE].to_str().unwrap().to_owned()
    };
    assert_eq!(challenge(&[]), "Bearer realm=\"ehr-chat\"");
    assert!(challenge(&[(AUTHORIZATION, "Bearer x")]).contains("error=\"invalid_token\""));
    let response = HttpError::method_not_allowed().into_response("r1");
    assert_eq!(response.headers()[ALLOW], "GET, HEAD, OPTIONS");
    assert_eq!(response.headers()[REQUEST_ID_HEADER], "r1");
}

#[test]
fn detail_names_each_invalid_parameter() {
    let good = format!("Bearer {}", token("doc123", Some(ParticipantKind::User)));
    let error = check("user_id=doc123&cursor=x&contact_id=pat456", &[(AUTHORIZATION, &good)]).unwrap_err();
    assert_eq!(
        error.detail(),
        "The parameter `location_id` is missing. The parameter `cursor` is not a cursor that this server gave out."
    );
}

#[test]
fn each_cause_has_its_code() {
    let good = format!("Bearer {}", token("doc123", Some(ParticipantKind::User)));
    let stranger = format!("Bearer {}", token("doc9", Some(ParticipantKind::User)));
    let ticket = format!("{QUERY}&ticket={}", Ticket::new().unwrap().expose());
    let inbox = "location_id=loc1&user_id=doc123";
    let auth = |token| vec![(AUTHORIZATION, token)];
    for (code, query, headers) in [
        (ProblemCode::InvalidHost, QUERY, vec![(HOST, "a b")]),
        (ProblemCode::UpgradeRequired, QUERY, vec![(UPGRADE, "")]),
        (ProblemCode::WebsocketVersionUnsupported, QUERY, vec![(SEC_WEBSOCKET_VERSION, "8")]),
        (ProblemCode::OriginNotAllowed, QUERY, vec![(ORIGIN, "https://evil.example")]),
        (ProblemCode::UriTooLong, &"x".repeat(5_000), vec![]),
        (ProblemCode::TokenMissing, QUERY, vec![]),
        (ProblemCode::TokenMalformed, QUERY, auth("Bearer x")),
        (ProblemCode::TicketInvalid, &format!("{QUERY}&ticket=x"), vec![]),
        (ProblemCode::InvalidHandshake, &ticket, auth(&good)),
        (ProblemCode::InvalidHandshake, QUERY, vec![(AUTHORIZATION, &good), (SEC_WEBSOCKET_KEY, "short")]),
        (ProblemCode::InvalidHandshake, QUERY, vec![(AUTHORIZATION, &good), (SEC_WEBSOCKET_PROTOCOL, "bearer.x")]),
        (ProblemCode::Forbidden, QUERY, auth(&stranger)),
        (ProblemCode::MalformedQuery, "user_id=%zz", auth(&good)),
        (ProblemCode::RepeatedParameter, &format!("{inbox}&user_id=doc123"), auth(&good)),
        (ProblemCode::MissingParameter, "", auth(&good)),
        (ProblemCode::UnknownParameter, &format!("{QUERY}&utm=x"), auth(&good)),
        (ProblemCode::ConflictingParameters, &format!("{inbox}&cursor=1-0"), auth(&good)),
        (ProblemCode::ConflictingParameters, &format!("{QUERY}&peer_user_id=doc9"), auth(&good)),
        (ProblemCode::InvalidIdentifier, "location_id=loc1&user_id=a%20b", auth(&good)),
        (ProblemCode::InvalidCursor, &format!("{QUERY}&cursor=x"), auth(&good)),
        (ProblemCode::SameParticipant, &format!("{inbox}&peer_user_id=doc123"), auth(&good)),
        (ProblemCode::InvalidInput, "location_id=loc1&user_id=a%20b&contact_id=pat456&cursor=x", auth(&good)),
    ] {
        let error = check(query, &headers).unwrap_err();
        assert_eq!((error.code(), error.status()), (code, code.status()), "{query} {headers:?}");
        assert!(error.detail().ends_with('.'), "{}", error.detail());
    }
}

#[test]
fn ticket_must_be_valid_and_alone() {
    let good = token("doc123", Some(ParticipantKind::User));
    let ticket = format!("{QUERY}&ticket={}", Ticket::new().unwrap().expose());
    assert!(matches!(credential(&request(&ticket, &[])), Ok(Credential::Ticket(_))));
    assert_eq!(status(&ticket, &[(AUTHORIZATION, &format!("Bearer {good}"))]), 400);
    assert_eq!(status(&ticket, &[(SEC_WEBSOCKET_PROTOCOL, &format!("chat.v1, bearer.{good}"))]), 400);
    assert_eq!(status(&format!("{ticket}&ticket=x"), &[]), 400);
    for nonsense in ["", "x", &good] {
        assert_eq!(status(&format!("{QUERY}&ticket={nonsense}"), &[]), 401);
    }
}

#[test]
fn foreign_origin_opens_no_socket() {
    let good = format!("Bearer {}", token("doc123", Some(ParticipantKind::User)));
    for origin in ["http://localhost", "https://localhost", "http://LOCALHOST"] {
        assert!(ask(QUERY, &[(AUTHORIZATION, &good), (ORIGIN, origin)]).is_ok(), "{origin}");
    }
    for origin in ["https://evil.example", "null", "http://localhost:81", "http://localhost.evil.example"] {
        assert_eq!(status(QUERY, &[(AUTHORIZATION, &good), (ORIGIN, origin)]), 403, "{origin}");
        assert_eq!(status("", &[(ORIGIN, origin)]), 403, "{origin}");
    }
    let listed = "https://evil.example".parse().unwrap();
    assert!(check_handshake(&request(QUERY, &[(ORIGIN, "https://EVIL.example:443")]), &listed, &SITE).is_ok());
}

#[test]
fn contradictory_headers_are_rejected_first() {
    let good = format!("Bearer {}", token("doc123", Some(ParticipantKind::User)));
    let refused = |request: Request<()>| {
        let listed = "https://evil.example".parse().unwrap();
        check_handshake(&request, &listed, &SITE).unwrap_err().into_response("r1").status().as_u16()
    };
    for (name, value) in [
        (ORIGIN, "https://evil.example"),
        (ORIGIN, "http://localhost"),
        (AUTHORIZATION, good.as_str()),
        (HOST, "localhost"),
        (SEC_WEBSOCKET_KEY, KEY),
        (SEC_WEBSOCKET_VERSION, "13"),
        (HeaderName::from_static(REQUEST_ID_HEADER), "r2"),
    ] {
        let first =
            [(ORIGIN, "http://localhost"), (AUTHORIZATION, &good), (HeaderName::from_static(REQUEST_ID_HEADER), "r1")];
        let mut twice = request(QUERY, &first);
        twice.headers_mut().append(&name, value.parse().unwrap());
        assert_eq!(refused(twice), 400, "{name}");
    }
    for host in ["", "a b", "a/b"] {
        let mut bad = request(QUERY, &[]);
        bad.headers_mut().insert(HOST, host.parse().unwrap());
        assert_eq!(refused(bad), 400, "{host}");
    }
    assert_eq!(refused(request(QUERY, &[(HOST, "")])), 400, "without a host");
}

#[test]
fn service_token_sees_conversations_of_its_locations() {
    let service = format!("Bearer {}", token("bot", None));
    assert!(ask(QUERY, &[(AUTHORIZATION, &service)]).is_ok());
    assert_eq!(status(&QUERY.replace("loc1", "loc2"), &[(AUTHORIZATION, &service)]), 403);
}

#[test]
fn inbox_is_visible_to_owner_and_service() {
    let bearers = [
        ("doc123", Some(ParticipantKind::User)),
        ("bot", None),
        ("doc123", Some(ParticipantKind::Contact)),
        ("other", Some(ParticipantKind::User)),
    ];
    for ((subject, kind), expected) in bearers.into_iter().zip([None, None, Some(403), Some(403)]) {
        let authorization = format!("Bearer {}", token(subject, kind));
        let upgrade_request = ask("location_id=loc1&user_id=doc123", &[(AUTHORIZATION, &authorization)]);
        assert_eq!(upgrade_request.err().map(|refused| refused.status().as_u16()), expected, "{subject} {kind:?}");
        assert_eq!(status("location_id=loc2&user_id=doc123", &[(AUTHORIZATION, &authorization)]), 403);
    }
}
