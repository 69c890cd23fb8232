//! How a gateway shuts down, and when it does not start.

use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Client, Gateway, QUERY, RedisServer, SECRET, TEST_TIMEOUT, channel, doctor, http, patient};

#[tokio::test]
async fn drain_closes_sockets_with_1001_and_keeps_receipts() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[("DRAIN_SECONDS", "2")]).await;
    let publisher = redis.publisher().await;
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(Client::open(gateway.address, QUERY, &patient()).await.0);
    }
    publisher.message(&channel(), "contact:pat456", "one more").await;
    gateway.shutdown.begin();
    let (status, _, body) = http(gateway.address, "GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(status == 503 && body.contains(r#""code":"shutting_down""#), "{status} {body}");
    let refused = Client::try_open(gateway.address, QUERY, &doctor()).await;
    assert!(refused.is_err());
    // Concurrently, as real clients do, because they share the drain window.
    let closed = clients.iter_mut().map(Client::closed);
    for (code, frames) in futures_util::future::join_all(closed).await {
        assert_eq!(code, 1001);
        assert!(frames <= 1);
    }
    tokio::time::timeout(TEST_TIMEOUT, gateway.running).await.unwrap().unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(gateway.address).await.is_err());
}

#[tokio::test]
async fn drain_answers_handshakes_without_open_sockets() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[("DRAIN_SECONDS", "1")]).await;
    let _open = Client::open(gateway.address, QUERY, &patient()).await; // It is ready.
    let started_at = std::time::Instant::now();
    gateway.shutdown.begin();
    while !gateway.running.is_finished() {
        // A connection may break while the port closes. A load balancer has stopped sending by then.
        let Ok(mut tcp) = tokio::net::TcpStream::connect(gateway.address).await else { break };
        let mut answer = String::new();
        let asked = tcp.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        if asked.is_ok() && tcp.read_to_string(&mut answer).await.is_ok() && started_at.elapsed().as_millis() < 900 {
            assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        }
    }
    tokio::time::timeout(TEST_TIMEOUT, gateway.running).await.unwrap().unwrap().unwrap();
    assert!(started_at.elapsed().as_millis() >= 1000);
}

fn gateway(variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ws-gateway"));
    command.arg("serve").env_clear().envs(variables.iter().copied()).stdin(Stdio::null());
    command
}

#[test]
fn invalid_settings_are_reported_together() {
    let output = gateway(&[("LISTEN_ADDR", "here"), ("JWT_SECRET", "hunter2")]).output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    let text = String::from_utf8(output.stderr).unwrap();
    for name in ["LISTEN_ADDR", "REDIS_URL", "JWT_SECRET"] {
        assert!(text.contains(name), "{text}");
    }
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn help_lists_every_setting() {
    let output = gateway(&[]).arg("--help").output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    for setting in ws_gateway::config::settings() {
        assert!(text.contains(setting.name), "{text}");
    }
}

#[tokio::test]
async fn process_serves_metrics_and_exits_cleanly_on_sigterm() {
    let redis = RedisServer::start();
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (public, admin) = (free(), free());
    let mut process = gateway(&[
        ("LISTEN_ADDR", &public.to_string()),
        ("ADMIN_ADDR", &admin.to_string()),
        ("REDIS_URL", &redis.url()),
        ("JWT_SECRET", SECRET),
        ("MODE", "development"),
        ("DRAIN_SECONDS", "1"),
        ("LOG_LEVEL", "debug"),
    ])
    .stderr(Stdio::piped())
    .spawn()
    .unwrap();
    let mut logs = tokio::process::ChildStderr::from_std(process.stderr.take().unwrap()).unwrap();
    let logs = tokio::spawn(async move {
        let mut text = String::new();
        logs.read_to_string(&mut text).await.unwrap();
        text
    });
    let is_ready = async {
        while tokio::net::TcpStream::connect(admin).await.is_err() {
            tokio::task::yield_now().await;
        }
        // It is not ready before an API service has marked its copy of the revocations complete.
        while http(admin, "GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n").await.0 != 200 {
            redis.confirm_revocations().await;
        }
    };
    tokio::time::timeout(TEST_TIMEOUT, is_ready).await.unwrap();
    let publisher = redis.publisher().await;
    let (mut client, _) = Client::open(public, QUERY, &doctor()).await;
    publisher.message(&channel(), "contact:pat456", "hunter2").await;
    assert_eq!(client.frame().await["message"]["content"], "hunter2");
    let (status, _, metrics) = http(admin, "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(status, 200);
    assert!(
        metrics.contains("ehr_chat_gateway_sockets 1") && metrics.contains("ehr_chat_gateway_redis_up 1"),
        "{metrics}"
    );
    assert!(!metrics.contains("doc123") && !metrics.contains("hunter2"), "{metrics}");
    assert_eq!(http(public, "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await.0, 404);

    kill(Pid::from_raw(process.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(client.close_frame().await, (1001, "shutting_down".to_owned()));
    client.ws.get_mut().shutdown().await.unwrap();
    let status = tokio::task::spawn_blocking(move || process.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0));
    let logs = logs.await.unwrap();
    assert!(logs.contains("socket closed"), "{logs}");
    assert!(!logs.contains("hunter2") && !logs.contains(&doctor()[..30]), "{logs}");
}
