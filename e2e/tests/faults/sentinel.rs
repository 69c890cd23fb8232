//! Sentinels replace the Redis master: one that died, one that stands still, and one that is well. Old masters return and
//! believe for a while that nothing happened.

use std::time::{Duration, Instant};

use e2e::cluster::Node;
use e2e::sentinels::Sentinels;
use e2e::{Socket, TestLocation, TestUser, WAIT_TIMEOUT};
use reqwest::Method;
use serde_json::Value;
use stack::{Signal, Stack, StackOptions};

use crate::service_process::ServiceProcess;
use crate::{TURNS, TestEnv, kill_without_restart, until, until_true};

/// From the loss of a master until sockets are live at its successor. The stack's Sentinels wait 1.5 s before they act.
const RECOVERY_LIMIT: Duration = Duration::from_secs(12);
/// Messages per conversation and phase.
const MESSAGES: usize = 3;

async fn test_env() -> (TestEnv, Sentinels) {
    let turn = TURNS.acquire().await.unwrap();
    let options = StackOptions { api: 2, redis_sentinel: true, ..StackOptions::default() };
    let stack = tokio::task::spawn_blocking(|| Stack::start(options)).await.unwrap().unwrap();
    let (place, sentinels) = (TestLocation::new(&stack), Sentinels::of(&stack.env()).unwrap());
    (TestEnv { stack, place, _turn: turn }, sentinels)
}

/// The doctor's conversations with patients who listen.
struct Ward {
    doctor: TestUser,
    patients: Vec<(TestUser, Socket)>,
    /// Everything that was acknowledged, per patient.
    sent: Vec<Vec<Value>>,
}

impl Ward {
    async fn open(place: &TestLocation) -> Self {
        let doctor = place.user("doc");
        let mut patients = Vec::new();
        for number in 0..6 {
            let patient = place.contact(&format!("pat{number}"));
            let socket = patient.open(&doctor).await;
            patients.push((patient, socket));
        }
        let sent = vec![Vec::new(); patients.len()];
        let mut ward = Self { doctor, patients, sent };
        ward.send_live("before").await;
        ward
    }

    async fn send(&mut self, text: &str) {
        for ((patient, _), sent) in self.patients.iter().zip(&mut self.sent) {
            for number in 0..MESSAGES {
                sent.push(self.doctor.send_ok(patient, &format!("{text} {number}")).await);
            }
        }
    }

    /// Sends to all, each of whom gets all of it, in order.
    async fn send_live(&mut self, text: &str) {
        self.send(text).await;
        for ((_, socket), sent) in self.patients.iter_mut().zip(&self.sent) {
            for message in &sent[sent.len() - MESSAGES..] {
                while socket.expect("message").await["message"]["id"] != message["id"] {}
            }
        }
    }

    async fn expect_degraded(&mut self) {
        for (_, socket) in &mut self.patients {
            socket.expect("degraded").await;
        }
    }

    /// Every socket recovers, and has the last messages or `resync`.
    async fn expect_recovered(&mut self) {
        for ((_, socket), sent) in self.patients.iter_mut().zip(&self.sent) {
            let mut missing: Vec<&Value> = sent[sent.len() - MESSAGES..].iter().map(|message| &message["id"]).collect();
            let mut is_back = false;
            while !is_back || !missing.is_empty() {
                let frame = socket.next().await;
                match frame["type"].as_str() {
                    Some("message") => missing.retain(|id| **id != frame["message"]["id"]),
                    Some("resync") => missing.clear(),
                    Some("recovered") => is_back = true,
                    _ => {}
                }
            }
        }
    }

    /// The history has all that was acknowledged, once, in order and without a gap.
    async fn check_history(&self) {
        for ((patient, _), sent) in self.patients.iter().zip(&self.sent) {
            let history = patient.messages(&self.doctor).await;
            let ids = |messages: &[Value]| messages.iter().map(|message| message["id"].clone()).collect::<Vec<_>>();
            assert_eq!(ids(&history), ids(sent));
            let numbers: Vec<u64> = history.iter().map(|message| message["seq"].as_u64().unwrap()).collect();
            assert_eq!(numbers, (1..=sent.len() as u64).collect::<Vec<_>>());
        }
    }
}

/// Tickets, presence and new sockets work, at both gateways.
async fn everything_works(place: &TestLocation, begin: Instant) {
    let (doctor, patient) = (place.user("doc"), place.contact("pat0"));
    let query = format!("/chat/presence?location_id={}&contact_id=pat0", place.location);
    let say = |what: &str| println!("{what} after {} ms", begin.elapsed().as_millis());
    say("messages are live");
    until(200, || doctor.get(&query)).await;
    say("presence");
    until(200, || place.ask(patient.request(Method::POST, "/chat/ws-ticket"))).await;
    say("tickets");
    for gateway in &place.env.gateway_ws_urls {
        until_true("a new socket opens", async || {
            let ticket = place.ask(patient.request(Method::POST, "/chat/ws-ticket")).await.expect_status(200);
            let ticket = ticket["ticket"].as_str().unwrap().to_owned();
            Socket::handshake(&format!("{gateway}?{}&ticket={ticket}", patient.with(&doctor)), &[]).await.is_ok()
        })
        .await;
    }
    say("new sockets");
}

async fn is_master(server: &Node) -> bool {
    server.ask(&["INFO", "replication"]).await.is_ok_and(|role| role.contains("role:master"))
}

/// Waits until most Sentinels name another server. The services follow the first that does.
async fn until_replaced(sentinels: &Sentinels, old: &Node) -> Node {
    let is_new = async || sentinels.master().await.is_ok_and(|named| named.place != old.place);
    until_true("the Sentinels name a new master", is_new).await;
    sentinels.master().await.unwrap()
}

async fn until_replica(server: &Node) {
    until_true("the old master is a replica", async || {
        server.ask(&["INFO", "replication"]).await.is_ok_and(|role| role.contains("role:slave"))
    })
    .await;
}

#[tokio::test]
async fn acknowledged_messages_survive_killed_master() {
    master_is_lost(Signal::SIGKILL).await;
}

#[tokio::test]
async fn acknowledged_messages_survive_frozen_master() {
    master_is_lost(Signal::SIGSTOP).await;
}

async fn master_is_lost(signal: Signal) {
    let (TestEnv { stack, place, _turn }, sentinels) = test_env().await;
    let mut ward = Ward::open(&place).await;
    // The first one that the URL names: the others are asked.
    let mute = stack.env().sentinel_pids[0];
    stack.kill(mute, Signal::SIGSTOP).unwrap();
    let old = sentinels.master().await.unwrap();
    let pid = old.pid(&stack.env()).unwrap();

    let begin = Instant::now();
    let away = match signal {
        Signal::SIGKILL => Some(kill_without_restart(&stack, pid)),
        _ => {
            stack.kill(pid, signal).unwrap();
            None
        }
    };
    ward.expect_degraded().await;
    ward.send("while there is no master").await;
    ward.expect_recovered().await;
    let after = begin.elapsed();
    println!("{signal}: live again after {} ms", after.as_millis());
    assert!(after < RECOVERY_LIMIT, "{after:?}");
    until_replaced(&sentinels, &old).await;
    ward.send_live("at the new master").await;
    everything_works(&place, begin).await;

    // The old one is back, and calls itself a master until the Sentinels see it.
    drop(away);
    if signal == Signal::SIGKILL {
        stack.wait_until(WAIT_TIMEOUT, |env| env.redis_node_pids[old.place] != pid).unwrap();
    } else {
        stack.kill(pid, Signal::SIGCONT).unwrap();
    }
    let mut rounds_beside_it = 0;
    while is_master(&old).await && begin.elapsed() < WAIT_TIMEOUT {
        ward.send_live("beside the old master").await;
        rounds_beside_it += 1;
    }
    println!("{signal}: {rounds_beside_it} rounds beside the old master");
    stack.kill(mute, Signal::SIGCONT).unwrap();
    until_replica(&old).await;
    ward.send_live("at the end").await;
    ward.check_history().await;
    stack.stop().unwrap();
}

#[tokio::test]
async fn planned_failover_is_followed() {
    let (TestEnv { stack, place, _turn }, sentinels) = test_env().await;
    let mut ward = Ward::open(&place).await;
    for round in 0..2 {
        until_true("all servers and Sentinels are well", async || sentinels.are_whole().await).await;
        let old = sentinels.master().await.unwrap();
        let begin = Instant::now();
        sentinels.fail_over().await.unwrap();
        ward.send(&format!("during failover {round}")).await;
        ward.expect_degraded().await;
        ward.send(&format!("after failover {round}")).await;
        ward.expect_recovered().await;
        println!("failover {round}: live again after {} ms", begin.elapsed().as_millis());
        assert!(begin.elapsed() < RECOVERY_LIMIT, "{:?}", begin.elapsed());
        ward.send_live(&format!("at master {round}")).await;
        until_replaced(&sentinels, &old).await;
    }
    ward.check_history().await;
    stack.stop().unwrap();
}

#[tokio::test]
async fn healthy_master_is_used_without_sentinels() {
    let (TestEnv { stack, place, _turn }, sentinels) = test_env().await;
    let mut ward = Ward::open(&place).await;
    let pids = stack.env().sentinel_pids;
    let away: Vec<_> = pids.iter().map(|pid| kill_without_restart(&stack, *pid)).collect();
    let log = stack.logs_dir().join("gateway-1.log");
    until_true("the Sentinels are missed", async || {
        let text = std::fs::read_to_string(&log).unwrap();
        text.lines().filter(|line| line.contains("a Redis Sentinel does not name the master")).count() >= pids.len()
    })
    .await;
    for round in 0..MESSAGES {
        ward.send_live(&format!("without Sentinels {round}")).await;
    }
    for (_, socket) in &mut ward.patients {
        assert!(socket.everything().await.iter().all(|frame| frame["type"] != "degraded"), "the master is well");
    }
    // Back again, they replace a master that dies.
    drop(away);
    stack.wait_until(WAIT_TIMEOUT, |env| env.sentinel_pids.iter().all(|pid| !pids.contains(pid))).unwrap();
    until_true("all servers and Sentinels are well", async || sentinels.are_whole().await).await;
    let away = kill_without_restart(&stack, sentinels.master().await.unwrap().pid(&stack.env()).unwrap());
    ward.expect_degraded().await;
    ward.send("while there is no master").await;
    ward.expect_recovered().await;
    drop(away);
    ward.send_live("at the end").await;
    ward.check_history().await;
    stack.stop().unwrap();
}

/// A master goes on without its replicas, which never get what it takes. Then it dies.
#[tokio::test]
async fn events_that_no_replica_has_are_published_again() {
    let (TestEnv { stack, place, _turn }, sentinels) = test_env().await;
    let mut ward = Ward::open(&place).await;
    until_true("all servers and Sentinels are well", async || sentinels.are_whole().await).await;
    let (old, replicas) = (sentinels.master().await.unwrap(), sentinels.replicas().await.unwrap());
    let env = stack.env();
    let replica_pids: Vec<i32> = replicas.iter().map(|replica| replica.pid(&env).unwrap()).collect();
    for pid in &replica_pids {
        stack.kill(*pid, Signal::SIGSTOP).unwrap();
    }
    // What it sends them from now on would wait for them in their connections.
    old.ask(&["CLIENT", "KILL", "TYPE", "replica"]).await.unwrap();
    ward.send_live("for the master alone").await;
    // Twice as long as a server must live on that took an event.
    let uptime = async || {
        let state = old.ask(&["INFO", "server"]).await.unwrap();
        let seconds =
            state.lines().find_map(|line| line.strip_prefix("uptime_in_seconds:")?.trim().parse::<u64>().ok());
        seconds.unwrap()
    };
    let before = uptime().await;
    until_true("the master has lived on for 5 s", async || uptime().await >= before + 5).await;
    let begin = Instant::now();
    let away = kill_without_restart(&stack, old.pid(&env).unwrap());
    for pid in &replica_pids {
        stack.kill(*pid, Signal::SIGCONT).unwrap();
    }
    ward.expect_degraded().await;
    ward.send("while there is no master").await;
    ward.expect_recovered().await;
    println!("master without replicas: live again after {} ms", begin.elapsed().as_millis());
    let new = until_replaced(&sentinels, &old).await;
    for ((patient, _), sent) in ward.patients.iter().zip(&ward.sent) {
        let conversation = sent[0]["conversation_id"].as_str().unwrap();
        let log = format!("chat:{{{}:{conversation}}}:log", place.location);
        let lacking = async || {
            let log = new.ask(&["XRANGE", &log, "-", "+"]).await.unwrap();
            sent.iter().filter(|message| !log.contains(message["id"].as_str().unwrap())).count()
        };
        until_true(&format!("the log of {} is whole", patient.id), async || lacking().await == 0).await;
    }
    drop(away);
    ward.send_live("at the end").await;
    ward.check_history().await;
    stack.stop().unwrap();
}

#[tokio::test]
async fn services_say_what_is_wrong_with_sentinels() {
    let _turn = TURNS.acquire().await.unwrap();
    let options = StackOptions { only_backends: true, redis_sentinel: true, ..StackOptions::default() };
    let stack = tokio::task::spawn_blocking(|| Stack::start(options)).await.unwrap().unwrap();
    let url = stack.env().redis_url;
    let between = |from: &str, to: char| url.split_once(from).unwrap().1.split(to).next().unwrap().to_owned();
    let (password, sentinel_password) = (between("://default:", '@'), between("sentinelPassword=", '&'));
    for service in ["api-service", "ws-gateway"] {
        for (wrong, reason) in [
            (url.replace("ServiceName=chat", "ServiceName=other"), "it knows no master of the name"),
            (url.replace(&sentinel_password, "hunter2"), "it rejects sentinelUsername or sentinelPassword (WRONGPASS)"),
            (url.replace(&password, "hunter2"), "the server that the Sentinels name cannot be used"),
        ] {
            let process = ServiceProcess::start(service, &stack.env(), &[("REDIS_URL", &wrong)]);
            let said = process.until_said(reason).await;
            let line = said.lines().find(|line| line.contains(reason)).unwrap();
            assert!(
                line.contains("WARN") && (wrong.contains("other") || line.contains("WRONGPASS")),
                "{service}: {line}"
            );
            for secret in ["hunter2", &password, &sentinel_password] {
                assert!(!said.contains(secret), "{service}: {said}");
            }
        }
    }
    stack.stop().unwrap();
}
