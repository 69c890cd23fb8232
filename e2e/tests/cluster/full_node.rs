//! One master of three is full. Its conversations wait and get `degraded`; all others are live as if nothing had happened.

use e2e::WAIT_TIMEOUT;
use serde_json::Value;
use tokio::time::timeout;

use crate::{Listener, TestEnv, channel_of, listeners, test_env};

#[tokio::test]
async fn full_master_delays_only_its_own_conversations() {
    let TestEnv { stack, place, nodes, _turn } = test_env().await;
    // By one service: another one would wait a second for what this one cannot publish, and no longer.
    let doctor = place.user("doc").at_one_service();
    let all = listeners(&place, &doctor, 24).await;
    let full = nodes.masters().await.unwrap().remove(0);
    let (mut affected, mut others) = (Vec::new(), Vec::new());
    for mut listener in all {
        let before = doctor.send_ok(&listener.patient, "before").await;
        assert_eq!(listener.socket.expect("message").await["message"], before);
        if full.serves(&channel_of(&place, &before)).await.unwrap() {
            affected.push(listener);
        } else {
            others.push(listener);
        }
    }
    assert!(!affected.is_empty() && !others.is_empty(), "{} and {}", affected.len(), others.len());

    full.tell(&["CONFIG", "SET", "maxmemory", "1"]).await.unwrap();
    let mut sent: Vec<Vec<Value>> = Vec::new();
    for round in 0..4 {
        for (n, Listener { patient, .. }) in affected.iter().enumerate() {
            let id = doctor.send_ok(patient, &format!("waits {round}")).await["id"].clone();
            if round == 0 { sent.push(vec![id]) } else { sent[n].push(id) }
        }
        for Listener { patient, socket } in &mut others {
            let live = doctor.send_ok(patient, &format!("live {round}")).await;
            assert_eq!(timeout(WAIT_TIMEOUT, socket.expect("message")).await.unwrap()["message"], live);
        }
    }
    for Listener { socket, .. } in &mut affected {
        socket.expect("degraded").await;
    }
    full.tell(&["CONFIG", "SET", "maxmemory", "0"]).await.unwrap();
    for (Listener { socket, .. }, sent) in affected.iter_mut().zip(&sent) {
        for id in sent {
            assert_eq!(socket.expect("message").await["message"]["id"], *id, "in order");
        }
        socket.expect("recovered").await;
    }
    for Listener { socket, .. } in &mut others {
        let received = socket.everything().await;
        assert!(received.iter().all(|frame| frame["type"] != "degraded" && frame["type"] != "resync"), "{received:?}");
    }
    stack.stop().unwrap();
}
