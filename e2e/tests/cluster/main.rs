//! The chat on a Redis Cluster of three masters and their replicas: conversations on every master, a master that dies, a
//! slot that moves while a socket is subscribed.
//!
//! Two run at a time: a machine with more load would decide elections otherwise.

#![allow(clippy::unwrap_used, reason = "a test fails where it finds the fault")]

mod dead_node;
mod full_node;
mod revocations;

use std::collections::HashMap;

use e2e::cluster::{Nodes, RestartsPaused, SlotMigration};
use e2e::{Socket, TestLocation, TestUser, WAIT_TIMEOUT};
use serde_json::Value;
use stack::{Signal, Stack, StackOptions};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Systems at a time.
static TURNS: Semaphore = Semaphore::const_new(2);

struct TestEnv {
    stack: Stack,
    place: TestLocation,
    nodes: Nodes,
    _turn: SemaphorePermit<'static>,
}

async fn test_env() -> TestEnv {
    test_env_with(&[]).await
}

async fn test_env_with(more: &[(&str, &str)]) -> TestEnv {
    test_env_with_options(StackOptions::default(), more).await
}

async fn test_env_with_options(options: StackOptions, more: &[(&str, &str)]) -> TestEnv {
    let turn = TURNS.acquire().await.unwrap();
    // What a migrated slot takes with it is found by comparing positions.
    let env = [&[("RECONCILE_INTERVAL_SECONDS", "1")], more].concat();
    let env = env.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let options = StackOptions { api: 2, redis_cluster: true, env, ..options };
    let stack = tokio::task::spawn_blocking(|| Stack::start(options)).await.unwrap().unwrap();
    let (place, nodes) = (TestLocation::new(&stack), Nodes::of(&stack.env().redis_url).unwrap());
    TestEnv { stack, place, nodes, _turn: turn }
}

/// A conversation of the doctor with one of many patients, and the patient's socket on it.
struct Listener {
    patient: TestUser,
    socket: Socket,
}

/// The channel of a message's conversation.
fn channel_of(place: &TestLocation, message: &Value) -> String {
    format!("chat:{{{}:{}}}", place.location, message["conversation_id"].as_str().unwrap())
}

async fn listeners(place: &TestLocation, doctor: &TestUser, count: usize) -> Vec<Listener> {
    let mut listeners = Vec::new();
    for number in 0..count {
        let patient = place.contact(&format!("pat{number}"));
        let socket = patient.open(doctor).await;
        listeners.push(Listener { patient, socket });
    }
    listeners
}

#[tokio::test]
async fn conversations_are_live_on_every_master() {
    let TestEnv { stack, place, nodes, _turn } = test_env().await;
    let doctor = place.user("doc");
    let mut listeners = listeners(&place, &doctor, 30).await;
    let masters = nodes.masters().await.unwrap();
    assert_eq!(masters.len(), 3);
    for master in &masters {
        let channels = master.channels().await.unwrap();
        assert!(channels.iter().any(|channel| channel.starts_with("chat:{")), "each master has some: {channels:?}");
    }

    for round in 0..3 {
        for Listener { patient, socket } in &mut listeners {
            let sent = doctor.send_ok(patient, &format!("{round}")).await;
            assert_eq!(socket.expect("message").await["message"], sent);
        }
    }
    // Back again, by way of the stream of receipts, which lives on one of them.
    let Listener { patient, .. } = &listeners[0];
    let mut at_doctor = doctor.open(patient).await;
    let sent = doctor.send_ok(patient, "ticks").await;
    // Perhaps together with the one before it: receipts that come shortly after each other are one frame.
    while !at_doctor.expect("delivered").await["message_ids"].as_array().unwrap().contains(&sent["id"]) {}
    listeners[0].socket.send(&serde_json::json!({"type": "typing"}));
    assert_eq!(at_doctor.expect("typing").await["contact_id"], "pat0");
    // And inboxes, whose owners are on any of them.
    let mut inboxes = Vec::new();
    for Listener { patient, .. } in &listeners {
        inboxes.push(patient.open_inbox().await);
    }
    for (Listener { patient, .. }, inbox) in listeners.iter().zip(&mut inboxes) {
        let sent = doctor.send_ok(patient, "for the inbox").await;
        while inbox.expect("conversation").await["conversation"]["last_message"]["id"] != sent["id"] {}
    }
    stack.stop().unwrap();
}

#[tokio::test]
async fn acknowledged_messages_survive_dead_master() {
    a_master_is_lost(Signal::SIGKILL).await;
}

#[tokio::test]
async fn acknowledged_messages_survive_frozen_master() {
    a_master_is_lost(Signal::SIGSTOP).await;
}

async fn a_master_is_lost(signal: Signal) {
    let TestEnv { stack, place, nodes, _turn } = test_env().await;
    let doctor = place.user("doc");
    let all = listeners(&place, &doctor, 24).await;
    let mut sent: HashMap<String, Vec<Value>> = HashMap::new();
    let doomed = nodes.all()[0].clone();
    // Sockets on other masters get `degraded` only for events that wait.
    let (mut listeners, mut others) = (Vec::new(), Vec::new());
    for mut listener in all {
        let before = doctor.send_ok(&listener.patient, "before").await;
        assert_eq!(listener.socket.expect("message").await["message"], before);
        let is_doomed = doomed.serves(&channel_of(&place, &before)).await.unwrap();
        if is_doomed { listeners.push(listener) } else { others.push(listener) }
    }
    assert!(!listeners.is_empty() && !others.is_empty(), "{} and {}", listeners.len(), others.len());

    // It is not restarted meanwhile: its replica must take over.
    let lost = stack.env().redis_node_pids[0];
    let restarts_paused = RestartsPaused::new(&stack).unwrap();
    stack.kill(lost, signal).unwrap();
    for Listener { patient, socket } in &mut listeners {
        socket.expect("degraded").await;
        for number in 0..3 {
            sent.entry(patient.id.clone()).or_default().push(doctor.send_ok(patient, &format!("{number}")).await);
        }
    }
    for Listener { patient, socket } in &mut listeners {
        let mut missing: Vec<&Value> = sent[&patient.id].iter().map(|message| &message["id"]).collect();
        let mut is_back = false;
        while !is_back || !missing.is_empty() {
            let frame = socket.next().await;
            match frame["type"].as_str() {
                Some("message") => missing.retain(|id| **id != frame["message"]["id"]),
                // The new master lacks what the socket saw last: the socket loads the history.
                Some("resync") => missing.clear(),
                Some("recovered") => is_back = true,
                _ => {}
            }
        }
        // `delivered_at` has been set since.
        let ids = |messages: &[Value]| messages.iter().map(|message| message["id"].clone()).collect::<Vec<_>>();
        assert_eq!(ids(&patient.messages(&doctor).await[1..]), ids(&sent[&patient.id]));
    }
    // Now that the sockets are well, so is everything behind them: all of it goes live, both ways.
    listeners.append(&mut others);
    for Listener { patient, socket } in &mut listeners {
        let live = doctor.send_ok(patient, "live").await;
        while socket.expect("message").await["message"]["id"] != live["id"] {}
    }
    assert_eq!(nodes.masters().await.unwrap().len(), 3);

    // The lost one comes back, as a replica of its successor.
    drop(restarts_paused);
    if signal == Signal::SIGKILL {
        stack.wait_until(WAIT_TIMEOUT, |env| env.redis_node_pids[0] != lost).unwrap();
    } else {
        stack.kill(lost, Signal::SIGCONT).unwrap();
    }
    for Listener { patient, socket } in &mut listeners {
        let live = doctor.send_ok(patient, "later").await;
        while socket.expect("message").await["message"]["id"] != live["id"] {}
    }
    stack.stop().unwrap();
}

#[tokio::test]
async fn socket_misses_nothing_during_slot_migration() {
    let TestEnv { stack, place, nodes, _turn } = test_env().await;
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let mut socket = patient.open(&doctor).await;
    let first = doctor.send_ok(&patient, "before").await;
    assert_eq!(socket.expect("message").await["message"], first);

    let channel = channel_of(&place, &first);
    let migration = SlotMigration::of(&nodes, &channel, 0).await.unwrap();
    migration.begin().await.unwrap();
    let during = doctor.send_ok(&patient, "the log is still at the old master").await;
    assert_eq!(socket.expect("message").await["message"], during);
    migration.move_keys().await.unwrap();
    // The old master has no log any more, and the new one does not serve the slot yet.
    let between = doctor.send_ok(&patient, "between").await;
    migration.finish().await.unwrap();
    assert_eq!(socket.expect("message").await["message"], between);
    let subscribers = migration.to.ask(&["PUBSUB", "SHARDNUMSUB", &channel]).await.unwrap();
    assert!(subscribers.trim_end().ends_with('1'), "the socket's gateway listens at the new master: {subscribers}");
    for number in 0..5 {
        let after = doctor.send_ok(&patient, &format!("after {number}")).await;
        assert_eq!(socket.expect("message").await["message"], after);
    }
    // A socket that comes later is led there at once.
    let mut at_doctor = doctor.open(&patient).await;
    let last = patient.send_ok(&doctor, "and back").await;
    assert_eq!(at_doctor.expect("message").await["message"], last);
    stack.stop().unwrap();
}

#[tokio::test]
async fn killed_gateway_participants_go_offline_on_every_master() {
    let hasty = [("PRESENCE_TTL_SECONDS", "5"), ("PRESENCE_LINGER_SECONDS", "1")];
    let TestEnv { stack, nodes, _turn, .. } = test_env_with(&hasty).await;
    // The script that sends them away learns their keys from Redis, on whichever node the location is.
    let places: Vec<_> = (0..12).map(|number| TestLocation::named(&stack, &format!("loc{number}"))).collect();
    let mut sockets = Vec::new();
    for place in &places {
        let [staying, dying] = &place.env.gateway_ws_urls[..] else { panic!("two gateways") };
        let (doctor, patient) = (place.user("doc"), place.contact("pat"));
        doctor.send_ok(&patient, "Hello").await;
        let mut with_patient = doctor.at(&place.base_url, staying).open(&patient).await;
        let lost = patient.at(&place.base_url, dying).open_inbox().await;
        assert_eq!(with_patient.expect_presence().await["online"], true);
        sockets.push((with_patient, lost));
    }
    for master in &nodes.masters().await.unwrap() {
        let channels = master.channels().await.unwrap();
        assert!(channels.iter().any(|channel| channel.starts_with("presence:{")), "each master has some: {channels:?}");
    }
    stack.kill(stack.env().gateway_pids[1], Signal::SIGKILL).unwrap();
    for (with_patient, _lost) in &mut sockets {
        let frame = with_patient.expect_presence().await;
        assert!(frame["online"] == false && frame["last_seen_at"].is_string(), "{frame}");
    }
    stack.stop().unwrap();
}

#[tokio::test]
async fn presence_works_on_every_master() {
    let TestEnv { stack, nodes, _turn, .. } = test_env().await;
    // Always these names, and so always these slots.
    let places: Vec<_> = (0..12).map(|number| TestLocation::named(&stack, &format!("loc{number}"))).collect();
    let mut sockets = Vec::new();
    for place in &places {
        let (doctor, patient) = (place.user("doc"), place.contact("pat"));
        doctor.send_ok(&patient, "Hello").await;
        let socket = doctor.open(&patient).await;
        sockets.push((doctor, patient, socket));
    }
    for (doctor, patient, socket) in &mut sockets {
        let there = patient.open_inbox().await;
        assert_eq!(socket.expect_presence().await["online"], true);
        let query = format!("/chat/presence?location_id={}&contact_id=pat", doctor.place.location);
        assert_eq!(doctor.get(&query).await.expect_status(200)["participants"][0]["online"], true);
        there.close().await;
    }
    for master in &nodes.masters().await.unwrap() {
        let channels = master.channels().await.unwrap();
        assert!(channels.iter().any(|channel| channel.starts_with("presence:{")), "each master has some: {channels:?}");
    }
    for (_, _, socket) in &mut sockets {
        let frame = socket.expect_presence().await;
        assert!(frame["online"] == false && frame["last_seen_at"].is_string(), "{frame}");
    }
    stack.stop().unwrap();
}
