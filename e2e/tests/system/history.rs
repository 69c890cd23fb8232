//! Pages of a conversation.

use e2e::{TestLocation, TestUser};
use serde_json::{Value, json};

use crate::place;

async fn conversation_of(count: usize) -> (TestLocation, TestUser, TestUser) {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    for number in 1..=count {
        let (from, to) = if number % 3 == 0 { (&patient, &doctor) } else { (&doctor, &patient) };
        from.send_ok(to, &format!("message {number}")).await;
    }
    (place, doctor, patient)
}

fn seqs(page: &Value) -> Vec<i64> {
    page["messages"].as_array().unwrap().iter().map(|message| message["seq"].as_i64().unwrap()).collect()
}

#[tokio::test]
async fn pages_are_ascending_with_has_more() {
    let (_, doctor, patient) = conversation_of(12).await;
    for (query, expected, has_more) in [
        ("", (1..=12).collect::<Vec<i64>>(), false),
        ("&limit=12", (1..=12).collect(), false),
        ("&limit=5", vec![8, 9, 10, 11, 12], true),
        ("&limit=5&before=8", vec![3, 4, 5, 6, 7], true),
        ("&limit=5&before=3", vec![1, 2], false),
        ("&limit=5&before=6", vec![1, 2, 3, 4, 5], false),
        ("&before=1", vec![], false),
        ("&limit=5&after=0", vec![1, 2, 3, 4, 5], true),
        ("&limit=5&after=5", vec![6, 7, 8, 9, 10], true),
        ("&limit=5&after=7", vec![8, 9, 10, 11, 12], false),
        ("&after=12", vec![], false),
        ("&after=9223372036854775807", vec![], false),
        ("&limit=200&before=9223372036854775807", (1..=12).collect(), false),
    ] {
        let page = doctor.history(&patient, query).await;
        assert_eq!((seqs(&page), &page["has_more"]), (expected, &json!(has_more)), "{query}");
        assert_eq!(page, patient.history(&doctor, query).await, "both sides see the same");
    }
}

#[tokio::test]
async fn default_page_has_fifty_messages() {
    let (_, doctor, patient) = conversation_of(51).await;
    let page = doctor.history(&patient, "").await;
    assert_eq!((seqs(&page), &page["has_more"]), ((2..=51).collect(), &json!(true)));
}

#[tokio::test]
async fn empty_conversation_is_empty_page() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let page = doctor.history(&patient, "").await;
    assert_eq!((&page["messages"], &page["has_more"]), (&json!([]), &json!(false)));
    let id = &page["conversation_id"];
    assert_eq!(*id, doctor.send_ok(&patient, "now").await["conversation_id"], "it had its name already");
}

#[tokio::test]
async fn peer_order_does_not_matter() {
    let place = place();
    let (doctor, nurse) = (place.user("doc"), place.user("nurse"));
    let sent = doctor.send_ok(&nurse, "a word?").await;
    assert_eq!((&sent["sender_user_id"], &sent["receiver_user_id"]), (&json!("doc"), &json!("nurse")));
    assert!(sent.get("receiver_contact_id").is_none(), "{sent}");
    let page = doctor.history(&nurse, "").await;
    assert_eq!(page["messages"], json!([sent]));
    assert_eq!(page, nurse.history(&doctor, "").await);
}

#[tokio::test]
async fn content_round_trips_exactly() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let texts = [
        "\u{1F600}".repeat(8_000),
        "x".repeat(8_000),
        "\u{1}\u{7f}\r\n\t\\\"/</script>'; DROP TABLE messages; --".to_owned(),
        "שלום \u{202E}olleh\u{FEFF}\u{FFFF} e\u{301} \u{10FFFF}".to_owned(),
        " \t.\u{200B} ".to_owned(),
    ];
    let mut socket = patient.open(&doctor).await;
    for text in &texts {
        let sent = doctor.send_ok(&patient, text).await;
        assert_eq!(sent["content"], **text);
        assert_eq!(socket.expect("message").await["message"], sent);
    }
    let kept = patient.messages(&doctor).await;
    assert_eq!(kept.iter().map(|message| message["content"].as_str().unwrap()).collect::<Vec<_>>(), texts);
}

#[tokio::test]
async fn identifiers_accept_whole_alphabet_and_length() {
    let place = place();
    for id in ["a", "A-Z_a.z~0", "...", "-", "~", &"x".repeat(64), "550e8400-e29b-41d4-a716-446655440000"] {
        let (doctor, patient) = (place.user(id), place.contact(id));
        let mut socket = patient.open(&doctor).await;
        let sent = doctor.send_ok(&patient, "hello").await;
        assert_eq!(socket.expect("message").await["message"], sent);
        assert_eq!(patient.messages(&doctor).await[0]["id"], sent["id"]);
    }
}

#[tokio::test]
async fn service_acts_for_any_participant_in_its_locations() {
    let place = place();
    let (doctor, patient, service) = (place.user("doc"), place.contact("pat"), place.service());
    let sent = service.send(&doctor.message_to(&patient, "your results are in")).await.expect_status(201);
    assert_eq!(sent["sender_user_id"], "doc");
    let answered = service.send(&patient.message_to(&doctor, "thank you")).await.expect_status(201);
    let page = service.get(&format!("/chat/history?{}", doctor.with(&patient))).await.expect_status(200);
    assert_eq!(page["messages"], json!([sent, answered]));
    let elsewhere = place.other_location();
    let foreign = elsewhere.user("doc").message_to(&elsewhere.contact("pat"), "x");
    let _problem = service.send(&foreign).await.expect_problem(403);
}
