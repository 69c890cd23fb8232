//! Sockets on an inbox: each frame is how a row stands, and the last one is what `GET /chat/conversations` lists.

use e2e::audit::AuditLog;
use e2e::{Socket, TestUser};
use futures_util::future::join_all;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::place;

/// The rows of a participant's inbox.
async fn listed(participant: &TestUser) -> Vec<Value> {
    participant.inbox("").await["conversations"].as_array().unwrap().clone()
}

/// Waits until the socket has received the newest row of its owner's inbox. Returns that row.
async fn caught_up(socket: &mut Socket, participant: &TestUser) -> Value {
    let row = listed(participant).await.into_iter().next().unwrap();
    while socket.expect("conversation").await != json!({"type": "conversation", "conversation": row}) {}
    row
}

#[tokio::test]
async fn inbox_rows_follow_sends_and_receipts() {
    let place = place();
    let (doctor, patient, nurse) = (place.user("doc"), place.contact("pat"), place.user("nurse"));
    let (mut at_doctor, mut at_patient) = (doctor.open_inbox().await, patient.open_inbox().await);
    let counts = |row: &Value| (row["unread_count"].clone(), row["last_message"]["seq"].clone());

    let first = doctor.send_ok(&patient, "1").await;
    for (socket, participant, unread) in [(&mut at_doctor, &doctor, 0), (&mut at_patient, &patient, 1)] {
        let row = caught_up(socket, participant).await;
        assert_eq!(counts(&row), (json!(unread), json!(1)));
        assert_eq!(row["last_message"], first);
    }
    let _second = doctor.send_ok(&patient, "2").await;
    assert_eq!(counts(&caught_up(&mut at_patient, &patient).await), (json!(2), json!(2)));
    let answer = patient.send_ok(&doctor, "3").await;
    assert_eq!(counts(&caught_up(&mut at_doctor, &doctor).await), (json!(1), json!(3)));
    assert_eq!(counts(&caught_up(&mut at_patient, &patient).await), (json!(2), json!(3)));

    // Delivered changes the row of the newest message, for both, and no count.
    let _marks = doctor.mark("delivered", &[&answer["id"]]).await.expect_status(200);
    for (socket, participant, unread) in [(&mut at_doctor, &doctor, 1), (&mut at_patient, &patient, 2)] {
        let row = caught_up(socket, participant).await;
        assert_eq!(row["unread_count"], unread);
        assert!(row["last_message"]["delivered_at"].is_string() && row["last_message"]["read_at"].is_null(), "{row}");
    }
    let _marks = patient.mark("read", &[&first["id"]]).await.expect_status(200);
    assert_eq!(counts(&caught_up(&mut at_patient, &patient).await), (json!(1), json!(3)));
    let _marks = doctor.mark("read", &[&answer["id"]]).await.expect_status(200);
    for (socket, participant, unread) in [(&mut at_doctor, &doctor, 0), (&mut at_patient, &patient, 1)] {
        let row = caught_up(socket, participant).await;
        assert_eq!((&row["unread_count"], &row["last_message"]["is_read"]), (&json!(unread), &json!(true)));
    }

    // Two users: each sees itself first.
    let mut at_nurse = nurse.open_inbox().await;
    let _note = nurse.send_ok(&doctor, "4").await;
    let row = caught_up(&mut at_doctor, &doctor).await;
    assert_eq!(
        (&row["user_id"], &row["peer_user_id"], &row["unread_count"]),
        (&json!("doc"), &json!("nurse"), &json!(1))
    );
    let row = caught_up(&mut at_nurse, &nurse).await;
    assert_eq!(
        (&row["user_id"], &row["peer_user_id"], &row["unread_count"]),
        (&json!("nurse"), &json!("doc"), &json!(0))
    );
}

#[tokio::test]
async fn inbox_belongs_to_one_participant_in_one_location() {
    let here = place();
    let elsewhere = here.other_location();
    let contact = here.contact("alex");
    let (namesake, other) = (here.user("alex"), elsewhere.contact("alex"));
    let mut sockets = join_all([&contact, &namesake, &other].map(TestUser::open_inbox)).await;
    let sent = [
        here.user("doc").send_ok(&contact, "to the contact").await,
        here.user("doc").send_ok(&namesake, "to the user").await,
        elsewhere.user("doc").send_ok(&other, "to the contact of another location").await,
    ];
    for (socket, message) in sockets.iter_mut().zip(&sent) {
        assert_eq!(socket.next().await["conversation"]["last_message"], *message);
        assert!(socket.everything().await.is_empty(), "and nothing of the others");
    }
}

#[tokio::test]
async fn inbox_sockets_give_no_receipts() {
    let place = place();
    let (doctor, patient, service) = (place.user("doc"), place.contact("pat"), place.service());
    let mut watching = service.watch_inbox(&patient).await;
    let mut own = patient.open_inbox().await;
    let mut at_doctor = doctor.open(&patient).await;
    let first = doctor.send_ok(&patient, "1").await;
    let frame = own.expect("conversation").await;
    assert_eq!(watching.expect("conversation").await, frame, "byte for byte what the owner gets");

    watching.send(&json!({"type": "read", "message_ids": [first["id"]]}));
    assert_eq!(watching.expect("error").await["code"], "forbidden");
    own.send(&json!({"type": "typing"}));
    let error = own.expect("error").await;
    assert_eq!((&error["code"], &error["cause"]), (&"invalid".into(), &"conversation_required".into()));
    let second = doctor.send_ok(&patient, "2").await;
    assert_eq!(own.expect("conversation").await["conversation"]["unread_count"], 2);
    own.send(&json!({"type": "read", "message_ids": [second["id"]]}));
    assert_eq!(at_doctor.expect("read").await["message_ids"], json!([second["id"]]));
    let row = caught_up(&mut own, &patient).await;
    assert_eq!(row["unread_count"], 1);
    // What a Pong had proven would have been written before.
    assert_eq!(patient.messages(&doctor).await[0]["delivered_at"], Value::Null);
}

/// Reads until the conversation's row matches the inbox, and then all that any API service still had to send of it, which
/// is nothing. Returns the row, and all frames of it.
async fn settled(socket: &mut Socket, participant: &TestUser, conversation: &Value) -> (Value, Vec<Value>) {
    let row = listed(participant).await.into_iter().find(|row| row["conversation_id"] == *conversation).unwrap();
    let mut received = Vec::new();
    while received.last() != Some(&row) {
        let frame = socket.expect("conversation").await["conversation"].take();
        received.extend(Some(frame).filter(|frame| frame["conversation_id"] == *conversation));
    }
    for (number, url) in participant.place.env.api_urls.iter().enumerate() {
        // What it tells of a new conversation comes behind all that it had to tell before.
        let last = participant.place.user(&format!("last{number}")).at(url, "").send_ok(participant, "last").await;
        loop {
            let frame = socket.expect("conversation").await["conversation"].take();
            if frame["last_message"]["id"] == last["id"] {
                break;
            }
            assert_ne!(frame["conversation_id"], *conversation, "{frame} after {row}");
        }
    }
    (row, received)
}

#[tokio::test]
async fn last_inbox_frame_matches_list_after_burst() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let mut socket = patient.open_inbox().await;
    let texts: Vec<String> = (0..200).map(|number| number.to_string()).collect();
    let sent = join_all(texts.iter().map(|text| doctor.send_ok(&patient, text))).await;
    let (row, received) = settled(&mut socket, &patient, &sent[0]["conversation_id"]).await;
    assert_eq!((&row["unread_count"], &row["last_message"]["seq"]), (&json!(200), &json!(200)));
    for row in &received {
        assert_eq!(row["unread_count"], row["last_message"]["seq"], "exact at every moment");
    }
}

/// Sends and reads in one conversation through one API service.
async fn send_and_read(from: TestUser, to: TestUser, count: usize) {
    for number in 0..count {
        let sent = from.send_ok(&to, &number.to_string()).await;
        if number % 2 == 0 {
            let _marks =
                to.mark(if number % 4 == 0 { "read" } else { "delivered" }, &[&sent["id"]]).await.expect_status(200);
        }
    }
}

#[tokio::test]
async fn last_inbox_frame_matches_list_with_two_services() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let (mut at_doctor, mut at_patient) = (doctor.open_inbox().await, patient.open_inbox().await);
    // Proves deliveries while the others send.
    let _proving = patient.open(&doctor).await;
    let urls = place.env.api_urls.clone();
    for _round in 0..8 {
        let acting = (0..8).map(|actor: usize| {
            let [here, there] = [actor % 2, 1 - actor % 2].map(|number| urls[number].as_str());
            let pair = [doctor.at(here, ""), patient.at(there, "")];
            let [from, to] = if actor < 4 { pair } else { [patient.at(here, ""), doctor.at(there, "")] };
            tokio::spawn(send_and_read(from, to, 5))
        });
        for acted in join_all(acting).await {
            acted.unwrap();
        }
        // The Pongs' receipts are on their way: both know of the last one when nothing is undelivered to the patient.
        let is_proven =
            |message: &Value| message["receiver_contact_id"].is_null() || message["delivered_at"].is_string();
        while !doctor.history(&patient, "&limit=50").await["messages"].as_array().unwrap().iter().all(is_proven) {}
        let conversation = doctor.history(&patient, "&limit=1").await["conversation_id"].take();
        for (socket, participant) in [(&mut at_doctor, &doctor), (&mut at_patient, &patient)] {
            let (_, received) = settled(socket, participant, &conversation).await;
            let seqs: Vec<_> = received.iter().map(|row| row["last_message"]["seq"].as_i64()).collect();
            assert!(seqs.is_sorted(), "{seqs:?}");
        }
    }
}

/// What a process leaves behind that is killed right behind its commit.
#[tokio::test]
async fn unpublished_commits_reach_inboxes() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let sent = doctor.send_ok(&patient, "1").await;
    let mut socket = patient.open_inbox().await;
    let database = AuditLog::open(&place.env.database_url).await;
    let leave = "with bumped as (
            update conversations set last_seq = last_seq + 1, other_unread = other_unread + 1,
                last_activity_at = clock_timestamp() where id = $1 returning id, last_seq, last_activity_at
        ), sent as (
            insert into messages (id, location_id, sender_user_id, receiver_contact_id, content, sent_at, conversation_id, seq)
            select $2, m.location_id, m.sender_user_id, m.receiver_contact_id, 'left behind', b.last_activity_at, b.id, b.last_seq
            from bumped b join messages m on m.conversation_id = b.id and m.seq = 1 returning id
        )
        insert into outbox (kind, message_ids, created_at)
        select 'message', array[id], clock_timestamp() - interval '1 minute' from sent";
    let conversation: Uuid = sent["conversation_id"].as_str().unwrap().parse().unwrap();
    let left = database.client.execute(leave, &[&conversation, &Uuid::now_v7()]).await.unwrap();
    assert_eq!(left, 1);
    let row = caught_up(&mut socket, &patient).await;
    assert_eq!((&row["unread_count"], &row["last_message"]["content"]), (&json!(2), &json!("left behind")));
}

#[tokio::test]
async fn audit_names_owner_of_watched_inbox() {
    let place = place();
    let (patient, service) = (place.contact("pat"), place.service());
    service.watch_inbox(&patient).await.close().await;
    let trail = AuditLog::open(&place.env.database_url).await;
    let query = "select action, actor, acts_for, conversation_id is null from audit_log
        where location_id = $1 and action like 'socket%' order by at";
    loop {
        let rows = trail.client.query(query, &[&place.location]).await.unwrap();
        if rows.len() < 2 {
            continue;
        }
        for (row, action) in rows.iter().zip(["socket.open", "socket.close"]) {
            assert_eq!(row.get::<_, &str>(0), action);
            assert_eq!(row.get::<_, &str>(1), "service:ehr-backend");
            assert_eq!(row.get::<_, Option<&str>>(2), Some("contact:pat"));
            assert!(row.get::<_, bool>(3), "no conversation");
        }
        return;
    }
}
