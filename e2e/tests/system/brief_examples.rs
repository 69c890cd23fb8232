//! The examples that the system was specified with, word for word, at `loc1`. No other test uses that location.

use e2e::{Socket, TestLocation};
use serde_json::{Value, json};

use crate::stack;

#[tokio::test]
async fn brief_examples_work_verbatim() {
    let place = TestLocation::named(stack(), "loc1");
    let (doctor, patient) = (place.user("doc123"), place.contact("pat456"));

    let page = doctor.get("/chat/history?location_id=loc1&user_id=doc123&contact_id=pat456").await.expect_status(200);
    assert_eq!((&page["messages"], &page["has_more"]), (&json!([]), &json!(false)));

    let url = format!("{}?location_id=loc1&user_id=doc123&contact_id=pat456", place.ws_url);
    assert!(url.starts_with("ws://localhost:") && url.contains("/ws?"), "{url}");
    let mut socket = Socket::connect(&url, &patient.token).await;
    assert_eq!(socket.next().await["type"], "ready");

    let sent = doctor
        .send(&json!({
            "location_id": "loc1", "sender_user_id": "doc123", "receiver_contact_id": "pat456",
            "content": "Hello patient!"
        }))
        .await
        .expect_status(201);
    let id = sent["id"].as_str().unwrap();
    assert_eq!((id.len(), id.as_bytes()[14]), (36, b'7'), "a UUIDv7: {id}");
    let sent_at = sent["sent_at"].as_str().unwrap();
    assert!(sent_at.len() == 27 && sent_at.ends_with('Z'), "microseconds, UTC: {sent_at}");
    assert_eq!(
        sent,
        json!({
            "id": id, "conversation_id": page["conversation_id"], "seq": 1, "location_id": "loc1",
            "sender_user_id": "doc123", "receiver_contact_id": "pat456", "content": "Hello patient!",
            "client_message_id": null, "sent_at": sent_at,
            "delivered_at": null, "read_at": null, "is_read": false
        })
    );
    assert_eq!(socket.expect("message").await["message"], sent);

    let page = patient.get("/chat/history?location_id=loc1&user_id=doc123&contact_id=pat456").await.expect_status(200);
    assert_eq!(page["messages"][0]["content"], "Hello patient!");

    let unknown = "00000000-0000-7000-8000-000000000000";
    let marks = patient.put("/chat/read", &json!({"message_ids": [id, unknown]})).await.expect_status(200);
    assert_eq!((&marks["marked"][0]["id"], &marks["not_found"]), (&sent["id"], &json!([unknown])));
    assert!(marks["marked"][0]["read_at"].is_string() && marks["marked"][0]["delivered_at"].is_string(), "{marks}");

    let inbox = patient.get("/chat/conversations?location_id=loc1").await.expect_status(200);
    let row = &inbox["conversations"][0];
    assert_eq!((&row["user_id"], &row["contact_id"]), (&json!("doc123"), &json!("pat456")));
    assert_eq!((&row["unread_count"], &row["last_message"]["is_read"]), (&json!(0), &json!(true)));
    assert_eq!(inbox["next_cursor"], Value::Null);
}

#[tokio::test]
async fn health_and_documents_are_public_but_metrics_are_not() {
    let place = TestLocation::named(stack(), "loc1");
    assert_eq!(place.get("/healthz").await.expect_status(200), json!({"status": "ok"}));
    assert_eq!(place.get("/readyz").await.expect_status(200), json!({"status": "ok"}));

    let document = place.get("/openapi.json").await.expect_status(200);
    for path in ["/chat/send", "/chat/history", "/chat/read", "/chat/delivered", "/chat/conversations", "/healthz"] {
        assert!(document["paths"][path].is_object(), "{path}");
    }
    let yaml = place.get("/openapi.yaml").await;
    assert_eq!((yaml.status, yaml.header("content-type")), (200, Some("application/yaml")));
    assert!(yaml.text.contains("operationId: sendMessage"));

    for page in ["/", "/docs"] {
        let html = place.get(page).await;
        assert_eq!((html.status, html.header("content-type")), (200, Some("text/html; charset=utf-8")), "{page}");
        assert!(html.header("content-security-policy").unwrap().starts_with("default-src 'none'"), "{page}");
        assert!(!html.text.contains("src=\"http"), "{page} loads something from elsewhere");
    }
    for hidden in ["/metrics", "/admin/metrics", "/admin", "/debug", "/.env", "/chat"] {
        let _problem = place.get(hidden).await.expect_problem(404);
    }
}

#[tokio::test]
async fn admin_ports_serve_metrics() {
    let place = TestLocation::named(stack(), "loc1");
    assert_eq!(place.env.admin_urls.len(), 4, "two API services, two gateways");
    for url in &place.env.admin_urls {
        let admin = place.with_base_url(url);
        let metrics = admin.get("/metrics").await;
        assert_eq!(metrics.status, 200, "{url}");
        assert!(metrics.text.contains("# TYPE "), "{url}: {}", metrics.text);
    }
}
