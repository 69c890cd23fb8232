//! Rights come first: an unauthorized caller gets 403, even if the request has other errors.

use std::collections::BTreeSet;

use e2e::audit::AuditLog;
use e2e::{TestLocation, TestUser, token};
use reqwest::Method;
use serde_json::{Value, json};

use crate::bad_handshakes::handshake;
use crate::{place, stack};

/// What can be wrong with any query.
const WRONG: [&str; 4] = ["nonsense=1", "x=1&x=1", "x=%zz", "Limit=5"];

async fn ask(participant: &TestUser, method: &Method, path: &str, body: Option<&str>) -> e2e::HttpResponse {
    let request = participant.request(method.clone(), path);
    let request = match body {
        Some(body) => request.header("content-type", "application/json").body(body.to_owned()),
        None => request,
    };
    participant.place.ask(request).await
}

/// A user without the right to a route, and the path and body that name what is not theirs.
struct Attempt {
    participant: TestUser,
    method: Method,
    path: String,
    body: Option<Value>,
}

/// Of every route that a user with a valid token may not use.
fn attempts(place: &TestLocation) -> Vec<Attempt> {
    let (doctor, patient, stranger) = (place.user("doc"), place.contact("pat"), place.user("stranger"));
    let service = place.service();
    let (location, elsewhere) = (&place.location, place.other_location());
    let get = |participant: &TestUser, path: String| Attempt {
        participant: participant.clone(),
        method: Method::GET,
        path,
        body: None,
    };
    let with = |participant: &TestUser, method: Method, path: &str, body: Value| {
        let path = format!("{path}?");
        Attempt { participant: participant.clone(), method, path, body: Some(body) }
    };
    let mut attempts = vec![
        get(&stranger, format!("/chat/history?{}", doctor.with(&patient))),
        get(&stranger, format!("/chat/history?{}", doctor.with(&place.user("nurse")))),
        get(&service, format!("/chat/history?{}", elsewhere.user("doc").with(&patient))),
        get(&stranger, format!("/chat/conversations?location_id={location}&contact_id=pat")),
        get(&doctor, format!("/chat/conversations?location_id={}", elsewhere.location)),
        get(&doctor, format!("/chat/presence?location_id={}&contact_id=pat", elsewhere.location)),
        with(&doctor, Method::POST, "/chat/send", patient.message_to(&doctor, "forged")),
        with(&service, Method::POST, "/chat/send", elsewhere.user("doc").message_to(&patient, "forged")),
    ];
    for path in ["/chat/read", "/chat/delivered"] {
        attempts.push(with(&service, Method::PUT, path, json!({"message_ids": [uuid::Uuid::now_v7()]})));
    }
    for participant in [&doctor, &patient, &service] {
        attempts.push(with(participant, Method::POST, "/admin/revocations", json!({"jti": "another-token"})));
    }
    attempts
}

/// The paths of the published document that ask for a token.
async fn published(place: &TestLocation) -> BTreeSet<String> {
    let document = place.get("/openapi.json").await.expect_status(200);
    let asks = |path: &Value| {
        path.as_object()
            .unwrap()
            .values()
            .any(|operation| operation["security"].as_array().is_some_and(|all| !all.is_empty()))
    };
    let paths = document["paths"].as_object().unwrap();
    paths.iter().filter(|(_, path)| asks(path)).map(|(name, _)| name.clone()).collect()
}

#[tokio::test]
async fn denial_precedes_query_errors() {
    let place = place();
    let attempts = attempts(&place);
    let tried: BTreeSet<String> =
        attempts.iter().map(|attempt| attempt.path.split('?').next().unwrap().to_owned()).collect();
    let mut published = published(&place).await;
    assert!(published.remove("/chat/ws-ticket"), "every principal with a valid token may get a ticket");
    assert_eq!(tried, published, "a new route cannot be forgotten");
    for Attempt { participant, method, path, body } in &attempts {
        let body = body.as_ref().map(Value::to_string);
        for more in [""].iter().chain(&WRONG) {
            let answer = ask(participant, method, &format!("{path}&{more}"), body.as_deref()).await;
            assert_eq!(answer.status, 403, "{} {method} {path}&{more}: {answer:?}", participant.id);
            let _problem = answer.expect_problem(403);
        }
        if *method == Method::GET {
            for more in ["limit=0", "limit=abc", "before=1&after=1", "cursor=nonsense", "before=-1"] {
                let answer = ask(participant, method, &format!("{path}&{more}"), None).await;
                assert_eq!(answer.status, 403, "{} {method} {path}&{more}: {answer:?}", participant.id);
                let head = ask(participant, &Method::HEAD, &format!("{path}&{more}"), None).await;
                assert_eq!(head.status, 403, "HEAD {path}&{more}");
            }
        }
    }
}

#[tokio::test]
async fn denial_precedes_body_errors() {
    let place = place();
    let changed = |body: &Value, field: &str, value: Value| {
        let mut body = body.clone();
        body[field] = value;
        body
    };
    for Attempt { participant, method, path, body } in &attempts(&place) {
        let Some(body) = body else { continue };
        let mut bodies = vec![changed(body, "unknown", json!(1))];
        if path.starts_with("/chat/send") {
            for (field, value) in [
                ("content", json!("")),
                ("content", json!(null)),
                ("content", json!("x".repeat(8_001))),
                ("client_message_id", json!("no UUID")),
                ("receiver_user_id", json!("a b")),
                ("receiver_contact_id", json!(7)),
            ] {
                bodies.push(changed(body, field, value));
            }
        } else {
            // Their right does not depend on the body.
            bodies.extend([json!({}), json!([]), json!("text")]);
        }
        for body in bodies {
            for path in [path.clone(), format!("{path}nonsense=1")] {
                let answer = ask(participant, method, &path, Some(&body.to_string())).await;
                assert_eq!(answer.status, 403, "{} {method} {path} {body}: {answer:?}", participant.id);
            }
        }
        if !path.starts_with("/chat/send") {
            assert_eq!(ask(participant, method, path, Some("{")).await.status, 403, "{path}");
            assert_eq!(ask(participant, method, path, None).await.status, 403, "{path}");
        }
    }
}

#[tokio::test]
async fn authorized_caller_gets_validation_errors() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let claims = token::with(token::claims("ehr", "service", &[&place.location]), "admin", json!(true));
    let admin = place.service().with_token(place.sign(&claims));
    ask(&admin, &Method::POST, "/admin/revocations?x=1", Some("{}")).await.expect_invalid("?x");
    ask(&admin, &Method::POST, "/admin/revocations", Some("{}")).await.expect_invalid("");
    ask(&patient, &Method::PUT, "/chat/read?x=1", Some("{}")).await.expect_invalid("?x");
    let body = doctor.message_to(&patient, "hello").to_string();
    ask(&doctor, &Method::POST, "/chat/send?x=1", Some(&body)).await.expect_invalid("?x");
    ask(&doctor, &Method::POST, "/chat/send?x=1", Some("{")).await.expect_invalid("?x");
    doctor.get(&format!("/chat/history?{}&x=1", doctor.with(&patient))).await.expect_invalid("?x");
    assert_eq!(doctor.messages(&patient).await, [] as [Value; 0]);
}

#[tokio::test]
async fn early_denial_is_audited_with_subject() {
    let place = place();
    let (doctor, patient, stranger) = (place.user("doc"), place.contact("pat"), place.user("stranger"));
    let conversation = doctor.send_ok(&patient, "hello").await["conversation_id"].clone();
    let trail = AuditLog::open(&stack().env().database_url).await;
    let query = doctor.with(&patient);
    assert_eq!(stranger.get(&format!("/chat/history?{query}&limit=0")).await.status, 403);
    let read = trail.until(&place, |act| act.outcome == 403 && act.action == "history.read").await;
    assert_eq!(read.conversation.map(|id| json!(id)), Some(conversation.clone()));
    let mut body = doctor.message_to(&patient, "forged");
    body["content"] = json!("");
    assert_eq!(stranger.send(&body).await.status, 403);
    let sent = trail.until(&place, |act| act.outcome == 403 && act.action == "send").await;
    assert_eq!((sent.actor.as_str(), sent.acts_for.as_deref()), ("user:stranger", Some("user:doc")));
    let bearer = format!("Bearer {}", stranger.token);
    for more in ["&cursor=nonsense", "&x=1", "&x=%zz"] {
        let answer = handshake(&place, &format!("{query}{more}"), &[("authorization", &bearer)]).await;
        let _problem = answer.expect_problem(403);
    }
    let opened = trail.until(&place, |act| act.outcome == 403 && act.action == "socket.open").await;
    assert_eq!(opened.conversation.map(|id| json!(id)), Some(conversation));
}
