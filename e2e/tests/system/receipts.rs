//! `PUT /chat/read` and `PUT /chat/delivered`.

use e2e::audit::AuditLog;
use e2e::{Socket, TestUser};
use serde_json::{Value, json};
use tokio::process::Command;
use uuid::Uuid;

use crate::{place, stack};

#[tokio::test]
async fn only_receiver_marks_and_foreign_ids_look_unknown() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let sent = doctor.send_ok(&patient, "hello").await;
    let unknown = json!(Uuid::now_v7());
    // The sender, a namesake of the other kind, another user, and the receiver's namesake of another location.
    let strangers = [
        &doctor,
        &place.user("pat"),
        &place.contact("other"),
        &place.other_location().contact("pat"),
        &place.contact("doc"),
    ];
    for stranger in strangers {
        for what in ["read", "delivered"] {
            let marks = stranger.mark(what, &[&sent["id"], &unknown]).await.expect_status(200);
            assert_eq!(marks, json!({"marked": [], "not_found": [sent["id"], unknown]}));
        }
    }
    assert_eq!(doctor.messages(&patient).await, std::slice::from_ref(&sent));
    let marks = patient.mark("read", &[&unknown, &sent["id"]]).await.expect_status(200);
    assert_eq!((&marks["marked"][0]["id"], &marks["not_found"]), (&sent["id"], &json!([unknown])));
}

#[tokio::test]
async fn first_mark_stands_and_read_implies_delivered() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let [first, second] = [doctor.send_ok(&patient, "1").await, doctor.send_ok(&patient, "2").await];

    let delivered = patient.mark("delivered", &[&first["id"]]).await.expect_status(200)["marked"][0].clone();
    assert!(delivered["delivered_at"].is_string() && delivered["read_at"].is_null(), "{delivered}");
    assert_eq!(patient.mark("delivered", &[&first["id"]]).await.expect_status(200)["marked"], json!([delivered]));
    let read = patient.mark("read", &[&first["id"]]).await.expect_status(200)["marked"][0].clone();
    assert_eq!(read["delivered_at"], delivered["delivered_at"], "reading does not move the delivery");
    assert_eq!(patient.mark("read", &[&first["id"]]).await.expect_status(200)["marked"], json!([read]));
    assert_eq!(patient.mark("delivered", &[&first["id"]]).await.expect_status(200)["marked"], json!([read]));

    let read = patient.mark("read", &[&second["id"]]).await.expect_status(200)["marked"][0].clone();
    assert!(read["delivered_at"].is_string() && read["delivered_at"] == read["read_at"], "{read}");
    let kept = doctor.messages(&patient).await;
    assert!(kept.iter().all(|message| message["is_read"] == true && message["read_at"].is_string()), "{kept:?}");
}

#[tokio::test]
async fn repeated_mark_notifies_sender_once() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let sent = doctor.send_ok(&patient, "hello").await;
    let mut at_doctor = doctor.open(&patient).await;
    for _ in 0..3 {
        let _marks = patient.mark("read", &[&sent["id"], &sent["id"]]).await.expect_status(200);
    }
    let next = doctor.send_ok(&patient, "next").await;
    let _marks = patient.mark("read", &[&next["id"]]).await.expect_status(200);
    let mut reads: Vec<Value> = Vec::new();
    while reads.last() != Some(&json!([next["id"]])) {
        reads.push(at_doctor.expect("read").await["message_ids"].clone());
    }
    assert_eq!(reads, [json!([sent["id"]]), json!([next["id"]])]);
}

#[tokio::test]
async fn one_request_marks_several_conversations() {
    let place = place();
    let (doctor, nurse, patient) = (place.user("doc"), place.user("nurse"), place.contact("pat"));
    let (one, two) = (doctor.send_ok(&patient, "1").await, nurse.send_ok(&patient, "2").await);
    let (mut at_doctor, mut at_nurse) = (doctor.open(&patient).await, nurse.open(&patient).await);
    let marks = patient.mark("read", &[&two["id"], &one["id"]]).await.expect_status(200);
    assert_eq!(marks["marked"].as_array().unwrap().len(), 2);
    assert_eq!(at_doctor.expect("read").await["message_ids"], json!([one["id"]]));
    assert_eq!(at_nurse.expect("read").await["message_ids"], json!([two["id"]]));
}

#[tokio::test]
async fn mark_accepts_up_to_500_ids() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let sent = doctor.send_ok(&patient, "hello").await;
    let ids = |count: usize| -> Vec<Value> { (0..count).map(|_| json!(Uuid::now_v7())).collect() };
    for what in ["/chat/read", "/chat/delivered"] {
        let mut full = ids(499);
        full.push(sent["id"].clone());
        let marks = patient.put(what, &json!({"message_ids": full})).await.expect_status(200);
        assert_eq!(marks["not_found"].as_array().unwrap().len(), 499);
        for bad in [
            json!(ids(0)),
            json!(ids(501)),
            json!(["not-a-uuid"]),
            json!([sent["id"], 7]),
            json!([null]),
            json!([sent["id"].as_str().unwrap().replace('-', "")]),
        ] {
            let _problem = patient.put(what, &json!({"message_ids": bad})).await.expect_problem(422);
        }
        for bad in [json!(sent["id"]), json!(null), json!({"0": sent["id"]})] {
            patient.put(what, &json!({"message_ids": bad})).await.expect_invalid("/message_ids");
        }
        patient.put(what, &json!({})).await.expect_invalid("/message_ids");
        patient.put(what, &json!({"message_ids": ids(1), "extra": 1})).await.expect_invalid("/extra");
    }
}

#[tokio::test]
async fn service_cannot_mark() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let sent = doctor.send_ok(&patient, "hello").await;
    for what in ["read", "delivered"] {
        let _problem = place.service().mark(what, &[&sent["id"]]).await.expect_problem(403);
    }
    assert_eq!(doctor.messages(&patient).await, [sent]);
}

#[tokio::test]
async fn receipt_frames_count_only_for_receiver() {
    let place = place();
    let (doctor, patient, nurse) = (place.user("doc"), place.contact("pat"), place.user("nurse"));
    let sent = doctor.send_ok(&patient, "hello").await;
    // The sender marks its own message, and a user with a socket elsewhere marks a foreign one.
    let frame = json!({"type": "read", "message_ids": [sent["id"]]});
    let mut at_doctor = doctor.open(&patient).await;
    let at_nurse = nurse.open(&doctor).await;
    at_doctor.send(&frame);
    at_nurse.send(&frame);
    // Receipts are taken in the order of their stream: once this one is seen, those before it were looked at.
    let second = doctor.send_ok(&patient, "again").await;
    let at_patient = patient.open(&doctor).await;
    at_patient.send(&json!({"type": "read", "message_ids": [second["id"]]}));
    assert_eq!(at_doctor.expect("read").await["message_ids"], json!([second["id"]]));
    let first = doctor.messages(&patient).await[0].clone();
    assert_eq!((&first["read_at"], &first["is_read"]), (&Value::Null, &json!(false)));
}

/// A receipt as a gateway adds it, whose clock says so many microseconds since 1970.
async fn report(kind: &str, receiver: &TestUser, ids: &[&Value], at_micros: i64) {
    let name = format!("{}:{}", receiver.role, receiver.id);
    let receipt = json!({"kind": kind, "location": receiver.place.location, "participant": name, "message_ids": ids,
                         "at_micros": at_micros});
    let mut cli = Command::new("redis-cli");
    cli.args(["--no-auth-warning", "-u", &stack().env().redis_url, "XADD", "receipts", "*", "r", &receipt.to_string()]);
    let output = cli.output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// The event of some messages, which come in one frame.
async fn expect_receipt(socket: &mut Socket, kind: &str, ids: &[&Value]) -> String {
    let event = socket.expect(kind).await;
    let named = event["message_ids"].as_array().unwrap();
    assert!(named.len() == ids.len() && ids.iter().all(|id| named.contains(id)), "{event}");
    event[format!("{kind}_at")].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn receipt_time_is_clamped_when_clock_is_wrong() {
    // As far off as a gateway's clock may be: what is further off is no receipt.
    const YEAR_2020: i64 = 1_580_000_000_000_000;
    let soon = (e2e::token::now() + 3_000) * 1_000_000;
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let mut at_doctor = doctor.open(&patient).await;
    let [first, second, third] =
        [doctor.send_ok(&patient, "1").await, doctor.send_ok(&patient, "2").await, doctor.send_ok(&patient, "3").await];
    let time = |message: &Value| message["sent_at"].as_str().unwrap().to_owned();

    report("delivered", &patient, &[&first["id"]], soon).await;
    let delivered = expect_receipt(&mut at_doctor, "delivered", &[&first["id"]]).await;
    let trail = AuditLog::open(&stack().env().database_url).await;
    let is_past = "select $1::text::timestamptz <= clock_timestamp()";
    let past: bool = trail.client.query_one(is_past, &[&delivered]).await.unwrap().get(0);
    assert!(past && delivered > time(&first), "{delivered}");
    report("read", &patient, &[&first["id"]], YEAR_2020).await;
    assert_eq!(
        expect_receipt(&mut at_doctor, "read", &[&first["id"]]).await,
        delivered,
        "read no earlier than delivered"
    );
    // One moment for all that it is about, so that it is one event.
    report("delivered", &patient, &[&first["id"], &second["id"], &third["id"]], YEAR_2020).await;
    assert_eq!(expect_receipt(&mut at_doctor, "delivered", &[&second["id"], &third["id"]]).await, time(&third));
    report("read", &patient, &[&second["id"], &third["id"]], soon).await;
    let read = expect_receipt(&mut at_doctor, "read", &[&second["id"], &third["id"]]).await;
    let past: bool = trail.client.query_one(is_past, &[&read]).await.unwrap().get(0);
    assert!(past && read > time(&third), "{read}");
    for message in doctor.messages(&patient).await {
        let [sent, delivered, read] =
            ["sent_at", "delivered_at", "read_at"].map(|field| message[field].as_str().unwrap().to_owned());
        assert!(sent <= delivered && delivered <= read, "{message}");
    }
}
