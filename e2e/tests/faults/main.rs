//! Whatever is killed, nobody loses a message that was answered with 201, and nobody restarts anything by hand.
//!
//! Each test kills parts of a system of its own; they take turns, because a loaded machine would blur the times.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails where it finds the fault")]

mod aborts;
mod alone;
mod audit;
mod classes;
mod cut_off;
mod deadlines;
mod descriptors;
mod ending;
mod fitness;
mod gateways;
mod inboxes;
mod locks;
mod postgres;
mod presence;
mod redis;
mod revocations;
mod services;
mod set_aside;
mod stalled_log;
mod supervision;
mod unread;
mod warnings;
mod wrong_clock;

use std::time::Duration;

use e2e::{Answer, PATIENCE, Place};
use stack::{Signal, Stack, StackEnv, StackOptions};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{interval, timeout};

static TURN: Mutex<()> = Mutex::const_new(());

/// A system for one test, and the test's turn.
struct Setting {
    stack: Stack,
    place: Place,
    _turn: MutexGuard<'static, ()>,
}

async fn setting() -> Setting {
    setting_with(&[]).await
}

/// The same with other settings of the services.
async fn setting_with(env: &[(&str, &str)]) -> Setting {
    let turn = TURN.lock().await;
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let options = StackOptions { api: 2, gateways: 2, env, ..StackOptions::default() };
    let stack = tokio::task::spawn_blocking(|| Stack::start(options)).await.unwrap().unwrap();
    let place = Place::new(&stack);
    Setting { stack, place, _turn: turn }
}

/// Kills a process as nothing can be prepared for, and waits until another one has taken its place.
fn kill_9(stack: &Stack, pid_of: impl Fn(&StackEnv) -> i32) {
    let pid = pid_of(&stack.env());
    stack.kill(pid, Signal::SIGKILL).unwrap();
    stack.wait_until(PATIENCE, |env| pid_of(env) != pid).unwrap();
}

/// Kills a process, and keeps it from being started again until the answer is dropped.
fn kill_for_a_while(stack: &Stack, pid: i32) -> Paused<'_> {
    stack.kill(stack.pid(), Signal::SIGSTOP).unwrap();
    stack.kill(pid, Signal::SIGKILL).unwrap();
    Paused(stack)
}

/// A system that nobody looks after.
struct Paused<'a>(&'a Stack);

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        self.0.kill(self.0.pid(), Signal::SIGCONT).unwrap();
    }
}

/// Waits until the services have set so many conversations aside, because others hold their rows.
async fn until_set_aside(place: &Place, count: usize) {
    until_metric(place, "send_conversations_aside", count as f64).await;
}

/// Of all API services together.
async fn metric(place: &Place, name: &str) -> f64 {
    let mut sum = 0.0;
    for url in &place.env.admin_urls[..place.env.api_urls.len()] {
        let metrics = place.behind(url).get("/metrics").await.text;
        let values = metrics.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        sum += values.map(|value| value.parse::<f64>().unwrap()).sum::<f64>();
    }
    sum
}

async fn until_metric(place: &Place, name: &str, least: f64) {
    let is_so = async { while metric(place, name).await < least {} };
    timeout(PATIENCE, is_so).await.unwrap_or_else(|_| panic!("{name} does not reach {least}"));
}

/// Asks until the answer has this status, with a deadline: there is no event that tells a client of a recovery.
async fn until(status: u16, ask: impl AsyncFn() -> Answer) -> Answer {
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
    timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("no {status} in time"))
}
