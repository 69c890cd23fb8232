//! Who is online when a gateway or Redis dies.

use e2e::{TestUser, WAIT_TIMEOUT};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::failed_and_deferred::redis;
use crate::{TestEnv, kill_9, kill_without_restart, test_env_with, until, until_true};

async fn hasty() -> TestEnv {
    test_env_with(&[("PRESENCE_TTL_SECONDS", "5"), ("PRESENCE_LINGER_SECONDS", "1")]).await
}

#[tokio::test]
async fn participants_go_offline_when_gateway_is_killed() {
    let test_env = hasty().await;
    let place = &test_env.place;
    let (doctor, patient, other) = (place.user("doc"), place.contact("pat"), place.contact("other"));
    let gateways = &place.env.gateway_ws_urls;
    let at =
        |url: &str| (doctor.at(&place.base_url, url), patient.at(&place.base_url, url), other.at(&place.base_url, url));
    let (_, dying_patient, dying_other) = at(&gateways[0]);
    let (staying_doctor, _, staying_other) = at(&gateways[1]);
    doctor.send_ok(&patient, "Hello").await;
    doctor.send_ok(&other, "Hello").await;
    let mut with_patient = staying_doctor.open(&patient).await;
    let mut with_other = staying_doctor.open(&other).await;
    let (mut lost, mut moved) = (dying_patient.open_inbox().await, dying_other.open_inbox().await);
    assert_eq!(with_patient.expect_presence().await["online"], true);
    assert_eq!(with_other.expect_presence().await["online"], true);

    kill_9(&test_env.stack, |env| env.gateway_pids[0]);
    lost.expect_end().await;
    moved.expect_end().await;
    let moved = staying_other.open_inbox().await;
    let frame = with_patient.expect_presence().await;
    assert_eq!((&frame["contact_id"], &frame["online"]), (&json!("pat"), &json!(false)), "{frame}");
    assert_eq!(with_other.all_presence().await, Vec::<Value>::new(), "who came back was never away");
    let query = format!("/chat/presence?location_id={}&contact_id=pat&contact_id=other", place.location);
    let body = doctor.get(&query).await.expect_status(200);
    let are_online: Vec<_> = body["participants"].as_array().unwrap().iter().map(|one| &one["online"]).collect();
    assert_eq!(are_online, [&json!(false), &json!(true)], "{body}");
    moved.close().await;
    assert_eq!(with_other.expect_presence().await["online"], false);
    test_env.stack.stop().unwrap();
}

#[tokio::test]
async fn presence_is_unknown_without_redis_and_recovers() {
    let test_env = hasty().await;
    let place = &test_env.place;
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    doctor.send_ok(&patient, "Hello").await;
    let mut at_doctor = doctor.open(&patient).await;
    let at_patient = patient.open_inbox().await;
    assert_eq!(at_doctor.expect_presence().await["online"], true);
    let query = format!("/chat/presence?location_id={}&contact_id=pat", place.location);
    let away = kill_without_restart(&test_env.stack, test_env.stack.env().redis_pid.unwrap());
    at_doctor.expect("degraded").await;
    until(503, || doctor.get(&query)).await.expect_code(503, "presence_unavailable");
    drop(away);
    at_doctor.expect("recovered").await;
    // Redis has come back empty; the gateways write again who is online.
    loop {
        let body = until(200, || doctor.get(&query)).await.expect_status(200);
        if body["participants"][0]["online"] == true {
            break;
        }
    }
    assert_eq!(at_doctor.all_presence().await, Vec::<Value>::new(), "nobody has gone");
    at_patient.close().await;
    assert_eq!(at_doctor.expect_presence().await["online"], false);
    test_env.stack.stop().unwrap();
}

/// Polls presence until it is this. Every request is answered.
async fn until_online(who_asks: &TestUser, query: &str, online: bool) {
    let holds = async || who_asks.get(query).await.expect_status(200)["participants"][0]["online"] == online;
    until_true(&format!("online is {online}"), holds).await;
}

#[tokio::test]
async fn presence_keys_of_wrong_type_are_moved_and_rewritten() {
    let test_env = hasty().await;
    let (place, env) = (&test_env.place, test_env.stack.env());
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    doctor.send_ok(&patient, "Hello").await;
    let mut at_doctor = doctor.open(&patient).await;
    let mut at_patient = patient.open_inbox().await;
    assert_eq!(at_doctor.expect_presence().await["online"], true);
    let query = format!("/chat/presence?location_id={}&contact_id=pat", place.location);
    let prefix = format!("presence:{{{}}}", place.location);
    // A gateway's own keys have other names once it rewrites them, so they come last.
    for pattern in [format!("{prefix}:gateways"), format!("{prefix}:at:*")] {
        let keys = redis(&env, &[b"KEYS", pattern.as_bytes()]).await;
        let keys: Vec<&str> = keys.lines().filter(|key| !key.is_empty() && !key.contains(":moved:")).collect();
        assert!(!keys.is_empty(), "{pattern}");
        for key in &keys {
            redis(&env, &[b"DEL", key.as_bytes()]).await;
            redis(&env, &[b"SET", key.as_bytes(), b"another application's"]).await;
        }
        // By the first service that meets them; a gateway meets its own when it renews its lease.
        for key in keys {
            let moved = async {
                loop {
                    let moved = redis(&env, &[b"KEYS", format!("{key}:moved:*").as_bytes()]).await;
                    if let Some(moved) = moved.lines().find(|name| !name.is_empty()) {
                        break redis(&env, &[b"GET", moved.as_bytes()]).await;
                    }
                }
            };
            let moved = timeout(WAIT_TIMEOUT, moved).await.unwrap_or_else(|_| panic!("{key} is not moved"));
            assert_eq!(moved.trim(), "another application's", "it is there for its owner: {key}");
        }
        until_online(&doctor, &query, true).await;
        // Departures and arrivals are recorded as before.
        at_patient.close().await;
        until_online(&doctor, &query, false).await;
        at_patient = patient.open_inbox().await;
        until_online(&doctor, &query, true).await;
    }
    let mut counted = 0.0;
    for url in &env.admin_urls {
        let metrics = place.with_base_url(url).get("/metrics").await.text;
        let of_presence = "ehr_chat_redis_keys_moved_total{key=\"presence\"} ";
        let value = metrics.lines().find_map(|line| line.strip_prefix(of_presence));
        counted += value.map_or(0.0, |value| value.parse::<f64>().unwrap());
    }
    assert!(counted >= 2.0, "{counted}");
    test_env.stack.stop().unwrap();
}
