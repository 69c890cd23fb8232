//! Who did what, from where, with which outcome: on record before anybody sees anything, and never changed unnoticed.

use std::collections::BTreeSet;

use e2e::audit::{AuditLog, AuditRow, api_service, verify};
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
    who: &TestUser,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> (u16, Vec<AuditRow>) {
    let who = who.at_one_service();
    let request_id = format!("e2e-{}", Uuid::now_v7().simple());
    let mut request = who.request(method, path).header("x-forwarded-for", SOURCE).header("x-request-id", &request_id);
    if let Some(body) = body {
        request = request.json(body);
    }
    let answer = who.place.ask(request).await;
    (answer.status, trail.rows_of_request(&request_id).await)
}

/// The one act that was on record.
async fn act(
    trail: &AuditLog,
    who: &TestUser,
    method: Method,
    path: &str,
    body: Option<&Value>,
    status: u16,
) -> AuditRow {
    let (answered, mut acts) = asked(trail, who, method, path, body).await;
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
    // Where nobody has written, somebody has looked all the same.
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
    let (rows, who) = tokio::time::timeout(e2e::WAIT_TIMEOUT, counted).await.expect("all of them are counted");
    assert!(rows < 201 && who == "anonymous", "{rows} rows for 201 refusals of {who}");
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

    // 500 ids a time that are nobody's, and marks that stand already.
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
    let who = place.user(&format!("mallory-{jti}"));
    let (status, _) = asked(&trail, &who, Method::POST, "/admin/revocations", Some(&body)).await;
    assert_eq!(status, 403);
    let query = "select count(*) from audit_log where actor = $1 and action = 'revoke' and outcome = 403";
    let written = async {
        while trail.client.query_one(query, &[&format!("user:{}", who.id)]).await.unwrap().get::<_, i64>(0) == 0 {
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

    // Tokens shown on the open socket: a bad one, somebody else's, and a fresh one.
    for (shown, frame, outcome) in
        [("nonsense", "error", 401), (&stranger.token, "error", 403), (&patient.token, "authenticated", 200)]
    {
        socket.send(&json!({"type": "auth", "token": shown}));
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

#[tokio::test]
async fn service_role_can_only_append_audit_rows() {
    let place = place();
    let _sent = place.user("doc").send_ok(&place.contact("pat"), "hello").await;
    let env = stack().env();
    let service = AuditLog::open(&env.service_database_url).await;
    for statement in [
        "update audit_log set outcome = 200",
        "delete from audit_log",
        "truncate audit_log",
        "delete from audit_chains",
        "truncate audit_chains",
        "delete from messages",
        "truncate messages",
        "delete from conversations",
        "update revocations set jti = jti",
        "delete from revocations",
        "drop table audit_log",
        "alter table audit_log disable trigger all",
        "create table mine (id integer)",
        "update refinery_schema_history set version = version",
    ] {
        let refused = service.client.batch_execute(statement).await.unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "42501", "{statement}: {refused}");
    }
    let seen = service.client.query_one("select count(*) from audit_log", &[]).await.unwrap();
    assert!(seen.get::<_, i64>(0) > 0);
    // A table that a migration adds must be thought of where rights are granted.
    let query =
        "select relname::text from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p')
                 and relname <> 'refinery_schema_history' and not has_table_privilege('chat_service', oid, 'select')";
    let forgotten: Vec<String> =
        owner().await.client.query(query, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    assert!(forgotten.is_empty(), "{forgotten:?}");
}

/// A copy of the whole trail of another schema as of one moment, to do with as one likes. Returns a URL that leads there.
async fn copied(owner: &mut AuditLog, from: &str, schema: &str) -> String {
    let statements = format!(
        "drop schema if exists {schema} cascade; create schema {schema};
         create table {schema}.audit_chains as select * from {from}.audit_chains;
         create table {schema}.audit_log as select * from {from}.audit_log;
         create index on {schema}.audit_log (chain, n)"
    );
    let snapshot = owner.client.build_transaction().isolation_level(tokio_postgres::IsolationLevel::RepeatableRead);
    let transaction = snapshot.start().await.unwrap();
    transaction.batch_execute(&statements).await.unwrap();
    transaction.commit().await.unwrap();
    format!("{}?options=-csearch_path%3D{schema}", stack().env().database_url)
}

#[tokio::test]
async fn verify_finds_every_change_by_database_owner() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    for number in 0..5 {
        doctor.send_ok(&patient, &number.to_string()).await;
    }
    let (env, mut owner) = (stack().env(), owner().await);
    // While everybody writes.
    let (is_right, said) = verify(&env, &env.service_database_url, &[]).await;
    assert!(is_right && said.contains(" 0 wrong"), "{said}");

    // Once from what everybody writes to, and each time anew from that.
    copied(&mut owner, "public", "untouched").await;
    let schema = "tampered";
    let url = copied(&mut owner, "untouched", schema).await;
    assert!(verify(&env, &url, &[]).await.0);
    let longest = format!("select chain, max(n) from {schema}.audit_log group by chain order by max(n) desc limit 1");
    let row = owner.client.query_one(&longest, &[]).await.unwrap();
    let (chain, last): (i64, i64) = (row.get(0), row.get(1));
    assert!(last >= 3, "{last}");
    let log = format!("{schema}.audit_log");
    let at = |n: i64| format!("chain = {chain} and n = {n}");
    let cases = [
        (format!("update {log} set actor = 'user:nobody' where {}", at(2)), "row 2 was altered".to_owned()),
        (format!("update {log} set at = at + interval '1 microsecond' where {}", at(1)), "row 1 was altered".to_owned()),
        (format!("update {log} set at = 'infinity' where {}", at(1)), "row 1 was altered".to_owned()),
        (format!("update {log} set outcome = outcome + 1 where {}", at(2)), "row 2 was altered".to_owned()),
        (format!("update {log} set location_id = coalesce(location_id, '') || '0' where {}", at(2)), "row 2 was altered".to_owned()),
        (format!("update {log} set source = coalesce(source, '') || '0' where {}", at(2)), "row 2 was altered".to_owned()),
        (format!("update {log} set mac = set_byte(mac, 5, get_byte(mac, 5) # 1) where {}", at(2)), "row 2 was altered".to_owned()),
        (format!("delete from {log} where {}", at(2)), "row 2 is missing".to_owned()),
        (
            format!("update {log} set n = case n when 1 then 2 else 1 end where chain = {chain} and n in (1, 2)"),
            "row 1 was altered".to_owned(),
        ),
        (format!("delete from {log} where {}", at(last)), format!("row {last} was cut off")),
        (
            format!(
                "delete from {log} where {}; update {schema}.audit_chains set n = {} where id = {chain}",
                at(last),
                last - 1
            ),
            format!("row {} is not the end", last - 1),
        ),
        (
            format!("delete from {log} where chain = 1; delete from {schema}.audit_chains where id = 1"),
            "chain 1 row 0 has no chain".to_owned(),
        ),
        (
            format!("insert into {log} select chain, n + 1, at, times, outcome, conversation_id, null, actor, action, acts_for,
                     counterpart, location_id, message_ids, detail, request_id, source, mac from {log} where {}", at(last)),
            format!("row {} was added", last + 1),
        ),
    ];
    for (statement, expected) in cases {
        copied(&mut owner, "untouched", schema).await;
        owner.client.batch_execute(&statement).await.unwrap();
        let (is_right, said) = verify(&env, &url, &[]).await;
        assert!(!is_right && said.contains(&expected), "{statement}\n{said}");
        assert!(said.contains(&format!("chain {chain} ")) || expected.contains("chain 1 "), "{said}");
    }
    owner.client.batch_execute(&format!("drop schema {schema}, untouched cascade")).await.unwrap();
}

#[tokio::test]
async fn rows_outside_chains_are_found_and_not_exported() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    doctor.send_ok(&patient, "hello").await;
    let (env, mut owner) = (stack().env(), owner().await);
    let (schema, columns) = (
        "numbered",
        "at, times, outcome, conversation_id, actor, action, acts_for, counterpart, location_id, message_ids, detail,
         request_id, source, mac, text_mac",
    );
    let url = copied(&mut owner, "public", "unnumbered").await;
    assert!(verify(&env, &url, &[]).await.0);
    let row =
        owner.client.query_one("select chain, max(n) from unnumbered.audit_log group by chain limit 1", &[]).await;
    let (chain, last): (i64, i64) = row.map(|row| (row.get(0), row.get(1))).unwrap();
    let log = format!("{schema}.audit_log");
    let copy_of_row = |chain_there: i64, n: i64| {
        format!(
            "insert into {log} (chain, n, {columns}) select {chain_there}, {n}, {columns} from {log}
             where chain = {chain} and n = 1 and exists (select 1) limit 1"
        )
    };
    let head = |chain_there: i64, n: i64| {
        format!(
            "insert into {schema}.audit_chains select {chain_there}, key_id, opened_at, {n}, seal
             from {schema}.audit_chains where id = {chain} limit 1"
        )
    };
    let mut cases = Vec::new();
    for number in [0, -1, i64::MIN, 987_654_321, i64::MAX] {
        cases.push((copy_of_row(number, 1), format!("chain {number} row 1 ")));
        cases.push((head(number, 5), format!("chain {number} ")));
        let both = format!("{}; {}", copy_of_row(number, 1), head(number, 1));
        cases.push((both, format!("chain {number} row 1 ")));
    }
    cases.push((copy_of_row(chain, 0), format!("chain {chain} row 0 was added")));
    cases.push((copy_of_row(chain, -3), format!("chain {chain} row -3 was added")));
    cases.push((copy_of_row(chain, last), format!("chain {chain} row {last} was added")));
    cases.push((head(chain, last), format!("chain {chain} row {last} is not the end")));
    cases.push((
        format!("update {schema}.audit_chains set key_id = '0000000000000000' where id = {chain}"),
        format!("chain {chain} row 0 cannot be verified"),
    ));
    for (statement, expected) in cases {
        let url = copied(&mut owner, "unnumbered", schema).await;
        owner.client.batch_execute(&statement).await.unwrap();
        let (is_right, said) = verify(&env, &url, &[]).await;
        assert!(!is_right && said.contains(&expected), "{statement}\n{said}");
    }

    // A forged row is exported as nobody's, whichever way it came there, and the good ones are.
    let url = copied(&mut owner, "unnumbered", schema).await;
    let forged = "user:forged";
    for (chain_there, n) in [(0, 1), (-1, 1), (i64::MAX, 7), (chain, last + 1)] {
        let insert = copy_of_row(chain_there, n).replace("select ", "select /* forged */ ");
        owner.client.batch_execute(&insert).await.unwrap();
        let mark = format!("update {log} set actor = '{forged}' where chain = {chain_there} and n = {n}");
        owner.client.batch_execute(&mark).await.unwrap();
    }
    let output = api_service(&env, &url, &["audit", "export", "--participant", forged]).await;
    let (exported, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!output.status.success() && exported.is_empty(), "{exported}{told}");
    for place in ["chain 0 row 1", "chain -1 row 1", &format!("chain {} row 7", i64::MAX)] {
        assert!(told.contains(&format!("{place} stands outside of every chain")), "{told}");
    }
    assert!(told.contains("4 rows do not verify and were left out"), "{told}");
    let output = api_service(&env, &url, &["audit", "export", "--location", &place.location]).await;
    let exported = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(exported.contains("user:doc") && !exported.contains(forged), "{exported}");

    // Chains that are said to be archived and are here are named; so is everything when the walk begins behind the end.
    let url = copied(&mut owner, "unnumbered", schema).await;
    let (is_right, said) = verify(&env, &url, &["--from-chain", &i64::MAX.to_string()]).await;
    assert!(!is_right && said.contains(&format!("chain {chain} row {last} was not verified")), "{said}");

    // The service's own role does not get such numbers into the trail, nor one that leaves a gap.
    let service = AuditLog::open(&env.service_database_url).await;
    let row = "'2026-01-01', 1, 200, 'user:forged', 'history.read', ''";
    for statement in [
        format!("insert into audit_log (chain, n, at, times, outcome, actor, action, mac) values (0, 1, {row})"),
        format!("insert into audit_log (chain, n, at, times, outcome, actor, action, mac) values (-1, 1, {row})"),
        format!("insert into audit_log (chain, n, at, times, outcome, actor, action, mac) values (1, 0, {row})"),
        "insert into audit_chains values (0, 'x', now(), 0, '')".to_owned(),
        "insert into audit_chains values (-1, 'x', now(), 0, '')".to_owned(),
        format!("insert into audit_chains values ({}, 'x', now(), 0, '')", i64::MAX),
    ] {
        let refused = service.client.batch_execute(&statement).await.unwrap_err();
        let code = refused.code().unwrap().code().to_owned();
        assert!(matches!(code.as_str(), "23514" | "23505"), "{statement}: {refused}");
    }
    owner.client.batch_execute(&format!("drop schema {schema}, unnumbered cascade")).await.unwrap();
}

#[tokio::test]
async fn verify_compares_messages_with_audit_log() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let (first, second) =
        (doctor.send_ok(&patient, "take one a day").await, patient.send_ok(&doctor, "thank you").await);
    let (env, mut owner) = (stack().env(), owner().await);
    let from = "uncompared";
    copied(&mut owner, "public", from).await;
    // Of other tests' messages some may have come between the two.
    owner
        .client
        .batch_execute(&format!(
            "create table {from}.messages as select m.* from public.messages m
             where exists (select from {from}.audit_log l where l.action = 'send' and l.message_ids[1] = m.id)"
        ))
        .await
        .unwrap();
    let schema = "compared";
    let url = format!("{}?options=-csearch_path%3D{schema}", env.database_url);
    let fresh = format!(
        "drop table if exists {schema}.messages; create table {schema}.messages as select * from {from}.messages"
    );
    let [first_id, second_id] = [&first, &second].map(|message| message["id"].as_str().unwrap().to_owned());
    let first_is = format!("where id = '{first_id}'");
    let invented = Uuid::now_v7();
    let columns =
        "location_id, sender_user_id, receiver_user_id, sender_contact_id, receiver_contact_id, content, sent_at,
                   read_at, is_read, conversation_id, delivered_at, content_sealed, content_key";
    let cases = [
        ("select 1".to_owned(), None),
        (
            format!("update {schema}.messages set content = 'take ten a day' {first_is}"),
            Some(format!("message {first_id} does not say what was sent")),
        ),
        (
            format!(
                "update {schema}.messages set content = o.content from {schema}.messages o where messages.id = '{first_id}' and o.id = '{second_id}'"
            ),
            Some(format!("message {first_id} does not say what was sent")),
        ),
        (format!("delete from {schema}.messages {first_is}"), Some(format!("message {first_id} is gone"))),
        (
            format!(
                "update {schema}.messages set sender_user_id = null, sender_contact_id = receiver_contact_id,
                     receiver_user_id = sender_user_id, receiver_contact_id = null {first_is}"
            ),
            Some(format!("message {first_id} is not between")),
        ),
        (
            format!("update {schema}.messages set receiver_contact_id = 'pat2' {first_is}"),
            Some(format!("message {first_id} is not between")),
        ),
        (
            format!(
                "insert into {schema}.messages (id, seq, {columns}) select '{invented}', 99, {columns} from {schema}.messages {first_is}"
            ),
            Some(format!("message {invented} has no audit row")),
        ),
    ];
    for (statement, expected) in cases {
        copied(&mut owner, from, schema).await;
        owner.client.batch_execute(&fresh).await.unwrap();
        owner.client.batch_execute(&statement).await.unwrap();
        let (is_right, said) = verify(&env, &url, &[]).await;
        match expected {
            None => assert!(is_right && said.contains("messages compared"), "{said}"),
            Some(expected) => {
                assert!(!is_right && said.contains(&expected) && said.contains(" 1 wrong"), "{statement}\n{said}");
            }
        }
        assert!(!said.contains("ten a day"), "content stays out of what is said: {said}");
    }
    owner.client.batch_execute(&format!("drop schema {schema}, {from} cascade")).await.unwrap();
}

#[tokio::test]
async fn anchors_reveal_truncated_audit_log() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let (env, mut owner) = (stack().env(), owner().await);
    doctor.send_ok(&patient, "before").await;
    let url = copied(&mut owner, "public", "earlier").await;
    doctor.send_ok(&patient, "after").await;
    let file = std::env::temp_dir().join(format!("anchors-{}", Uuid::now_v7().simple()));
    let path = file.to_str().unwrap();
    let (is_right, said) = verify(&env, &env.service_database_url, &["--write-anchors", path]).await;
    assert!(is_right, "{said}");
    doctor.send_ok(&patient, "and on").await;
    let (is_right, said) = verify(&env, &env.service_database_url, &["--anchors", path]).await;
    assert!(is_right, "{said}");
    // The earlier one is right in itself.
    assert!(verify(&env, &url, &[]).await.0);
    let (is_right, said) = verify(&env, &url, &["--anchors", path]).await;
    assert!(!is_right && said.contains("is not what the anchor remembers"), "{said}");
    std::fs::remove_file(file).unwrap();
    owner.client.batch_execute("drop schema earlier cascade").await.unwrap();
}

#[tokio::test]
async fn export_writes_audit_events_and_is_audited() {
    let (place, trail) = (place(), owner().await);
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let sent = doctor.send_ok(&patient, "hello").await;
    let _page = patient.history(&doctor, "").await;
    let env = stack().env();
    let export = async |more: &[&str]| -> Vec<Value> {
        let arguments = [&["audit", "export", "--location", &place.location], more].concat();
        let output = api_service(&env, &env.service_database_url, &arguments).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let lines = String::from_utf8(output.stdout).unwrap();
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let events = export(&[]).await;
    let subtypes = |events: &[Value]| -> BTreeSet<String> {
        let code =
            |event: &Value| event["subtype"].as_array().unwrap().last().unwrap()["code"].as_str().unwrap().to_owned();
        events.iter().map(code).collect()
    };
    assert_eq!(subtypes(&events), BTreeSet::from(["send", "history.read", "export"].map(str::to_owned)));
    for event in &events {
        assert_eq!(event["resourceType"], "AuditEvent");
        for member in ["type", "recorded", "action", "outcome", "agent", "source", "entity"] {
            assert!(!event[member].is_null(), "{member}: {event}");
        }
    }
    let created = events.iter().find(|event| event["action"] == "C").unwrap();
    assert!(created["entity"].to_string().contains(sent["id"].as_str().unwrap()), "{created}");
    assert!(created["meta"]["profile"][0].as_str().unwrap().ends_with("IHE.BasicAudit.PatientCreate"));
    assert!(!events.iter().any(|event| event.to_string().contains("hello")));
    let read = export(&["--participant", "contact:pat", "--from", "2020-01-01T00:00:00Z"]).await;
    assert_eq!(subtypes(&read), BTreeSet::from(["send", "history.read"].map(str::to_owned)));
    assert!(export(&["--to", "2020-01-01T00:00:00Z"]).await.is_empty());
    let exports: Vec<AuditRow> =
        trail.rows_of_location(&place).await.into_iter().filter(|act| act.action == "export").collect();
    assert_eq!(exports.len(), 3);
    assert!(exports.iter().all(|act| act.actor == "operator:auditor"), "{exports:#?}");
    assert!(exports[1].detail.as_ref().unwrap().contains("participant contact:pat"), "{exports:#?}");
}
