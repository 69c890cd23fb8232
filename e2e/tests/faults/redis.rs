//! Redis dies and comes back empty.

use serde_json::Value;

use crate::{kill_without_restart, test_env};

#[tokio::test]
async fn sockets_get_missed_messages_after_redis_outage() {
    let test_env = test_env().await;
    let place = &test_env.place;
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let mut at_doctor = doctor.open(&patient).await;
    let mut at_patient = patient.open(&doctor).await;
    let before = doctor.send_ok(&patient, "before").await;
    assert_eq!(at_patient.expect("message").await["message"], before);

    for round in 0..2 {
        let away = kill_without_restart(&test_env.stack, test_env.stack.env().redis_pid.unwrap());
        for socket in [&mut at_patient, &mut at_doctor] {
            socket.expect("degraded").await;
        }
        let mut sent = Vec::new();
        for number in 0..5 {
            sent.push(doctor.send_ok(&patient, &format!("{round}/{number}")).await);
        }
        drop(away);
        // The sockets stay, and either get all of it or `resync`.
        for socket in [&mut at_patient, &mut at_doctor] {
            let (mut received, mut is_told, mut is_live) = (Vec::new(), false, false);
            while !is_live || !(is_told || sent.iter().all(|message| received.contains(&message["id"]))) {
                let frame = socket.next().await;
                is_told |= frame["type"] == "resync";
                is_live |= frame["type"] == "recovered";
                if frame["type"] == "message" {
                    received.push(frame["message"]["id"].clone());
                }
            }
        }
        let history = patient.messages(&doctor).await;
        let stored: Vec<&Value> = history.iter().map(|message| &message["id"]).collect();
        assert!(sent.iter().all(|message| stored.contains(&&message["id"])));

        // Live again, both ways, ticks and all.
        let live = doctor.send_ok(&patient, "live").await;
        while at_patient.expect("message").await["message"]["id"] != live["id"] {}
        loop {
            let delivered = at_doctor.expect("delivered").await;
            if delivered["message_ids"].as_array().unwrap().contains(&live["id"]) {
                break;
            }
        }
        let _marks = patient.mark("read", &[&live["id"]]).await.expect_status(200);
        loop {
            let read = at_doctor.expect("read").await;
            if read["message_ids"].as_array().unwrap().contains(&live["id"]) {
                break;
            }
        }
    }
    test_env.stack.stop().unwrap();
}
