//! One location's data key cannot be used: its sends fail, and others are not affected.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use e2e::audit::AuditLog;
use e2e::{TestLocation, secret_text};
use futures_util::future::join_all;

use crate::keys::Keys;
use crate::rotation::replace_api;
use crate::{service, sql, start, until};

#[tokio::test]
async fn bad_data_key_fails_only_its_location() {
    let stack = tokio::task::spawn_blocking(|| start(Keys::new("m1").env("r1"))).await.unwrap();
    let place = TestLocation::new(&stack);
    let bad = place.other_location();
    let env = stack.env();
    let doctor = place.user("doc").at_one_service();
    let patients: Vec<_> = (0..10).map(|number| place.contact(&format!("pat{number}"))).collect();
    for patient in &patients {
        doctor.send_ok(patient, "before").await;
    }
    sql(
        &env,
        &format!(
            "insert into data_keys (id, location_id, master_key_id, wrapped)
             values (gen_random_uuid(), '{}', 'm1', decode(repeat('00', 60), 'hex'))",
            bad.location
        ),
    );
    // While the table is locked all of them wait, and then they go together.
    let holder = AuditLog::open(&env.database_url).await.client;
    holder.batch_execute("begin; lock table conversations in access exclusive mode").await.unwrap();
    let sends: Vec<_> = patients
        .iter()
        .map(|patient| {
            let (doctor, patient) = (doctor.clone(), patient.clone());
            tokio::spawn(async move { doctor.send_ok(&patient, "together").await })
        })
        .collect();
    until("all sends have arrived", async || {
        let metrics = place.with_base_url(&env.admin_urls[0]).get("/metrics").await.text;
        let in_flight = metrics.lines().find_map(|line| line.strip_prefix("ehr_chat_http_requests_in_flight "));
        in_flight.unwrap().parse::<f64>().unwrap() >= sends.len() as f64
    })
    .await;
    // In every batch there is one of the bad location, which is refused at once.
    let is_over: Arc<AtomicBool> = Arc::default();
    let (refused, mut first) = tokio::sync::mpsc::unbounded_channel();
    let (over, writer) = (is_over.clone(), bad.user("doc").at_one_service());
    let body = writer.message_to(&bad.contact("pat"), &secret_text());
    let failing = tokio::spawn(async move {
        while !over.load(Ordering::Relaxed) {
            let _problem = writer.send(&body).await.expect_problem(500);
            let _gone = refused.send(());
        }
    });
    first.recv().await.unwrap();
    holder.batch_execute("rollback").await.unwrap();
    let sent = join_all(sends).await;
    is_over.store(true, Ordering::Relaxed);
    failing.await.unwrap();

    let ids: Vec<String> = sent.into_iter().map(|sent| sent.unwrap()["id"].as_str().unwrap().to_owned()).collect();
    let transactions = format!("select count(distinct xmin::text) from messages where id in ('{}')", ids.join("', '"));
    let transactions: u32 = sql(&env, &transactions).parse().unwrap();
    assert!(transactions <= 4, "{transactions} transactions for ten sends");

    // A service that starts beside the bad row, the newest of all, serves all other locations.
    replace_api(&stack, 0).await;
    place.user("doc").at(&env.api_urls[0], &place.ws_url).send_ok(&patients[0], "after a restart").await;
    let bad_writer = bad.user("doc").at(&env.api_urls[0], &place.ws_url);
    let _problem =
        bad_writer.send(&bad_writer.message_to(&bad.contact("pat"), &secret_text())).await.expect_problem(500);
    // It keeps no other data key from being rewrapped, and is named.
    let mut command = service("api-service", &env);
    command.args(["keys", "allow-plain"]).env("CONTENT_KEYS", Keys::new("m1").text());
    let done = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let printed = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    assert!(!done.status.success(), "{printed}");
    for expected in
        ["1 data keys accept plain text", &format!("of location {}", bad.location), "1 data keys do not open"]
    {
        assert!(printed.contains(expected), "{expected}: {printed}");
    }
    stack.stop().unwrap();
}
