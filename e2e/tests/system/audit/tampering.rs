//! What the verifier, the export and the schema do about rows that were changed, removed or forged.

use std::collections::BTreeSet;

use e2e::audit::{AuditLog, AuditRow, api_service, verify};
use serde_json::Value;

use super::*;

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
    // While all clients write.
    let (is_right, printed) = verify(&env, &env.service_database_url, &[]).await;
    assert!(is_right && printed.contains(" 0 wrong"), "{printed}");

    // Once from the live schema, and then each time from that copy.
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
        let (is_right, printed) = verify(&env, &url, &[]).await;
        assert!(!is_right && printed.contains(&expected), "{statement}\n{printed}");
        assert!(printed.contains(&format!("chain {chain} ")) || expected.contains("chain 1 "), "{printed}");
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
        let (is_right, printed) = verify(&env, &url, &[]).await;
        assert!(!is_right && printed.contains(&expected), "{statement}\n{printed}");
    }

    // A forged row is not exported, however it came there, and the good ones are.
    let url = copied(&mut owner, "unnumbered", schema).await;
    let forged = "user:forged";
    for (chain_there, n) in [(0, 1), (-1, 1), (i64::MAX, 7), (chain, last + 1)] {
        let insert = copy_of_row(chain_there, n).replace("select ", "select /* forged */ ");
        owner.client.batch_execute(&insert).await.unwrap();
        let mark = format!("update {log} set actor = '{forged}' where chain = {chain_there} and n = {n}");
        owner.client.batch_execute(&mark).await.unwrap();
    }
    let output = api_service(&env, &url, &["audit", "export", "--participant", forged]).await;
    let (exported, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!output.status.success() && exported.is_empty(), "{exported}{errors}");
    for place in ["chain 0 row 1", "chain -1 row 1", &format!("chain {} row 7", i64::MAX)] {
        assert!(errors.contains(&format!("{place} stands outside of every chain")), "{errors}");
    }
    assert!(errors.contains("4 rows do not verify and were left out"), "{errors}");
    let output = api_service(&env, &url, &["audit", "export", "--location", &place.location]).await;
    let exported = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(exported.contains("user:doc") && !exported.contains(forged), "{exported}");

    // Chains that are said to be archived and are here are named; so is everything when the walk begins behind the end.
    let url = copied(&mut owner, "unnumbered", schema).await;
    let (is_right, printed) = verify(&env, &url, &["--from-chain", &i64::MAX.to_string()]).await;
    assert!(!is_right && printed.contains(&format!("chain {chain} row {last} was not verified")), "{printed}");

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
        let (is_right, printed) = verify(&env, &url, &[]).await;
        match expected {
            None => assert!(is_right && printed.contains("messages compared"), "{printed}"),
            Some(expected) => {
                assert!(
                    !is_right && printed.contains(&expected) && printed.contains(" 1 wrong"),
                    "{statement}\n{printed}"
                );
            }
        }
        assert!(!printed.contains("ten a day"), "content stays out of what is said: {printed}");
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
    let (is_right, printed) = verify(&env, &env.service_database_url, &["--write-anchors", path]).await;
    assert!(is_right, "{printed}");
    doctor.send_ok(&patient, "and on").await;
    let (is_right, printed) = verify(&env, &env.service_database_url, &["--anchors", path]).await;
    assert!(is_right, "{printed}");
    // The earlier one is right in itself.
    assert!(verify(&env, &url, &[]).await.0);
    let (is_right, printed) = verify(&env, &url, &["--anchors", path]).await;
    assert!(!is_right && printed.contains("is not what the anchor remembers"), "{printed}");
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
