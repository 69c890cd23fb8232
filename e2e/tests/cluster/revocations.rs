//! The copy of the revocations is on one master of the cluster. It outlives that master, and gateways follow it to the next.

use std::time::Duration;

use e2e::cluster::RestartsPaused;
use e2e::{Socket, TestLocation, TestUser, WAIT_TIMEOUT, token};
use reqwest::Method;
use serde_json::json;
use stack::{Signal, Stack};
use tokio::time::{interval, timeout};

use crate::{TestEnv, test_env};

async fn revoke(place: &TestLocation, jti: &str) {
    let claims = token::with(token::claims("ehr-backend", "service", &[&place.location]), "admin", json!(true));
    let admin = place.service().with_token(place.sign(&claims));
    let asked = admin.request(Method::POST, "/admin/revocations").json(&json!({"jti": jti}));
    assert_eq!(place.ask(asked).await.status, 204);
}

fn doctor_with(place: &TestLocation, jti: &str) -> TestUser {
    let claims = token::with(token::claims("doc", "user", &[&place.location]), "jti", json!(jti));
    place.user("doc").with_token(place.sign(&claims))
}

/// A handshake at one gateway gets this answer in the end, and only 503 before: it is starting, or does not know enough yet.
async fn until_answered(stack: &Stack, gateway: usize, person: &TestUser, status: u16) {
    let query = person.with(&person.place.contact("pat"));
    let authorization = format!("Bearer {}", person.token);
    let asking = async {
        let mut beat = interval(Duration::from_millis(50));
        loop {
            beat.tick().await;
            let url = format!("{}?{query}", stack.env().gateway_ws_urls[gateway]);
            match Socket::handshake(&url, &[("authorization", &authorization)]).await {
                Ok(_) if status == 101 => return,
                Ok(_) => panic!("a revoked token opens a socket"),
                Err(tokio_tungstenite::tungstenite::Error::Http(answer)) => match answer.status().as_u16() {
                    503 => {}
                    answered => return assert_eq!(answered, status),
                },
                Err(_dropped_yet) => {}
            }
        }
    };
    timeout(WAIT_TIMEOUT * 2, asking).await.unwrap_or_else(|_| panic!("no {status} in time"));
}

#[tokio::test]
async fn revocations_survive_loss_of_their_master() {
    let TestEnv { stack, place, nodes, _turn } = test_env().await;
    let env = stack.env();
    let [first, second] = ["first", "second"].map(|name| format!("{name}-{}", uuid::Uuid::now_v7()));
    let patient = place.contact("pat");
    let sockets = async |jti: &str| {
        let mut sockets = Vec::new();
        for gateway in &env.gateway_ws_urls {
            sockets.push(doctor_with(&place, jti).at(&place.base_url, gateway).open(&patient).await);
        }
        sockets
    };
    let (of_first, of_second) = (sockets(&first).await, sockets(&second).await);
    revoke(&place, &first).await;
    for mut socket in of_first {
        assert_eq!(socket.expect_close().await, 4401);
    }
    let holder = nodes.owner_of("revoked").await.unwrap();
    assert_eq!(holder.ask(&["EXISTS", "revoked"]).await.unwrap().trim(), "1");

    // It is not restarted: its replica takes over.
    let restarts_paused = RestartsPaused::new(&stack).unwrap();
    stack.kill(holder.pid(&env).unwrap(), Signal::SIGKILL).unwrap();
    revoke(&place, &second).await;
    for mut socket in of_second {
        assert_eq!(socket.expect_close().await, 4401, "it is learnt from the successor");
    }
    assert_ne!(nodes.owner_of("revoked").await.unwrap().place, holder.place);
    drop(restarts_paused);

    // Who knows nothing learns all of it there before it opens a socket.
    for (gateway, pid) in env.gateway_pids.iter().enumerate() {
        stack.kill(*pid, Signal::SIGKILL).unwrap();
        stack.wait_until(WAIT_TIMEOUT, |env| env.gateway_pids[gateway] != *pid).unwrap();
        for jti in [&first, &second] {
            until_answered(&stack, gateway, &doctor_with(&place, jti), 401).await;
        }
        until_answered(&stack, gateway, &place.user("doc"), 101).await;
    }
    stack.stop().unwrap();
}
