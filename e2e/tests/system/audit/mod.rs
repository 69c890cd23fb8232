//! Who did what, from where, with which outcome: on record before data is shown, and never changed unnoticed.

mod tampering;

use e2e::audit::{AuditLog, AuditRow};
use e2e::{Socket, TestUser, token};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{place, stack};

/// As HAProxy, which is trusted, would say it.
const SOURCE: &str = "203.0.113.9";

fn id(value: &Value) -> Uuid {
    value.as_str().unwrap().parse().unwrap()
}

fn conversation(message: &Value) -> Option<Uuid> {
    Some(id(&message["conversation_id"]))
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// Asks one API service from elsewhere, and says what was on record of it when the answer came.
async fn asked(
    trail: &AuditLog,
    participant: &TestUser,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> (u16, Vec<AuditRow>) {
    let participant = participant.at_one_service();
    let request_id = format!("e2e-{}", Uuid::now_v7().simple());
    let mut request =
        participant.request(method, path).header("x-forwarded-for", SOURCE).header("x-request-id", &request_id);
    if let Some(body) = body {
        request = request.json(body);
    }
    let answer = participant.place.ask(request).await;
    (answer.status, trail.rows_of_request(&request_id).await)
}

/// The one act that was on record.
async fn act(
    trail: &AuditLog,
    participant: &TestUser,
    method: Method,
    path: &str,
    body: Option<&Value>,
    status: u16,
) -> AuditRow {
    let (answered, mut acts) = asked(trail, participant, method, path, body).await;
    assert_eq!(answered, status);
    assert_eq!(acts.len(), 1, "{acts:#?}");
    let act = acts.remove(0);
    assert_eq!((act.outcome, act.source.as_deref(), act.times), (i16::try_from(status).unwrap(), Some(SOURCE), 1));
    act
}

async fn owner() -> AuditLog {
    AuditLog::open(&stack().env().database_url).await
}

#[tokio::test]
async fn every_send_is_audited() {
    let (place, trail) = (place(), owner().await);
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let mut body = doctor.message_to(&patient, "hello");
    body["client_message_id"] = json!(Uuid::now_v7());
    let first = act(&trail, &doctor, Method::POST, "/chat/send", Some(&body), 201).await;
    let message = doctor.messages(&patient).await.remove(0);
    let expected = AuditRow {
        actor: "user:doc".to_owned(),
        action: "send".to_owned(),
        outcome: 201,
        location: Some(place.location.clone()),
        conversation: conversation(&message),
        acts_for: None,
        counterpart: text("contact:pat"),
        message_ids: vec![id(&message["id"])],
        detail: None,
        request_id: first.request_id.clone(),
        source: text(SOURCE),
        times: 1,
    };
    assert_eq!(first, expected);
    // The same again, and something else under the same id.
    let repeat = act(&trail, &doctor, Method::POST, "/chat/send", Some(&body), 200).await;
    assert_eq!((&repeat.message_ids, repeat.conversation), (&expected.message_ids, expected.conversation));
    body["content"] = json!("something else");
    let reused = act(&trail, &doctor, Method::POST, "/chat/send", Some(&body), 409).await;
    assert_eq!(
        (&reused.actor, reused.conversation, reused.message_ids.len()),
        (&expected.actor, expected.conversation, 0)
    );
    // A backend sends for the patient.
    let body = patient.message_to(&doctor, "for me");
    let sent = act(&trail, &place.service(), Method::POST, "/chat/send", Some(&body), 201).await;
    assert_eq!(sent.actor, "service:ehr-backend");
    assert_eq!((sent.acts_for, sent.counterpart), (text("contact:pat"), text("user:doc")));
}

#[tokio::test]
async fn read_is_audited_before_response() {
    let (place, trail) = (place(), owner().await);
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let sent = doctor.send_ok(&patient, "hello").await;
    let history = format!("/chat/history?{}", doctor.with(&patient));
    let read = act(&trail, &patient, Method::GET, &history, None, 200).await;
    assert_eq!((read.actor.as_str(), read.action.as_str()), ("contact:pat", "history.read"));
    assert_eq!((read.conversation, read.location.as_ref()), (conversation(&sent), Some(&place.location)));
    assert_eq!((read.acts_for, read.counterpart), (None, text("user:doc")));
    // A read of an empty conversation is audited as well.
    let nothing = format!("/chat/history?{}", place.user("nurse").with(&patient));
    let read = act(&trail, &place.service(), Method::GET, &nothing, None, 200).await;
    assert_eq!((read.acts_for, read.counterpart), (text("user:nurse"), text("contact:pat")));

    let inbox = format!("/chat/conversations?location_id={}", place.location);
    let read = act(&trail, &doctor, Method::GET, &inbox, None, 200).await;
    assert_eq!((read.actor.as_str(), read.action.as_str(), read.acts_for), ("user:doc", "inbox.read", None));
    assert_eq!((read.location.as_ref(), read.conversation), (Some(&place.location), None));
    let read = act(&trail, &place.service(), Method::GET, &format!("{inbox}&contact_id=pat"), None, 200).await;
    assert_eq!((read.actor.as_str(), read.acts_for), ("service:ehr-backend", text("contact:pat")));

    let presence = format!("/chat/presence?location_id={}&contact_id=pat", place.location);
    let read = act(&trail, &doctor, Method::GET, &presence, None, 200).await;
    assert_eq!((read.actor.as_str(), read.action.as_str()), ("user:doc", "presence.read"));
    assert_eq!(
        (read.location.as_ref(), read.counterpart, read.detail),
        (Some(&place.location), text("contact:pat"), None)
    );
    // All who were asked for, shown or not.
    let read = act(&trail, &doctor, Method::GET, &format!("{presence}&user_id=nobody"), None, 200).await;
    assert_eq!((read.counterpart, read.detail), (None, text("user:nobody contact:pat")));
}

#[tokio::test]
async fn head_is_audited_as_read() {
    let (place, trail) = (place(), owner().await);
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let _sent = doctor.send_ok(&patient, "hello").await;
    for path in [
        format!("/chat/history?{}", doctor.with(&patient)),
        format!("/chat/conversations?location_id={}", place.location),
        format!("/chat/presence?location_id={}&contact_id=pat", place.location),
        format!("/chat/presence?location_id={}&contact_id=pat&user_id=nobody", place.location),
    ] {
        let get = act(&trail, &doctor, Method::GET, &path, None, 200).await;
        let head = act(&trail, &doctor, Method::HEAD, &path, None, 200).await;
        assert!(head.action.ends_with(".read") && head.location.as_ref() == Some(&place.location), "{head:?}");
        assert_eq!(AuditRow { request_id: get.request_id.clone(), ..head }, get, "{path}");
    }
    // A refusal is one as well.
    let stranger = place.user("stranger");
    let history = format!("/chat/history?{}", doctor.with(&patient));
    assert_eq!(asked(&trail, &stranger, Method::HEAD, &history, None).await.0, 403);
    let refused = trail.until(&place, |act| act.outcome == 403).await;
    assert_eq!((refused.actor.as_str(), refused.action.as_str()), ("user:stranger", "history.read"));
}

#[tokio::test]
async fn marks_are_audited_by_conversation() {
    let (place, trail) = (place(), owner().await);
    let (doctor, nurse, patient) = (place.user("doc"), place.user("nurse"), place.contact("pat"));
    let (one, two) = (doctor.send_ok(&patient, "1").await, nurse.send_ok(&patient, "2").await);
    let foreign = doctor.send_ok(&nurse, "not the patient's").await;
    let body = json!({"message_ids": [one["id"], two["id"], foreign["id"]]});
    let (status, acts) = asked(&trail, &patient, Method::PUT, "/chat/read", Some(&body)).await;
    assert_eq!((status, acts.len()), (200, 3), "{acts:#?}");
    assert!(acts.iter().all(|act| act.actor == "contact:pat" && act.action == "mark.read"), "{acts:#?}");
    for (message, from) in [(&one, "user:doc"), (&two, "user:nurse")] {
        let marked = acts.iter().find(|act| act.counterpart.as_deref() == Some(from)).unwrap();
        assert_eq!((marked.outcome, &marked.message_ids), (200, &vec![id(&message["id"])]));
        assert_eq!((marked.conversation, marked.source.as_deref()), (conversation(message), Some(SOURCE)));
    }
    let refused = acts.iter().find(|act| act.outcome == 404).unwrap();
    assert_eq!((&refused.message_ids, refused.location.as_ref()), (&vec![id(&foreign["id"])], Some(&place.location)));
    let delivered = json!({"message_ids": [foreign["id"]]});
    assert_eq!(
        act(&trail, &nurse, Method::PUT, "/chat/delivered", Some(&delivered), 200).await.action,
        "mark.delivered"
    );
}

#[tokio::test]
async fn denials_are_audited_with_known_actor() {
    let (place, trail) = (place(), owner().await);
    let (doctor, patient, stranger) = (place.user("doc"), place.contact("pat"), place.user("stranger"));
    let sent = doctor.send_ok(&patient, "hello").await;
    let history = format!("/chat/history?{}", doctor.with(&patient));
    let (status, _) = asked(&trail, &stranger, Method::GET, &history, None).await;
    assert_eq!(status, 403);
    let refused = trail.until(&place, |act| act.outcome == 403 && act.action == "history.read").await;
    assert_eq!((refused.actor.as_str(), refused.conversation), ("user:stranger", conversation(&sent)));
    assert_eq!((refused.acts_for, refused.source), (text("user:doc"), text(SOURCE)));
    let (status, _) =
        asked(&trail, &stranger, Method::POST, "/chat/send", Some(&doctor.message_to(&patient, "forged"))).await;
    assert_eq!(status, 403);
    let refused = trail.until(&place, |act| act.outcome == 403 && act.action == "send").await;
    assert_eq!((refused.actor.as_str(), refused.acts_for), ("user:stranger", text("user:doc")));
    let inbox = format!("/chat/conversations?location_id={}&contact_id=pat", place.location);
    let (status, _) = asked(&trail, &stranger, Method::GET, &inbox, None).await;
    assert_eq!(status, 403);
    let refused = trail.until(&place, |act| act.outcome == 403 && act.action == "inbox.read").await;
    assert_eq!((refused.actor.as_str(), refused.acts_for), ("user:stranger", text("contact:pat")));
}

#[tokio::test]
async fn anonymous_denials_are_coalesced() {
    let (place, trail) = (place(), owner().await);
    let one = place.user("doc").with_token("nonsense").at_one_service();
    // An address of its own, to tell these from those of other tests.
    let bits = Uuid::now_v7().as_u128();
    let source = format!("2001:db8::{:x}:{:x}:{:x}", bits & 0xffff, (bits >> 16) & 0xffff, (bits >> 32) & 0xffff);
    let ask = || one.place.ask(one.request(Method::GET, "/chat/history").header("x-forwarded-for", &source));
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let (one, source) = (one.clone(), source.clone());
        asking.spawn(async move {
            let request = one.request(Method::GET, "/chat/history").header("x-forwarded-for", source);
            one.place.ask(request).await.status
        });
    }
    assert!(asking.join_all().await.into_iter().all(|status| status == 401));
    assert_eq!(ask().await.status, 401);
    let canonical: std::net::IpAddr = source.parse().unwrap();
    let query = "select coalesce(sum(times), 0), count(*), min(actor) from audit_log
                 where source = $1 and outcome = 401 and action = 'history.read'";
    let counted = async {
        loop {
            let row = trail.client.query_one(query, &[&canonical.to_string()]).await.unwrap();
            if row.get::<_, i64>(0) == 201 {
                return (row.get::<_, i64>(1), row.get::<_, String>(2));
            }
            tokio::task::yield_now().await;
        }
    };
    let (rows, participant) = tokio::time::timeout(e2e::WAIT_TIMEOUT, counted).await.expect("all of them are counted");
    assert!(rows < 201 && participant == "anonymous", "{rows} rows for 201 refusals of {participant}");
}

#[tokio::test]
async fn socket_floods_make_few_audit_rows() {
    let (place, trail) = (place(), owner().await);
    let (doctor, patient) = (place.user("doc"), place.contact(&format!("pat-{}", Uuid::now_v7().simple())));
    let sent = doctor.send_ok(&patient, "hello").await;
    let mut socket = patient.open(&doctor).await;
    let mut answers = [0_usize; 2];
    for _ in 0..450 {
        socket.send(&json!({"type": "auth", "token": patient.token}));
        match socket.next().await {
            frame if frame["type"] == "authenticated" => answers[0] += 1,
            frame if frame["code"] == "rate_limited" => answers[1] += 1,
            frame => assert!(matches!(frame["type"].as_str(), Some("message" | "presence" | "delivered")), "{frame}"),
        }
    }
    assert!(answers[0] > 0 && answers[1] > 0, "{answers:?}");
    let actor = format!("contact:{}", patient.id);
    let of = async |action: &str, outcome: i16| -> (i64, i64, i64) {
        let query = "select count(*), coalesce(sum(times), 0), coalesce(max(cardinality(message_ids)), 0)::bigint
                     from audit_log where actor = $1 and action = $2 and outcome = $3";
        let row = trail.client.query_one(query, &[&actor, &action, &outcome]).await.unwrap();
        (row.get(0), row.get(1), row.get(2))
    };
    let counted = async {
        while of("socket.auth", 200).await.1 < answers[0] as i64 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(e2e::WAIT_TIMEOUT, counted).await.expect("all are counted");
    assert!(of("socket.auth", 200).await.0 <= 80, "{:?}", of("socket.auth", 200).await);

    // 500 unknown ids at a time, and marks that stand already.
    for _ in 0..320 {
        let unknown: Vec<Uuid> = (0..500).map(|_| Uuid::now_v7()).collect();
        for (path, body) in [
            ("/chat/delivered", json!({ "message_ids": unknown })),
            ("/chat/read", json!({"message_ids": [sent["id"]]})),
        ] {
            let answer = place.ask(patient.at_one_service().request(Method::PUT, path).json(&body)).await;
            assert_eq!(answer.status, 200);
        }
    }
    let counted = async {
        while of("mark.delivered", 404).await.1 < 320 || of("mark.read", 200).await.1 < 320 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(e2e::WAIT_TIMEOUT, counted).await.expect("all are counted");
    let (rows, times, ids) = of("mark.delivered", 404).await;
    // 300 rows, and then counts: how many depends on how long the rest takes.
    assert!(rows < times && times == 320 && ids <= 20, "{rows} rows for {times} receipts of {ids} messages");
    assert!(of("mark.read", 200).await.0 < 321);
}

#[tokio::test]
async fn revocations_and_denied_ones_are_audited() {
    let (place, trail) = (place(), owner().await);
    let jti = Uuid::now_v7().to_string();
    let body = json!({ "jti": jti });
    let admin = token::with(token::claims("security", "service", &[&place.location]), "admin", json!(true));
    let admin = place.service().with_token(place.sign(&admin));
    let revoked = act(&trail, &admin, Method::POST, "/admin/revocations", Some(&body), 204).await;
    assert_eq!((revoked.actor.as_str(), revoked.action.as_str()), ("service:security", "revoke"));
    assert_eq!(revoked.detail, Some(format!("jti {jti}")));
    let participant = place.user(&format!("mallory-{jti}"));
    let (status, _) = asked(&trail, &participant, Method::POST, "/admin/revocations", Some(&body)).await;
    assert_eq!(status, 403);
    let query = "select count(*) from audit_log where actor = $1 and action = 'revoke' and outcome = 403";
    let written = async {
        while trail.client.query_one(query, &[&format!("user:{}", participant.id)]).await.unwrap().get::<_, i64>(0) == 0
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(e2e::WAIT_TIMEOUT, written).await.expect("it is on record");
}

#[tokio::test]
async fn sockets_are_audited_from_handshake_to_close() {
    let (place, trail) = (place(), owner().await);
    let (doctor, patient, stranger) = (place.user("doc"), place.contact("pat"), place.user("stranger"));
    let gateway = place.env.gateway_ws_urls[0].clone();
    let sent = doctor.send_ok(&patient, "hello").await;
    let url = format!("{gateway}?{}", doctor.with(&patient));
    let shake = async |bearer: &str, request_id: &str| {
        let bearer = format!("Bearer {bearer}");
        let headers = [("authorization", bearer.as_str()), ("x-forwarded-for", SOURCE), ("x-request-id", request_id)];
        Socket::connect_with(&url, &headers).await
    };
    let request_id = format!("e2e-{}", Uuid::now_v7().simple());
    let mut socket = shake(&patient.token, &request_id).await.unwrap();
    let opened = trail.until(&place, |act| act.action == "socket.open").await;
    assert_eq!((opened.actor.as_str(), opened.outcome), ("contact:pat", 101));
    assert_eq!((opened.conversation, opened.counterpart.as_deref()), (conversation(&sent), Some("user:doc")));
    assert_eq!((opened.source.as_deref(), opened.request_id.as_deref()), (Some(SOURCE), Some(request_id.as_str())));

    // Tokens shown on the open socket: a bad one, another user's, and a fresh one.
    for (rendered, frame, outcome) in
        [("nonsense", "error", 401), (&stranger.token, "error", 403), (&patient.token, "authenticated", 200)]
    {
        socket.send(&json!({"type": "auth", "token": rendered}));
        socket.expect(frame).await;
        let act = trail.until(&place, |act| act.action == "socket.auth" && act.outcome == outcome).await;
        assert_eq!((act.actor.as_str(), act.request_id.as_deref()), ("contact:pat", Some(request_id.as_str())));
    }
    // What it proves and says is known to come from this socket.
    socket.send(&json!({"type": "read", "message_ids": [sent["id"]]}));
    let marked = trail.until(&place, |act| act.action == "mark.read").await;
    assert_eq!((&marked.message_ids, marked.source.as_deref()), (&vec![id(&sent["id"])], Some(SOURCE)));
    assert_eq!(marked.request_id.as_deref(), Some(request_id.as_str()));

    socket.close().await;
    let closed = trail.until(&place, |act| act.action == "socket.close").await;
    assert_eq!((closed.outcome, closed.request_id.as_deref()), (1005, Some(request_id.as_str())));

    assert!(shake(&stranger.token, "e2e-stranger").await.is_err());
    let refused = trail.until(&place, |act| act.action == "socket.open" && act.outcome == 403).await;
    assert_eq!((refused.actor.as_str(), refused.conversation), ("user:stranger", conversation(&sent)));
    let anonymous = format!("e2e-{}", Uuid::now_v7().simple());
    assert!(shake("nonsense", &anonymous).await.is_err());
    let refused = async {
        loop {
            if let Some(act) = trail.rows_of_request(&anonymous).await.pop() {
                return act;
            }
            tokio::task::yield_now().await;
        }
    };
    let refused = tokio::time::timeout(e2e::WAIT_TIMEOUT, refused).await.expect("it is on record");
    assert_eq!((refused.actor.as_str(), refused.outcome, refused.source.as_deref()), ("anonymous", 401, Some(SOURCE)));
}
