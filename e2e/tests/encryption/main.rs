//! Content at rest and in Redis: with keys, no file, table or dump holds a word of it, and everything works as it does without.

#![allow(clippy::unwrap_used, reason = "a test fails where it finds the fault")]

mod altered;
mod at_rest;
mod bad_key;
mod keys;
mod lost_key;
mod plain;
mod purge;
mod redis_users;
mod rotation;
mod start;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::Duration;

use e2e::{TestLocation, WAIT_TIMEOUT};
use keys::Keys;
use stack::{Stack, StackEnv, StackOptions};
use tokio::time::{interval, timeout};

/// A system with all keys, which tests share that change none of them.
fn stack() -> &'static Stack {
    static STACK: OnceLock<Stack> = OnceLock::new();
    STACK.get_or_init(|| start(Keys::new("m1").env("r1")))
}

fn start(env: Vec<(String, String)>) -> Stack {
    Stack::start(StackOptions { api: 2, gateways: 2, env, ..StackOptions::default() }).unwrap()
}

/// A location of its own.
async fn place() -> TestLocation {
    TestLocation::new(tokio::task::spawn_blocking(stack).await.unwrap())
}

/// One of the services' binaries, with the databases of a system and no other settings.
fn service(name: &str, env: &StackEnv) -> Command {
    let folder = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_path_buf();
    let mut command = Command::new(folder.join(name));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("REDIS_URL", &env.redis_url).env("JWT_SECRET", &env.jwt_secret).env("MODE", "development");
    command.env("LISTEN_ADDR", "127.0.0.1:0").env("ADMIN_ADDR", "127.0.0.1:0");
    if name == "api-service" {
        command.env("DATABASE_URL", &env.database_url);
    }
    command
}

/// What PostgreSQL answers.
fn sql(env: &StackEnv, query: &str) -> String {
    let newest = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = newest.max_by_key(|entry| entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
    let psql = newest.map_or_else(|| PathBuf::from("psql"), |folder| folder.path().join("bin/psql"));
    said(
        &Command::new(psql)
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", &env.database_url, "-c", query])
            .output()
            .unwrap(),
    )
}

/// What Redis answers.
fn redis(env: &StackEnv, command: &[&str]) -> String {
    let output = Command::new("redis-cli").args(["--no-auth-warning", "-u", &env.redis_url]).args(command).output();
    said(&output.unwrap())
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Polls until it holds: there is no event for it.
async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let asking = async {
        let mut beat = interval(Duration::from_millis(50));
        while !holds().await {
            beat.tick().await;
        }
    };
    timeout(WAIT_TIMEOUT * 2, asking).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

/// Files under `folder` that hold these bytes, and how many there are in all.
fn holding(folder: &Path, needle: &str) -> (Vec<PathBuf>, usize) {
    let (mut found, mut count, mut folders) = (Vec::new(), 0, vec![folder.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            // PostgreSQL may remove one meanwhile, and keeps no content in what is no file.
            let Ok(bytes) = std::fs::read(&path) else { continue };
            count += 1;
            if bytes.windows(needle.len()).any(|window| window == needle.as_bytes()) {
                found.push(path);
            }
        }
    }
    (found, count)
}
