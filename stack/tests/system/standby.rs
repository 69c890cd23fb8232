//! A primary and its synchronous standby: failover, return, and a standby that is away.

use std::process::Command;

use stack::{PostgresCommand, Stack, StackOptions};

use crate::test_env::{backends, is_alive, unused_path, wait_until};

fn pair() -> StackOptions {
    StackOptions { postgres_standby: true, ..backends() }
}

/// What a statement answers, or `None` when no server takes it.
fn ask(url: &str, sql: &str) -> Option<String> {
    let output = Command::new("psql").args(["-XqAt", "-d", url, "-c", sql]).output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

#[test]
fn standby_takes_over_and_old_primary_returns() {
    let data_dir = unused_path("pair");
    let options = StackOptions { data_dir: Some(data_dir.clone()), ..pair() };
    let stack = Stack::start(options.clone()).unwrap();
    let before = stack.env();
    let url = before.database_url.clone();
    ask(&url, "create table kept (line text); insert into kept values ('first')").unwrap();
    assert_eq!(ask(&before.standby_database_url, "select line from kept").unwrap(), "first");
    assert_eq!(ask(&before.primary_database_url, "select sync_state from pg_stat_replication").unwrap(), "sync");

    stack.postgres(PostgresCommand::KillPrimary).unwrap();
    assert!(!is_alive(before.postgres_pid.unwrap()));
    assert_eq!(stack.env().postgres_pid, None, "it is not started again");
    assert_eq!(ask(&url, "select 1"), None, "a standby is no server to write to");
    stack.postgres(PostgresCommand::Promote).unwrap();
    let promoted = stack.env();
    assert_eq!((promoted.postgres_pid, promoted.standby_pid), (before.standby_pid, None));
    assert_eq!(promoted.primary_database_url, before.standby_database_url);
    ask(&url, "insert into kept values ('second')").unwrap();

    stack.postgres(PostgresCommand::Rejoin).unwrap();
    let after = stack.env();
    assert_eq!(after.standby_database_url, before.primary_database_url);
    assert_eq!(ask(&after.standby_database_url, "select count(*) from kept").unwrap(), "2");

    // The next start finds the roles as they are.
    stack.stop().unwrap();
    assert!(!after.pids().into_iter().any(is_alive));
    let stack = Stack::start(options).unwrap();
    let env = stack.env();
    assert_eq!(ask(&env.primary_database_url, "select pg_is_in_recovery()").unwrap(), "f");
    assert_eq!(ask(&env.standby_database_url, "select count(*) from kept").unwrap(), "2");
    stack.stop().unwrap();
    std::fs::remove_dir_all(data_dir).unwrap();
}

#[test]
fn commits_wait_for_standby_that_is_away() {
    let stack = Stack::start(pair()).unwrap();
    let url = stack.env().database_url;
    ask(&url, "create table kept (line text)").unwrap();
    stack.postgres(PostgresCommand::StopStandby).unwrap();
    assert_eq!(stack.env().standby_pid, None);
    let insert = ["-XqAt", "-d", &url, "-c", "insert into kept values ('waits')"];
    let mut waiting = Command::new("psql").args(insert).spawn().unwrap();
    let waits = "select count(*) from pg_stat_activity where wait_event = 'SyncRep'";
    wait_until("the commit waits", || ask(&url, waits).as_deref() == Some("1"));
    assert_eq!(ask(&url, "select count(*) from kept").unwrap(), "0", "and shows to no other session");
    stack.postgres(PostgresCommand::StartStandby).unwrap();
    assert!(waiting.wait().unwrap().success());
    assert_eq!(ask(&url, "select count(*) from kept").unwrap(), "1");
    stack.stop().unwrap();
}

#[test]
fn command_without_pair_is_rejected() {
    let stack = Stack::start(backends()).unwrap();
    let error = stack.postgres(PostgresCommand::Promote).unwrap_err();
    assert!(format!("{error:#}").contains("--postgres-standby"), "{error:#}");
    stack.stop().unwrap();
}
