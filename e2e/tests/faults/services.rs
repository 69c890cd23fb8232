//! API services die, and go away in order.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use e2e::WAIT_TIMEOUT;
use serde_json::Value;
use stack::Signal;

use crate::{kill_9, test_env, test_env_with, until};

#[tokio::test]
async fn acknowledged_sends_survive_api_service_kill() {
    let test_env = test_env().await;
    let place = &test_env.place;
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let mut socket = patient.open(&doctor).await;

    let senders: Vec<_> = (0..8)
        .map(|sender| {
            let (doctor, patient) = (doctor.clone(), patient.clone());
            tokio::spawn(async move {
                let mut kept = Vec::new();
                for number in 0..25 {
                    let body = doctor.message_to(&patient, &format!("{sender}/{number}"));
                    match doctor.try_send(&body).await {
                        Ok(answer) if answer.status == 201 => {
                            kept.push(answer.json()["id"].as_str().unwrap().to_owned());
                        }
                        // It died with the request in its hands, or no service was there.
                        Ok(answer) => {
                            assert!(matches!(answer.status, 502 | 503), "{answer:?}");
                            let _problem = answer.expect_problem(answer.status);
                        }
                        // HAProxy answers nothing when a server dies on a connection that it had used before.
                        Err(error) => assert!(error.is_request(), "{error:?}"),
                    }
                }
                kept
            })
        })
        .collect();
    let first = socket.expect("message").await; // They are at it.
    kill_9(&test_env.stack, |env| env.api_pids[0]);
    let mut kept = BTreeSet::new();
    for sender in senders {
        kept.extend(sender.await.unwrap());
    }
    assert!(kept.len() >= 100, "the other service went on: {} of 200", kept.len());

    let messages = doctor.history(&patient, "&limit=200").await["messages"].as_array().unwrap().clone();
    let stored: BTreeSet<String> = messages.iter().map(|message| message["id"].as_str().unwrap().to_owned()).collect();
    assert!(kept.is_subset(&stored), "lost: {:?}", kept.difference(&stored));
    assert!(messages.iter().enumerate().all(|(place, message)| message["seq"] == place + 1), "no gaps");

    let id = |frame: &Value| frame["message"]["id"].as_str().unwrap().to_owned();
    let mut received = BTreeSet::from([id(&first)]);
    while !received.is_superset(&stored) {
        received.insert(id(&socket.expect("message").await));
    }
    test_env.stack.stop().unwrap();
}

#[tokio::test]
async fn sends_succeed_while_api_service_is_replaced() {
    let test_env = test_env_with(&[("DRAIN_SECONDS", "2")]).await;
    let place = &test_env.place;
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let (is_replaced, first) = (Arc::new(AtomicBool::new(false)), test_env.stack.env().api_pids[0]);

    let senders: Vec<_> = (0..8)
        .map(|sender| {
            let (doctor, patient, is_replaced) = (doctor.clone(), patient.clone(), is_replaced.clone());
            tokio::spawn(async move {
                let mut sent = 0;
                while !is_replaced.load(Ordering::Relaxed) {
                    doctor.send_ok(&patient, &format!("{sender}/{sent}")).await; // Fails on anything but a 201.
                    sent += 1;
                }
                sent
            })
        })
        .collect();
    let at_first = doctor.at(&test_env.stack.env().api_urls[0], &place.ws_url);
    test_env.stack.kill(first, Signal::SIGTERM).unwrap();
    // It says so before it closes its port.
    until(503, async || at_first.get("/readyz").await).await.expect_code(503, "shutting_down");
    test_env.stack.wait_until(WAIT_TIMEOUT, |env| env.api_pids[0] != first).unwrap();
    is_replaced.store(true, Ordering::Relaxed);
    let mut sent = 0;
    for sender in senders {
        sent += sender.await.unwrap();
    }
    let newest = doctor.history(&patient, "&limit=1").await["messages"][0]["seq"].clone();
    assert_eq!(newest, sent, "each was counted once");
    test_env.stack.stop().unwrap();
}

#[tokio::test]
async fn frozen_api_service_requests_get_504_and_can_be_repeated() {
    let test_env = test_env().await;
    let place = &test_env.place;
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let _opened = doctor.send_ok(&patient, "before").await;
    let frozen = test_env.stack.env().api_pids[0];
    test_env.stack.kill(frozen, Signal::SIGSTOP).unwrap();
    // Some reach the frozen one, on connections that were used before as well as on new ones.
    let senders = (0..8).map(|number| {
        let (doctor, patient) = (doctor.clone(), patient.clone());
        tokio::spawn(async move {
            let mut body = doctor.message_to(&patient, &format!("message {number}"));
            body["client_message_id"] = uuid::Uuid::now_v7().to_string().into();
            (doctor.send(&body).await, body)
        })
    });
    let mut cut = Vec::new();
    for sender in senders.collect::<Vec<_>>() {
        let (answer, body) = sender.await.unwrap();
        match answer.status {
            201 => {}
            504 => {
                answer.expect_code(504, "gateway_timeout");
                cut.push(body);
            }
            _ => panic!("{answer:?}"),
        }
    }
    assert!(!cut.is_empty(), "the frozen one held some of them");
    test_env.stack.kill(frozen, Signal::SIGCONT).unwrap();
    for body in &cut {
        // The frozen one may have written it meanwhile, or not: both are one message.
        let again = doctor.send(body).await;
        assert!(matches!(again.status, 200 | 201), "{again:?}");
        assert_eq!(again.json()["content"], body["content"]);
    }
    let messages = doctor.messages(&patient).await;
    assert_eq!(messages.len(), 9, "each once: {messages:?}");
    test_env.stack.stop().unwrap();
}
