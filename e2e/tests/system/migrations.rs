//! A migration under load: no client waits for it, and it waits for readers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use e2e::WAIT_TIMEOUT;
use e2e::audit::api_service;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::timeout;
use tokio_postgres::{Client, NoTls};

use crate::stack;

/// Longest that a statement of a send may wait for a lock: some 100 ms are what the service bears.
const SENDER_LOCK_TIMEOUT: &str = "set lock_timeout = '100ms'";

pub(crate) async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// The same server, another database.
pub(crate) async fn another_database(name: &str) -> String {
    let env = stack().env();
    let owner = connect(&env.database_url).await;
    owner.batch_execute(&format!("drop database if exists {name}")).await.unwrap();
    owner.batch_execute(&format!("create database {name}")).await.unwrap();
    let (server, _) = env.database_url.rsplit_once('/').unwrap();
    format!("{server}/{name}")
}

/// What a send writes, in the schema of every version.
async fn send(client: &Client, number: u64) -> Result<(), tokio_postgres::Error> {
    let statement = format!(
        "begin;
         insert into conversations (id, location_id, user_id, contact_id, last_activity_at)
             values ('00000000-0000-0000-0000-000000000001', 'loc1', 'doc', 'pat', now()) on conflict do nothing;
         update conversations set last_seq = last_seq + 1 where id = '00000000-0000-0000-0000-000000000001';
         insert into messages (id, location_id, sender_user_id, receiver_contact_id, conversation_id, seq, content, sent_at)
             values (gen_random_uuid(), 'loc1', 'doc', 'pat', '00000000-0000-0000-0000-000000000001', {number}, 'text', now());
         insert into outbox (kind, message_ids) values ('message', array[gen_random_uuid()]);
         insert into audit_log (chain, n, at, outcome, actor, action, mac)
             values (1, {number}, now(), 201, 'user:doc', 'send', '');
         commit"
    );
    let sent = client.batch_execute(&statement).await;
    if sent.is_err() {
        client.batch_execute("rollback").await?;
    }
    sent
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn migrations_do_not_block_sends() {
    let url = another_database("migrated_under_load").await;
    let env = stack().env();
    let done = api_service(&env, &url, &["migrate", "--to", "5"]).await;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));

    // A dump reads all tables.
    let reader = connect(&url).await;
    reader.batch_execute("begin").await.unwrap();
    for table in ["conversations", "messages", "outbox", "revocations", "audit_chains", "audit_log", "data_keys"] {
        reader.batch_execute(&format!("lock table {table} in access share mode")).await.unwrap();
    }
    // A user sends.
    let (sent, refused, is_over) =
        (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
    let sending = tokio::spawn({
        let (sent, refused, is_over, sender) = (sent.clone(), refused.clone(), is_over.clone(), connect(&url).await);
        async move {
            sender.batch_execute(SENDER_LOCK_TIMEOUT).await.unwrap();
            let mut number = 0;
            while !is_over.load(Ordering::Relaxed) {
                number += 1;
                match send(&sender, number).await {
                    Ok(()) => sent.fetch_add(1, Ordering::Relaxed),
                    Err(_) => refused.fetch_add(1, Ordering::Relaxed),
                };
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    });

    let mut migrating = tokio::process::Command::new(e2e::audit::binary("api-service"))
        .arg("migrate")
        .env("DATABASE_URL", &url)
        .stderr(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(migrating.stderr.take().unwrap()).lines();
    let output = timeout(WAIT_TIMEOUT, lines.next_line()).await.expect("it says what it waits for").unwrap().unwrap();
    assert!(output.contains("waiting for a lock") && output.contains("audit_log"), "{output}");
    // It has tried, and tries again; sends go on.
    let before = sent.load(Ordering::Relaxed);
    let going_on = async {
        while sent.load(Ordering::Relaxed) < before + 100 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(WAIT_TIMEOUT, going_on).await.expect("sends go on while it waits");
    assert!(migrating.try_wait().unwrap().is_none(), "it still waits");

    reader.batch_execute("commit").await.unwrap();
    let done =
        timeout(WAIT_TIMEOUT, migrating.wait_with_output()).await.expect("it ends when there is no reader").unwrap();
    let printed = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success() && printed.contains("V9__"), "{printed}");
    is_over.store(true, Ordering::Relaxed);
    sending.await.unwrap();
    assert_eq!(refused.load(Ordering::Relaxed), 0, "of {} sends", sent.load(Ordering::Relaxed));

    // What takes long was done as well, and once more there is nothing to do.
    let open = "select count(*) from pg_constraint where conname like 'audit%' and not convalidated";
    assert_eq!(reader.query_one(open, &[]).await.unwrap().get::<_, i64>(0), 0);
    let again = api_service(&env, &url, &["migrate"]).await;
    assert!(String::from_utf8_lossy(&again.stdout).contains("the schema is up to date"), "{again:?}");
}

#[tokio::test]
async fn foreign_rows_do_not_stop_upgrade_and_are_reported() {
    let url = another_database("migrated_with_forgeries").await;
    let env = stack().env();
    assert!(api_service(&env, &url, &["migrate", "--to", "5"]).await.status.success());
    let owner = connect(&url).await;
    let forged = "insert into audit_log (chain, n, at, outcome, actor, action, mac) values (0, 1, now(), 200, 'user:x', 'send', '')";
    owner.batch_execute(forged).await.unwrap();
    let done = api_service(&env, &url, &["migrate"]).await;
    let output = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success() && output.contains("audit_log holds rows that no service has written"), "{output}");
    let refused = owner.batch_execute(&forged.replace("0, 1", "0, 2")).await.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "23514", "from now on none can be added");
}

#[tokio::test]
async fn old_revocations_get_expiry() {
    let url = another_database("migrated_with_revocations").await;
    let env = stack().env();
    assert!(api_service(&env, &url, &["migrate", "--to", "5"]).await.status.success());
    let owner = connect(&url).await;
    let old = "insert into revocations (jti, sub, issued_before, created_at) values
        ('old', null, null, '2024-01-01'), (null, 'doc', 1704067200, '2024-01-01')";
    owner.batch_execute(old).await.unwrap();
    assert!(api_service(&env, &url, &["migrate", "--to", "10"]).await.status.success());
    // As a service of the version before writes it, which knows no end.
    let endless = "insert into revocations (jti, expires_at) values ('endless', 'infinity'), ('late', '9999-06-01')";
    owner.batch_execute(endless).await.unwrap();
    let done = api_service(&env, &url, &["migrate"]).await;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let ends =
        "select coalesce(jti, sub), case when expires_at < '2026-01-01' then 'after 400 days' when isfinite(expires_at)
        then 'late' else 'never' end from revocations order by 1";
    let rows = owner.query(ends, &[]).await.unwrap();
    let ends: Vec<(String, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let expected = [("doc", "after 400 days"), ("endless", "never"), ("late", "late"), ("old", "after 400 days")];
    assert_eq!(ends, expected.map(|(whom, end)| (whom.to_owned(), end.to_owned())));
}

#[tokio::test]
async fn migration_cancels_autovacuum() {
    let url = another_database("migrated_beside_autovacuum").await;
    let env = stack().env();
    assert!(api_service(&env, &url, &["migrate", "--to", "5"]).await.status.success());
    let owner = connect(&url).await;
    // It comes soon, and takes many times as long as any client waits here.
    owner.batch_execute("alter system set autovacuum_naptime = '1s'").await.unwrap();
    owner.batch_execute("select pg_reload_conf()").await.unwrap();
    let slow = "alter table audit_log set (autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1)";
    owner.batch_execute(slow).await.unwrap();
    let many = "insert into audit_log (chain, n, at, outcome, actor, action, mac)
                select 1, n, now(), 201, 'user:doc', 'send', '' from generate_series(1, 60000) n";
    owner.batch_execute(many).await.unwrap();
    let vacuums = async || {
        let query = "select count(*) from pg_locks l join pg_stat_activity a using (pid)
                     where l.relation = 'audit_log'::regclass and l.mode = 'ShareUpdateExclusiveLock'
                           and a.backend_type = 'autovacuum worker'";
        owner.query_one(query, &[]).await.unwrap().get::<_, i64>(0)
    };
    let begun = async {
        while vacuums().await == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(WAIT_TIMEOUT * 2, begun).await.expect("an autovacuum comes");
    let done = timeout(WAIT_TIMEOUT, api_service(&env, &url, &["migrate"])).await.expect("it waits for no autovacuum");
    let output = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success() && output.contains("(autovacuum) holds audit_log"), "{output}");
    owner.batch_execute("alter system reset autovacuum_naptime").await.unwrap();
    owner.batch_execute("select pg_reload_conf()").await.unwrap();
}
