//! Start and end: every kind of end leaves nothing behind, and no two systems share a folder.

use stack::{Signal, Stack, StackEnv, StackOptions};

use crate::test_env::{backends, get, is_alive, unused_path, wait_until, with_fake_services};

fn assert_all_gone(env: &StackEnv) {
    for pid in env.pids() {
        assert!(!is_alive(pid), "process {pid} is left of {env:?}");
    }
}

#[test]
fn clean_stop_leaves_no_process_or_folder() {
    let stack = Stack::start(with_fake_services()).unwrap();
    let (env, folder) = (stack.env(), stack.data_dir().to_path_buf());
    assert_eq!(env.pids().len(), 6, "{env:?}");
    assert!(env.pids().into_iter().all(is_alive));
    assert_eq!((env.api_urls.len(), env.gateway_ws_urls.len(), env.admin_urls.len()), (1, 2, 3));
    stack.stop().unwrap();
    assert_all_gone(&env);
    assert!(!folder.exists());
}

#[test]
fn sigterm_stops_all_processes() {
    let stack = Stack::start(with_fake_services()).unwrap();
    let env = stack.env();
    stack.kill(stack.pid(), Signal::SIGTERM).unwrap();
    wait_until("the end of every process", || !env.pids().into_iter().any(is_alive));
    stack.stop().unwrap();
}

#[test]
fn killed_stack_leaves_no_process_and_keeps_data() {
    let data_dir = unused_path("data");
    let options = StackOptions { data_dir: Some(data_dir.clone()), ..with_fake_services() };
    let stack = Stack::start(options.clone()).unwrap();
    let first = stack.env();
    stack.kill(stack.pid(), Signal::SIGKILL).unwrap();
    assert!(stack.stop().is_err());
    // At once: what is still on its way out must not disturb the next start.
    let stack = Stack::start(options).unwrap();
    wait_until("the end of every process", || !first.pids().into_iter().any(is_alive));
    let second = stack.env();
    assert_eq!(second.jwt_secret, first.jwt_secret);
    assert!(get(&stack, "/", "").starts_with("HTTP/1.1 200"));
    stack.stop().unwrap();
    assert!(!data_dir.join("stack.env").exists());
    std::fs::remove_dir_all(data_dir).unwrap();
}

#[test]
fn second_stack_on_same_folder_is_rejected() {
    let data_dir = unused_path("data");
    let options = StackOptions { data_dir: Some(data_dir.clone()), ..backends() };
    let stack = Stack::start(options).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_stack"))
        .args(["run", "--only-backends", "--data-dir"])
        .arg(&data_dir)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(text.contains("already runs") && text.contains(&stack.pid().to_string()), "{text}");
    assert!(stack.env().pids().into_iter().all(is_alive));
    stack.stop().unwrap();
    std::fs::remove_dir_all(data_dir).unwrap();
}

#[test]
fn port_in_use_is_named_before_start() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let error = Stack::start(StackOptions { port, ..with_fake_services() }).unwrap_err().to_string();
    assert!(error.contains(&format!("127.0.0.1:{port}")) && error.contains("PORT=9000"), "{error}");
    assert!(!error.contains("redis"), "{error}");
}

#[test]
fn failed_migration_stops_start_and_shows_log() {
    let env = vec![("FAKE_MIGRATION_FAILS".into(), "1".into())];
    let error = Stack::start(StackOptions { env, ..with_fake_services() }).unwrap_err().to_string();
    assert!(error.contains("migrate failed") && error.contains("is not what it was"), "{error}");
}
