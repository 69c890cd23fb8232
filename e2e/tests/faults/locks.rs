//! Rows in PostgreSQL are locked: requests that need them wait for a bounded time, and no others do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use e2e::audit::AuditLog;
use e2e::{TestLocation, TestUser, WAIT_TIMEOUT};
use futures_util::future::join_all;
use serde_json::Value;
use tokio::time::{Instant, timeout};
use tokio_postgres::Client;

use crate::{TestEnv, test_env, test_env_with, until_locked};

/// Transactions that others hold open.
async fn session(test_env: &TestEnv) -> Client {
    AuditLog::open(&test_env.stack.env().database_url).await.client
}

async fn hold(client: &Client, rows: &str) {
    client.batch_execute(&format!("begin; select from {rows} for update")).await.unwrap();
}

/// Conversations that send, one message after the other, until they must stop.
struct Neighbours {
    is_over: Arc<AtomicBool>,
    senders: Vec<tokio::task::JoinHandle<Vec<Duration>>>,
}

impl Neighbours {
    fn start(place: &TestLocation, count: usize) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let send = |number| {
            let (doctor, patient) = (place.user(&format!("doc-n{number}")), place.contact(&format!("pat-n{number}")));
            let is_over = is_over.clone();
            tokio::spawn(async move {
                let mut times = Vec::new();
                while !is_over.load(Ordering::Relaxed) {
                    let start = Instant::now();
                    doctor.send_ok(&patient, &times.len().to_string()).await; // Fails on anything but a 201.
                    times.push(start.elapsed());
                }
                times
            })
        };
        let senders = (0..count).map(send).collect();
        Self { is_over, senders }
    }

    /// How long each of their sends took.
    async fn stop(self) -> Vec<Duration> {
        self.is_over.store(true, Ordering::Relaxed);
        join_all(self.senders).await.into_iter().flat_map(Result::unwrap).collect()
    }
}

async fn id_of(doctor: &TestUser, patient: &TestUser) -> String {
    doctor.send_ok(patient, "before").await["conversation_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn locked_conversation_waits_alone_until_503() {
    let test_env = test_env().await;
    let place = &test_env.place;
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let id = id_of(&doctor, &patient).await;
    let holder = session(&test_env).await;
    hold(&holder, &format!("conversations where id = '{id}'")).await;

    let neighbours = Neighbours::start(place, 4);
    // The first is found out by a wait, and later ones are known; both services are asked.
    let (first, second) = (&test_env.stack.env().api_urls[0], &test_env.stack.env().api_urls[1]);
    let sends = [first, second, first, second].map(|url| {
        let doctor = doctor.at(url, &place.ws_url);
        let body = doctor.message_to(&patient, &e2e::secret_text());
        tokio::spawn(async move {
            let start = Instant::now();
            let answer = doctor.send(&body).await;
            assert!(answer.header("retry-after").is_some(), "{answer:?}");
            (answer.expect_problem(503), start.elapsed())
        })
    });
    for send in sends {
        let (_problem, elapsed) = timeout(WAIT_TIMEOUT, send).await.unwrap().unwrap();
        assert!(elapsed < Duration::from_secs(10), "the balancer gives up after 10 s: {elapsed:?}");
    }
    let times = neighbours.stop().await;
    // Each waited for the lock once at most, on its way through each service.
    let slow = times.iter().filter(|time| **time > Duration::from_secs(2)).count();
    assert!(slow == 0 && times.len() > 40, "{slow} of {} sends of others were held up", times.len());

    // A send that still waits when the row is free is written, and those that were refused never are.
    let waiting = {
        let (doctor, patient) = (doctor.clone(), patient.clone());
        tokio::spawn(async move { doctor.send_ok(&patient, "after").await })
    };
    let observer = session(&test_env).await;
    until_locked(place, 1).await;
    holder.batch_execute("rollback").await.unwrap();
    let after = timeout(WAIT_TIMEOUT, waiting).await.unwrap().unwrap();
    assert_eq!(after["seq"], 2);
    let texts = "select count(*) from messages where conversation_id = $1::text::uuid";
    let count: i64 = observer.query_one(texts, &[&id]).await.unwrap().get(0);
    assert_eq!(count, 2, "nothing that was refused was written");
    test_env.stack.stop().unwrap();
}

#[tokio::test]
async fn two_services_write_conversation_after_lock() {
    const SENDERS: usize = 4;
    const SENDS: usize = 20;
    let test_env = test_env().await;
    let place = &test_env.place;
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let id = id_of(&doctor, &patient).await;
    let services: Vec<_> = place.env.api_urls.iter().map(|url| doctor.at(url, &place.ws_url)).collect();
    // Both have met a lock in it.
    let (holder, observer) = (session(&test_env).await, session(&test_env).await);
    hold(&holder, &format!("conversations where id = '{id}'")).await;
    let waiting = services.iter().map(|doctor| {
        let (doctor, patient) = (doctor.clone(), patient.clone());
        tokio::spawn(async move { doctor.send_ok(&patient, "waits").await })
    });
    let waiting: Vec<_> = waiting.collect();
    until_locked(place, 2).await;
    let before = crate::metric(place, "ehr_chat_send_conversations_locked_total").await;
    holder.batch_execute("rollback").await.unwrap();
    join_all(waiting).await.into_iter().for_each(|sent| drop(sent.unwrap()));

    // A slow disk: each transaction holds the row for a while, and the other service finds it held most of the time.
    let slow =
        "create function slow() returns trigger language plpgsql as 'begin perform pg_sleep(0.02); return null; end';
        create trigger slow after insert on outbox for each statement execute function slow()";
    observer.batch_execute(slow).await.unwrap();
    let senders = (0..SENDERS * services.len()).map(|number| {
        let (doctor, patient) = (services[number % services.len()].clone(), patient.clone());
        tokio::spawn(async move {
            let mut times = Vec::new();
            for send in 0..SENDS {
                let start = Instant::now();
                doctor.send_ok(&patient, &send.to_string()).await; // Fails on anything but a 201.
                times.push(start.elapsed());
            }
            times
        })
    });
    let senders: Vec<_> = senders.collect();
    let times: Vec<Duration> = join_all(senders).await.into_iter().flat_map(Result::unwrap).collect();
    // Each waits for the other's commits, as every writer there does, and not for a look that finds no lock.
    let aside = crate::metric(place, "ehr_chat_send_conversations_locked_total").await - before;
    let slowest = times.iter().max().unwrap();
    assert!(aside < 5.0, "it was locked {aside} times in {} sends", times.len());
    assert!(*slowest < Duration::from_secs(2), "{slowest:?}");
    test_env.stack.stop().unwrap();
}

#[tokio::test]
async fn sends_keep_order_behind_lock() {
    let test_env = test_env().await;
    let place = &test_env.place;
    let (doctor, patient) = (place.user("doc").at_one_service(), place.contact("pat"));
    let id = id_of(&doctor, &patient).await;
    let holder = session(&test_env).await;
    hold(&holder, &format!("conversations where id = '{id}'")).await;
    let mut sends = Vec::new();
    for number in 0..5 {
        let (doctor, body) = (doctor.clone(), doctor.message_to(&patient, &number.to_string()));
        sends.push(tokio::spawn(async move { doctor.send(&body).await.expect_status(201) }));
        // It has arrived when a later request on another connection is answered.
        let depth = async || {
            let metrics = place.with_base_url(&place.env.admin_urls[0]).get("/metrics").await.text;
            let requests =
                metrics.lines().find_map(|line| line.strip_prefix("ehr_chat_http_requests_in_flight ")).unwrap();
            requests.parse::<f64>().unwrap()
        };
        crate::until_true("it has arrived", async || depth().await >= f64::from(number + 1)).await;
    }
    until_locked(place, 1).await;
    holder.batch_execute("rollback").await.unwrap();
    let sent: Vec<Value> = join_all(sends).await.into_iter().map(Result::unwrap).collect();
    for (place, message) in sent.iter().enumerate() {
        assert_eq!((&message["content"], &message["seq"]), (&place.to_string().into(), &(place + 2).into()));
    }
    test_env.stack.stop().unwrap();
}

#[tokio::test]
async fn send_waits_for_briefly_locked_table() {
    let test_env = test_env().await;
    let place = &test_env.place;
    let (doctor, patient) = (place.user("doc").at_one_service(), place.contact("pat"));
    let _id = id_of(&doctor, &patient).await;
    for (number, table) in ["outbox", "messages", "audit_log"].iter().enumerate() {
        let holder = session(&test_env).await;
        let before = crate::metric(place, "ehr_chat_send_conversations_locked_total").await;
        holder.batch_execute(&format!("begin; lock table {table} in access exclusive mode")).await.unwrap();
        let sending = {
            let (doctor, patient) = (doctor.clone(), patient.clone());
            tokio::spawn(async move { doctor.send_ok(&patient, "after").await })
        };
        // It has been tried by then, as often as it is before it is known that something holds it up.
        crate::until_metric(place, "ehr_chat_send_conversations_locked_total", before + 1.0).await;
        holder.batch_execute("rollback").await.unwrap();
        let sent = timeout(WAIT_TIMEOUT, sending).await.unwrap().unwrap();
        assert_eq!(sent["seq"], number + 2, "{table}");
    }
    test_env.stack.stop().unwrap();
}

#[tokio::test]
async fn locked_chains_and_messages_do_not_stop_sends() {
    let test_env = test_env().await;
    let place = &test_env.place;
    let (doctor, patient) = (place.user("doc").at_one_service(), place.contact("pat"));
    let _id = id_of(&doctor, &patient).await;
    for rows in ["audit_chains", "messages"] {
        let holder = session(&test_env).await;
        hold(&holder, rows).await;
        for number in 0..3 {
            let start = Instant::now();
            doctor.send_ok(&patient, &number.to_string()).await;
            assert!(start.elapsed() < Duration::from_secs(3), "{rows}: {:?}", start.elapsed());
        }
        holder.batch_execute("rollback").await.unwrap();
    }
    test_env.stack.stop().unwrap();
}

#[tokio::test]
async fn rejected_sends_are_never_written_when_postgresql_freezes() {
    let test_env = test_env_with(&[("DRAIN_SECONDS", "0")]).await;
    let place = &test_env.place;
    let (doctor, patient) = (place.user("doc").at_one_service(), place.contact("pat"));
    let id = id_of(&doctor, &patient).await;
    let env = test_env.stack.env();
    let frozen = Frozen::new(&test_env);
    let start = Instant::now();
    let sends = (0..20).map(|number| {
        let (doctor, body) = (doctor.clone(), doctor.message_to(&patient, &format!("refused {number}")));
        tokio::spawn(async move { (doctor.send(&body).await.expect_problem(503), start.elapsed()) })
    });
    let sends: Vec<_> = sends.collect();
    for send in sends {
        let (_problem, elapsed) = timeout(WAIT_TIMEOUT, send).await.unwrap().unwrap();
        assert!(elapsed < Duration::from_secs(10), "the balancer gives up after 10 s: {elapsed:?}");
    }
    // By now it is known, and no send waits.
    let asked = Instant::now();
    let answer = doctor.send(&doctor.message_to(&patient, "refused at once")).await;
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
    let _problem = answer.expect_problem(503);
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    drop(frozen);

    crate::until(201, async || doctor.send(&doctor.message_to(&patient, "after")).await).await;
    let observer = AuditLog::open(&env.database_url).await.client;
    let rows = "select content, xmin::text from messages where conversation_id = $1::text::uuid order by seq";
    let rows: Vec<(String, String)> =
        observer.query(rows, &[&id]).await.unwrap().iter().map(|row| (row.get(0), row.get(1))).collect();
    // One statement may have been under way when the database froze: it is finished, before what came later. It holds all sends
    // that came while the one before it was written.
    let late = rows.iter().filter(|(text, _)| text.starts_with("refused"));
    let transactions: std::collections::BTreeSet<_> = late.map(|(_, transaction)| transaction).collect();
    assert!(transactions.len() <= 1, "{rows:?}");
    assert_eq!(rows.first().map(|(text, _)| text.as_str()), Some("before"), "{rows:?}");
    assert_eq!(rows.last().map(|(text, _)| text.as_str()), Some("after"), "{rows:?}");
    test_env.stack.stop().unwrap();
}

#[tokio::test]
async fn reads_get_503_in_time_when_postgresql_freezes() {
    let test_env = test_env_with(&[("DRAIN_SECONDS", "0")]).await;
    let place = &test_env.place;
    let (doctor, patient) = (place.user("doc").at_one_service(), place.contact("pat"));
    let _id = id_of(&doctor, &patient).await;
    let frozen = Frozen::new(&test_env);
    let paths = [
        format!("/chat/conversations?location_id={}", place.location),
        format!("/chat/history?{}", doctor.with(&patient)),
        format!("/chat/presence?location_id={}&contact_id=pat", place.location),
    ];
    // Those that come while the rows of the first are being written wait for two transactions that do not end.
    let (mut reads, mut beat) = (Vec::new(), tokio::time::interval(Duration::from_millis(100)));
    for number in 0..30 {
        beat.tick().await;
        let (doctor, path) = (doctor.clone(), paths[number % paths.len()].clone());
        reads.push(tokio::spawn(async move {
            let start = Instant::now();
            (doctor.get(&path).await, start.elapsed(), path)
        }));
    }
    for read in reads {
        let (answer, elapsed, path) = timeout(WAIT_TIMEOUT, read).await.unwrap().unwrap();
        assert!(elapsed < Duration::from_millis(9_500), "{path}: the balancer gives up after 10 s: {elapsed:?}");
        assert!(answer.header("retry-after").is_some(), "{path}: {answer:?}");
        let _problem = answer.expect_problem(503);
    }
    drop(frozen);
    crate::until(200, async || doctor.get(&paths[0]).await).await;
    test_env.stack.stop().unwrap();
}

/// PostgreSQL and all of its processes, stopped until this is dropped.
struct Frozen {
    pids: Vec<i32>,
}

impl Frozen {
    fn new(test_env: &TestEnv) -> Self {
        let postmaster = test_env.stack.env().postgres_pid.unwrap();
        let mut pids = vec![postmaster];
        pids.extend(crate::children(postmaster));
        let frozen = Self { pids };
        frozen.signal(stack::Signal::SIGSTOP);
        frozen
    }

    fn signal(&self, signal: stack::Signal) {
        for pid in &self.pids {
            let _ended = nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid), signal);
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.signal(stack::Signal::SIGCONT);
    }
}

#[tokio::test]
async fn receipt_waits_alone_for_locked_message() {
    let test_env = test_env().await;
    let place = &test_env.place;
    let (doctor, held, free) = (place.user("doc"), place.contact("held"), place.contact("free"));
    let message = doctor.send_ok(&held, "held").await;
    let id = message["id"].as_str().unwrap();
    let holder = session(&test_env).await;
    hold(&holder, &format!("messages where id = '{id}'")).await;
    let (mut to_held, mut to_free) = (doctor.open(&held).await, doctor.open(&free).await);
    let receiver = held.open(&doctor).await;
    receiver.send(&serde_json::json!({"type": "delivered", "message_ids": [id]}));
    let mut other = free.open(&doctor).await;
    for number in 0..5 {
        doctor.send_ok(&free, &number.to_string()).await;
        other.expect("message").await;
        to_free.expect("delivered").await; // Its proof has passed the receipt that waits.
    }
    assert_eq!(doctor.messages(&held).await[0]["delivered_at"], Value::Null);
    holder.batch_execute("rollback").await.unwrap();
    assert_eq!(to_held.expect("delivered").await["message_ids"], serde_json::json!([id]));
    test_env.stack.stop().unwrap();
}
