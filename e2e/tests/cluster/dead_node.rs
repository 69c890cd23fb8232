//! One master of three is dead or stands still, and has no replica. Its conversations hear so and miss nothing; gateways
//! relay all others as if nothing had happened.

use e2e::PATIENCE;
use e2e::cluster::{Node, Unattended};
use serde_json::Value;
use stack::{Signal, StackOptions};
use tokio::time::timeout;

use crate::{Listener, Setting, channel_of, listeners, setting_of};

#[tokio::test]
async fn a_dead_master_concerns_the_sockets_of_its_own_conversations_and_no_others() {
    a_master_is_gone(Signal::SIGKILL).await;
}

#[tokio::test]
async fn a_frozen_master_concerns_the_sockets_of_its_own_conversations_and_no_others() {
    a_master_is_gone(Signal::SIGSTOP).await;
}

/// A conversation on a node that lives: its own listener, channel and master.
struct Spared {
    listener: Listener,
    channel: String,
    master: Node,
}

impl Spared {
    /// Something comes live on its channel, by way of its master alone, and reaches the socket before anything else does.
    async fn hears(&mut self) {
        let payload = "* user:doc\n{\"type\":\"typing\",\"user_id\":\"doc\"}";
        let heard = self.master.ask(&["SPUBLISH", &self.channel, payload]).await.unwrap();
        assert_eq!(heard.trim(), "1", "one gateway listens");
        let frame = timeout(PATIENCE, self.listener.socket.next()).await.unwrap();
        assert_eq!((&frame["type"], &frame["user_id"]), (&"typing".into(), &"doc".into()), "{frame}");
    }
}

async fn a_master_is_gone(signal: Signal) {
    let options = StackOptions { redis_without_replicas: true, ..StackOptions::default() };
    let Setting { stack, place, nodes, _turn } = setting_of(options, &[]).await;
    let doctor = place.user("doc");
    let masters = nodes.masters().await.unwrap();
    // The one without the keys that everybody needs: the test is about conversations.
    let mut doomed = None;
    for master in &masters {
        if !master.serves("revoked").await.unwrap() && !master.serves("acks").await.unwrap() {
            doomed = Some(master.clone());
        }
    }
    let doomed = doomed.unwrap();
    let (mut affected, mut spared) = (Vec::new(), Vec::new());
    for mut listener in listeners(&place, &doctor, 24).await {
        let before = doctor.say(&listener.patient, "before").await;
        assert_eq!(listener.socket.expect("message").await["message"], before);
        let channel = channel_of(&place, &before);
        let master = nodes.owner_of(&channel).await.unwrap();
        if master.place == doomed.place {
            affected.push(listener);
        } else {
            spared.push(Spared { listener, channel, master });
        }
    }
    assert!(!affected.is_empty() && !spared.is_empty(), "{} and {}", affected.len(), spared.len());
    for one in &mut spared {
        // Receipts and presence of before are of no interest.
        one.listener.socket.everything().await;
    }

    let pid = doomed.pid(&stack.env()).unwrap();
    let unattended = Unattended::begin(&stack).unwrap();
    stack.kill(pid, signal).unwrap();
    for Listener { socket, .. } in &mut affected {
        socket.expect("degraded").await;
    }
    for _ in 0..3 {
        for one in &mut spared {
            one.hears().await;
        }
    }
    let mut sent: Vec<Vec<Value>> = Vec::new();
    for Listener { patient, .. } in &affected {
        let mut ids = Vec::new();
        for number in 0..3 {
            ids.push(doctor.say(patient, &format!("{number}")).await["id"].clone());
        }
        sent.push(ids);
    }
    for one in &mut spared {
        one.hears().await;
    }

    if signal == Signal::SIGSTOP {
        stack.kill(pid, Signal::SIGCONT).unwrap();
    }
    drop(unattended);
    if signal == Signal::SIGKILL {
        stack.wait_until(PATIENCE, |env| env.redis_node_pids[doomed.place] != pid).unwrap();
    }
    for (Listener { patient, socket }, sent) in affected.iter_mut().zip(&sent) {
        // What the outbox has not published yet when the socket is well again comes live.
        let (mut heard, mut is_told, mut is_back) = (Vec::new(), false, false);
        while !is_back || !(is_told || heard.len() >= sent.len()) {
            let frame = socket.next().await;
            match frame["type"].as_str() {
                Some("message") => heard.push(frame["message"]["id"].clone()),
                Some("resync") => is_told = true,
                Some("recovered") => is_back = true,
                _ => {}
            }
        }
        assert!(is_told || heard == *sent, "{heard:?} of {sent:?}");
        assert!(heard.is_sorted_by_key(|id| sent.iter().position(|sent| sent == id)), "{heard:?} of {sent:?}");
        let ids: Vec<_> = patient.messages(&doctor).await[1..].iter().map(|message| message["id"].clone()).collect();
        assert_eq!(ids, *sent);
    }
    for one in &mut spared {
        let others = one.listener.socket.everything().await;
        assert!(others.iter().all(|frame| frame["type"] != "degraded" && frame["type"] != "resync"), "{others:?}");
    }
    // All of it is live again.
    for Listener { patient, socket } in affected.iter_mut().chain(spared.iter_mut().map(|one| &mut one.listener)) {
        let live = doctor.say(patient, "live").await;
        while socket.expect("message").await["message"]["id"] != live["id"] {}
    }
    stack.stop().unwrap();
}
