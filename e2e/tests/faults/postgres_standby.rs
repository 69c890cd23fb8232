//! PostgreSQL with a synchronous standby: failovers, a standby that is away, and servers that take no writes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use e2e::audit::{AuditLog, api_service, verify};
use e2e::{HttpResponse, TestLocation, TestUser};
use serde_json::{Value, json};
use stack::{PostgresCommand, Signal, Stack, StackOptions};
use tokio::task::JoinSet;
use tokio::time::interval;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::service_process::ServiceProcess;
use crate::{TestEnv, children, metric, test_env_of, until, until_metric, until_true};

/// Between two messages of one sender.
const PACE: Duration = Duration::from_millis(20);
/// After a promotion, for the first send: what the documents promise, and as much again because other tests run.
const RECOVERY: Duration = Duration::from_secs(2);
const MARGIN: Duration = Duration::from_secs(3);

async fn pair() -> TestEnv {
    test_env_of(StackOptions { api: 2, gateways: 2, postgres_standby: true, ..StackOptions::default() }).await
}

fn run(stack: &Stack, command: PostgresCommand) {
    tokio::task::block_in_place(|| stack.postgres(command).unwrap());
}

async fn owner(url: &str) -> Client {
    AuditLog::open(url).await.client
}

async fn require_standby(url: &str, names: &str) {
    let owner = owner(url).await;
    owner.batch_execute(&format!("alter system set synchronous_standby_names = '{names}'")).await.unwrap();
    owner.batch_execute("select pg_reload_conf()").await.unwrap();
}

/// Commits that wait for the standby now, as an operator counts them.
async fn waiting(owner: &Client) -> i64 {
    let query = "select count(*) from pg_stat_activity where wait_event = 'SyncRep'";
    owner.query_one(query, &[]).await.unwrap().get(0)
}

fn with_id(sender: &TestUser, receiver: &TestUser, content: &str) -> Value {
    let mut body = sender.message_to(receiver, content);
    body["client_message_id"] = json!(Uuid::now_v7());
    body
}

/// A history of any length.
async fn all_messages(reader: &TestUser, other: &TestUser) -> Vec<Value> {
    let mut messages: Vec<Value> = Vec::new();
    loop {
        let after = messages.last().map_or(json!(0), |message| message["seq"].clone());
        let page = reader.history(other, &format!("&limit=200&after={after}")).await;
        messages.extend(page["messages"].as_array().unwrap().iter().cloned());
        if page["has_more"] == json!(false) {
            return messages;
        }
    }
}

/// What was acknowledged in one conversation: ids by content.
#[derive(Default)]
struct Acknowledged {
    messages: Mutex<HashMap<String, String>>,
}

impl Acknowledged {
    fn count(&self) -> usize {
        self.messages.lock().unwrap().len()
    }
}

/// Senders that repeat a message with its `client_message_id` until it is acknowledged.
struct Load {
    conversations: Vec<(TestUser, TestUser, Arc<Acknowledged>)>,
    is_over: Arc<AtomicBool>,
    senders: JoinSet<()>,
}

impl Load {
    fn start(place: &TestLocation, conversations: usize) -> Self {
        let mut load = Self { conversations: Vec::new(), is_over: Arc::default(), senders: JoinSet::new() };
        for number in 0..conversations {
            let (doctor, patient) = (place.user(&format!("doc{number}")), place.contact(&format!("pat{number}")));
            let (acknowledged, is_over) = (Arc::<Acknowledged>::default(), load.is_over.clone());
            load.conversations.push((doctor.clone(), patient.clone(), acknowledged.clone()));
            load.senders.spawn(async move {
                let mut beat = interval(PACE);
                while !is_over.load(Ordering::Relaxed) {
                    let content = format!("message {}", acknowledged.count());
                    let body = with_id(&doctor, &patient, &content);
                    let message = loop {
                        beat.tick().await;
                        let Ok(answer) = doctor.try_send(&body).await else { continue };
                        match answer.status {
                            200 | 201 => break answer.json(),
                            status => assert!(matches!(status, 502..=504), "{answer:?}"),
                        }
                    };
                    let id = message["id"].as_str().unwrap().to_owned();
                    acknowledged.messages.lock().unwrap().insert(content, id);
                }
            });
        }
        load
    }

    /// Waits until every sender got so many more acknowledgements.
    async fn until_more(&self, more: usize) {
        let counts: Vec<usize> = self.conversations.iter().map(|(.., acknowledged)| acknowledged.count()).collect();
        let has_more = || self.conversations.iter().zip(&counts).all(|((.., now), count)| now.count() >= count + more);
        until_true("acknowledgements", async || has_more()).await;
    }

    /// Ends the senders, and compares the acknowledgements with the histories.
    async fn end(mut self) -> usize {
        self.is_over.store(true, Ordering::Relaxed);
        while let Some(ended) = self.senders.join_next().await {
            ended.unwrap();
        }
        let mut sum = 0;
        for (doctor, patient, acknowledged) in &self.conversations {
            let history = all_messages(&patient.at_one_service(), doctor).await;
            let stored: HashMap<String, String> = history
                .iter()
                .map(|message| {
                    [&message["content"], &message["id"]].map(|text| text.as_str().unwrap().to_owned()).into()
                })
                .collect();
            assert_eq!(stored, *acknowledged.messages.lock().unwrap(), "what was acknowledged, and no more");
            assert!(history.iter().enumerate().all(|(place, message)| message["seq"] == place + 1), "{history:?}");
            sum += history.len();
        }
        sum
    }
}

/// The code and the cause that an operator reads at the admin port.
async fn until_cause(place: &TestLocation, cause: &str) {
    for url in &place.env.admin_urls[..place.env.api_urls.len()] {
        let admin = place.with_base_url(url);
        let is_named = async || {
            let report = admin.get("/readyz").await;
            report.status == 503 && report.json()["detail"].as_str().is_some_and(|detail| detail.contains(cause))
        };
        until_true(&format!("{url} names {cause}"), is_named).await;
    }
}

async fn until_all_ready(place: &TestLocation) {
    for url in &place.env.api_urls {
        let api = place.with_base_url(url);
        until(200, async || api.get("/readyz").await).await;
    }
}

/// Kills the primary, and promotes the standby when every service has noticed.
async fn fail_over(test_env: &TestEnv, load: &Load) -> Duration {
    let (stack, place) = (&test_env.stack, &test_env.place);
    run(stack, PostgresCommand::KillPrimary);
    until_cause(place, "").await;
    run(stack, PostgresCommand::Promote);
    let promoted = Instant::now();
    load.until_more(1).await;
    promoted.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn failover_and_failover_back_lose_no_acknowledged_message() {
    let test_env = pair().await;
    let (stack, place) = (&test_env.stack, &test_env.place);
    let before = stack.env();
    let load = Load::start(place, 4);
    let (doctor, patient, acknowledged) = load.conversations[0].clone();
    let mut socket = patient.open(&doctor).await;
    load.until_more(20).await;

    for round in ["over", "back"] {
        let took = fail_over(&test_env, &load).await;
        println!("{round}: every sender was acknowledged {} ms after the promotion", took.as_millis());
        assert!(took < RECOVERY + MARGIN, "{took:?}");
        load.until_more(20).await;
        run(stack, PostgresCommand::Rejoin);
        load.until_more(20).await;
    }
    let after = stack.env();
    assert_eq!(after.primary_database_url, before.primary_database_url, "the first server is the primary again");
    assert_eq!((&after.api_pids, &after.gateway_pids), (&before.api_pids, &before.gateway_pids), "no restart");

    println!("{} messages were acknowledged, and all are there", load.end().await);
    // The socket stayed open, and got all of its conversation: late ones by the relay, which has its lease again.
    let mut missing: Vec<String> = acknowledged.messages.lock().unwrap().values().cloned().collect();
    while !missing.is_empty() {
        let frame = socket.expect("message").await;
        missing.retain(|id| frame["message"]["id"] != id.as_str());
    }
    until_true("the outbox is empty", async || metric(place, "ehr_chat_outbox_events").await == 0.0).await;
    // Every command finds the primary by the same URL.
    let (is_right, said) = verify(&after, &after.service_database_url, &[]).await;
    assert!(is_right, "{said}");
    for (url, arguments) in
        [(&after.service_database_url, ["outbox", "list"].as_slice()), (&after.database_url, ["migrate"].as_slice())]
    {
        let output = api_service(&after, url, arguments).await;
        assert!(output.status.success(), "{output:?}");
    }
    test_env.stack.stop().unwrap();
}

/// A send while commits wait: it fails, and an operator sees why.
async fn assert_blocked(test_env: &TestEnv, sender: &TestUser, body: &Value) {
    let place = &test_env.place;
    let _problem = until(503, async || sender.send(body).await).await.expect_problem(503);
    until_cause(place, "commits wait for a synchronous standby").await;
    until_metric(place, "ehr_chat_database_commit_wait_seconds", 2.0).await;
    assert_eq!(metric(place, "ehr_chat_database_up").await, 2.0, "it answers");

    // From here on sends are refused at once: each that waits would cost the server a session for as long.
    let owner = owner(&test_env.stack.env().primary_database_url).await;
    let before = waiting(&owner).await;
    assert!(before > 0);
    for url in &place.env.api_urls {
        let (at, began) = (sender.at(url, &place.ws_url), Instant::now());
        for _ in 0..20 {
            at.send(body).await.expect_code(503, "database_unavailable");
        }
        assert!(began.elapsed() < MARGIN, "they do not wait: {:?}", began.elapsed());
    }
    assert_eq!(waiting(&owner).await, before, "no session was added");
    let id = body["client_message_id"].as_str().unwrap();
    let query = format!("select count(*) from messages where client_message_id = '{id}'");
    assert_eq!(owner.query_one(&query, &[]).await.unwrap().get::<_, i64>(0), 0, "it is not visible");
}

/// The same message again, until it is acknowledged: it is there once.
async fn assert_accepted(sender: &TestUser, receiver: &TestUser, body: &Value) {
    let answered = async || {
        let answer: HttpResponse = sender.send(body).await;
        matches!(answer.status, 200 | 201)
    };
    until_true("the send is acknowledged", answered).await;
    until_all_ready(&sender.place).await;
    let messages = receiver.at_one_service().messages(sender).await;
    let same = messages.iter().filter(|message| message["client_message_id"] == body["client_message_id"]);
    assert_eq!(same.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn absent_standby_blocks_sends_and_is_named() {
    let test_env = pair().await;
    let (stack, place) = (&test_env.stack, &test_env.place);
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    doctor.send_ok(&patient, "before").await;

    // It comes back.
    run(stack, PostgresCommand::StopStandby);
    let body = with_id(&doctor, &patient, "while it is away");
    assert_blocked(&test_env, &doctor, &body).await;
    run(stack, PostgresCommand::StartStandby);
    assert_accepted(&doctor, &patient, &body).await;

    // A promoted server names a standby that is not there; an operator takes it out.
    run(stack, PostgresCommand::KillPrimary);
    run(stack, PostgresCommand::Promote);
    let primary = stack.env().primary_database_url;
    require_standby(&primary, "gone").await;
    let body = with_id(&doctor, &patient, "after a promotion");
    assert_blocked(&test_env, &doctor, &body).await;
    require_standby(&primary, "").await;
    assert_accepted(&doctor, &patient, &body).await;
    let (is_right, said) = verify(&stack.env(), &stack.env().service_database_url, &[]).await;
    assert!(is_right, "{said}");
    test_env.stack.stop().unwrap();
}

/// PostgreSQL reports success when such a wait is cancelled, with a warning.
#[tokio::test(flavor = "multi_thread")]
async fn commit_whose_wait_is_cancelled_is_not_acknowledged() {
    let test_env = pair().await;
    let (stack, place) = (&test_env.stack, &test_env.place);
    // One service, which has its audit chain already: the first commit that waits is that of the message.
    let (doctor, patient) = (place.user("doc").at_one_service(), place.contact("pat"));
    doctor.send_ok(&patient, "before").await;
    let owner = owner(&stack.env().primary_database_url).await;
    // The service depends on the server's warning. This setting would hide it.
    owner.batch_execute("alter system set client_min_messages = error").await.unwrap();
    owner.batch_execute("select pg_reload_conf()").await.unwrap();
    run(stack, PostgresCommand::StopStandby);

    let body = with_id(&doctor, &patient, "in doubt");
    let sending = tokio::spawn({
        let (doctor, body) = (doctor.clone(), body.clone());
        async move { doctor.send(&body).await }
    });
    let cancel = "select pg_cancel_backend(pid) from pg_stat_activity
        where wait_event = 'SyncRep' and query like 'with bumped as%'";
    until_true("its wait is cancelled", async || !owner.query(cancel, &[]).await.unwrap().is_empty()).await;
    sending.await.unwrap().expect_code(503, "database_unavailable");
    let stored = async || {
        let query = "select count(*) from messages where client_message_id = $1";
        let id: Uuid = body["client_message_id"].as_str().unwrap().parse().unwrap();
        owner.query_one(query, &[&id]).await.unwrap().get::<_, i64>(0) == 1
    };
    until_true("the primary has the message", stored).await;

    // The standby takes over without it.
    run(stack, PostgresCommand::KillPrimary);
    run(stack, PostgresCommand::StartStandby);
    run(stack, PostgresCommand::Promote);
    until_all_ready(place).await;
    assert_eq!(patient.at_one_service().messages(&doctor).await.len(), 1, "the standby lacks it");
    assert_accepted(&doctor, &patient, &body).await;
    let (is_right, said) = verify(&stack.env(), &stack.env().service_database_url, &[]).await;
    assert!(is_right, "{said}");
    test_env.stack.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn frozen_primary_is_left_for_promoted_standby() {
    let test_env = pair().await;
    let stack = &test_env.stack;
    let load = Load::start(&test_env.place, 3);
    load.until_more(10).await;
    let before = stack.env();
    let postmaster = before.postgres_pid.unwrap();
    // The parent first, so that no child begins meanwhile.
    stack.kill(postmaster, Signal::SIGSTOP).unwrap();
    let frozen = [vec![postmaster], children(postmaster)].concat();
    for pid in &frozen[1..] {
        let _ended = stack.kill(*pid, Signal::SIGSTOP);
    }
    let began = Instant::now();
    run(stack, PostgresCommand::Promote);
    let promoted = Instant::now();
    load.until_more(1).await;
    println!(
        "every sender was acknowledged {} ms after the promotion, {} ms after the freeze",
        promoted.elapsed().as_millis(),
        began.elapsed().as_millis()
    );

    // The old primary wakes up and takes writes beside the new one: commits wait there for the standby that left it.
    for pid in &frozen {
        let _ended = stack.kill(*pid, Signal::SIGCONT);
    }
    load.until_more(30).await;
    let old = owner(&before.primary_database_url).await;
    let is_writable: bool = old.query_one("select not pg_is_in_recovery()", &[]).await.unwrap().get(0);
    assert!(is_writable);
    run(stack, PostgresCommand::Rejoin);
    load.until_more(10).await;
    println!("{} messages were acknowledged, and all are there", load.end().await);
    let (is_right, said) = verify(&stack.env(), &stack.env().service_database_url, &[]).await;
    assert!(is_right, "{said}");
    test_env.stack.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_take_no_writes_are_skipped() {
    let test_env = pair().await;
    let (stack, place, env) = (&test_env.stack, &test_env.place, test_env.stack.env());
    // At the start, whichever comes first.
    let (credentials, rest) = env.service_database_url.split_once('@').unwrap();
    let (hosts, database) = rest.split_once('/').unwrap();
    let (first, second) = hosts.split_once(',').unwrap();
    let url = format!("{credentials}@{second},{first}/{database}");
    let swapped = ServiceProcess::start("api-service", &env, &[("DATABASE_URL", &url)]);
    swapped.until_ready(place).await;

    // When there is no other, the log and the admin port say so.
    let url = format!("{}?target_session_attrs=read-write", env.service_standby_database_url);
    let alone = ServiceProcess::start("api-service", &env, &[("DATABASE_URL", &url)]);
    alone.until_said("no server of DATABASE_URL accepts writes").await;
    let report = place.with_base_url(&alone.admin_url).get("/readyz").await.expect_status(503);
    assert!(report["detail"].as_str().unwrap().contains("standbys, or read-only"), "{report}");
    run(stack, PostgresCommand::KillPrimary);
    swapped.until_said("no server of DATABASE_URL accepts writes").await;
    run(stack, PostgresCommand::Promote);
    for service in [&alone, &swapped] {
        service.until_ready(place).await;
    }

    // A server that becomes read-only under open connections.
    let (doctor, patient) = (place.user("doc").at(&alone.public_url, &place.ws_url), place.contact("pat"));
    let opened = async || {
        let metrics = place.with_base_url(&alone.admin_url).get("/metrics").await.text;
        let line = metrics.lines().find_map(|line| line.strip_prefix("ehr_chat_database_connections_total "));
        line.unwrap().parse::<f64>().unwrap()
    };
    doctor.send_ok(&patient, "before").await;
    let before = opened().await;
    let owner = owner(&stack.env().primary_database_url).await;
    let read_only = "create function read_only() returns trigger language plpgsql as $$
            begin raise exception using errcode = 'read_only_sql_transaction'; end $$;
        create trigger read_only before insert on messages execute function read_only()";
    owner.batch_execute(read_only).await.unwrap();
    let body = with_id(&doctor, &patient, "after");
    doctor.send(&body).await.expect_code(503, "database_unavailable");
    alone.until_said("has become read-only").await;
    owner.batch_execute("drop trigger read_only on messages").await.unwrap();
    let sent = until(201, async || doctor.send(&body).await).await.json();
    assert_eq!(sent["seq"], 2);
    assert!(opened().await > before, "on another connection");
    test_env.stack.stop().unwrap();
}
