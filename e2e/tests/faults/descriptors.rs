//! Strangers who connect and say nothing do not take what a service needs for itself.

use std::process::Command;
use std::time::Duration;

use e2e::audit::AuditLog;
use e2e::{TestLocation, WAIT_TIMEOUT};
use reqwest::Method;
use stack::Stack;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::{kill_9, test_env_with};

const LIMIT: usize = 256;
/// More than the limit, together with what waits in the kernel.
const SILENT: usize = 300;

fn limit_descriptors(pid: i32, limit: usize) {
    let limit = format!("--nofile={limit}:{limit}");
    let done = Command::new("prlimit").args(["--pid", &pid.to_string(), &limit]).status().unwrap();
    assert!(done.success());
}

fn address(url: &str) -> String {
    let place = url.split_once("://").unwrap().1;
    place.split_once('/').map_or(place, |(place, _)| place).to_owned()
}

async fn until_ready(place: &TestLocation, url: &str) {
    let asking = async {
        loop {
            // It may not listen yet.
            let answer = place.with_base_url(url).request(Method::GET, "/readyz").send().await;
            if answer.is_ok_and(|answer| answer.status() == 200) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(WAIT_TIMEOUT, asking).await.expect("it is ready");
}

/// The newest line of a log in which a setting is lowered.
fn lowered_to(stack: &Stack, log: &str, setting: &str) -> usize {
    let text = std::fs::read_to_string(stack.logs_dir().join(log)).unwrap();
    let line = text.lines().rev().find(|line| line.contains(&format!("{setting} is lowered"))).expect("it is said");
    let number = line.split("lowered_to=").nth(1).expect("to what").chars().take_while(char::is_ascii_digit);
    number.collect::<String>().parse().unwrap()
}

#[tokio::test]
async fn silent_connections_do_not_block_own_connections() {
    let test_env = test_env_with(&[("HANDSHAKE_TIMEOUT_SECONDS", "2")]).await;
    let (place, stack) = (&test_env.place, &test_env.stack);
    // What it starts from now on inherits that.
    limit_descriptors(stack.pid(), LIMIT);
    kill_9(stack, |env| env.api_pids[0]);
    kill_9(stack, |env| env.gateway_pids[0]);
    let env = stack.env();
    let (api, gateway) = (env.api_urls[0].clone(), env.gateway_ws_urls[0].clone());
    until_ready(place, &env.admin_urls[0]).await;
    until_ready(place, &env.admin_urls[2]).await;
    for (log, name) in [("api-1.log", "MAX_CONNECTIONS"), ("gateway-1.log", "MAX_SOCKETS")] {
        let lowered = lowered_to(stack, log, name);
        assert!((LIMIT / 4..LIMIT - 60).contains(&lowered), "{name}: {lowered}");
    }

    let mut silent = Vec::new();
    for url in [&api, &gateway] {
        for _ in 0..SILENT {
            silent.push(TcpStream::connect(address(url)).await.unwrap());
        }
    }
    // All of their own connections must be made again.
    let owner = AuditLog::open(&env.database_url).await.client;
    let cut = "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = 'api-service'";
    owner.query_one(cut, &[]).await.unwrap();
    let kill = Command::new("redis-cli")
        .args(["--no-auth-warning", "-u", &env.redis_url, "CLIENT", "KILL", "SKIPME", "yes"])
        .output()
        .unwrap();
    assert!(kill.status.success(), "{kill:?}");
    for url in [&env.admin_urls[0], &env.admin_urls[2]] {
        until_ready(place, url).await;
    }
    let up = async {
        loop {
            let printed = place.with_base_url(&env.admin_urls[0]).get("/readyz").await.text;
            let gateway_said = place.with_base_url(&env.admin_urls[2]).get("/readyz").await.text;
            if printed.contains(r#""redis":"up""#) && gateway_said.contains(r#""redis":"up""#) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(WAIT_TIMEOUT, up).await.expect("Redis is reached again");

    // And they do not stay: later clients are served.
    let (doctor, patient) = (place.user("doc").at(&api, &gateway), place.contact("pat").at(&api, &gateway));
    let served = async {
        doctor.send_ok(&patient, "hello").await;
        patient.open(&doctor).await
    };
    let _socket = timeout(2 * WAIT_TIMEOUT, served).await.expect("silent connections are closed");
    drop(silent);
    test_env.stack.stop().unwrap();
}
