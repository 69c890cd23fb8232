//! PostgreSQL dies and comes back.

use std::collections::BTreeSet;

use e2e::TestUser;
use e2e::audit::AuditLog;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{kill_without_restart, test_env, until, until_locked};

#[tokio::test]
async fn requests_return_503_while_postgresql_is_down() {
    let test_env = test_env().await;
    let place = &test_env.place;
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let mut socket = patient.open(&doctor).await;
    doctor.send_ok(&patient, "before").await;
    socket.expect("message").await;
    let before = test_env.stack.env();
    let postgres = before.postgres_pid.unwrap();

    let away = kill_without_restart(&test_env.stack, postgres);
    let body = doctor.message_to(&patient, &e2e::secret_text());
    let _problem = until(503, async || doctor.send(&body).await).await.expect_problem(503);
    // Readiness follows the next look of each service at its database.
    for url in &place.env.api_urls {
        let api = place.with_base_url(url);
        until(503, async || api.get("/readyz").await).await.expect_code(503, "database_unavailable");
    }
    // All services are cut off now, and the load balancer may have noticed: each answer is a 503, from the service or the balancer.
    for _ in 0..10 {
        let _problem = doctor.send(&body).await.expect_problem(503);
        let _problem = doctor.get(&format!("/chat/history?{}", doctor.with(&patient))).await.expect_problem(503);
        let _problem =
            doctor.get(&format!("/chat/conversations?location_id={}", place.location)).await.expect_problem(503);
        let _problem = patient.mark("read", &[&json!(uuid::Uuid::now_v7())]).await.expect_problem(503);
        let _problem = place.get("/readyz").await.expect_problem(503);
    }
    // Sockets need no database.
    assert!(socket.everything().await.iter().all(|frame| frame["type"] != "message"));

    drop(away);
    test_env.stack.wait_until(e2e::WAIT_TIMEOUT, |env| env.postgres_pid != Some(postgres)).unwrap();
    let after = until(201, async || doctor.send(&doctor.message_to(&patient, "after")).await).await.json();
    loop {
        if socket.expect("message").await["message"]["id"] == after["id"] {
            break;
        }
    }
    let now = test_env.stack.env();
    assert_eq!(
        (&now.api_pids, &now.gateway_pids),
        (&before.api_pids, &before.gateway_pids),
        "no process was restarted"
    );

    // The load balancer may lag behind by a check or two; the services themselves have recovered.
    let patient = patient.at_one_service();
    // What is there is whole: no gap, and the inbox agrees with the messages.
    let messages = patient.messages(&doctor).await;
    assert!(messages.iter().enumerate().all(|(place, message)| message["seq"] == place + 1), "{messages:?}");
    let ids: BTreeSet<&str> = messages.iter().map(|message| message["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), messages.len());
    let row = patient.inbox("").await["conversations"][0].clone();
    assert_eq!(row["unread_count"], messages.len());
    assert_eq!(row["last_message"]["id"], *messages.last().unwrap()["id"].as_str().unwrap());
    let ready = until(200, async || place.get("/readyz").await).await;
    assert_eq!(ready.expect_status(200), json!({"status": "ok"}));
    test_env.stack.stop().unwrap();
}

/// The service may not delete anything; an operator may, and in the middle of a batch.
#[tokio::test]
async fn deleted_conversation_does_not_affect_its_batch() {
    let test_env = test_env().await;
    let place = &test_env.place;
    let doctor = place.user("doc").at_one_service();
    let patients: Vec<_> = (0..9).map(|number| place.contact(&format!("pat{number}"))).collect();
    let mut ids = Vec::new();
    for patient in &patients {
        ids.push(doctor.send_ok(patient, "before").await["conversation_id"].as_str().unwrap().to_owned());
    }
    let (held, deleted) = (&ids[8], &ids[0]);
    let database = test_env.stack.env().database_url;
    let connect = async || AuditLog::open(&database).await.client;
    let (holder, deleter) = (connect().await, connect().await);
    let sends = |to: &[TestUser]| {
        let send = |patient: &TestUser| {
            let (doctor, patient) = (doctor.clone(), patient.clone());
            tokio::spawn(async move { doctor.send_ok(&patient, "under way").await })
        };
        to.iter().map(send).collect::<Vec<_>>()
    };

    let delete = format!(
        "delete from messages where conversation_id = '{deleted}'; delete from conversations where id = '{deleted}'"
    );
    deleter.batch_execute(&format!("begin; {delete}")).await.unwrap();
    holder.batch_execute(&format!("begin; select from conversations where id = '{held}' for update")).await.unwrap();
    // The conversation that is held counts as locked, and so does the one that is about to be deleted; their neighbours are not.
    let mut under_way = sends(&patients[8..]);
    until_locked(place, 1).await;
    under_way.extend(sends(&patients[..8]));
    until_locked(place, 2).await;
    holder.batch_execute("commit").await.unwrap();
    deleter.batch_execute("commit").await.unwrap();
    let mut sent: Vec<Value> = join_all(under_way).await.into_iter().map(Result::unwrap).collect();
    sent.rotate_left(1);
    assert_eq!(sent[0]["seq"], 1, "a conversation of its own");
    assert_eq!(doctor.messages(&patients[0]).await, [sent[0].clone()]);
    for (patient, sent) in patients.iter().zip(&sent).skip(1) {
        assert_eq!(sent["seq"], 2);
        assert_eq!(doctor.messages(patient).await.len(), 2, "once");
    }
    test_env.stack.stop().unwrap();
}
