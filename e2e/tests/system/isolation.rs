//! No socket ever sees a frame of a conversation that it is not part of.

use std::collections::HashMap;
use std::sync::Arc;

use e2e::{Socket, TestUser};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::place;

struct Pair {
    one: TestUser,
    other: TestUser,
    sockets: Vec<Socket>,
    conversation: Value,
}

#[tokio::test]
async fn sockets_get_only_their_own_conversation() {
    const MESSAGES: usize = 5;
    let here = place();
    // The same identifiers in two locations, and users and contacts who are namesakes.
    let mut pairs = Vec::new();
    for place in [here.clone(), here.other_location()] {
        let users = ["doc1", "doc2", "same"].map(|id| place.user(id));
        let contacts = ["pat1", "pat2", "same"].map(|id| place.contact(id));
        for user in &users {
            pairs.extend(contacts.iter().map(|contact| (user.clone(), contact.clone())));
        }
        pairs.extend([(users[0].clone(), users[1].clone()), (users[2].clone(), users[1].clone())]);
    }
    let mut open = Vec::new();
    for (one, other) in pairs {
        let service = one.place.service();
        let mut watching = service.open_at(&one.with(&other)).await;
        let conversation = watching.next().await["conversation_id"].clone();
        let sockets = vec![one.open(&other).await, other.open(&one).await, watching];
        open.push(Pair { one, other, sockets, conversation });
    }
    let ids: Vec<&Value> = open.iter().map(|pair| &pair.conversation).collect();
    assert!(ids.iter().enumerate().all(|(place, id)| !ids[..place].contains(id)), "22 conversations: {ids:?}");

    // All talk, in turns that mix them: messages, receipts, typing.
    let turns = Arc::new(Semaphore::new(6));
    let talking: Vec<_> = open
        .iter()
        .map(|pair| {
            let (one, other) = (pair.one.clone(), pair.other.clone());
            for socket in &pair.sockets[..2] {
                socket.send(&json!({"type": "typing"}));
            }
            let turns = turns.clone();
            tokio::spawn(async move {
                let mut sent = Vec::new();
                for number in 0..MESSAGES {
                    let _turn = turns.acquire().await.unwrap();
                    let (from, to) = if number % 2 == 0 { (&one, &other) } else { (&other, &one) };
                    let message = from.send_ok(to, "between us").await;
                    let _marks = to.mark("read", &[&message["id"]]).await.expect_status(200);
                    sent.push(message["id"].clone());
                }
                sent
            })
        })
        .collect();
    let mut owner_of: HashMap<String, Value> = HashMap::new();
    for (pair, task) in open.iter().zip(talking) {
        for id in task.await.unwrap() {
            owner_of.insert(id.as_str().unwrap().to_owned(), pair.conversation.clone());
        }
    }

    for pair in &mut open {
        for socket in &mut pair.sockets {
            // All of its own have come when the last one has been read; all other frames are checked, too.
            let (mut messages, mut reads, mut received) = (0, 0, Vec::new());
            while messages < MESSAGES || reads < MESSAGES {
                let frame = socket.next().await;
                messages += usize::from(frame["type"] == "message");
                reads += if frame["type"] == "read" { frame["message_ids"].as_array().unwrap().len() } else { 0 };
                received.push(frame);
            }
            received.extend(socket.everything().await);
            for frame in &received {
                assert_own(frame, &pair.conversation, [&pair.one, &pair.other], &owner_of);
            }
        }
    }
}

fn assert_own(frame: &Value, conversation: &Value, people: [&TestUser; 2], owner_of: &HashMap<String, Value>) {
    match frame["type"].as_str().unwrap() {
        "message" => {
            assert_eq!(frame["message"]["conversation_id"], *conversation, "{frame}");
            assert_eq!(frame["message"]["location_id"], people[0].place.location, "{frame}");
        }
        "delivered" | "read" => {
            for id in frame["message_ids"].as_array().unwrap() {
                assert_eq!(owner_of.get(id.as_str().unwrap()), Some(conversation), "{frame}");
            }
        }
        "typing" => assert!(
            people.iter().any(|person| frame[format!("{}_id", person.role)] == *person.id),
            "typing of a stranger: {frame}"
        ),
        other => panic!("{other} is not expected: {frame}"),
    }
}

#[tokio::test]
async fn namesakes_in_other_locations_are_separate() {
    let place = place();
    let elsewhere = place.other_location();
    let (doctor, patient) = (place.user("same"), place.contact("same"));
    doctor.send_ok(&patient, "here").await;
    let foreign = elsewhere.user("same");
    assert_eq!(foreign.messages(&elsewhere.contact("same")).await, [] as [Value; 0]);
    assert_eq!(foreign.inbox("").await["conversations"], json!([]));
    let peer = place.user("other");
    assert_eq!(doctor.messages(&peer).await, [] as [Value; 0]);
    assert_eq!(peer.inbox("").await["conversations"], json!([]));
}

#[tokio::test]
async fn stranger_gets_nothing_from_any_endpoint() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let sent = doctor.send_ok(&patient, "private").await;
    let strangers = [
        place.user("other"),
        place.contact("other"),
        place.user("pat"),
        place.contact("doc"),
        place.other_location().user("doc"),
        place.other_location().service(),
    ];
    for stranger in &strangers {
        let _problem = stranger.get(&format!("/chat/history?{}", doctor.with(&patient))).await.expect_problem(403);
        let _problem = stranger.send(&doctor.message_to(&patient, "as the doctor")).await.expect_problem(403);
        let path = format!("/chat/conversations?location_id={}&user_id=doc", place.location);
        let _problem = stranger.get(&path).await.expect_problem(403);
    }
    assert_eq!(doctor.messages(&patient).await, [sent]);
}
