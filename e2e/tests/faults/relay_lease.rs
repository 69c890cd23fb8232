//! Two API services and the lease of the outbox relay: one of them freezes with the lease in hand.

use e2e::audit::AuditLog;
use e2e::chaos::FaultProxy;
use stack::Signal;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::failed_and_deferred::redis;
use crate::service_process::ServiceProcess;
use crate::{kill_without_restart, test_env, until_true};

/// A transaction that takes the lease, and rows with it, waits in its commit for as long as the test holds the lock.
const HOLD_COMMIT: &str = "create function hold_commit() returns trigger language plpgsql as $$
    begin
        if (select holder is not null from outbox_relay) then perform pg_advisory_xact_lock_shared(1); end if;
        return null;
    end $$;
    create constraint trigger hold_commit after update on outbox_relay deferrable initially deferred
        for each row execute function hold_commit()";

async fn is(owner: &Client, condition: &str) -> bool {
    owner.query_one(&format!("select {condition}"), &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn woken_relay_publishes_nothing_after_its_lease() {
    let test_env = test_env().await;
    let (stack, place, env) = (&test_env.stack, &test_env.place, test_env.stack.env());
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let mut socket = patient.open(&doctor).await;
    let owner = AuditLog::open(&env.database_url).await.client;

    // Messages that only a relay publishes: their own service does not reach Redis, and dies.
    let link = FaultProxy::to(&env.redis_url).await.unwrap();
    let redis_url = link.through(&env.redis_url).unwrap();
    let writer = ServiceProcess::start("api-service", &env, &[("REDIS_URL", &redis_url)]);
    writer.until_ready(place).await;
    let away = kill_without_restart(stack, env.api_pids[1]);
    owner.batch_execute("select pg_advisory_lock(1)").await.unwrap();
    owner.batch_execute(HOLD_COMMIT).await.unwrap();
    link.silence();
    let by_writer = doctor.at(&writer.public_url, &place.ws_url);
    let mut sent = Vec::new();
    for number in 0..5 {
        sent.push(by_writer.send_ok(&patient, &number.to_string()).await);
    }
    drop(writer);

    // The first service freezes while it commits: it has the lease, and does not know that yet.
    let frozen = env.api_pids[0];
    let waits = "exists (select from pg_stat_activity where wait_event = 'advisory')";
    until_true("it takes the lease", async || is(&owner, waits).await).await;
    stack.kill(frozen, Signal::SIGSTOP).unwrap();
    owner.batch_execute("select pg_advisory_unlock(1)").await.unwrap();
    until_true("it has the lease", async || is(&owner, "holder is not null from outbox_relay").await).await;
    owner.batch_execute("drop trigger hold_commit on outbox_relay").await.unwrap();
    let ends_at: f64 =
        owner.query_one("select extract(epoch from ends_at)::float8 from outbox_relay", &[]).await.unwrap().get(0);
    drop(away);
    for message in &sent {
        assert_eq!(socket.expect("message").await["message"], *message, "in order, and each once");
        assert!(is(&owner, &format!("extract(epoch from clock_timestamp()) >= {ends_at}")).await, "within the lease");
    }

    // Rows that a service has published and not confirmed when it dies are published again, and rightly so.
    let ids: Vec<Uuid> = sent.iter().map(|message| message["id"].as_str().unwrap().parse().unwrap()).collect();
    until_true("the second service has confirmed its rows", async || {
        let left =
            owner.query_one("select exists (select from outbox where message_ids && $1)", &[&ids]).await.unwrap();
        !left.get::<_, bool>(0)
    })
    .await;

    // The event log would hide a message that is published again. Without it and the second service, the first one is alone.
    let env = stack.wait_until(e2e::WAIT_TIMEOUT, |now| now.api_pids[1] != env.api_pids[1]).unwrap();
    let _away = kill_without_restart(stack, env.api_pids[1]);
    let conversation = sent[0]["conversation_id"].as_str().unwrap();
    let log = format!("chat:{{{}:{conversation}}}:log", place.location);
    assert_eq!(redis(&env, &[b"DEL", log.as_bytes()]).await, "1");
    // It comes to this row after its old rows, and sets it aside: the message of the row does not exist.
    let row: i64 = owner
        .query_one(
            "insert into outbox (kind, message_ids, created_at)
             values ('message', array[$1]::uuid[], now() - interval '1 minute') returning id",
            &[&Uuid::now_v7()],
        )
        .await
        .unwrap()
        .get(0);
    stack.kill(frozen, Signal::SIGCONT).unwrap();
    let has_failed = format!("exists (select from outbox where id = {row} and failed_at is not null)");
    until_true("the woken one relays again", async || is(&owner, &has_failed).await).await;
    // A gateway may have opened the log again, for its socket: what counts are the messages in it.
    let entries = redis(&env, &[b"XRANGE", log.as_bytes(), b"-", b"+"]).await;
    for message in &sent {
        assert!(!entries.contains(message["id"].as_str().unwrap()), "an old row was published again: {entries}");
    }
    let frames = socket.everything().await;
    assert!(frames.iter().all(|frame| frame["type"] != "message"), "{frames:?}");
}
