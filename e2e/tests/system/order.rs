//! `seq`: gapless, unique, and in the order in which others see the messages.

use e2e::TestUser;
use serde_json::Value;

use crate::place;

fn seqs(messages: &[Value]) -> Vec<i64> {
    messages.iter().map(|message| message["seq"].as_i64().unwrap()).collect()
}

#[tokio::test]
async fn concurrent_senders_make_gapless_sequence() {
    const EACH: i64 = 20;
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let mut at_doctor = doctor.open(&patient).await;
    let mut at_patient = patient.open(&doctor).await;
    assert_eq!(place.env.api_urls.len(), 2);

    let mut senders = Vec::new();
    for sender in 0..8 {
        let url = &place.env.api_urls[sender % 2];
        let (from, to) = if sender < 4 { (&doctor, &patient) } else { (&patient, &doctor) };
        senders.push(tokio::spawn(send_many(from.at(url, ""), to.clone(), sender, EACH)));
    }
    let mut answered = Vec::new();
    for sender in senders {
        answered.extend(sender.await.unwrap());
    }
    let total = 8 * EACH;
    let everything: Vec<i64> = (1..=total).collect();
    let kept = doctor.messages(&patient).await;
    assert_eq!(seqs(&kept), everything);
    answered.sort_by_key(|message| message["seq"].as_i64());
    assert_eq!(seqs(&answered), everything);
    for (answer, row) in answered.iter().zip(&kept) {
        assert_eq!((&answer["id"], &answer["content"]), (&row["id"], &row["content"]));
    }
    for socket in [&mut at_doctor, &mut at_patient] {
        let mut received: Vec<i64> = Vec::new();
        for _ in 0..total {
            received.push(socket.expect("message").await["message"]["seq"].as_i64().unwrap());
        }
        received.sort_unstable();
        assert_eq!(received, everything, "each exactly once");
    }
}

/// Answers of sends that follow each other.
async fn send_many(from: TestUser, to: TestUser, sender: usize, count: i64) -> Vec<Value> {
    let mut answers = Vec::new();
    for number in 0..count {
        answers.push(from.send_ok(&to, &format!("{sender}/{number}")).await);
    }
    assert!(seqs(&answers).is_sorted(), "a sender's messages keep their order");
    answers
}

#[tokio::test]
async fn reader_never_sees_sequence_gap() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let senders: Vec<_> = (0..8)
        .map(|sender| {
            let url = &place.env.api_urls[sender % 2];
            tokio::spawn(send_many(doctor.at(url, ""), patient.clone(), sender, 10))
        })
        .collect();
    // While they send: what is there is always 1, 2, 3 … up to some number.
    loop {
        let seen = seqs(&patient.messages(&doctor).await);
        assert_eq!(seen, (1..=seen.len() as i64).collect::<Vec<_>>());
        if seen.len() == 80 {
            break;
        }
    }
    for sender in senders {
        sender.await.unwrap();
    }
}
