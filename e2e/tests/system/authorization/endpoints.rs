//! The routes of `openapi.json`.

use std::collections::BTreeSet;

use e2e::TestUser;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::World;

/// Who may pass, and what becomes of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// Every caller.
    Public,
    /// The doctor; for all others 403.
    Doctors,
    /// The patient. To another person's token the message does not exist, and a service receives nothing: 403.
    Receivers,
    /// The doctor, about the patient. Others of the location learn nothing, those of other locations get 403.
    Acquaintances,
    /// A service with `admin`; for all others 403.
    Admins,
    /// Any valid token. What a stranger gets opens nothing of this conversation.
    Bearers,
}

struct Endpoint {
    operation: &'static str,
    rule: Rule,
    ask: fn(&World, &TestUser) -> RequestBuilder,
}

const DOORS: &[Endpoint] = &[
    Endpoint {
        operation: "getHealth",
        rule: Rule::Public,
        ask: |_, participant| participant.request(Method::GET, "/healthz"),
    },
    Endpoint {
        operation: "getReadiness",
        rule: Rule::Public,
        ask: |_, participant| participant.request(Method::GET, "/readyz"),
    },
    // In development mode only, which this system runs in.
    Endpoint {
        operation: "issueDevToken",
        rule: Rule::Public,
        ask: |world, participant| {
            let wanted = json!({"sub": "doc", "role": "user", "location_id": world.place.location});
            participant.request(Method::POST, "/dev/token").json(&wanted)
        },
    },
    Endpoint {
        operation: "sendMessage",
        rule: Rule::Doctors,
        ask: |world, participant| {
            let mut body = world.doctor.message_to(&world.patient, world.message["content"].as_str().unwrap());
            // The one who may do it changes nothing either: it is what was sent already.
            body["client_message_id"] = world.message["client_message_id"].clone();
            participant.request(Method::POST, "/chat/send").json(&body)
        },
    },
    Endpoint {
        operation: "getHistory",
        rule: Rule::Doctors,
        ask: |world, participant| {
            participant.request(Method::GET, &format!("/chat/history?{}", world.doctor.with(&world.patient)))
        },
    },
    Endpoint {
        operation: "listConversations",
        rule: Rule::Doctors,
        ask: |world, participant| {
            let (location, doctor) = (&world.place.location, &world.doctor.id);
            participant.request(Method::GET, &format!("/chat/conversations?location_id={location}&user_id={doctor}"))
        },
    },
    Endpoint {
        operation: "getPresence",
        rule: Rule::Acquaintances,
        ask: |world, participant| {
            let (location, patient) = (&world.place.location, &world.patient.id);
            participant.request(Method::GET, &format!("/chat/presence?location_id={location}&contact_id={patient}"))
        },
    },
    Endpoint {
        operation: "markRead",
        rule: Rule::Receivers,
        ask: |world, participant| {
            participant.request(Method::PUT, "/chat/read").json(&json!({"message_ids": [world.message["id"]]}))
        },
    },
    Endpoint {
        operation: "markDelivered",
        rule: Rule::Receivers,
        ask: |world, participant| {
            participant.request(Method::PUT, "/chat/delivered").json(&json!({"message_ids": [world.message["id"]]}))
        },
    },
    Endpoint {
        operation: "issueTicket",
        rule: Rule::Bearers,
        ask: |_, participant| participant.request(Method::POST, "/chat/ws-ticket"),
    },
    Endpoint {
        operation: "revokeTokens",
        rule: Rule::Admins,
        ask: |_, participant| {
            let harmless = json!({"jti": uuid::Uuid::now_v7()});
            participant.request(Method::POST, "/admin/revocations").json(&harmless)
        },
    },
];

/// Operations that the running system publishes, and whether they ask for a token.
async fn published(world: &World) -> Vec<(String, bool)> {
    let document = world.place.get("/openapi.json").await.expect_status(200);
    let paths = document["paths"].as_object().unwrap();
    let operations = paths.values().flat_map(|path| path.as_object().unwrap().values());
    let asks = |operation: &Value| operation["security"].as_array().is_some_and(|schemes| !schemes.is_empty());
    operations.map(|operation| (operation["operationId"].as_str().unwrap().to_owned(), asks(operation))).collect()
}

#[tokio::test]
async fn every_published_route_is_covered() {
    let world = World::new().await;
    let published = published(&world).await;
    let names: BTreeSet<&str> = published.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, DOORS.iter().map(|door| door.operation).collect::<BTreeSet<_>>());
    for (name, asks_for_a_token) in &published {
        let door = DOORS.iter().find(|door| door.operation == name).unwrap();
        assert_eq!(*asks_for_a_token, door.rule != Rule::Public, "{name}");
    }
}

#[tokio::test]
async fn bad_token_passes_no_route() {
    let world = World::new().await;
    for (kind, bad) in world.bad_tokens().await {
        for door in DOORS.iter().filter(|door| door.rule != Rule::Public) {
            let answer = world.place.ask((door.ask)(&world, &world.doctor.with_token(&bad))).await;
            assert_eq!(answer.status, 401, "{}, a token {kind}: {answer:?}", door.operation);
            let _problem = answer.expect_problem(401);
            world.assert_tells_nothing(door.operation, &answer.text);
        }
    }
    world.assert_untouched().await;
}

#[tokio::test]
async fn unauthorized_principal_passes_no_route() {
    let world = World::new().await;
    for door in DOORS {
        let mut others = world.strangers();
        match door.rule {
            Rule::Public | Rule::Bearers => continue,
            Rule::Acquaintances => {}
            Rule::Doctors => others.push(("the patient", world.patient.clone())),
            Rule::Receivers => {
                others.extend([("the sender", world.doctor.clone()), ("a service", world.place.service())]);
            }
            Rule::Admins => others.extend([
                ("the doctor", world.doctor.clone()),
                ("the patient", world.patient.clone()),
                ("a service", world.place.service()),
            ]),
        }
        for (participant, stranger) in others {
            // A conversation's history is the patient's as well.
            if (door.operation, participant) == ("getHistory", "the patient") {
                continue;
            }
            let answer = world.place.ask((door.ask)(&world, &stranger)).await;
            let what = format!("{}, {participant}", door.operation);
            if door.rule == Rule::Acquaintances && !participant.contains("location") {
                assert_eq!(answer.expect_status(200), json!({"participants": []}), "{what}");
            } else if door.rule == Rule::Receivers && stranger.role != e2e::Role::Service {
                let body = answer.expect_status(200);
                assert_eq!(body, json!({"marked": [], "not_found": [world.message["id"]]}), "{what}");
            } else {
                assert_eq!(answer.status, 403, "{what}: {answer:?}");
                let _problem = answer.expect_problem(403);
            }
            world.assert_tells_nothing(&what, &answer.text);
        }
    }
    world.assert_untouched().await;
}

/// Otherwise all of the refusals above might be for a request that no caller would be granted.
#[tokio::test]
async fn authorized_principal_passes_each_route() {
    let world = World::new().await;
    for door in DOORS {
        let participant = match door.rule {
            Rule::Public | Rule::Bearers | Rule::Doctors | Rule::Acquaintances => world.doctor.clone(),
            Rule::Receivers => world.patient.clone(),
            Rule::Admins => world.admin(),
        };
        let answer = world.place.ask((door.ask)(&world, &participant)).await;
        assert!((200..300).contains(&answer.status), "{}: {answer:?}", door.operation);
    }
}
