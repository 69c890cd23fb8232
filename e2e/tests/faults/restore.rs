//! A database is restored from a backup by the steps of `docs/operate/backup.md`.

use e2e::audit::AuditLog;
use e2e::{WAIT_TIMEOUT, token};
use serde_json::json;
use stack::Signal;
use tokio::time::timeout;

use crate::revocations::{doctors, said, until_handshake, until_learnt_everywhere, until_refused_everywhere};
use crate::{TestEnv, test_env};

/// The steps of `docs/operate/backup.md`, "Restore", as they stand there.
const RESTORE: [&str; 5] = [
    "psql --single-transaction --set=ON_ERROR_STOP=1 --dbname=\"$DATABASE_URL\" --file=backup.sql",
    "api-service migrate",
    "api-service revoke --all-issued-before now",
    "redis-cli -u \"$REDIS_URL\" FLUSHALL",
    "pg_dump --clean --if-exists --dbname=\"$DATABASE_URL\" --file=backup.sql",
];

/// Runs one of them as a shell does.
async fn step(test_env: &TestEnv, folder: &std::path::Path, line: &str) {
    let env = test_env.stack.env();
    let own = std::env::current_exe().unwrap();
    let target = own.parent().and_then(|deps| deps.parent()).unwrap();
    let path = format!("{}:{}", target.display(), std::env::var("PATH").unwrap());
    let mut shell = tokio::process::Command::new("sh");
    shell.args(["-euc", line]).current_dir(folder).env("PATH", path).kill_on_drop(true);
    shell.env("DATABASE_URL", &env.database_url).env("REDIS_URL", &env.redis_url);
    shell.env("DATABASE_SERVICE_ROLE", "chat_service").env("AUDIT_KEY", &env.audit_key);
    let output = shell.output();
    said(&timeout(WAIT_TIMEOUT, output).await.expect("it ends").unwrap());
}

#[tokio::test]
async fn restore_does_not_revive_revoked_token() {
    let document = include_str!("../../../docs/operate/backup.md");
    for line in RESTORE {
        assert!(document.contains(line), "the procedure is another one: {line}");
    }
    let [restore, migrate, revoke_all, flush, back_up] = RESTORE;
    let test_env = test_env().await;
    let (place, stack) = (&test_env.place, &test_env.stack);
    let folder = stack.data_dir().to_owned();
    step(&test_env, &folder, back_up).await;
    let (gone, of_before) = doctors(&test_env).await;
    until_refused_everywhere(&test_env, &gone).await;

    // Stop the API services, and their supervisor.
    let env = stack.env();
    stack.kill(stack.pid(), Signal::SIGSTOP).unwrap();
    for pid in &env.api_pids {
        stack.kill(*pid, Signal::SIGKILL).unwrap();
    }
    for line in [restore, migrate, revoke_all, flush] {
        step(&test_env, &folder, line).await;
    }
    let owner = AuditLog::open(&env.database_url).await.client;
    let of_one: i64 =
        owner.query_one("select count(*) from revocations where jti is not null", &[]).await.unwrap().get(0);
    assert_eq!(of_one, 0, "the database has forgotten it");
    // A gateway that starts now knows of no revocation.
    stack.kill(env.gateway_pids[0], Signal::SIGKILL).unwrap();
    stack.kill(stack.pid(), Signal::SIGCONT).unwrap();
    until_refused_everywhere(&test_env, &gone).await;
    // It is unknown which of the tokens from before are good. The gateway that was not stopped learns it from the API services.
    until_learnt_everywhere(&test_env, &of_before).await;
    let newer = token::with(token::claims("doc", "user", &[&place.location]), "iat", json!(token::now() + 20));
    let newer = place.user("doc").with_token(place.sign(&newer));
    until_handshake(place, || stack.env().gateway_ws_urls[0].clone(), &newer, 101, &[503]).await;
    let (is_right, said) = e2e::audit::verify(&stack.env(), &env.service_database_url, &[]).await;
    assert!(is_right, "{said}");
    test_env.stack.stop().unwrap();
}
