//! A revoked token stays revoked when servers die, freeze, or come back empty.

use std::collections::BTreeSet;
use std::process::Output;

use e2e::audit::{AuditLog, api_service};
use e2e::{HttpResponse, TestLocation, TestUser, WAIT_TIMEOUT, token};
use reqwest::Method;
use serde_json::{Value, json};
use stack::{Signal, StackEnv};
use tokio::time::timeout;

use crate::{TestEnv, kill_9, kill_without_restart, test_env, test_env_with, until_true};

/// A handshake that an HTTP client can see the answer of.
async fn handshake(place: &TestLocation, gateway_ws_url: &str, person: &TestUser) -> Result<u16, reqwest::Error> {
    let at = place.with_base_url(&gateway_ws_url.replace("ws://", "http://").replace("/ws", ""));
    let query = person.with(&place.contact("pat"));
    let request = at
        .request(Method::GET, &format!("/ws?{query}"))
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("authorization", format!("Bearer {}", person.token));
    Ok(request.send().await?.status().as_u16())
}

/// Asks until the answer is this one. Other answers meanwhile must be among `others`; no answer at all may be.
pub(crate) async fn until_handshake(
    place: &TestLocation,
    gateway: impl Fn() -> String,
    person: &TestUser,
    status: u16,
    others: &[u16],
) {
    let asking = async {
        loop {
            match handshake(place, &gateway(), person).await {
                Ok(answer) if answer == status => return,
                Ok(answer) => assert!(others.contains(&answer), "{answer} before {status}"),
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    timeout(WAIT_TIMEOUT, asking).await.unwrap_or_else(|_| panic!("no {status} in time"));
}

fn admin(place: &TestLocation) -> TestUser {
    let claims = token::with(token::claims("ehr-backend", "service", &[&place.location]), "admin", json!(true));
    place.service().with_token(place.sign(&claims))
}

pub(crate) async fn revoke(place: &TestLocation, body: &Value) {
    let asked = admin(place).request(Method::POST, "/admin/revocations").json(body);
    assert_eq!(place.ask(asked).await.status, 204);
}

pub(crate) fn doctor_with(place: &TestLocation, jti: &str) -> TestUser {
    let claims = token::with(token::claims("doc", "user", &[&place.location]), "jti", json!(jti));
    place.user("doc").with_token(place.sign(&claims))
}

/// A doctor whose token was revoked, as all processes know, and one whose token is good.
pub(crate) async fn doctors(test_env: &TestEnv) -> (TestUser, TestUser) {
    let (place, jti) = (&test_env.place, uuid::Uuid::now_v7().to_string());
    revoke(place, &json!({"jti": jti})).await;
    let gone = doctor_with(place, &jti);
    until_learnt_everywhere(test_env, &gone).await;
    (gone, place.user("doc"))
}

/// Each of them refuses the token, some perhaps after they have started. None accepts it before.
pub(crate) async fn until_refused_everywhere(test_env: &TestEnv, person: &TestUser) {
    until_401_everywhere(test_env, person, &[503]).await;
}

/// Each of them refuses the token in the end: it may learn of the revocation late.
pub(crate) async fn until_learnt_everywhere(test_env: &TestEnv, person: &TestUser) {
    until_401_everywhere(test_env, person, &[101, 200, 429, 503]).await;
}

async fn until_401_everywhere(test_env: &TestEnv, person: &TestUser, others: &[u16]) {
    let place = &test_env.place;
    for number in 0..2 {
        until_handshake(place, || test_env.stack.env().gateway_ws_urls[number].clone(), person, 401, others).await;
        let path = format!("/chat/conversations?location_id={}", place.location);
        let asking = async {
            loop {
                let at = person.at(&test_env.stack.env().api_urls[number], &place.ws_url);
                match at.request(Method::GET, &path).send().await {
                    Ok(response) if response.status() == 401 => return,
                    Ok(response) => assert!(others.contains(&response.status().as_u16()), "{response:?}"),
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        };
        timeout(WAIT_TIMEOUT, asking).await.expect("an API service refuses it");
    }
}

fn redis(env: &StackEnv, command: &[&str]) -> String {
    said(&redis_cli(env, command))
}

fn redis_cli(env: &StackEnv, command: &[&str]) -> Output {
    let mut cli = std::process::Command::new("redis-cli");
    cli.args(["--no-auth-warning", "-u", &env.redis_url]).args(command).output().unwrap()
}

pub(crate) fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned();
    assert!(output.status.success(), "{text}");
    text
}

#[tokio::test]
async fn gateway_rejects_sockets_until_redis_has_revocations() {
    let test_env = test_env().await;
    let (place, stack) = (&test_env.place, &test_env.stack);
    let (gone, good) = doctors(&test_env).await;
    let frozen = stack.env().api_pids;
    for pid in &frozen {
        stack.kill(*pid, Signal::SIGSTOP).unwrap();
    }
    redis(&stack.env(), &["FLUSHALL"]);
    kill_9(stack, |env| env.gateway_pids[0]);
    let first = || stack.env().gateway_ws_urls[0].clone();
    until_handshake(place, first, &gone, 503, &[]).await;
    // It has seen the empty Redis many times by the time that the other one has answered so often.
    for _ in 0..20 {
        assert_eq!(handshake(place, &first(), &gone).await.unwrap(), 503);
        assert_eq!(handshake(place, &first(), &good).await.unwrap(), 503);
        let ready = place.with_base_url(&first().replace("ws://", "http://").replace("/ws", "")).get("/readyz").await;
        assert_eq!(ready.status, 503);
        // The other one still knows.
        assert_eq!(handshake(place, &stack.env().gateway_ws_urls[1], &gone).await.unwrap(), 401);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    for pid in frozen {
        stack.kill(pid, Signal::SIGCONT).unwrap();
    }
    until_refused_everywhere(&test_env, &gone).await;
    until_handshake(place, first, &good, 101, &[503]).await;
    test_env.stack.stop().unwrap();
}

#[tokio::test]
async fn revocations_are_restored_to_redis_without_postgresql() {
    let test_env = test_env().await;
    let (place, stack) = (&test_env.place, &test_env.stack);
    let (gone, good) = doctors(&test_env).await;
    stack.kill(stack.env().postgres_pid.unwrap(), Signal::SIGSTOP).unwrap();
    redis(&stack.env(), &["FLUSHALL"]);
    kill_9(stack, |env| env.gateway_pids[0]);
    let first = || stack.env().gateway_ws_urls[0].clone();
    until_handshake(place, first, &gone, 401, &[503]).await;
    until_handshake(place, first, &good, 101, &[503]).await;
    stack.kill(stack.env().postgres_pid.unwrap(), Signal::SIGCONT).unwrap();
    test_env.stack.stop().unwrap();
}

/// What of the copy in Redis stands for a revocation: members that are no marker.
fn members(env: &StackEnv) -> BTreeSet<String> {
    let all = redis(env, &["ZRANGE", "revoked", "0", "-1"]);
    all.lines().filter(|line| !line.starts_with("m ")).map(str::to_owned).collect()
}

#[tokio::test]
async fn stale_redis_does_not_restore_revoked_token() {
    let test_env = test_env().await;
    let (place, stack) = (&test_env.place, &test_env.stack);
    let (first, good) = doctors(&test_env).await;
    let env = stack.env();
    // What a snapshot or a replica holds that lacks the next one: the same copy, marker and all.
    let older = redis(&env, &["ZRANGE", "revoked", "0", "-1", "WITHSCORES"]);
    let older: Vec<&str> = older.lines().collect();
    let (second, _) = doctors(&test_env).await;
    until_refused_everywhere(&test_env, &second).await;
    assert!(members(&env).len() >= 2);
    let paused: Vec<i32> = env.api_pids.clone();
    for pid in &paused {
        stack.kill(*pid, Signal::SIGSTOP).unwrap();
    }
    let away = kill_without_restart(stack, env.redis_pid.unwrap());
    drop(away);
    let env = stack.wait_until(WAIT_TIMEOUT, |now| now.redis_pid != env.redis_pid).unwrap();
    until_true("the new Redis answers", async || redis_cli(&env, &["PING"]).status.success()).await;
    let mut command = vec!["ZADD", "revoked"];
    for pair in older.chunks(2) {
        command.extend([pair[1], pair[0]]);
    }
    redis(&env, &["DEL", "revoked"]);
    redis(&env, &command);
    kill_9(stack, |env| env.gateway_pids[0]);
    let gateway = || stack.env().gateway_ws_urls[0].clone();
    until_handshake(place, gateway, &second, 503, &[]).await;
    for pid in paused {
        stack.kill(pid, Signal::SIGCONT).unwrap();
    }
    for person in [&first, &second] {
        until_refused_everywhere(&test_env, person).await;
    }
    until_handshake(place, gateway, &good, 101, &[503]).await;
    test_env.stack.stop().unwrap();
}

#[tokio::test]
async fn revoked_token_stays_rejected_after_kill_of_all() {
    let test_env = test_env().await;
    let (place, stack) = (&test_env.place, &test_env.stack);
    let (gone, good) = doctors(&test_env).await;
    for _ in 0..3 {
        let env = stack.env();
        let all = env.api_pids.iter().chain(&env.gateway_pids).chain(&env.redis_pid);
        for pid in all {
            stack.kill(*pid, Signal::SIGKILL).unwrap();
        }
        // From the first answer on, none lets it in.
        until_refused_everywhere(&test_env, &gone).await;
        until_handshake(place, || stack.env().gateway_ws_urls[0].clone(), &good, 101, &[503]).await;
        until_handshake(place, || stack.env().gateway_ws_urls[1].clone(), &good, 101, &[503]).await;
    }
    test_env.stack.stop().unwrap();
}

#[tokio::test]
async fn wrong_revocation_copy_is_rewritten() {
    let test_env = test_env().await;
    let env = test_env.stack.env();
    let (gone, _) = doctors(&test_env).await;
    let whole = members(&env);
    assert!(!whole.is_empty());
    let until_whole = async || {
        let is_whole = async || redis(&env, &["TYPE", "revoked"]).trim() == "zset" && members(&env) == whole;
        until_true("it is written again", is_whole).await;
    };
    redis(&env, &["SET", "revoked", "x"]);
    until_whole().await;
    // Rows that are in no database, in front of which none would ever be added.
    let marker = redis(&env, &["ZRANGE", "revoked", "0", "0"]).trim().to_owned();
    let mut words: Vec<String> = marker.split(' ').map(str::to_owned).collect();
    words[2] = "1000000".to_owned();
    redis(&env, &["ZREM", "revoked", &marker]);
    redis(&env, &["ZADD", "revoked", "-inf", &words.join(" ")]);
    let is_replaced = async || !redis(&env, &["ZRANGE", "revoked", "0", "0"]).contains(" 1000000 ");
    until_true("the marker is written again", is_replaced).await;
    until_whole().await;
    redis(&env, &["ZREM", "revoked", whole.first().unwrap()]);
    until_whole().await;
    until_refused_everywhere(&test_env, &gone).await;
    test_env.stack.stop().unwrap();
}

#[tokio::test]
async fn out_of_order_revocations_are_all_read() {
    let test_env = test_env().await;
    let place = &test_env.place;
    let mut owner = AuditLog::open(&test_env.stack.env().database_url).await.client;
    // The transaction that takes its id first commits last.
    let early = uuid::Uuid::now_v7().to_string();
    let late = uuid::Uuid::now_v7().to_string();
    let transaction = owner.transaction().await.unwrap();
    transaction.execute("insert into revocations (jti) values ($1)", &[&early]).await.unwrap();
    let (place_of_late, jti) = (place.clone(), late.clone());
    let revoking = tokio::spawn(async move { revoke(&place_of_late, &json!({"jti": jti})).await });
    // The other one has read on, if it could.
    let watching = AuditLog::open(&test_env.stack.env().database_url).await.client;
    let waits = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like 'insert into revocations%'";
    let is_over = async || {
        let waiting: i64 = watching.query_one(waits, &[]).await.unwrap().get(0);
        waiting > 0 || revoking.is_finished()
    };
    until_true("the second one waits or has ended", is_over).await;
    transaction.commit().await.unwrap();
    revoking.await.unwrap();
    for jti in [&early, &late] {
        until_learnt_everywhere(&test_env, &doctor_with(place, jti)).await;
    }
    // By hand, as an older version of the service does it: all of them are remembered for good.
    let many = "insert into revocations (jti) select 'bulk-' || n from generate_series(1, 45000) n";
    owner.batch_execute(many).await.unwrap();
    for number in [1, 22_500, 45_000] {
        until_learnt_everywhere(&test_env, &doctor_with(place, &format!("bulk-{number}"))).await;
    }
    // A process that starts reads all of them.
    kill_9(&test_env.stack, |env| env.api_pids[0]);
    kill_9(&test_env.stack, |env| env.gateway_pids[0]);
    for number in [1, 22_500, 45_000] {
        until_refused_everywhere(&test_env, &doctor_with(place, &format!("bulk-{number}"))).await;
    }
    test_env.stack.stop().unwrap();
}

#[tokio::test]
async fn only_expired_revocations_are_removed() {
    let test_env = test_env().await;
    let (place, env) = (&test_env.place, test_env.stack.env());
    let owner = AuditLog::open(&env.database_url).await.client;
    let ended = "insert into revocations (jti, expires_at)
        select 'ended-' || n, now() - interval '1 day' from generate_series(1, 2500) n";
    owner.batch_execute(ended).await.unwrap();
    let (gone, _) = doctors(&test_env).await;
    let by_end = json!({"jti": "named-end", "expires_at": "2000-01-01T00:00:00Z"});
    revoke(place, &by_end).await;
    revoke(place, &json!({"sub": "fired", "issued_before": "2030-01-01T00:00:00Z"})).await;
    let count = async |what: &str| -> i64 {
        owner.query_one(&format!("select count(*) from revocations where {what}"), &[]).await.unwrap().get(0)
    };
    let going = async {
        while count("jti like 'ended-%' or jti = 'named-end'").await > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    timeout(2 * WAIT_TIMEOUT, going).await.expect("they go");
    assert_eq!(count("expires_at > now() + interval '399 days' and expires_at < now() + interval '401 days'").await, 1);
    assert_eq!(count("sub = 'fired' and expires_at > '2031-01-01' and expires_at < '2031-03-01'").await, 1);
    until_refused_everywhere(&test_env, &gone).await;
    let service = AuditLog::open(&env.service_database_url).await.client;
    let refused = service.batch_execute("delete from revocations").await.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "42501");
    test_env.stack.stop().unwrap();
}

#[tokio::test]
async fn revoke_command_prints_result_and_rejects_mixture() {
    let test_env = test_env().await;
    let env = test_env.stack.env();
    let say = async |arguments: &[&str]| {
        api_service(&env, &env.service_database_url, &[&["revoke"], arguments].concat()).await
    };
    for mixture in [
        &["--jti", "a", "--all-issued-before", "2026-01-01T00:00:00Z"][..],
        &["--sub", "a"],
        &["--sub", "a", "--jti", "b", "--issued-before", "2026-01-01T00:00:00Z"],
        &["--all-issued-before", "yesterday"],
        &["--expires-at", "2030-01-01T00:00:00Z"],
        &[],
    ] {
        assert!(!say(mixture).await.status.success(), "{mixture:?}");
    }
    said(&say(&["--all-issued-before", "2001-09-09T01:46:40Z"]).await);
    said(&say(&["--jti", "a", "--expires-at", "2030-01-01T00:00:00Z"]).await);
    let trail = AuditLog::open(&env.database_url).await;
    let details =
        trail.client.query("select detail from audit_log where action = 'revoke' order by at", &[]).await.unwrap();
    let details: Vec<String> = details.iter().map(|row| row.get(0)).collect();
    assert_eq!(details, ["everyone, issued before 1000000000", "jti a"]);
    // All tokens are younger than that.
    let answer: HttpResponse = test_env.place.user("doc").get("/readyz").await;
    assert_eq!(answer.status, 200);
    let inbox = test_env.place.user("doc").inbox("").await;
    assert_eq!(inbox["conversations"], json!([]));
    test_env.stack.stop().unwrap();
}

#[tokio::test]
async fn revocation_spreads_when_background_pool_is_exhausted() {
    let test_env = test_env_with(&[("DATABASE_BACKGROUND_CONNECTIONS", "2")]).await;
    let (place, env) = (&test_env.place, test_env.stack.env());
    // The outbox, receipts and such wait for these, on every connection that they have.
    let holder = AuditLog::open(&env.database_url).await.client;
    let tables = "outbox, conversations, messages, running_services";
    holder.batch_execute(&format!("begin; lock table {tables} in access exclusive mode")).await.unwrap();
    for _ in 0..20 {
        let jti = uuid::Uuid::now_v7().to_string();
        revoke(place, &json!({"jti": jti})).await;
        for url in &env.api_urls {
            let asked = doctor_with(place, &jti).at(url, &place.ws_url);
            let path = format!("/chat/conversations?location_id={}", place.location);
            assert_eq!(place.ask(asked.request(Method::GET, &path)).await.status, 401, "{url}");
        }
    }
    holder.batch_execute("rollback").await.unwrap();
    test_env.stack.stop().unwrap();
}
