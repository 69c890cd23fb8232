//! Gateways die, and go away in order.

use std::time::Duration;

use e2e::{Socket, TestUser, WAIT_TIMEOUT};
use serde_json::{Value, json};
use stack::Signal;
use tokio::time::{interval, timeout};
use tokio_tungstenite::tungstenite::Error;

use crate::{kill_9, test_env, test_env_with};

/// Comes back as clients do: the load balancer may not have noticed yet that a gateway has only just begun, and such a
/// one says 503.
async fn reconnect(participant: &TestUser, other: &TestUser, cursor: &Value) -> Socket {
    let url = format!("{}?{}&cursor={}", participant.place.ws_url, participant.with(other), cursor.as_str().unwrap());
    let bearer = format!("Bearer {}", participant.token);
    let connecting = async {
        let mut beat = interval(Duration::from_millis(100));
        loop {
            beat.tick().await;
            match Socket::connect_with(&url, &[("authorization", &bearer)]).await {
                Ok(socket) => return socket,
                Err(Error::Http(answer)) if answer.status() == 503 => {
                    assert!(answer.headers().contains_key("retry-after"), "{answer:?}");
                }
                Err(error) => panic!("{error}"),
            }
        }
    };
    timeout(WAIT_TIMEOUT, connecting).await.unwrap_or_else(|_| panic!("no gateway lets it in"))
}

#[tokio::test]
async fn socket_resumes_on_other_gateway_after_kill() {
    let test_env = test_env().await;
    let place = &test_env.place;
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let gateways = &place.env.gateway_ws_urls;
    let mut at_first = patient.at(&place.base_url, &gateways[0]).open(&doctor).await;
    let mut at_second = doctor.at(&place.base_url, &gateways[1]).open(&patient).await;
    doctor.send_ok(&patient, "seen").await;
    let cursor = at_first.expect("message").await["cursor"].clone();

    kill_9(&test_env.stack, |env| env.gateway_pids[0]);
    at_first.expect_end().await;
    let missed = [doctor.send_ok(&patient, "one").await, doctor.send_ok(&patient, "two").await];
    for _ in 0..3 {
        at_second.expect("message").await; // The other gateway's sockets have noticed nothing.
    }

    for url in [&gateways[1], &place.ws_url] {
        let mut back = reconnect(&patient.at(&place.base_url, url), &doctor, &cursor).await;
        let ready = back.next().await;
        assert_eq!((&ready["type"], &ready["resumed"]), (&json!("ready"), &json!(true)), "{url}: {ready}");
        for message in &missed {
            assert_eq!(back.expect("message").await["message"]["id"], message["id"]);
        }
        let live = doctor.send_ok(&patient, "live").await;
        while back.expect("message").await["message"]["id"] != live["id"] {}
    }
    test_env.stack.stop().unwrap();
}

#[tokio::test]
async fn stopping_gateway_closes_sockets_with_1001() {
    let test_env = test_env_with(&[("DRAIN_SECONDS", "2")]).await;
    let place = &test_env.place;
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let gateways = &place.env.gateway_ws_urls;
    let mut socket = patient.at(&place.base_url, &gateways[0]).open(&doctor).await;
    doctor.send_ok(&patient, "seen").await;
    let cursor = socket.expect("message").await["cursor"].clone();
    test_env.stack.kill(test_env.stack.env().gateway_pids[0], Signal::SIGTERM).unwrap();
    assert_eq!(socket.expect_close().await, 1001);
    let missed = doctor.send_ok(&patient, "missed").await;
    let mut back = patient.at(&place.base_url, &gateways[1]).resume(&doctor, &cursor).await;
    assert_eq!(back.next().await["resumed"], true);
    assert_eq!(back.expect("message").await["message"], missed);
    test_env.stack.stop().unwrap();
}
