//! One location's data key cannot be used: its sends fail, and nobody else's notice.

use e2e::trail::Trail;
use e2e::{Place, secret_text};
use futures_util::future::join_all;

use crate::keys::Keys;
use crate::{sql, start};

#[tokio::test]
async fn sends_of_a_location_with_a_bad_data_key_fail_alone_and_their_neighbours_share_a_transaction() {
    let stack = tokio::task::spawn_blocking(|| start(Keys::new("m1").env("r1"))).await.unwrap();
    let place = Place::new(&stack);
    let bad = place.elsewhere();
    let env = stack.env();
    let doctor = place.user("doc").at_one_service();
    let patients: Vec<_> = (0..10).map(|number| place.contact(&format!("pat{number}"))).collect();
    let mut ids = Vec::new();
    for patient in &patients {
        ids.push(doctor.say(patient, "before").await["conversation_id"].as_str().unwrap().to_owned());
    }
    sql(
        &env,
        &format!(
            "insert into data_keys (id, location_id, master_key_id, wrapped)
             values (gen_random_uuid(), '{}', 'm1', decode(repeat('00', 60), 'hex'))",
            bad.location
        ),
    );
    // A lock holds up one batch for a moment, and the next one gathers behind it.
    let holder = Trail::open(&env.database_url).await.client;
    let hold = format!("begin; select from conversations where id = '{}' for update", ids[9]);
    holder.batch_execute(&hold).await.unwrap();
    let send = |patient: &e2e::Person| {
        let (doctor, patient) = (doctor.clone(), patient.clone());
        tokio::spawn(async move { doctor.say(&patient, "together").await })
    };
    let held = send(&patients[9]);
    let observer = Trail::open(&env.database_url).await.client;
    let is_waiting = "select from pg_locks where not granted";
    while observer.query(is_waiting, &[]).await.unwrap().is_empty() {}
    let refused = {
        let (doctor, patient) = (bad.user("doc").at_one_service(), bad.contact("pat"));
        let body = doctor.message_to(&patient, &secret_text());
        tokio::spawn(async move { doctor.send(&body).await.refused(500) })
    };
    let sent = join_all(patients[..9].iter().map(send)).await;
    let _problem = refused.await.unwrap();
    holder.batch_execute("rollback").await.unwrap();
    held.await.unwrap();

    let ids: Vec<String> = sent.into_iter().map(|sent| sent.unwrap()["id"].as_str().unwrap().to_owned()).collect();
    let transactions = format!("select count(distinct xmin::text) from messages where id in ('{}')", ids.join("', '"));
    let transactions: u32 = sql(&env, &transactions).parse().unwrap();
    assert!(transactions <= 4, "{transactions} transactions for nine sends");
    let _still = bad.user("doc").send(&bad.user("doc").message_to(&bad.contact("pat"), "again")).await.refused(500);
    stack.stop().unwrap();
}
