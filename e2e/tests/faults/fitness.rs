//! The database is there, and is not what the service needs; or the service says why it is not there.

use e2e::TestLocation;
use e2e::audit::{AuditLog, verify};
use serde_json::Value;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::service_process::{ServiceProcess, binary};
use crate::{test_env, until, until_true};

/// What the admin port says once it answers with this status.
async fn admin(api: &TestLocation, status: u16) -> Value {
    until(status, async || api.try_get("/readyz").await).await.json()
}

#[tokio::test]
async fn unfit_database_is_named_and_used_after_repair() {
    let test_env = test_env().await;
    let (doctor, patient) = (test_env.place.user("doc").at_one_service(), test_env.place.contact("pat"));
    let api = test_env.place.with_base_url(&test_env.stack.env().admin_urls[0]);
    let owner = AuditLog::open(&test_env.stack.env().database_url).await.client;
    let service = "chat_service";
    doctor.send_ok(&patient, "before").await;
    let newest = "(select max(version) from refinery_schema_history)";
    let log = test_env.stack.logs_dir().join("api-1.log");
    for (breaks, mends, named) in [
        (
            format!(
                "create table saved as select * from refinery_schema_history where version = {newest};
                 delete from refinery_schema_history where version = {newest}"
            ),
            "insert into refinery_schema_history select * from saved; drop table saved".to_owned(),
            "this service needs version",
        ),
        (
            "alter table messages rename column delivered_at to was_delivered_at".to_owned(),
            "alter table messages rename column was_delivered_at to delivered_at".to_owned(),
            "the table messages lacks the column delivered_at",
        ),
        (
            "alter table data_keys rename to was_data_keys".to_owned(),
            "alter table was_data_keys rename to data_keys".to_owned(),
            "the table data_keys is missing",
        ),
        (
            format!("revoke insert on audit_log from {service}"),
            format!("grant insert on audit_log to {service}"),
            "may not insert on the table audit_log",
        ),
        (
            "alter system set fsync = off; select pg_reload_conf()".to_owned(),
            "alter system reset fsync; select pg_reload_conf()".to_owned(),
            "fsync is off",
        ),
    ] {
        admin(&api, 200).await;
        for statement in breaks.split(';') {
            owner.batch_execute(statement).await.unwrap();
        }
        let said = admin(&api, 503).await;
        assert!(said["detail"].as_str().unwrap().contains(named), "{said}");
        assert_eq!(said["dependencies"]["postgresql"], "up");
        let public = test_env.place.with_base_url(&test_env.stack.env().api_urls[0]).get("/readyz").await;
        public.expect_code(503, "database_incompatible");
        assert!(!public.text.contains(named), "{public:?}");
        if named.contains("audit_log") {
            // A bug or an operator's mistake: no client mends it by retrying.
            assert_eq!(doctor.get(&format!("/chat/history?{}", doctor.with(&patient))).await.status, 500);
        }
        until_true("the log names it", async || std::fs::read_to_string(&log).unwrap().contains(named)).await;
        for statement in mends.split(';') {
            owner.batch_execute(statement).await.unwrap();
        }
    }
    admin(&api, 200).await;
    doctor.send_ok(&patient, "after").await;
    test_env.stack.stop().unwrap();
}

#[tokio::test]
async fn session_defaults_of_role_are_overridden() {
    let test_env = test_env().await;
    let (doctor, patient) = (test_env.place.user("doc").at_one_service(), test_env.place.contact("pat"));
    let api = test_env.place.with_base_url(&test_env.stack.env().admin_urls[0]);
    let owner = AuditLog::open(&test_env.stack.env().database_url).await.client;
    for setting in [
        "synchronous_commit = off",
        "default_transaction_read_only = on",
        "default_transaction_isolation = serializable",
        "search_path = nowhere",
        "statement_timeout = 1",
        "lock_timeout = 1",
        "row_security = on",
        "enable_indexscan = off",
    ] {
        owner.batch_execute(&format!("alter role chat_service set {setting}")).await.unwrap();
    }
    let others = "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'chat_service'";
    owner.query(others, &[]).await.unwrap();
    until(201, async || doctor.send(&doctor.message_to(&patient, "on disk")).await).await;
    admin(&api, 200).await;
    let env = test_env.stack.env();
    let (is_right, said) = verify(&env, &env.database_url, &[]).await;
    assert!(is_right, "{said}");
    test_env.stack.stop().unwrap();
}

#[tokio::test]
async fn log_says_why_database_is_unreachable() {
    let test_env = test_env().await;
    let env = test_env.stack.env();
    let (user, rest) = env.service_database_url.split_once("@").unwrap();
    let (user, _) = user.rsplit_once(':').unwrap();
    for (url, cause) in [
        (format!("{user}:wrong@{rest}"), "password authentication failed"),
        ("postgres://u:p@127.0.0.1:1/chat".to_owned(), "refused"),
        (format!("{}?sslmode=require", env.service_database_url), "TLS"),
    ] {
        let alone = ServiceProcess::start("api-service", &env, &[("DATABASE_URL", &url)]);
        let api = test_env.place.with_base_url(&alone.admin_url);
        // Before the first look there is no cause.
        let started = Instant::now();
        loop {
            let said = admin(&api, 503).await;
            if said["detail"].as_str().is_some_and(|detail| detail.contains(cause)) {
                break;
            }
            assert!(started.elapsed() < e2e::WAIT_TIMEOUT, "{said}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let said = alone.said();
        let warnings = said.lines().filter(|line| line.contains("database unreachable")).count();
        assert!(warnings == 1 && said.contains(cause) && !said.contains("wrong@"), "{cause}: {said}");
    }
    test_env.stack.stop().unwrap();
}

/// Runs a command against a server that accepts connections and never says a word.
fn against_silence(arguments: &[&str]) {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://u:p@{}/chat", silent.local_addr().unwrap());
    let mut command = Command::new(binary("api-service"));
    command.args(arguments).env_clear().env("DATABASE_URL", url).env("AUDIT_KEY", "5d1c9e0fb2a84c7790d36b1f8e2a4c09");
    command.env("CONTENT_KEYS", "m1:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=");
    command.env("RELAY_KEYS", "r1:ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=");
    let started = Instant::now();
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
    assert!(said.contains("out of reach"), "{arguments:?}: {said}");
    assert!(started.elapsed() < Duration::from_secs(60), "{arguments:?}");
}

#[test]
fn commands_time_out_when_server_is_silent() {
    std::thread::scope(|scope| {
        for arguments in [
            &["migrate"][..],
            &["audit", "verify"],
            &["audit", "export"],
            &["keys", "rewrap"],
            &["keys", "encrypt"],
            &["revoke", "--jti", "x"],
        ] {
            scope.spawn(move || against_silence(arguments));
        }
    });
}

#[tokio::test]
async fn failed_migration_says_why() {
    let test_env = test_env().await;
    let env = test_env.stack.env();
    let owner = AuditLog::open(&env.database_url).await.client;
    owner.batch_execute("delete from refinery_schema_history where version >= 7").await.unwrap();
    let (user, rest) = env.database_url.split_once('@').unwrap();
    let (user, password) = user.rsplit_once(':').unwrap();
    let (server, _) = rest.split_once('/').unwrap();
    for (url, cause) in [
        ("postgres://u:hunter2@127.0.0.1:1/chat".to_owned(), "refused"),
        (format!("{user}:hunter2@{rest}"), "password authentication failed"),
        (format!("{user}:{password}@{server}/nowhere"), "database \"nowhere\" does not exist"),
        (format!("{}?sslmode=require", env.database_url), "TLS"),
        (env.service_database_url.clone(), "permission denied"),
        // The migration itself fails: what it would make is there.
        (env.database_url.clone(), "already exists"),
    ] {
        let migrated = e2e::audit::api_service(&env, &url, &["migrate"]).await;
        let said = String::from_utf8_lossy(&migrated.stderr);
        assert_eq!(migrated.status.code(), Some(1), "{cause}: {said}");
        assert!(said.contains(cause) && !said.contains("hunter2") && !said.contains(password), "{cause}: {said}");
    }
    test_env.stack.stop().unwrap();
}
