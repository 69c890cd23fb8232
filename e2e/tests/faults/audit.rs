//! No fault breaks the audit log, and no data is shown that is not on record.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_lc_rs::hmac;
use e2e::audit::{AuditLog, verify};
use e2e::{HttpResponse, TestUser};
use stack::Stack;

use crate::{kill_9, test_env, until, until_true};

/// Six clients write and read until `is_over`. Returns how many were answered with 201.
fn busy(doctor: &TestUser, patient: &TestUser, is_over: &Arc<AtomicBool>) -> Vec<tokio::task::JoinHandle<usize>> {
    let people = (0..6).map(|number| (number, doctor.clone(), patient.clone(), is_over.clone()));
    people
        .map(|(number, doctor, patient, is_over)| {
            tokio::spawn(async move {
                let mut kept = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let sent = doctor.try_send(&doctor.message_to(&patient, &format!("{number}/{kept}"))).await;
                    kept += usize::from(sent.is_ok_and(|answer| answer.status == 201));
                    let page =
                        patient.request(reqwest::Method::GET, &format!("/chat/history?{}", patient.with(&doctor)));
                    // A killed service answers nothing.
                    if let Ok(response) = page.send().await {
                        let answer = HttpResponse::read(response).await;
                        assert!(matches!(answer.status, 200 | 502 | 503), "{answer:?}");
                    }
                }
                kept
            })
        })
        .collect()
}

/// The trail is right in itself, and says of each message that it was sent, once, and of nothing else.
async fn is_whole(stack: &Stack, kept: usize) {
    let env = stack.env();
    let (is_right, output) = verify(&env, &env.service_database_url, &[]).await;
    assert!(is_right, "{output}");
    let owner = AuditLog::open(&env.database_url).await;
    let query = "select (select count(*) from messages),
        (select count(*) from audit_log where action = 'send' and outcome = 201),
        (select count(*) from messages m join audit_log a on a.action = 'send' and a.message_ids = array[m.id])";
    let row = owner.client.query_one(query, &[]).await.unwrap();
    let counts: [i64; 3] = [0, 1, 2].map(|column| row.get(column));
    assert!(counts[0] >= kept as i64 && counts == [counts[0]; 3], "messages, rows, pairs: {counts:?}; kept: {kept}");
}

#[tokio::test]
async fn audit_log_is_complete_when_api_services_are_killed() {
    let test_env = test_env().await;
    let place = &test_env.place;
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let mut socket = patient.open(&doctor).await;
    let is_over: Arc<AtomicBool> = Arc::default();
    let people = busy(&doctor, &patient, &is_over);
    for number in [0, 1, 0] {
        socket.expect("message").await; // They are at it.
        kill_9(&test_env.stack, |env| env.api_pids[number]);
    }
    until(201, async || doctor.send(&doctor.message_to(&patient, "after")).await).await;
    is_over.store(true, Ordering::Relaxed);
    let mut kept = 1;
    for person in people {
        kept += person.await.unwrap();
    }
    is_whole(&test_env.stack, kept).await;
    test_env.stack.stop().unwrap();
}

#[tokio::test]
async fn audit_log_is_complete_when_postgresql_is_killed() {
    let test_env = test_env().await;
    let place = &test_env.place;
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let mut socket = patient.open(&doctor).await;
    let is_over: Arc<AtomicBool> = Arc::default();
    let people = busy(&doctor, &patient, &is_over);
    for _ in 0..2 {
        socket.expect("message").await;
        kill_9(&test_env.stack, |env| env.postgres_pid.unwrap());
        until(201, async || doctor.send(&doctor.message_to(&patient, "after")).await).await;
    }
    is_over.store(true, Ordering::Relaxed);
    let mut kept = 2;
    for person in people {
        kept += person.await.unwrap();
    }
    is_whole(&test_env.stack, kept).await;
    test_env.stack.stop().unwrap();
}

#[tokio::test]
async fn requests_fail_when_audit_write_fails() {
    let test_env = test_env().await;
    let place = &test_env.place;
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let sent = doctor.send_ok(&patient, "on record").await;
    let owner = AuditLog::open(&test_env.stack.env().database_url).await;
    owner.client.batch_execute("revoke insert on audit_log from chat_service").await.unwrap();
    // A right that is missing is a mistake of the installation, not a database that is away: trying again does not help.
    // Past the balancer, which gives such a service no more requests.
    let (doctor, patient) = (doctor.at_one_service(), patient.at_one_service());
    let _problem = patient.get(&format!("/chat/history?{}", patient.with(&doctor))).await.expect_problem(500);
    let _problem =
        patient.get(&format!("/chat/conversations?location_id={}", place.location)).await.expect_problem(500);
    let _problem = doctor.send(&doctor.message_to(&patient, "off the record")).await.expect_problem(500);
    let _problem = patient.mark("read", &[&sent["id"]]).await.expect_problem(500);
    owner.client.batch_execute("grant insert on audit_log to chat_service").await.unwrap();
    assert_eq!(patient.messages(&doctor).await, [sent]);
    is_whole(&test_env.stack, 1).await;
    test_env.stack.stop().unwrap();
}

#[tokio::test]
async fn empty_audit_chains_are_reused() {
    let test_env = test_env().await;
    let place = &test_env.place;
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let sent = doctor.send_ok(&patient, "on record").await;
    let owner = AuditLog::open(&test_env.stack.env().database_url).await;
    let count = async |what: &str| {
        let query = format!("select count(*) from audit_chains {what}");
        owner.client.query_one(&query, &[]).await.unwrap().get::<_, i64>(0)
    };
    // The chain that was opened for a failed request serves the next one.
    owner.client.batch_execute("revoke insert on audit_log from chat_service").await.unwrap();
    let before = count("").await;
    let (writer, reader) = (doctor.at_one_service(), patient.at_one_service());
    for _ in 0..15 {
        for refused in [
            reader.get(&format!("/chat/history?{}", patient.with(&doctor))).await,
            writer.send(&doctor.message_to(&patient, "off the record")).await,
            reader.mark("read", &[&sent["id"]]).await,
        ] {
            assert!(matches!(refused.status, 500 | 503), "{refused:?}");
        }
    }
    let after = count("").await;
    assert!(after <= before + 9, "{before} chains before, {after} after: one for each that writes at the same time");
    owner.client.batch_execute("grant insert on audit_log to chat_service").await.unwrap();
    is_whole(&test_env.stack, 1).await;

    // One that a process left without a row when it died, hours ago, serves another; one with a wrong seal serves none.
    for is_right in [true, false] {
        let opened_at = "date_trunc('milliseconds', now() - interval '3 hours')";
        let next = "select coalesce(max(id), 0) + 1 as id, (extract(epoch from $1::text::timestamptz) * 1000000)::bigint as micros
            from audit_chains";
        let at: String = owner.client.query_one(&format!("select ({opened_at})::text"), &[]).await.unwrap().get(0);
        let row = owner.client.query_one(next, &[&at]).await.unwrap();
        let (id, micros): (i64, i64) = (row.get("id"), row.get("micros"));
        let (key_id, mut seal) = empty_head(&test_env.stack.env().audit_key, id, micros);
        seal[0] ^= u8::from(!is_right);
        let insert =
            "insert into audit_chains (id, key_id, opened_at, n, seal) values ($1, $2, $3::text::timestamptz, 0, $4)";
        owner.client.execute(insert, &[&id, &key_id, &at, &seal]).await.unwrap();
        for number in 0..2 {
            kill_9(&test_env.stack, |env| env.api_pids[number]);
        }
        until(201, async || doctor.send(&doctor.message_to(&patient, "after")).await).await;
        let _ = patient.messages(&doctor).await;
        let rows = count(&format!("where id = {id} and n > 0")).await;
        assert_eq!(rows, i64::from(is_right), "chain {id}");
        if is_right {
            is_whole(&test_env.stack, 2).await;
        }
    }
    test_env.stack.stop().unwrap();
}

/// What a chain's key is called, and the seal of one without a row, by the description in `api-service/src/audit`.
fn empty_head(key: &str, chain: i64, opened_at: i64) -> (String, Vec<u8>) {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    let id =
        hmac::sign(&key, b"ehr-chat audit key id").as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let mut bytes = b"ehr-chat audit head v1".to_vec();
    for number in [chain, opened_at, 0] {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    bytes.extend_from_slice(&[0; 32]);
    (id, hmac::sign(&key, &bytes).as_ref().to_vec())
}

#[tokio::test]
async fn locked_audit_log_opens_no_chains() {
    let test_env = test_env().await;
    let place = &test_env.place;
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let owner = AuditLog::open(&test_env.stack.env().database_url).await;
    let chains = async || {
        let count = owner.client.query_one("select count(*) from audit_chains", &[]).await.unwrap();
        count.get::<_, i64>(0)
    };
    let mut sockets = Vec::new();
    for _ in 0..4 {
        sockets.push(patient.open(&doctor).await);
    }
    let before = chains().await;
    // It can be read, as a backup does, and takes no row.
    let holder = AuditLog::open(&test_env.stack.env().database_url).await.client;
    holder.batch_execute("begin; lock table audit_log in share mode").await.unwrap();
    for socket in sockets {
        socket.close().await;
    }
    // Attempts of both services, each of which waits for the lock and is undone; entries are divided and tried again.
    let waits = "select pid::text || ' ' || query_start::text from pg_stat_activity
        where wait_event_type = 'Lock' and query like '%into audit_log%'";
    let mut attempts = std::collections::BTreeSet::new();
    while attempts.len() < 8 {
        let rows = owner.client.query(waits, &[]).await.unwrap();
        attempts.extend(rows.iter().map(|row| row.get::<_, String>(0)));
    }
    let after = chains().await;
    holder.batch_execute("rollback").await.unwrap();
    assert!(after <= before + 2, "{before} chains before, {after} after: one for each service that writes");
    let closed = async || owner.rows_of_location(place).await.iter().filter(|act| act.action == "socket.close").count();
    until_true("all are written down", async || closed().await >= 4).await;
    is_whole(&test_env.stack, 0).await;
    test_env.stack.stop().unwrap();
}

#[tokio::test]
async fn socket_audit_waits_for_api_service() {
    let test_env = test_env().await;
    let place = &test_env.place;
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let socket = patient.open(&doctor).await;
    let owner = AuditLog::open(&test_env.stack.env().database_url).await;
    let chains = "select count(*) from audit_chains";
    let chains_before: i64 = owner.client.query_one(chains, &[]).await.unwrap().get(0);
    owner.client.batch_execute("revoke insert on audit_log from chat_service").await.unwrap();
    socket.close().await;
    // Both of them fail to write it down, and one of them dies with it in its hands.
    kill_9(&test_env.stack, |env| env.api_pids[0]);
    owner.client.batch_execute("grant insert on audit_log to chat_service").await.unwrap();
    let closed = owner.until(place, |act| act.action == "socket.close").await;
    assert_eq!((closed.actor.as_str(), closed.outcome), ("contact:pat", 1005));
    let acts = owner.rows_of_location(place).await;
    assert_eq!(acts.iter().filter(|act| act.action == "socket.close").count(), 1, "{acts:#?}");
    let chains: i64 = owner.client.query_one(chains, &[]).await.unwrap().get(0);
    assert!(chains - chains_before < 20, "{chains} chains, {chains_before} before: attempts open none");
    is_whole(&test_env.stack, 0).await;
    test_env.stack.stop().unwrap();
}

#[tokio::test]
async fn abandoned_chain_is_anchored_in_log() {
    let test_env = test_env().await;
    let (doctor, patient) = (test_env.place.user("doc").at_one_service(), test_env.place.contact("pat"));
    let sent = doctor.send_ok(&patient, "before").await;
    let of_send = "select chain, n from audit_log where action = 'send' and message_ids = array[$1::text::uuid]";
    let owner = AuditLog::open(&test_env.stack.env().database_url).await;
    let row = owner.client.query_one(of_send, &[&sent["id"].as_str().unwrap()]).await.unwrap();
    let (chain, n): (i64, i64) = (row.get(0), row.get(1));
    let anchor = format!("audit anchor chain={chain} n=");
    // Behind a restart no chain goes on.
    kill_9(&test_env.stack, |env| env.postgres_pid.unwrap());
    until(201, async || doctor.send(&doctor.message_to(&patient, "after")).await).await;
    let is_anchored = || {
        (1..=2).any(|number| {
            let log = std::fs::read_to_string(test_env.stack.logs_dir().join(format!("api-{number}.log"))).unwrap();
            let ends = log.lines().filter_map(|line| line.split_once(&anchor)?.1.split_once(' ')?.0.parse().ok());
            ends.max().is_some_and(|end: i64| end >= n)
        })
    };
    until_true("it is anchored", async || is_anchored()).await;
    test_env.stack.stop().unwrap();
}
