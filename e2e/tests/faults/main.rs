//! No kill loses a message that was answered with 201, and no operator has to restart anything.
//!
//! Each test kills parts of a system of its own. A few run at a time: most of them wait for a timeout most of the time.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails where it finds the fault")]

mod aborts;
mod audit;
mod classes;
mod cut_off;
mod deadlines;
mod descriptors;
mod ending;
mod failed_and_deferred;
mod first_messages;
mod fitness;
mod gateways;
mod inboxes;
mod locks;
mod postgres;
mod postgres_standby;
mod presence;
mod read_replica;
mod redis;
mod relay_lease;
mod restore;
mod revocations;
mod sentinel;
mod service_process;
mod services;
mod stalled_log;
mod supervision;
mod unread;
mod warnings;
mod wrong_clock;

use std::time::{Duration, Instant};

use e2e::{HttpResponse, TestLocation, WAIT_TIMEOUT};
use stack::{Signal, Stack, StackEnv, StackOptions};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{interval, timeout};

/// Systems at a time.
static TURNS: Semaphore = Semaphore::const_new(3);

/// A system for one test, and the test's turn.
struct TestEnv {
    stack: Stack,
    place: TestLocation,
    _turn: SemaphorePermit<'static>,
}

async fn test_env() -> TestEnv {
    test_env_with(&[]).await
}

/// The same with other settings of the services.
async fn test_env_with(env: &[(&str, &str)]) -> TestEnv {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    test_env_of(StackOptions { api: 2, gateways: 2, env, ..StackOptions::default() }).await
}

/// The same with other parts.
async fn test_env_of(options: StackOptions) -> TestEnv {
    let turn = TURNS.acquire().await.unwrap();
    let stack = tokio::task::spawn_blocking(|| Stack::start(options)).await.unwrap().unwrap();
    let place = TestLocation::new(&stack);
    TestEnv { stack, place, _turn: turn }
}

/// Kills a process as nothing can be prepared for, and waits until another one has taken its place.
fn kill_9(stack: &Stack, pid_of: impl Fn(&StackEnv) -> i32) {
    let pid = pid_of(&stack.env());
    stack.kill(pid, Signal::SIGKILL).unwrap();
    stack.wait_until(WAIT_TIMEOUT, |env| pid_of(env) != pid).unwrap();
}

/// Kills a process, and keeps it from being started again until the answer is dropped. Returns when its children are gone
/// as well: those of PostgreSQL serve on until they notice.
fn kill_without_restart(stack: &Stack, pid: i32) -> RestartsPaused<'_> {
    stack.kill(stack.pid(), Signal::SIGSTOP).unwrap();
    let children = children(pid);
    stack.kill(pid, Signal::SIGKILL).unwrap();
    let deadline = Instant::now() + WAIT_TIMEOUT;
    while children.iter().any(|child| is_alive(*child)) {
        assert!(Instant::now() < deadline, "a child of process {pid} lives on");
        std::thread::sleep(Duration::from_millis(5));
    }
    RestartsPaused(stack)
}

/// The processes that a process has started.
fn children(pid: i32) -> Vec<i32> {
    let pids = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    pids.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// False for one that has ended, though its parent may not have noticed.
fn is_alive(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    status.is_ok_and(|status| !status.rsplit(')').next().unwrap().trim_start().starts_with(['Z', 'X']))
}

/// A system whose processes are not restarted.
struct RestartsPaused<'a>(&'a Stack);

impl Drop for RestartsPaused<'_> {
    fn drop(&mut self) {
        self.0.kill(self.0.pid(), Signal::SIGCONT).unwrap();
    }
}

/// Waits until the services know so many locked conversations, whose rows others hold.
async fn until_locked(place: &TestLocation, count: usize) {
    until_metric(place, "ehr_chat_send_conversations_locked", count as f64).await;
}

/// Of all API services together.
async fn metric(place: &TestLocation, name: &str) -> f64 {
    let mut sum = 0.0;
    for url in &place.env.admin_urls[..place.env.api_urls.len()] {
        let metrics = place.with_base_url(url).get("/metrics").await.text;
        let values = metrics.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        sum += values.map(|value| value.parse::<f64>().unwrap()).sum::<f64>();
    }
    sum
}

async fn until_metric(place: &TestLocation, name: &str, least: f64) {
    until_true(&format!("{name} reaches {least}"), async || metric(place, name).await >= least).await;
}

/// Looks again until it holds, with a deadline: no event says that it does. It does not spin, because other tests run.
async fn until_true(what: &str, holds: impl AsyncFn() -> bool) {
    let looking = async {
        let mut beat = interval(Duration::from_millis(20));
        while !holds().await {
            beat.tick().await;
        }
    };
    timeout(WAIT_TIMEOUT, looking).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

/// Asks until the answer has this status, with a deadline: there is no event that tells a client of a recovery.
async fn until(status: u16, ask: impl AsyncFn() -> HttpResponse) -> HttpResponse {
    let asking = async {
        let mut beat = interval(Duration::from_millis(50));
        loop {
            beat.tick().await;
            let answer = ask().await;
            if answer.status == status {
                return answer;
            }
            assert!(matches!(answer.status, 200 | 201 | 502 | 503 | 504), "{answer:?}");
        }
    };
    timeout(WAIT_TIMEOUT, asking).await.unwrap_or_else(|_| panic!("no {status} in time"))
}
