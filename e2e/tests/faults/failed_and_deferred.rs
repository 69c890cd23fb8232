//! Rows, keys and entries that are not what they should be: each fails or is deferred alone, and nothing else waits for it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use e2e::audit::{AuditLog, api_service};
use e2e::{Socket, TestLocation, TestUser, WAIT_TIMEOUT};
use serde_json::Value;
use stack::StackEnv;
use tokio::process::Command;
use tokio::time::{interval, timeout};

use crate::{kill_9, test_env, until_true};

/// What Redis answers.
pub(crate) async fn redis(env: &StackEnv, words: &[&[u8]]) -> String {
    let mut cli = Command::new("redis-cli");
    cli.args(["--no-auth-warning", "-u", &env.redis_url]).args(words.iter().map(|word| OsStr::from_bytes(word)));
    let output = timeout(WAIT_TIMEOUT, cli.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

async fn count(owner: &AuditLog, of: &str) -> i64 {
    owner.client.query_one(&format!("select count(*) from outbox where {of}"), &[]).await.unwrap().get(0)
}

/// A conversation in another location, and a socket on it.
async fn neighbours(place: &TestLocation) -> (TestUser, TestUser, Socket) {
    let elsewhere = place.other_location();
    let (doctor, patient) = (elsewhere.user("doc"), elsewhere.contact("pat"));
    let socket = patient.open(&doctor).await;
    (doctor, patient, socket)
}

async fn is_live(doctor: &TestUser, patient: &TestUser, socket: &mut Socket) {
    let sent = doctor.send_ok(patient, "live").await;
    while socket.expect("message").await["message"]["id"] != sent["id"] {}
}

#[tokio::test]
async fn broken_outbox_rows_fail_alone_and_can_be_retried() {
    let test_env = test_env().await;
    let env = test_env.stack.env();
    let (doctor, patient) = (test_env.place.user("doc"), test_env.place.contact("pat"));
    let (healthy_doctor, healthy_patient, mut socket) = neighbours(&test_env.place).await;
    let mut sent = Vec::new();
    for _ in 0..3 {
        sent.push(doctor.send_ok(&patient, "hello").await["id"].as_str().unwrap().to_owned());
    }
    let [good, deleted, timeless]: [String; 3] = sent.try_into().unwrap();
    let owner = AuditLog::open(&env.database_url).await;
    until_true("what was sent is settled", async || count(&owner, "true").await == 0).await;
    let conversation = "11111111-1111-4111-8111-111111111111";
    // As a database that was damaged, or tampered with: past its own rules.
    let poison = format!(
        "alter table outbox drop constraint outbox_kind_check, drop constraint outbox_check;
         alter domain ehr_id drop constraint ehr_id_check;
         delete from messages where id = '{deleted}';
         update messages set sent_at = 'infinity' where id = '{timeless}';
         insert into outbox (kind, message_ids, location_id, conversation_id, at) values
             ('message', '{{{deleted}}}', null, null, null),
             ('message', '{{{timeless}}}', null, null, null),
             ('message', '{{}}', null, null, null),
             ('message', '{{{good},{deleted}}}', null, null, null),
             ('forwarded', '{{{good}}}', null, null, null),
             ('read', '{{{good}}}', 'no location', '{conversation}', now()),
             ('read', '{{{good}}}', 'loc1', null, now()),
             ('delivered', '{{{good}}}', 'loc1', '{conversation}', null),
             ('delivered', '{{{good}}}', 'loc1', '{conversation}', 'infinity');"
    );
    owner.client.batch_execute(&poison).await.unwrap();
    until_true("all but the good one have failed", async || count(&owner, "failed_at is not null").await == 9).await;
    until_true("nothing waits", async || count(&owner, "failed_at is null").await == 0).await;
    is_live(&healthy_doctor, &healthy_patient, &mut socket).await;

    // A Redis that comes back has the whole outbox published, and that ends.
    kill_9(&test_env.stack, |env| env.redis_pid.unwrap());
    socket.expect("recovered").await;
    is_live(&healthy_doctor, &healthy_patient, &mut socket).await;

    let listed = api_service(&env, &env.service_database_url, &["outbox", "list"]).await;
    let listed = String::from_utf8(listed.stdout).unwrap();
    for reason in ["message_missing", "malformed_message", "malformed_row"] {
        assert!(listed.contains(reason), "{listed}");
    }
    assert!(listed.lines().count() == 9 && listed.contains(&deleted) && !listed.contains("hello"), "{listed}");

    // Once their cause is mended they are published; the others fail again.
    let mend = format!("update messages set sent_at = now() where id = '{timeless}'");
    owner.client.batch_execute(&mend).await.unwrap();
    let retried = api_service(&env, &env.service_database_url, &["outbox", "retry", "--all"]).await;
    assert!(String::from_utf8_lossy(&retried.stdout).starts_with("requeued 9 rows"), "{retried:?}");
    until_true("eight remain", async || {
        count(&owner, "failed_at is not null").await == 8 && count(&owner, "failed_at is null").await == 0
    })
    .await;
    let acts =
        "select count(*) from audit_log where action in ('outbox.list', 'outbox.retry') and actor like 'operator:%'";
    let acts: i64 = owner.client.query_one(acts, &[]).await.unwrap().get(0);
    assert_eq!(acts, 2);
    test_env.stack.stop().unwrap();
}

#[tokio::test]
async fn conversation_recovers_when_event_log_has_wrong_type() {
    let test_env = test_env().await;
    let (env, place) = (test_env.stack.env(), &test_env.place);
    let (doctor, patient, other) = (place.user("doc"), place.contact("pat"), place.contact("other"));
    let (mut bad, mut good) = (patient.open(&doctor).await, other.open(&doctor).await);
    let before = doctor.send_ok(&patient, "before").await;
    assert_eq!(bad.expect("message").await["message"], before);
    bad.expect("delivered").await; // Nothing else is on its way.
    let conversation = before["conversation_id"].as_str().unwrap();
    let log = format!("chat:{{{}:{conversation}}}:log", place.location);
    redis(&env, &[b"DEL", log.as_bytes()]).await;
    redis(&env, &[b"SET", log.as_bytes(), b"no log"]).await;
    let mut sent = Vec::new();
    for number in 0..5 {
        sent.push(doctor.send_ok(&patient, &format!("bad {number}")).await["id"].clone());
        let live = doctor.send_ok(&other, &format!("good {number}")).await;
        assert_eq!(good.expect("message").await["message"], live, "in order");
    }
    // It gets `resync`, or all of it.
    let mut received: Vec<Value> = Vec::new();
    while !sent.iter().all(|id| received.contains(id)) {
        let frame = bad.next().await;
        if frame["type"] == "resync" {
            break;
        }
        received.push(frame["message"]["id"].clone());
    }
    let owner = AuditLog::open(&env.database_url).await;
    until_true("nothing waits", async || count(&owner, "published_at is null").await == 0).await;
    // A message that is in the log while it is read again is covered by a `resync`.
    loop {
        let live = doctor.send_ok(&patient, "live").await;
        let mut frame = bad.next().await;
        while frame["type"] != "resync" && frame["message"]["id"] != live["id"] {
            frame = bad.next().await;
        }
        if frame["type"] == "message" {
            break;
        }
    }

    let logged = || -> Option<String> {
        let read =
            |number| std::fs::read_to_string(test_env.stack.logs_dir().join(format!("api-{number}.log"))).unwrap();
        let logs: String = (1..=2).map(read).collect();
        logs.lines()
            .find(|line| line.contains("conversation deferred") && line.contains(conversation))
            .map(str::to_owned)
    };
    until_true("the log names it", async || logged().is_some()).await;
    let line = logged().unwrap();
    assert!(line.contains(&place.location) && !line.contains("bad 0"), "{line}");
    test_env.stack.stop().unwrap();
}

#[tokio::test]
async fn foreign_stream_keys_and_entries_stop_nothing() {
    let test_env = test_env().await;
    let (env, place) = (test_env.stack.env(), &test_env.place);
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let (mut at_doctor, mut at_patient) = (doctor.open(&patient).await, patient.open(&doctor).await);
    let is_delivered = async |at_doctor: &mut Socket, at_patient: &mut Socket| {
        let sent = doctor.send_ok(&patient, "ticks").await;
        while at_patient.expect("message").await["message"]["id"] != sent["id"] {}
        while !at_doctor.expect("delivered").await["message_ids"].as_array().unwrap().contains(&sent["id"]) {}
    };
    is_delivered(&mut at_doctor, &mut at_patient).await;
    for stream in ["receipts", "audit", "conversation_checks"] {
        for entry in [&[b"r".as_slice(), b"\xff\xfe"], &[b"r", b"{}"], &[b"\xff", b"x"]] {
            redis(&env, &[&[b"XADD", stream.as_bytes(), b"*"], entry.as_slice()].concat()).await;
        }
    }
    is_delivered(&mut at_doctor, &mut at_patient).await;
    let owner = AuditLog::open(&env.database_url).await;
    let socket = patient.open(&doctor).await;
    socket.close().await;
    let _closed = owner.until(place, |act| act.action == "socket.close").await;

    for stream in ["receipts", "audit", "conversation_checks"] {
        redis(&env, &[b"DEL", stream.as_bytes()]).await;
        redis(&env, &[b"SET", stream.as_bytes(), b"no stream"]).await;
    }
    is_delivered(&mut at_doctor, &mut at_patient).await;
    let others = place.other_location();
    let socket = others.contact("pat").open(&others.user("doc")).await;
    socket.close().await;
    let _closed = owner.until(&others, |act| act.action == "socket.close").await;
    assert_eq!(redis(&env, &[b"TYPE", b"conversation_checks"]).await, "stream");
    redis(&env, &[b"DEL", b"revoked"]).await;
    redis(&env, &[b"SET", b"revoked", b"no revocations"]).await;
    until_true("gateways can read what is revoked", async || redis(&env, &[b"TYPE", b"revoked"]).await == "zset").await;
    test_env.stack.stop().unwrap();
}

/// The consumers of a stream's group. One is made when it is first given something.
async fn consumers(env: &StackEnv) -> Vec<String> {
    let printed = redis(env, &[b"XINFO", b"CONSUMERS", b"audit", b"api"]).await;
    let lines: Vec<&str> = printed.lines().collect();
    lines.windows(2).filter(|pair| pair[0] == "name").map(|pair| pair[1].to_owned()).collect()
}

#[tokio::test]
async fn consumers_of_killed_services_are_removed() {
    let test_env = test_env().await;
    let (env, place) = (test_env.stack.env(), &test_env.place);
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    until_true("both services were given something", async || {
        patient.open(&doctor).await.close().await;
        consumers(&env).await.len() == 2
    })
    .await;
    let before = consumers(&env).await;
    kill_9(&test_env.stack, |env| env.api_pids[0]);
    let leaving = async {
        let mut beat = interval(Duration::from_millis(500));
        while consumers(&env).await.iter().filter(|name| before.contains(name)).count() != 1 {
            patient.open(&doctor).await.close().await;
            beat.tick().await;
        }
    };
    timeout(WAIT_TIMEOUT * 4, leaving).await.unwrap(); // It is removed, and the other one stays.
    test_env.stack.stop().unwrap();
}

#[tokio::test]
async fn sockets_get_degraded_and_recovered_when_redis_is_full() {
    let test_env = test_env().await;
    let (env, place) = (test_env.stack.env(), &test_env.place);
    // By one service: another one would wait a second for what this one cannot publish, and no longer.
    let (doctor, patient) = (place.user("doc").at_one_service(), place.contact("pat"));
    let mut socket = patient.open(&doctor).await;
    let before = doctor.send_ok(&patient, "before").await;
    assert_eq!(socket.expect("message").await["message"], before);
    redis(&env, &[b"CONFIG", b"SET", b"maxmemory", b"1"]).await;
    let mut sent = Vec::new();
    for number in 0..5 {
        sent.push(doctor.send_ok(&patient, &format!("while it is full {number}")).await["id"].clone());
    }
    socket.expect("degraded").await;
    redis(&env, &[b"CONFIG", b"SET", b"maxmemory", b"0"]).await;
    for id in &sent {
        assert_eq!(socket.expect("message").await["message"]["id"], *id, "in order");
    }
    socket.expect("recovered").await;
    is_live(&doctor, &patient, &mut socket).await;
    test_env.stack.stop().unwrap();
}

#[tokio::test]
async fn long_backlog_is_resumed_in_batches() {
    let test_env = test_env().await;
    let (env, place) = (test_env.stack.env(), &test_env.place);
    let (doctor, patient) = (place.user("doc").at_one_service(), place.contact("pat"));
    let mut socket = patient.open(&doctor).await;
    let before = doctor.send_ok(&patient, "before").await;
    assert_eq!(socket.expect("message").await["message"], before);
    redis(&env, &[b"CONFIG", b"SET", b"maxmemory", b"1"]).await;
    let sent = doctor.send_ok(&patient, "while it is full").await;
    socket.expect("degraded").await;
    // As many as no statement gets through in its time, on a smaller scale. Their messages are gone, so they cost Redis nothing.
    let owner = AuditLog::open(&env.database_url).await;
    let backlog = "create function at_most_a_batch() returns trigger language plpgsql as $$
        begin
            if (select count(*) from changed) > 5000 then raise exception 'too many rows for one statement'; end if;
            return null;
        end $$;
        create trigger at_most_a_batch after update on outbox referencing new table as changed
            for each statement execute function at_most_a_batch();
        insert into outbox (kind, message_ids, deferred_at)
            select 'message', array[gen_random_uuid()], clock_timestamp() from generate_series(1, 12000)";
    owner.client.batch_execute(backlog).await.unwrap();
    redis(&env, &[b"CONFIG", b"SET", b"maxmemory", b"0"]).await;
    assert_eq!(socket.expect("message").await["message"]["id"], sent["id"]);
    until_true("nothing waits any more", async || count(&owner, "deferred_at is not null").await == 0).await;
    is_live(&doctor, &patient, &mut socket).await;
    test_env.stack.stop().unwrap();
}

#[tokio::test]
async fn send_repairs_conversation_time_out_of_range() {
    let test_env = test_env().await;
    let env = test_env.stack.env();
    let (doctor, patient) = (test_env.place.user("doc"), test_env.place.contact("pat"));
    let (healthy_doctor, healthy_patient, mut socket) = neighbours(&test_env.place).await;
    let sent = doctor.send_ok(&patient, "hello").await;
    let id = sent["id"].as_str().unwrap();
    let owner = AuditLog::open(&env.database_url).await;
    until_true("what was sent is settled", async || count(&owner, "true").await == 0).await;
    let theirs = format!("id = (select conversation_id from messages where id = '{id}')");
    let spoil = format!(
        "update conversations set last_activity_at = 'infinity' where {theirs};
         insert into outbox (kind, message_ids, created_at) values ('message', '{{{id}}}', now() - interval '1 minute')"
    );
    owner.client.batch_execute(&spoil).await.unwrap();
    until_true("its row is published", async || count(&owner, "true").await == 0).await;
    is_live(&healthy_doctor, &healthy_patient, &mut socket).await;
    // Its time is read behind the commit, where an error would say that nothing was written.
    let again = doctor.send_ok(&patient, "again").await;
    assert_eq!(patient.messages(&doctor).await.len(), 2, "{again}");
    let is_mended = format!("select isfinite(last_activity_at) from conversations where {theirs}");
    assert!(owner.client.query_one(&is_mended, &[]).await.unwrap().get::<_, bool>(0));
    test_env.stack.stop().unwrap();
}

#[tokio::test]
async fn outbox_reads_do_not_grow_with_backlog() {
    let test_env = test_env().await;
    let (env, place) = (test_env.stack.env(), &test_env.place);
    let sent = place.user("doc").send_ok(&place.contact("pat"), "hello").await["id"].as_str().unwrap().to_owned();
    let owner = AuditLog::open(&env.database_url).await;
    until_true("what was sent is settled", async || count(&owner, "true").await == 0).await;
    let away = crate::kill_without_restart(&test_env.stack, env.redis_pid.unwrap());
    let backlog = format!(
        "insert into outbox (kind, message_ids, created_at)
             select 'message', array['{sent}']::uuid[], now() - interval '1 minute' from generate_series(1, 300000);
         analyze outbox"
    );
    owner.client.batch_execute(&backlog).await.unwrap();
    // Scans of all indexes of the table, rows that these gave, and rows that were read without an index.
    let reads = async || {
        let query = "select sum(i.idx_scan)::bigint, sum(i.idx_tup_read)::bigint, max(t.seq_tup_read)::bigint
            from pg_stat_user_indexes i join pg_stat_user_tables t using (relid) where t.relname = 'outbox'";
        let row = owner.client.query_one(query, &[]).await.unwrap();
        [0, 1, 2].map(|column| row.get::<_, i64>(column))
    };
    let before = reads().await;
    until_true("the services have looked many times", async || reads().await[0] >= before[0] + 100).await;
    let after = reads().await;
    let (scans, rows) = (after[0] - before[0], after[1] - before[1]);
    // A scan also meets entries of rows that have just left the index, until they are vacuumed. A pass over the backlog with
    // each look would be 300,000 rows a look.
    assert!(rows <= scans * 30_000, "{rows} rows in {scans} looks");
    assert_eq!(after[2], before[2], "no look reads the whole table");
    drop(away);
    test_env.stack.stop().unwrap();
}

#[tokio::test]
async fn newer_row_waits_behind_deferred_row_of_its_conversation() {
    let test_env = test_env().await;
    let env = test_env.stack.env();
    let (doctor, patient) = (test_env.place.user("doc"), test_env.place.contact("pat"));
    let _listener = patient.open(&doctor).await; // Without one, Redis would keep no log.
    let mut sent = Vec::new();
    for text in ["older", "newer"] {
        sent.push(doctor.send_ok(&patient, text).await);
    }
    let [older, newer] = [&sent[0]["id"], &sent[1]["id"]].map(|id| id.as_str().unwrap());
    let conversation = sent[0]["conversation_id"].as_str().unwrap();
    let owner = AuditLog::open(&env.database_url).await;
    until_true("what was sent is settled", async || count(&owner, "true").await == 0).await;
    // Redis has lost both. The older one is deferred, behind more deferred rows than one look resumes.
    let log = format!("chat:{{{}:{conversation}}}:log", test_env.place.location);
    redis(&env, &[b"DEL", log.as_bytes()]).await;
    let rows = format!(
        "insert into outbox (kind, message_ids, deferred_at)
             select 'message', array[gen_random_uuid()], clock_timestamp() from generate_series(1, 1500);
         insert into outbox (kind, message_ids, created_at, deferred_at, deferred_conversations)
             values ('message', '{{{older}}}', now() - interval '1 minute', now(), '{{{conversation}}}');
         insert into outbox (kind, message_ids, created_at) values ('message', '{{{newer}}}', now() - interval '1 minute')"
    );
    owner.client.batch_execute(&rows).await.unwrap();
    until_true("both are published", async || count(&owner, "published_at is null and failed_at is null").await == 0)
        .await;
    let entries = redis(&env, &[b"XRANGE", log.as_bytes(), b"-", b"+"]).await;
    let place = |id: &str| entries.find(id).unwrap_or_else(|| panic!("{id} is missing in {entries}"));
    assert!(place(older) < place(newer), "{entries}");
    test_env.stack.stop().unwrap();
}
