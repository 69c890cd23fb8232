//! One master of three is dead or stands still, and has no replica. Its conversations hear so and miss nothing; all others
//! are live as if nothing had happened.

use std::time::{Duration, Instant};

use e2e::cluster::{Node, RestartsPaused};
use e2e::{TestLocation, TestUser, WAIT_TIMEOUT};
use serde_json::Value;
use stack::{Signal, Stack, StackOptions};
use tokio::time::timeout;

use crate::{Listener, TestEnv, channel_of, listeners, test_env_with_options};

#[tokio::test]
async fn dead_master_affects_only_its_own_conversations() {
    a_master_is_gone(Signal::SIGKILL).await;
}

#[tokio::test]
async fn frozen_master_affects_only_its_own_conversations() {
    a_master_is_gone(Signal::SIGSTOP).await;
}

/// For a message to arrive. The master is gone for longer than any timeout of the services.
const LIVE: Duration = Duration::from_secs(5);
/// Questions to a node that is down, and less than half of the time that they take if each waits for a command's timeout.
const ASKED: u32 = 10;
const ASKED_FOR: Duration = Duration::from_secs(8);

/// A message to a conversation on a node that lives arrives, and its socket hears of no outage.
async fn is_live(doctor: &TestUser, Listener { patient, socket }: &mut Listener, text: &str) {
    let sent = doctor.send_ok(patient, text).await;
    let arrives = async {
        loop {
            let frame = socket.next().await;
            assert!(frame["type"] != "degraded" && frame["type"] != "resync", "{frame}");
            if frame["type"] == "message" {
                assert_eq!(frame["message"], sent);
                return;
            }
        }
    };
    timeout(LIVE, arrives).await.unwrap_or_else(|_| panic!("{text} does not arrive"));
}

/// A user whose location has its presence on this node, and the query for who is online there.
async fn presence_on(stack: &Stack, node: &Node) -> (TestUser, String) {
    for number in 0.. {
        let location = format!("there{number}");
        if node.serves(&format!("presence:{{{location}}}:gateways")).await.unwrap() {
            let place = TestLocation::named(stack, &location);
            let (doctor, patient) = (place.user("doc").at_one_service(), place.contact("pat"));
            doctor.send_ok(&patient, "Hello").await;
            return (doctor, format!("/chat/presence?location_id={location}&contact_id=pat"));
        }
    }
    unreachable!("each node serves some locations")
}

async fn a_master_is_gone(signal: Signal) {
    let options = StackOptions { redis_without_replicas: true, ..StackOptions::default() };
    let TestEnv { stack, place, nodes, _turn } = test_env_with_options(options, &[]).await;
    let doctor = place.user("doc").at_one_service();
    let masters = nodes.masters().await.unwrap();
    // The one without the keys that every service needs: the test is about conversations.
    let mut doomed = None;
    for master in &masters {
        if !master.serves("revoked").await.unwrap() && !master.serves("receipts").await.unwrap() {
            doomed = Some(master.clone());
        }
    }
    let doomed = doomed.unwrap();
    let (mut affected, mut spared) = (Vec::new(), Vec::new());
    for mut listener in listeners(&place, &doctor, 24).await {
        let before = doctor.send_ok(&listener.patient, "before").await;
        assert_eq!(listener.socket.expect("message").await["message"], before);
        let master = nodes.owner_of(&channel_of(&place, &before)).await.unwrap();
        if master.place == doomed.place { affected.push(listener) } else { spared.push(listener) }
    }
    assert!(!affected.is_empty() && !spared.is_empty(), "{} and {}", affected.len(), spared.len());
    let (asker, presence) = presence_on(&stack, &doomed).await;
    assert_eq!(asker.get(&presence).await.status, 200);
    let pid = doomed.pid(&stack.env()).unwrap();
    let restarts_paused = RestartsPaused::new(&stack).unwrap();
    stack.kill(pid, signal).unwrap();
    for Listener { socket, .. } in &mut affected {
        socket.expect("degraded").await;
    }
    // What waits for a dead node waits for two seconds. A node that counts as down gets no commands: the answer is there at once.
    // It does so by the time that the first one was waited for.
    assert_eq!(asker.get(&presence).await.status, 503);
    let began = Instant::now();
    for _ in 0..ASKED {
        assert_eq!(asker.get(&presence).await.status, 503);
    }
    assert!(began.elapsed() < ASKED_FOR, "the dead node was asked: {ASKED} answers took {:?}", began.elapsed());
    // All at one service, which publishes them side by side with what cannot be published.
    let mut sent: Vec<Vec<Value>> = vec![Vec::new(); affected.len()];
    for round in 0..8 {
        for (Listener { patient, .. }, sent) in affected.iter().zip(&mut sent) {
            sent.push(doctor.send_ok(patient, &format!("{round}")).await["id"].clone());
        }
        for listener in &mut spared {
            is_live(&doctor, listener, &format!("{round}")).await;
        }
    }

    if signal == Signal::SIGSTOP {
        stack.kill(pid, Signal::SIGCONT).unwrap();
    }
    drop(restarts_paused);
    if signal == Signal::SIGKILL {
        stack.wait_until(WAIT_TIMEOUT, |env| env.redis_node_pids[doomed.place] != pid).unwrap();
    }
    for (Listener { patient, socket }, sent) in affected.iter_mut().zip(&sent) {
        // What the outbox has not published yet when the socket is well again comes live.
        let (mut received, mut is_told, mut is_back) = (Vec::new(), false, false);
        while !is_back || !(is_told || received.len() >= sent.len()) {
            let frame = socket.next().await;
            match frame["type"].as_str() {
                Some("message") => received.push(frame["message"]["id"].clone()),
                Some("resync") => is_told = true,
                Some("recovered") => is_back = true,
                _ => {}
            }
        }
        assert!(is_told || received == *sent, "{received:?} of {sent:?}");
        assert!(received.is_sorted_by_key(|id| sent.iter().position(|sent| sent == id)), "{received:?} of {sent:?}");
        let ids: Vec<_> = patient.messages(&doctor).await[1..].iter().map(|message| message["id"].clone()).collect();
        assert_eq!(ids, *sent);
    }
    for listener in &mut spared {
        let others = listener.socket.everything().await;
        assert!(others.iter().all(|frame| frame["type"] != "degraded" && frame["type"] != "resync"), "{others:?}");
    }
    // All of it is live again.
    for Listener { patient, socket } in affected.iter_mut().chain(&mut spared) {
        let live = doctor.send_ok(patient, "live").await;
        while socket.expect("message").await["message"]["id"] != live["id"] {}
    }
    stack.stop().unwrap();
}
