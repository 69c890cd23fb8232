//! A killed process is restarted within a second: same port, new process id, and `stack.env` names it.

use std::time::Duration;

use stack::{Signal, Stack, StackEnv};

use crate::test_env::{WAIT_TIMEOUT, backends, get, is_alive, wait_until, with_fake_services};

/// What the contract promises, for a machine that does nothing else; tests share theirs.
const A_SECOND: Duration = Duration::from_secs(1);
const MARGIN: Duration = Duration::from_secs(2);

fn accepts(url: &str) -> bool {
    let address = url.rsplit('@').next().and_then(|rest| rest.split('/').next());
    address.is_some_and(|address| std::net::TcpStream::connect(address).is_ok())
}

fn kill_9(stack: &Stack, pid_of: impl Fn(&StackEnv) -> i32) -> StackEnv {
    let pid = pid_of(&stack.env());
    stack.kill(pid, Signal::SIGKILL).unwrap();
    let env = stack.wait_until(A_SECOND + MARGIN, |env| pid_of(env) != pid).unwrap();
    assert!(is_alive(pid_of(&env)));
    env
}

#[test]
fn killed_databases_restart_on_same_ports() {
    let stack = Stack::start(backends()).unwrap();
    let before = stack.env();
    for _ in 0..2 {
        let env = kill_9(&stack, |env| env.redis_pid.unwrap());
        assert_eq!(env.redis_url, before.redis_url);
        wait_until("Redis accepts connections", || accepts(&env.redis_url));

        let env = kill_9(&stack, |env| env.postgres_pid.unwrap());
        assert_eq!(env.database_url, before.database_url);
        wait_until("PostgreSQL accepts connections", || accepts(&env.database_url));
        assert!(is_alive(stack.env().postgres_pid.unwrap()));
    }
    stack.stop().unwrap();
}

#[test]
fn killed_services_and_proxy_restart() {
    let stack = Stack::start(with_fake_services()).unwrap();
    let before = stack.env();
    kill_9(&stack, |env| env.api_pids[0]);
    kill_9(&stack, |env| env.gateway_pids[1]);
    let after = kill_9(&stack, |env| env.haproxy_pid.unwrap());
    assert_eq!(after.gateway_pids[0], before.gateway_pids[0]);
    assert_eq!((&after.api_urls, &after.base_url), (&before.api_urls, &before.base_url));
    let host = after.base_url.trim_start_matches("http://").to_owned();
    wait_until("the public port accepts connections", || std::net::TcpStream::connect(&host).is_ok());
    wait_until("the new API service answers", || get(&stack, "/", "").contains(&format!("pid={}", after.api_pids[0])));
    stack.stop().unwrap();
}

#[test]
fn service_restarts_after_own_exit() {
    let stack = Stack::start(with_fake_services()).unwrap();
    let before = stack.env();
    let answer = get(&stack, "/do/exit", "");
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    stack.wait_until(WAIT_TIMEOUT, |env| env.api_pids != before.api_pids).unwrap();
    wait_until("it answers", || get(&stack, "/", "").starts_with("HTTP/1.1 200"));
    stack.stop().unwrap();
}
