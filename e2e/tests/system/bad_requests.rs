//! Every bad request gets its clear answer, and changes nothing.

use e2e::{TestLocation, TestUser, raw_http, secret_text};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{place, stack};

fn people() -> (TestLocation, TestUser, TestUser) {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    (place, doctor, patient)
}

async fn assert_untouched(doctor: &TestUser, patient: &TestUser) {
    assert_eq!(doctor.messages(patient).await, [] as [Value; 0]);
    assert_eq!(doctor.inbox("").await["conversations"], json!([]));
    assert_eq!(patient.inbox("").await["conversations"], json!([]));
}

fn changed(body: &Value, changes: &Value) -> Value {
    let mut body = body.clone();
    for (field, value) in changes.as_object().unwrap() {
        body[field] = value.clone();
    }
    body
}

fn without(body: &Value, field: &str) -> Value {
    let mut body = body.clone();
    body.as_object_mut().unwrap().remove(field);
    body
}

#[tokio::test]
async fn invalid_json_gets_400() {
    let (place, doctor, patient) = people();
    let secret = secret_text();
    let bodies: [Vec<u8>; 9] = [
        b"".to_vec(),
        b"{".to_vec(),
        format!("{{\"content\": \"{secret}\"").into_bytes(),
        format!("{secret} is not JSON").into_bytes(),
        b"{\"a\": 1}}".to_vec(),
        b"{'a': 1}".to_vec(),
        b"\xff\xfe{}".to_vec(),
        b"{\"content\": \"\xff\"}".to_vec(),
        b"[".repeat(100_000),
    ];
    for body in bodies {
        let rendered = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
        let request = doctor.request(Method::POST, "/chat/send").header("content-type", "application/json");
        let problem = place.ask(request.body(body)).await.expect_problem(400);
        assert_eq!(problem["code"], "malformed", "{rendered}: {problem}");
    }
    assert_untouched(&doctor, &patient).await;
}

#[tokio::test]
async fn invalid_message_gets_422_with_field() {
    let (_, doctor, patient) = people();
    let good = doctor.message_to(&patient, &secret_text());
    let too_long = format!("{}{}", secret_text(), "x".repeat(8_000));
    let cases = [
        // Missing, doubled and impossible participants.
        (without(&good, "sender_user_id"), "/sender_user_id"),
        (without(&good, "receiver_contact_id"), "/receiver_user_id"),
        (without(&good, "location_id"), "/location_id"),
        (without(&good, "content"), "/content"),
        (changed(&good, &json!({"sender_contact_id": "pat"})), "/sender_contact_id"),
        (changed(&good, &json!({"receiver_user_id": "doc2"})), "/receiver_contact_id"),
        (changed(&good, &json!({"sender_user_id": null})), "/sender_user_id"),
        // Bad identifiers.
        (changed(&good, &json!({"location_id": ""})), "/location_id"),
        (changed(&good, &json!({"location_id": "loc 1"})), "/location_id"),
        (changed(&good, &json!({"sender_user_id": "x".repeat(65)})), "/sender_user_id"),
        (changed(&good, &json!({"sender_user_id": "doc/123"})), "/sender_user_id"),
        (changed(&good, &json!({"receiver_contact_id": "pät"})), "/receiver_contact_id"),
        (changed(&good, &json!({"receiver_contact_id": "pat\u{0}"})), "/receiver_contact_id"),
        (changed(&good, &json!({"receiver_contact_id": "a:b{c}"})), "/receiver_contact_id"),
        // Wrong types.
        (changed(&good, &json!({"location_id": 1})), "/location_id"),
        (changed(&good, &json!({"sender_user_id": ["doc"]})), "/sender_user_id"),
        (changed(&good, &json!({"receiver_contact_id": {}})), "/receiver_contact_id"),
        (changed(&good, &json!({"content": 42})), "/content"),
        (changed(&good, &json!({"content": null})), "/content"),
        (changed(&good, &json!({"content": [secret_text()]})), "/content"),
        (changed(&good, &json!({"client_message_id": 7})), "/client_message_id"),
        // Content.
        (changed(&good, &json!({"content": ""})), "/content"),
        (changed(&good, &json!({"content": "x".repeat(8_001)})), "/content"),
        (changed(&good, &json!({"content": "\u{1F600}".repeat(8_001)})), "/content"),
        (changed(&good, &json!({"content": too_long})), "/content"),
        (changed(&good, &json!({"content": format!("{}\u{0}", secret_text())})), "/content"),
        // The rest.
        (changed(&good, &json!({"client_message_id": "not-a-uuid"})), "/client_message_id"),
        (changed(&good, &json!({"client_message_id": ""})), "/client_message_id"),
        (changed(&good, &json!({"clientMessageId": Uuid::now_v7()})), "/clientMessageId"),
        (changed(&good, &json!({"a/b~c": 1})), "/a~1b~0c"),
    ];
    for (body, pointer) in cases {
        doctor.send(&body).await.expect_invalid(pointer);
    }
    for body in [json!([]), json!("text"), json!(1), json!(null), json!([good])] {
        doctor.send(&body).await.expect_invalid("");
    }
    let problem = doctor.send(&json!({})).await.expect_problem(422);
    assert_eq!(problem["errors"].as_array().unwrap().len(), 4, "all missing fields are reported at once: {problem}");
    assert_eq!(problem["code"], "missing_field", "all errors have this cause");
    assert_untouched(&doctor, &patient).await;
}

#[tokio::test]
async fn contact_pairs_and_self_messages_are_rejected() {
    let (place, doctor, patient) = people();
    let other = place.contact("other");
    patient.send(&patient.message_to(&other, "hello")).await.expect_invalid("/receiver_contact_id");
    place.service().send(&patient.message_to(&other, "hello")).await.expect_invalid("/receiver_contact_id");
    doctor.send(&doctor.message_to(&doctor, "note to self")).await.expect_invalid("/receiver_user_id");
    let _problem = patient.send(&patient.message_to(&patient, "note to self")).await.expect_problem(422);
    assert_untouched(&doctor, &patient).await;
    assert_eq!(other.inbox("").await["conversations"], json!([]));
}

#[tokio::test]
async fn acting_as_another_gets_403() {
    let (place, doctor, patient) = people();
    let elsewhere = place.other_location();
    let other = place.user("other");
    let secret = secret_text();
    for (participant, body) in [
        (&doctor, other.message_to(&patient, &secret)),
        (&doctor, patient.message_to(&doctor, &secret)),
        (&patient, doctor.message_to(&patient, &secret)),
        (&patient, place.user("pat").message_to(&patient, &secret)),
        (&doctor, elsewhere.user("doc").message_to(&elsewhere.contact("pat"), &secret)),
        (&place.service(), elsewhere.user("doc").message_to(&elsewhere.contact("pat"), &secret)),
    ] {
        let _problem = participant.send(&body).await.expect_problem(403);
    }
    assert_untouched(&doctor, &patient).await;
    assert_eq!(elsewhere.user("doc").inbox("").await["conversations"], json!([]));
}

#[tokio::test]
async fn too_large_body_gets_413() {
    let (_, doctor, patient) = people();
    for bytes in [300 * 1024, 3 * 1024 * 1024] {
        let body = doctor.message_to(&patient, &"x".repeat(bytes));
        // A client of its own: the connection ends behind an unread body.
        let doctor = TestLocation::named(stack(), &doctor.place.location).user("doc");
        let _problem = doctor.send(&body).await.expect_problem(413);
    }
    let ids: Vec<Uuid> = (0..10_000).map(|_| Uuid::now_v7()).collect();
    let _problem = patient.put("/chat/read", &json!({"message_ids": ids})).await.expect_problem(413);
    assert_untouched(&doctor, &patient).await;
}

#[tokio::test]
async fn longest_content_fits_when_escaped() {
    let (place, doctor, patient) = people();
    let escaped = "\\ud83d\\ude00".repeat(8_000);
    let body = doctor.message_to(&patient, "CONTENT").to_string().replace("CONTENT", &escaped);
    assert!(body.len() > 96_000);
    let request = doctor.request(Method::POST, "/chat/send").header("content-type", "application/json");
    let sent = place.ask(request.body(body)).await.expect_status(201);
    assert_eq!(sent["content"], "\u{1F600}".repeat(8_000));
}

#[tokio::test]
async fn other_content_type_gets_415() {
    let (place, doctor, patient) = people();
    let body = doctor.message_to(&patient, &secret_text()).to_string();
    for kind in
        ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "json", "", "text/json"]
    {
        let request = doctor.request(Method::POST, "/chat/send").header("content-type", kind).body(body.clone());
        let _problem = place.ask(request).await.expect_problem(415);
    }
    let _problem = place.ask(doctor.request(Method::POST, "/chat/send").body(body.clone())).await.expect_problem(415);
    let _problem = place.ask(doctor.request(Method::PUT, "/chat/read").body("{}")).await.expect_problem(415);
    assert_untouched(&doctor, &patient).await;
    for kind in ["application/json;charset=UTF-8", "Application/JSON"] {
        let request = doctor.request(Method::POST, "/chat/send").header("content-type", kind).body(body.clone());
        let _sent = place.ask(request).await.expect_status(201);
    }
}

#[tokio::test]
async fn wrong_method_gets_405_with_allow() {
    let (place, doctor, _) = people();
    for (method, path, allowed) in [
        (Method::GET, "/chat/send", "POST"),
        (Method::DELETE, "/chat/send", "POST"),
        (Method::PATCH, "/chat/send", "POST"),
        (Method::POST, "/chat/history", "GET"),
        (Method::POST, "/chat/read", "PUT"),
        (Method::GET, "/chat/delivered", "PUT"),
        (Method::PUT, "/chat/conversations", "GET"),
        (Method::POST, "/healthz", "GET"),
        (Method::POST, "/", "GET"),
        (Method::DELETE, "/docs", "GET"),
        (Method::POST, "/openapi.json", "GET"),
        (Method::POST, "/ws", "GET"),
    ] {
        let answer = place.ask(doctor.request(method.clone(), path)).await;
        let _problem = answer.expect_problem(405);
        let allow = answer.header("allow").unwrap();
        assert!(allow.split(", ").any(|known| known == allowed), "{method} {path}: {allow}");
        assert!(!allow.split(", ").any(|known| known == method.as_str()), "{method} {path}: {allow}");
    }
}

#[tokio::test]
async fn unknown_path_gets_404() {
    let (place, doctor, _) = people();
    for path in [
        "/chat",
        "/chat/",
        "/chat/send/",
        "/chat/unknown",
        "/CHAT/SEND",
        "/ws/",
        "/wsx",
        "/..%2f..%2fetc/passwd",
        "/%00",
    ] {
        let _problem = doctor.get(path).await.expect_problem(404);
        let _problem = place.get(path).await.expect_problem(404);
    }
}

#[tokio::test]
async fn unparsable_query_gets_400() {
    let (_, doctor, patient) = people();
    let path = format!("/chat/history?{}", doctor.with(&patient));
    for bad in [
        "&limit=abc",
        "&limit=",
        "&limit=1.5",
        "&limit=0x10",
        "&before=x",
        "&after=1e3",
        "&limit=99999999999999999999",
        "&limit=5&limit=5",
        "&location_id=twice",
        "&user_id=doc",
    ] {
        let _problem = doctor.get(&format!("{path}{bad}")).await.expect_problem(400);
    }
    let path = format!("/chat/conversations?location_id={}", doctor.place.location);
    for bad in ["&limit=abc", "&limit=5&limit=6", "&cursor=a&cursor=b"] {
        let _problem = doctor.get(&format!("{path}{bad}")).await.expect_problem(400);
    }
}

#[tokio::test]
async fn invalid_query_gets_422_with_parameter() {
    let (place, doctor, patient) = people();
    let path = format!("/chat/history?{}", doctor.with(&patient));
    for (bad, pointer) in [
        ("&limit=0", "?limit"),
        ("&limit=201", "?limit"),
        ("&limit=-1", "?limit"),
        ("&before=-1", "?before"),
        ("&after=-1", "?after"),
        ("&before=5&after=5", "?after"),
        ("&peer_user_id=nurse", "?peer_user_id"),
    ] {
        doctor.get(&format!("{path}{bad}")).await.expect_invalid(pointer);
    }
    let location = &place.location;
    for (query, pointer) in [
        ("user_id=doc&contact_id=pat".to_owned(), "?location_id"),
        (format!("location_id={location}&contact_id=pat"), "?user_id"),
        (format!("location_id={location}&user_id=doc"), "?contact_id"),
        (format!("location_id={location}&user_id=doc&peer_user_id=doc"), "?peer_user_id"),
        (format!("location_id={location}&user_id=&contact_id=pat"), "?user_id"),
        (format!("location_id={location}&user_id=a%20b&contact_id=pat"), "?user_id"),
        (format!("location_id={location}&user_id=doc&contact_id=%00"), "?contact_id"),
        ("location_id=lo%2Fc&user_id=doc&contact_id=pat".to_owned(), "?location_id"),
    ] {
        doctor.get(&format!("/chat/history?{query}")).await.expect_invalid(pointer);
    }
    for (query, pointer) in [
        (String::new(), "?location_id"),
        (format!("location_id={location}&limit=0"), "?limit"),
        (format!("location_id={location}&limit=201"), "?limit"),
        (format!("location_id={location}&cursor=nonsense"), "?cursor"),
    ] {
        doctor.get(&format!("/chat/conversations?{query}")).await.expect_invalid(pointer);
    }
}

#[tokio::test]
async fn valid_request_id_is_echoed() {
    let (place, doctor, _) = people();
    for path in ["/chat/send", "/chat/conversations?location_id=a", "/healthz", "/nothing", "/ws"] {
        for sane in ["trace-1.A_b", "x", &"y".repeat(64)] {
            let answer = place.ask(doctor.request(Method::GET, path).header("x-request-id", sane)).await;
            assert_eq!(answer.header("x-request-id"), Some(sane), "{path}: {answer:?}");
        }
        let mut seen = Vec::new();
        for insane in ["", "has space", "<script>", &"z".repeat(65), "a\"b", "ä"] {
            let answer = place.ask(doctor.request(Method::GET, path).header("x-request-id", insane)).await;
            let id = answer.header("x-request-id").unwrap().to_owned();
            assert_eq!(id.len(), 36, "a fresh UUID: {id}");
            assert!(!seen.contains(&id));
            seen.push(id);
        }
    }
}

#[tokio::test]
async fn garbage_on_port_is_rejected() {
    let (place, doctor, patient) = people();
    let mut socket = patient.open(&doctor).await;
    for garbage in [
        "\u{16}\u{3}\u{1}\u{2}\u{0} a TLS hello\r\n\r\n".to_owned(),
        "GET\r\n\r\n".to_owned(),
        "POST /chat/send HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\nConnection: close\r\n\r\n".to_owned(),
        "POST /chat/send HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello".to_owned(),
        "POST /chat/send HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: nonsense\r\nConnection: close\r\n\r\n".to_owned(),
        format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\nConnection: close\r\n\r\n", "x".repeat(200_000)),
        format!("GET /{} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "x".repeat(200_000)),
    ] {
        let answer = raw_http::exchange(&place.base_url, garbage.as_bytes()).await;
        let refused = answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.0 4");
        assert!(refused || answer.is_empty(), "{:?} got {answer}", &garbage[..40.min(garbage.len())]);
    }
    let sent = doctor.send_ok(&patient, "undisturbed").await;
    assert_eq!(socket.expect("message").await["message"], sent);
}
