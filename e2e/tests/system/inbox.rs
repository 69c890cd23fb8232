//! The list of conversations.

use e2e::TestUser;
use serde_json::{Value, json};

use crate::place;

fn others(page: &Value) -> Vec<String> {
    let rows = page["conversations"].as_array().unwrap();
    rows.iter()
        .map(|row| row.get("contact_id").or(row.get("peer_user_id")).and_then(Value::as_str).unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn inbox_is_ordered_by_activity() {
    let place = place();
    let (doctor, nurse) = (place.user("doc"), place.user("nurse"));
    let [anna, bert] = ["anna", "bert"].map(|id| place.contact(id));
    anna.send_ok(&doctor, "1").await;
    bert.send_ok(&doctor, "2").await;
    nurse.send_ok(&doctor, "3").await;
    let last = anna.send_ok(&doctor, "4").await;
    let own = doctor.send_ok(&bert, "5").await;

    let page = doctor.inbox("").await;
    assert_eq!(others(&page), ["bert", "anna", "nurse"]);
    assert_eq!(page["next_cursor"], Value::Null);
    let [bert_row, anna_row, nurse_row] = page["conversations"].as_array().unwrap().as_slice() else { panic!() };
    assert_eq!(
        *anna_row,
        json!({"conversation_id": last["conversation_id"], "location_id": place.location, "user_id": "doc",
            "contact_id": "anna", "last_message": last, "unread_count": 2, "first_unread_seq": 1, "last_activity_at": last["sent_at"]})
    );
    assert_eq!((&bert_row["last_message"], &bert_row["unread_count"]), (&own, &json!(1)));
    assert_eq!((&nurse_row["user_id"], &nurse_row["peer_user_id"]), (&json!("doc"), &json!("nurse")));

    let mirrored = nurse.inbox("").await["conversations"][0].clone();
    assert_eq!((&mirrored["user_id"], &mirrored["peer_user_id"]), (&json!("nurse"), &json!("doc")));
    assert_eq!((&mirrored["unread_count"], &mirrored["last_message"]["content"]), (&json!(0), &json!("3")));
    assert_eq!(bert.inbox("").await["conversations"][0]["unread_count"], 1);
}

#[tokio::test]
async fn cursors_visit_each_row_once() {
    let place = place();
    let doctor = place.user("doc");
    let mut expected = Vec::new();
    for number in 0..7 {
        let patient = place.contact(&format!("pat{number}"));
        patient.send_ok(&doctor, "hello").await;
        expected.insert(0, patient.id);
    }
    let (mut walked, mut more, mut pages) = (Vec::new(), "&limit=3".to_owned(), 0);
    loop {
        let page = doctor.inbox(&more).await;
        walked.extend(others(&page));
        pages += 1;
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        more = format!("&limit=3&cursor={cursor}");
    }
    assert_eq!((walked, pages), (expected, 3));
}

#[tokio::test]
async fn unread_count_follows_messages_and_marks() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(doctor.send_ok(&patient, "hello").await["id"].clone());
    }
    let unread = async |who: &TestUser| who.inbox("").await["conversations"][0]["unread_count"].clone();
    assert_eq!(unread(&patient).await, 5);
    assert_eq!(unread(&doctor).await, 0);
    let _ignored = patient.mark("delivered", &[&ids[0]]).await.expect_status(200);
    assert_eq!(unread(&patient).await, 5, "delivered is not read");
    for _ in 0..2 {
        let _marks = patient.mark("read", &[&ids[0], &ids[1], &ids[1]]).await.expect_status(200);
        assert_eq!(unread(&patient).await, 3);
    }
    let _marks = doctor.mark("read", &[&ids[2]]).await.expect_status(200);
    assert_eq!(unread(&patient).await, 3, "only the receiver marks");
    let rest = [&ids[2], &ids[3], &ids[4]];
    let marks = futures_util::future::join_all((0..8).map(|_| patient.mark("read", &rest))).await;
    assert!(marks.iter().all(|answer| answer.status == 200));
    assert_eq!(unread(&patient).await, 0, "parallel marks count once");
}

#[tokio::test]
async fn service_must_name_inbox_owner() {
    let place = place();
    let (doctor, patient, service) = (place.user("doc"), place.contact("pat"), place.service());
    doctor.send_ok(&patient, "hello").await;
    assert_eq!(service.inbox("&user_id=doc").await, doctor.inbox("").await);
    assert_eq!(service.inbox("&contact_id=pat").await, patient.inbox("").await);
    assert_eq!(service.inbox("&contact_id=doc").await["conversations"], json!([]), "a namesake is another participant");

    let path = format!("/chat/conversations?location_id={}", place.location);
    service.get(&path).await.expect_invalid("?user_id");
    service.get(&format!("{path}&user_id=doc&contact_id=pat")).await.expect_invalid("?contact_id");
    assert_eq!(doctor.inbox("&user_id=doc").await, doctor.inbox("").await, "a person may name itself");
    let _problem = doctor.get(&format!("{path}&contact_id=pat")).await.expect_problem(403);
    let _problem = doctor.get(&format!("{path}&user_id=other")).await.expect_problem(403);
}
