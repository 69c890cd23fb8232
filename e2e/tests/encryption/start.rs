//! A service with the wrong keys does not start.

use crate::keys::Keys;
use crate::{place, service, stack, until};

#[tokio::test]
async fn service_exits_with_64_when_keys_do_not_match() {
    let place = place().await;
    place.user("doc").send_ok(&place.contact("pat"), "hello").await; // There is a data key now.
    let env = stack().env();
    let (master, relay, other) = (Keys::new("m1"), Keys::new("r1"), Keys::new("m2"));
    let wrong_bytes = other.text().replace("m2:", "m1:");
    for (content, relay, why) in [
        (None, None, "there is no CONTENT_KEYS"),
        (Some(other.text()), Some(relay.text()), "which CONTENT_KEYS does not hold"),
        (Some(wrong_bytes.as_str()), Some(relay.text()), "does not open with the master key `m1`"),
        (Some(master.text()), None, "RELAY_KEYS: is required with CONTENT_KEYS"),
        (Some(master.text()), Some(master.text()), "must hold no key of CONTENT_KEYS"),
        (Some("m1:c2hvcnQ="), Some(relay.text()), "CONTENT_KEYS: entry 1"),
        (None, Some(relay.text()), "is of no use without CONTENT_KEYS"),
    ] {
        let mut command = service("api-service", &env);
        command
            .arg("serve")
            .envs(content.map(|keys| ("CONTENT_KEYS", keys)))
            .envs(relay.map(|keys| ("RELAY_KEYS", keys)));
        let ended = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let printed = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(64), "{why}: {printed}");
        assert!(printed.contains(why), "{why}: {printed}");
        for secret in [&master, &other, &Keys::new("r1")] {
            assert!(!printed.contains(secret.text().split_once(':').unwrap().1), "{printed}");
        }
    }
    for keys in ["r1:c2hvcnQ=", "r1"] {
        let mut command = service("ws-gateway", &env);
        command.arg("serve").env("RELAY_KEYS", keys);
        let ended = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        assert_eq!(ended.status.code(), Some(64));
    }
}

#[tokio::test]
async fn service_exits_when_database_returns_with_other_keys() {
    let place = place().await;
    place.user("doc").send_ok(&place.contact("pat"), "hello").await; // There is a data key now.
    let env = stack().env();
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (database, admin) = (free(), free());
    let (credentials, real) = env.database_url.rsplit_once('@').unwrap();
    let (real, name) = real.split_once('/').unwrap();
    let mut command = tokio::process::Command::from(service("api-service", &env));
    command.arg("serve").env("DATABASE_URL", format!("{credentials}@{database}/{name}")).kill_on_drop(true);
    command.env("ADMIN_ADDR", admin.to_string()).stderr(std::process::Stdio::piped());
    let running = command.spawn().unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let ask = async || http.get(format!("http://{admin}/healthz")).send().await;
    until("it serves without a database", async || ask().await.is_ok()).await;

    let (listener, real) = (tokio::net::TcpListener::bind(database).await.unwrap(), real.to_owned());
    let forwarding = tokio::spawn(async move {
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            let mut far = tokio::net::TcpStream::connect(&real).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
        }
    });
    let ended = tokio::time::timeout(e2e::WAIT_TIMEOUT, running.wait_with_output()).await.expect("it ends").unwrap();
    forwarding.abort();
    let printed = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(64), "{printed}");
    assert!(printed.contains("there is no CONTENT_KEYS"), "{printed}");
}
