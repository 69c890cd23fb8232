//! Inboxes when Redis or an API service dies.

use e2e::{Socket, TestUser};
use serde_json::Value;

use crate::{kill_9, kill_without_restart, test_env};

/// Waits until the socket has received the newest row of its owner's inbox.
async fn caught_up(socket: &mut Socket, participant: &TestUser) {
    let row = participant.inbox("").await["conversations"][0].clone();
    while socket.expect("conversation").await["conversation"] != row {}
}

#[tokio::test]
async fn inbox_resyncs_after_redis_outage() {
    let test_env = test_env().await;
    let place = &test_env.place;
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let mut socket = patient.open_inbox().await;
    let _before = doctor.send_ok(&patient, "before").await;
    caught_up(&mut socket, &patient).await;
    for round in 0..2 {
        let away = kill_without_restart(&test_env.stack, test_env.stack.env().redis_pid.unwrap());
        assert_eq!(socket.next().await["type"], "degraded");
        let _missed = doctor.send_ok(&patient, &format!("{round}: missed")).await;
        drop(away);
        socket.expect("resync").await;
        socket.expect("recovered").await;
        let _live = doctor.send_ok(&patient, &format!("{round}: live")).await;
        caught_up(&mut socket, &patient).await;
        assert!(socket.everything().await.iter().all(|frame| frame["type"] == "conversation"));
    }
    test_env.stack.stop().unwrap();
}

#[tokio::test]
async fn inbox_gets_all_rows_when_api_services_are_killed() {
    let test_env = test_env().await;
    let place = &test_env.place;
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let mut socket = patient.open_inbox().await;
    let senders: Vec<_> = (0..8)
        .map(|sender| {
            let (doctor, patient) = (doctor.clone(), patient.clone());
            tokio::spawn(async move {
                for number in 0..25 {
                    // It may die with the request in its hands.
                    let _unknown = doctor.try_send(&doctor.message_to(&patient, &format!("{sender}/{number}"))).await;
                }
            })
        })
        .collect();
    for number in [0, 1, 0] {
        let row: Value = socket.expect("conversation").await; // They are at it.
        assert_eq!(row["conversation"]["unread_count"], row["conversation"]["last_message"]["seq"], "exact: {row}");
        kill_9(&test_env.stack, |env| env.api_pids[number]);
    }
    for sender in senders {
        sender.await.unwrap();
    }
    caught_up(&mut socket, &patient).await;
    test_env.stack.stop().unwrap();
}
