//! A service in which a task has ended that must not ends itself, with an error that names the task.

use std::collections::BTreeSet;
use std::sync::Mutex;

use serde_json::Value;
use stack::StackEnv;

use crate::service_process::ServiceProcess;
use crate::{test_env, until};

const API: [&str; 19] = [
    "admin port",
    "audit writer",
    "clock",
    "database watch",
    "drain timer",
    "keys",
    "metrics",
    "outbox",
    "outbox confirmation",
    "outbox sweep",
    "public port",
    "conversation check handler",
    "receipt handler",
    "redis watch",
    "revocations",
    "signals",
    "socket audit handler",
    "token keys",
    "send batcher",
];

const GATEWAY: [&str; 19] = [
    "admin port",
    "backfill",
    "coalesced denials",
    "metrics",
    "position check",
    "presence",
    "presence watch",
    "public port",
    "conversation checks",
    "receipt producer",
    "redis watch",
    "revocations",
    "signals",
    "socket audit",
    "sockets of old keys",
    "subscriber",
    "timers",
    "token keys",
    "typing",
];

/// The tasks that a service says it starts.
fn started(output: &str) -> BTreeSet<String> {
    let lines = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let names = lines.filter(|line| line["message"] == "task starts");
    names.map(|line| line["task"].as_str().unwrap().to_owned()).collect()
}

/// Has each of the tasks fail, a few services at a time. Gives the tasks that were started.
fn fail_each(service: &str, tasks: &[&str], env: &StackEnv, keys: &str) -> BTreeSet<String> {
    let seen: Mutex<BTreeSet<String>> = Mutex::default();
    let fail = |task: &str, wanted: String| {
        let any = "127.0.0.1:0";
        let mut more = vec![("TEST_FAIL_TASK", wanted.as_str()), ("LOG_LEVEL", "debug"), ("JWKS_FILE", keys)];
        more.extend([("LISTEN_ADDR", any), ("ADMIN_ADDR", any)]);
        let (status, output) = ServiceProcess::start(service, env, &more).end();
        assert_eq!(status.code(), Some(1), "{service} {wanted}: {output}");
        assert!(output.contains(&format!("the task `{task}`")), "{service} {wanted}: {output}");
        seen.lock().unwrap().extend(started(&output));
    };
    for some in tasks.chunks(6) {
        std::thread::scope(|scope| {
            for task in some {
                scope.spawn(|| fail(task, (*task).to_owned()));
            }
        });
    }
    // One that just returns is no better.
    fail(tasks[1], format!("{}:end", tasks[1]));
    seen.into_inner().unwrap()
}

#[tokio::test]
async fn failed_task_ends_service_with_its_name() {
    let test_env = test_env().await;
    let env = test_env.stack.env();
    let keys = test_env.stack.data_dir().join("jwks.json");
    std::fs::write(&keys, r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k1","alg":"EdDSA","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#).unwrap();
    let keys = keys.to_str().unwrap().to_owned();
    let tried = tokio::task::spawn_blocking(move || {
        for (service, tasks) in [("api-service", &API[..]), ("ws-gateway", &GATEWAY[..])] {
            let seen = fail_each(service, tasks, &env, &keys);
            let listed: BTreeSet<String> = tasks.iter().map(|task| (*task).to_owned()).collect();
            assert_eq!(seen, listed, "{service}: every task that there is was tried");
        }
    });
    tried.await.unwrap();
    test_env.stack.stop().unwrap();
}

#[tokio::test]
async fn panic_of_socket_task_ends_only_that_socket() {
    let test_env = test_env().await;
    let place = &test_env.place;
    let gateway = ServiceProcess::start("ws-gateway", &test_env.stack.env(), &[("TEST_FAIL_TASK", "socket")]);
    let ready = place.with_base_url(&gateway.admin_url);
    until(200, async || ready.try_get("/readyz").await).await;
    for _ in 0..3 {
        let mut tcp = e2e::raw_http::connect(&gateway.public_url).await;
        let asked = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        let _cut_off = tokio::io::AsyncWriteExt::write_all(&mut tcp, asked).await;
        let mut answer = Vec::new();
        let _cut_off = tokio::io::AsyncReadExt::read_to_end(&mut tcp, &mut answer).await;
        assert!(answer.is_empty(), "its task has panicked");
        assert_eq!(ready.get("/readyz").await.status, 200, "the gateway goes on");
    }
    test_env.stack.stop().unwrap();
}
