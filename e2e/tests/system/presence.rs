//! Who is online: for those who share a conversation, by socket when it changes and by request at any time.

use e2e::{HttpResponse, Socket, TestUser};
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::place;

/// Asks for the presence of participants.
async fn ask(participant: &TestUser, of: &[&TestUser]) -> HttpResponse {
    let names: String = of.iter().map(|one| format!("&{}_id={}", one.role, one.id)).collect();
    participant.get(&format!("/chat/presence?location_id={}{names}", participant.place.location)).await
}

async fn seen(participant: &TestUser, of: &TestUser) -> Value {
    let body = ask(participant, &[of]).await.expect_status(200);
    assert_eq!(body["participants"].as_array().unwrap().len(), 1, "{body}");
    body["participants"][0].clone()
}

async fn online(socket: &mut Socket) -> Value {
    let frame = socket.expect_presence().await;
    assert_eq!((&frame["online"], &frame["last_seen_at"]), (&json!(true), &Value::Null), "{frame}");
    frame
}

#[tokio::test]
async fn peers_see_each_other_online_and_offline() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    doctor.send_ok(&patient, "Hello").await;
    assert_eq!(seen(&doctor, &patient).await, json!({"contact_id": "pat", "online": false, "last_seen_at": null}));
    let mut at_doctor = doctor.open(&patient).await;
    let inbox = patient.open_inbox().await;
    assert_eq!(online(&mut at_doctor).await["contact_id"], "pat");
    assert_eq!(seen(&doctor, &patient).await, json!({"contact_id": "pat", "online": true, "last_seen_at": null}));
    assert_eq!(seen(&patient, &doctor).await["online"], true);
    assert_eq!(seen(&doctor, &doctor).await["online"], true, "oneself");

    // A second device, and the first one goes: nothing changes.
    let mut at_patient = patient.open(&doctor).await;
    inbox.close().await;
    at_patient.close().await;
    let frame = at_doctor.expect_presence().await;
    assert_eq!((&frame["contact_id"], &frame["online"]), (&json!("pat"), &json!(false)), "{frame}");
    assert_eq!(seen(&doctor, &patient).await["last_seen_at"], frame["last_seen_at"]);
    at_patient = patient.open(&doctor).await;
    online(&mut at_doctor).await;
    at_doctor.close().await;
    assert_eq!(at_patient.expect_presence().await["user_id"], "doc");
    assert_eq!(at_patient.all_presence().await, Vec::<Value>::new(), "participants get no own presence");
}

#[tokio::test]
async fn page_reload_does_not_change_presence() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    doctor.send_ok(&patient, "Hello").await;
    let mut at_doctor = doctor.open(&patient).await;
    let mut page = patient.open(&doctor).await;
    online(&mut at_doctor).await;
    // By way of the load balancer: now at the one gateway, now at the other.
    for _ in 0..5 {
        page.close().await;
        page = patient.open(&doctor).await;
    }
    doctor.send_ok(&patient, "Still there?").await;
    page.expect("message").await;
    page.close().await;
    let frame = at_doctor.expect_presence().await;
    assert_eq!(frame["online"], false, "the first frame is the end: {frame}");
}

#[tokio::test]
async fn strangers_cannot_probe_for_participants() {
    let place = place();
    let (doctor, patient, nurse) = (place.user("doc"), place.contact("pat"), place.user("nurse"));
    doctor.send_ok(&patient, "Hello").await;
    // Any participant may open a socket to any other; that alone shows no presence.
    let mut at_nurse = nurse.open(&patient).await;
    let mut at_doctor = doctor.open(&patient).await;
    let at_patient = patient.open(&nurse).await;
    online(&mut at_doctor).await;
    let elsewhere = place.other_location();
    let (unknown, other) = (place.contact("unknown"), place.contact("other"));
    for stranger in [&nurse, &other] {
        let body = ask(stranger, &[&patient, &unknown, &doctor]).await.expect_status(200);
        assert_eq!(body, json!({"participants": []}));
    }
    // The same names in another location are other people.
    let body = ask(&elsewhere.user("doc"), &[&elsewhere.contact("pat")]).await.expect_status(200);
    assert_eq!(body, json!({"participants": []}));
    let there = doctor.get(&format!("/chat/presence?location_id={}&contact_id=pat", elsewhere.location)).await;
    let _problem = there.expect_problem(403);
    at_patient.close().await;
    assert_eq!(at_doctor.expect_presence().await["online"], false);
    assert_eq!(at_nurse.all_presence().await, Vec::<Value>::new());

    // From the first message on they are acquainted.
    nurse.send_ok(&patient, "I am the nurse").await;
    let _back = patient.open_inbox().await;
    let mut frame = at_nurse.expect_presence().await;
    if frame["online"] == false {
        // Asked when the patient went, looked up after the message: reported as it was then.
        assert_eq!(frame["contact_id"], "pat", "{frame}");
        frame = at_nurse.expect_presence().await;
    }
    assert_eq!(frame, json!({"type": "presence", "contact_id": "pat", "online": true, "last_seen_at": null}));
    assert_eq!(seen(&nurse, &patient).await["online"], true);
}

#[tokio::test]
async fn service_sees_presence_and_is_never_online() {
    let place = place();
    let (doctor, patient, service) = (place.user("doc"), place.contact("pat"), place.service());
    let mut watcher = service.open_at(&doctor.with(&patient)).await;
    doctor.send_ok(&patient, "Hello").await;
    watcher.expect("message").await;
    let _at_doctor = doctor.open_inbox().await;
    assert_eq!(online(&mut watcher).await["user_id"], "doc");
    let people: Vec<_> = (0..98).map(|n| place.contact(&format!("p{n}"))).collect();
    let asked: Vec<_> = [&doctor, &patient].into_iter().chain(&people).collect();
    let body = ask(&service, &asked).await.expect_status(200);
    let rendered = body["participants"].as_array().unwrap();
    assert_eq!(rendered.len(), 100);
    let are_online: Vec<_> = rendered.iter().filter(|one| one["online"] == true).map(|one| &one["user_id"]).collect();
    assert_eq!(are_online, ["doc"]);
    let _problem =
        ask(&place.other_location().service().at(&place.base_url, &place.ws_url), &[]).await.expect_problem(422);
    let beyond =
        service.get(&format!("/chat/presence?location_id={}&user_id=doc", place.other_location().location)).await;
    let _problem = beyond.expect_problem(403);
}

#[tokio::test]
async fn presence_query_needs_bounded_participants() {
    let place = place();
    let doctor = place.user("doc");
    ask(&doctor, &[]).await.expect_invalid("?user_id");
    let many: Vec<_> = (0..101).map(|n| place.contact(&format!("p{n}"))).collect();
    ask(&doctor, &many.iter().collect::<Vec<_>>()).await.expect_invalid("?user_id");
    let location = &place.location;
    let asked = |query: String| {
        let doctor = doctor.clone();
        async move { doctor.get(&format!("/chat/presence?{query}")).await }
    };
    asked(format!("location_id={location}&contact_id=a%20b")).await.expect_invalid("?contact_id");
    asked(format!("location_id={location}&contact_id=a&contact_id=")).await.expect_invalid("?contact_id");
    asked("user_id=doc".to_owned()).await.expect_invalid("?location_id");
    // Twice the same is once.
    let twice = asked(format!("location_id={location}&user_id=doc&user_id=doc")).await.expect_status(200);
    assert_eq!(twice["participants"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn simultaneous_arrivals_are_all_seen() {
    let place = place();
    let doctor = place.user("doc");
    let patients: Vec<_> = (0..40).map(|n| place.contact(&format!("p{n}"))).collect();
    join_all(patients.iter().map(|patient| doctor.send_ok(patient, "Hello"))).await;
    let mut sockets = join_all(patients.iter().map(|patient| doctor.open(patient))).await;
    let _there = join_all(patients.iter().map(TestUser::open_inbox)).await;
    for (socket, patient) in sockets.iter_mut().zip(&patients) {
        assert_eq!(online(socket).await["contact_id"], *patient.id);
    }
    let body = ask(&doctor, &patients.iter().collect::<Vec<_>>()).await.expect_status(200);
    assert!(body["participants"].as_array().unwrap().iter().all(|one| one["online"] == true), "{body}");
}
