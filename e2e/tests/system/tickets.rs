//! Tickets: what stands for a token in a URL, once.

use e2e::{HttpResponse, Socket, TestUser, token};
use reqwest::Method;
use serde_json::json;
use tokio_tungstenite::tungstenite::Error;

use crate::bad_handshakes::handshake;
use crate::issuers::revoke;
use crate::place;

async fn ask(person: &TestUser) -> HttpResponse {
    person.place.ask(person.request(Method::POST, "/chat/ws-ticket")).await
}

async fn ticket(person: &TestUser) -> String {
    let given = ask(person).await.expect_status(200);
    assert_eq!(given.as_object().unwrap().len(), 2, "{given}");
    assert!((1..=30).contains(&given["expires_in"].as_u64().unwrap()), "{given}");
    given["ticket"].as_str().unwrap().to_owned()
}

fn url(person: &TestUser, other: &TestUser, ticket: &str) -> String {
    format!("{}?{}&ticket={ticket}", person.place.ws_url, person.with(other))
}

#[tokio::test]
async fn ticket_opens_socket_without_header() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let url = url(&patient, &doctor, &ticket(&patient).await);
    let mut socket = Socket::connect_with(&url, &[]).await.unwrap();
    assert_eq!(socket.next().await["type"], "ready");
    let mut at_doctor = doctor.open(&patient).await;
    let sent = doctor.send_ok(&patient, "hello").await;
    assert_eq!(socket.expect("message").await["message"], sent);
    // It is the patient's socket: what arrives there is proven to have arrived.
    // That of the first message may come behind the doctor's socket.
    while at_doctor.expect("delivered").await["message_ids"] != json!([sent["id"]]) {}
    let Err(Error::Http(refused)) = Socket::connect_with(&url, &[]).await else { panic!("a ticket is good once") };
    assert_eq!(refused.status().as_u16(), 401);
}

#[tokio::test]
async fn ticket_works_once_in_twenty_handshakes() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let url = url(&doctor, &patient, &ticket(&doctor).await);
    let handshakes: Vec<_> = (0..20)
        .map(|_| {
            let url = url.clone();
            tokio::spawn(async move { Socket::connect_with(&url, &[]).await })
        })
        .collect();
    let mut open = Vec::new();
    for handshake in handshakes {
        match handshake.await.unwrap() {
            Ok(socket) => open.push(socket),
            Err(Error::Http(refused)) => assert_eq!(refused.status().as_u16(), 401),
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(open.len(), 1);
    assert_eq!(open[0].next().await["type"], "ready");
}

#[tokio::test]
async fn ticket_has_rights_of_its_token() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let brief = token::with(token::claims("doc", "user", &[&place.location]), "exp", json!(token::now() + 4));
    let brief = doctor.with_token(place.sign(&brief));
    let given = ask(&brief).await.expect_status(200);
    assert!((1..=4).contains(&given["expires_in"].as_u64().unwrap()), "not longer than the token: {given}");
    let mut socket =
        Socket::connect_with(&url(&brief, &patient, given["ticket"].as_str().unwrap()), &[]).await.unwrap();
    assert_eq!(socket.expect_close().await, 4401, "when the token ends");

    let query = |person: &TestUser, ticket: &str| format!("{}&ticket={ticket}", person.with(&patient));
    let other = place.user("other");
    let theirs = ticket(&other).await;
    let _problem = handshake(&place, &query(&doctor, &theirs), &[]).await.expect_problem(403);
    // It is spent.
    handshake(&place, &query(&other, &theirs), &[]).await.expect_code(401, "ticket_invalid");

    let good = ticket(&doctor).await;
    let bearer = format!("Bearer {}", doctor.token);
    let protocols = format!("chat.v1, bearer.{}", doctor.token);
    for header in [("authorization", bearer.as_str()), ("sec-websocket-protocol", &protocols)] {
        let _problem = handshake(&place, &query(&doctor, &good), &[header]).await.expect_problem(400);
    }
    let mut changed = good.clone();
    changed.replace_range(..1, if good.starts_with('A') { "B" } else { "A" });
    for wrong in ["", "nonsense", &changed, &doctor.token] {
        let _problem = handshake(&place, &query(&doctor, wrong), &[]).await.expect_problem(401);
    }
    // None of that has spent it.
    assert!(Socket::connect_with(&url(&doctor, &patient, &good), &[]).await.is_ok());
}

#[tokio::test]
async fn revoked_token_gets_and_uses_no_ticket() {
    let place = place();
    let patient = place.contact("pat");
    let jti = uuid::Uuid::now_v7().to_string();
    let claims = token::with(token::claims("doc", "user", &[&place.location]), "jti", json!(jti));
    let doctor = place.user("doc").with_token(place.sign(&claims));
    let given = ticket(&doctor).await;
    let mut socket = doctor.open(&patient).await;
    revoke(&place, &json!({"jti": jti})).await;
    assert_eq!(socket.expect_close().await, 4401);
    // Both gateways know of it by the time that neither accepts the token.
    for url in &place.env.gateway_ws_urls {
        let gateway = place.with_base_url(&url.replace("ws://", "http://").replace("/ws", ""));
        let bearer = format!("Bearer {}", doctor.token);
        while handshake(&gateway, "", &[("authorization", &bearer)]).await.status != 401 {}
    }
    let spent = handshake(&place, &format!("{}&ticket={given}", doctor.with(&patient)), &[]).await;
    spent.expect_code(401, "token_revoked");
    for api in &place.env.api_urls {
        let doctor = doctor.at(api, &place.ws_url);
        while ask(&doctor).await.status != 401 {}
    }
}

#[tokio::test]
async fn only_valid_token_gets_ticket() {
    let place = place();
    let _problem = place.ask(place.request(Method::POST, "/chat/ws-ticket")).await.expect_problem(401);
    let _problem = ask(&place.user("doc").with_token("nonsense")).await.expect_problem(401);
    let _problem = place.user("doc").get("/chat/ws-ticket").await.expect_problem(405);
    // A principal that may watch by token may watch by ticket.
    let (service, doctor, patient) = (place.service(), place.user("doc"), place.contact("pat"));
    let url = format!("{}?{}&ticket={}", place.ws_url, doctor.with(&patient), ticket(&service).await);
    assert!(Socket::connect_with(&url, &[]).await.is_ok());
}
