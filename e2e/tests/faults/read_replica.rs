//! A replica answers reads, and never with an older state than the reader knows. Clients notice no fault of the replica: the primary
//! answers.

use std::sync::atomic::{AtomicUsize, Ordering};

use e2e::audit::AuditLog;
use e2e::chaos::{AfterPartition, FaultProxy};
use e2e::{TestLocation, TestUser};
use serde_json::Value;
use stack::{PostgresCommand, Signal, Stack, StackOptions};
use tokio_postgres::Client;

use crate::service_process::ServiceProcess;
use crate::{TestEnv, test_env_of, until_true};

const READS: &str = "ehr_chat_replica_reads_total";

fn fallbacks(reason: &str) -> String {
    format!("ehr_chat_replica_fallbacks_total{{reason=\"{reason}\"}}")
}

/// A system with a replica, and an API service that reads from a server of the test's choice.
struct Replicated {
    test_env: TestEnv,
    api: ServiceProcess,
    doctor: TestUser,
    patient: TestUser,
    /// Messages of the two, which every read must show.
    sent: AtomicUsize,
}

/// A primary with a standby that no commit waits for.
async fn pair() -> TestEnv {
    let options = StackOptions { gateways: 1, no_proxy: true, postgres_standby: true, ..StackOptions::default() };
    let test_env = test_env_of(options).await;
    let primary = session(&test_env.stack.env().primary_database_url).await;
    primary.batch_execute("alter system set synchronous_standby_names = ''").await.unwrap();
    primary.batch_execute("select pg_reload_conf()").await.unwrap();
    until_true("commits wait for no standby", async || {
        text(&primary, "select string_agg(sync_state, ',') from pg_stat_replication").await == "async"
    })
    .await;
    test_env
}

/// As the owner.
async fn session(url: &str) -> Client {
    AuditLog::open(url).await.client
}

async fn text(client: &Client, query: &str) -> String {
    client.query_one(query, &[]).await.unwrap().get::<_, Option<String>>(0).unwrap_or_default()
}

async fn pause_replay(standby: &Client) {
    standby.batch_execute("select pg_wal_replay_pause()").await.unwrap();
    until_true("replay is paused", async || text(standby, "select pg_get_wal_replay_pause_state()").await == "paused")
        .await;
}

impl Replicated {
    async fn start(test_env: TestEnv, read_url: &str) -> Self {
        let env = test_env.stack.env();
        let api = ServiceProcess::start("api-service", &env, &[("DATABASE_READ_URL", read_url)]);
        api.until_ready(&test_env.place).await;
        let at = |user: TestUser| user.at(&api.public_url, &env.ws_url);
        let own = uuid::Uuid::now_v7();
        let doctor = at(test_env.place.user(&format!("doc-{own}")));
        let patient = at(test_env.place.contact(&format!("pat-{own}")));
        Self { test_env, api, doctor, patient, sent: AtomicUsize::new(0) }
    }

    /// With the standby as its replica, which is in use.
    async fn with_standby() -> Self {
        let test_env = pair().await;
        let url = test_env.stack.env().service_standby_database_url;
        let replicated = Self::start(test_env, &url).await;
        replicated.until_in_use().await;
        replicated
    }

    fn stack(&self) -> &Stack {
        &self.test_env.stack
    }

    fn admin(&self) -> TestLocation {
        self.test_env.place.with_base_url(&self.api.admin_url)
    }

    async fn metric(&self, name: &str) -> f64 {
        let metrics = self.admin().get("/metrics").await.text;
        let mut values = metrics.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        values.next().unwrap_or_else(|| panic!("no {name}: {metrics}")).parse().unwrap()
    }

    async fn until_in_use(&self) {
        until_true("the replica is in use", async || self.metric("ehr_chat_replica_in_use").await == 1.0).await;
    }

    fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }

    async fn send(&self) {
        let number = self.sent.fetch_add(1, Ordering::Relaxed) + 1;
        self.doctor.send_ok(&self.patient, &number.to_string()).await;
    }

    /// Both sides read the history and the inbox, and find every message.
    async fn read(&self) {
        let (sent, newest) = (self.sent(), Value::from(self.sent().to_string()));
        for (reader, other) in [(&self.doctor, &self.patient), (&self.patient, &self.doctor)] {
            let messages = reader.messages(other).await;
            assert_eq!((messages.len(), &messages[sent - 1]["content"]), (sent, &newest));
            assert_eq!(reader.inbox("").await["conversations"][0]["last_message"]["content"], newest);
        }
    }

    /// Sends and reads until reads came from the replica, however late it is.
    async fn until_read_from_replica(&self) {
        let before = self.metric(READS).await;
        until_true("the replica answers reads", async || {
            self.send().await;
            self.read().await;
            self.metric(READS).await >= before + 4.0
        })
        .await;
    }
}

#[tokio::test]
async fn replica_answers_reads_with_every_earlier_write() {
    let it = Replicated::with_standby().await;
    it.until_read_from_replica().await;
    let count = async |it: &Replicated| {
        let mut count = it.metric(READS).await;
        for reason in ["behind", "busy", "unreachable", "wrong_server", "failed"] {
            count += it.metric(&fallbacks(reason)).await;
        }
        count
    };
    let before = count(&it).await;
    for _ in 0..20 {
        it.send().await;
        it.read().await;
    }
    assert_eq!(count(&it).await - before, 80.0, "each read is counted once");
    assert!(it.metric("ehr_chat_replica_wait_seconds_count").await >= it.metric(READS).await);
    // What a read leaves on record is on the primary.
    let primary = session(&it.stack().env().primary_database_url).await;
    let reads =
        text(&primary, "select count(*)::text from audit_log where action in ('history.read', 'inbox.read')").await;
    assert!(reads.parse::<usize>().unwrap() >= it.sent() * 4, "{reads}");
}

#[tokio::test]
async fn replica_that_lags_leaves_reads_to_primary() {
    let it = Replicated::with_standby().await;
    it.until_read_from_replica().await;
    let standby = session(&it.stack().env().standby_database_url).await;
    pause_replay(&standby).await;
    for _ in 0..3 {
        it.send().await;
        it.read().await;
    }
    let from_replica = it.metric(READS).await;
    assert!(it.metric(&fallbacks("behind")).await >= 12.0);
    assert_eq!(it.metric("ehr_chat_replica_in_use").await, 0.0);
    it.api.until_said("it lags behind the primary").await;
    it.send().await;
    it.read().await;
    assert_eq!(it.metric(READS).await, from_replica);

    standby.batch_execute("select pg_wal_replay_resume()").await.unwrap();
    it.until_read_from_replica().await;
}

#[tokio::test]
async fn replica_that_dies_costs_no_read_and_is_used_again() {
    let it = Replicated::with_standby().await;
    it.until_read_from_replica().await;
    let standby = it.stack().env().standby_pid.unwrap();
    it.stack().kill(standby, Signal::SIGKILL).unwrap();
    it.stack().wait_until(e2e::WAIT_TIMEOUT, |env| env.standby_pid.is_none()).unwrap();
    until_true("the loss is noticed", async || {
        it.send().await;
        it.read().await;
        it.metric(&fallbacks("unreachable")).await > 0.0
    })
    .await;
    let from_replica = it.metric(READS).await;
    it.send().await;
    it.read().await;
    assert_eq!(it.metric(READS).await, from_replica);
    // Sends and readiness do not depend on it.
    assert_eq!(it.admin().get("/readyz").await.status, 200);

    it.stack().postgres(PostgresCommand::StartStandby).unwrap();
    it.until_read_from_replica().await;
}

#[tokio::test]
async fn silent_replica_does_not_stop_reads() {
    let test_env = pair().await;
    let url = test_env.stack.env().service_standby_database_url;
    let link = FaultProxy::to(&url).await.unwrap();
    let it = Replicated::start(test_env, &link.through(&url).unwrap()).await;
    it.until_read_from_replica().await;
    link.silence();
    until_true("the silence is noticed", async || {
        it.send().await;
        it.read().await;
        it.metric(&fallbacks("unreachable")).await > 0.0
    })
    .await;
    link.restore(AfterPartition::Reset);
    it.until_read_from_replica().await;
}

#[tokio::test]
async fn promoted_replica_is_not_read() {
    let it = Replicated::with_standby().await;
    it.until_read_from_replica().await;
    // The primary lives on, and so does its API service. What it writes now never reaches the promoted server.
    it.stack().postgres(PostgresCommand::Promote).unwrap();
    let from_replica = it.metric(READS).await;
    for _ in 0..3 {
        it.send().await;
        it.read().await;
    }
    assert_eq!(it.metric(READS).await, from_replica);
    until_true("the promotion is noticed", async || {
        it.read().await;
        it.metric("ehr_chat_replica_in_use").await == 0.0
    })
    .await;
}

#[tokio::test]
async fn other_servers_are_not_read() {
    let test_env = pair().await;
    let env = test_env.stack.env();
    // A cluster of its own: a temporary stack copies the files of another.
    let data_dir = std::env::temp_dir().join(format!("ehr-chat-foreign-{}", std::process::id()));
    let options = StackOptions {
        only_backends: true,
        postgres_standby: true,
        data_dir: Some(data_dir.clone()),
        ..StackOptions::default()
    };
    let foreign = tokio::task::spawn_blocking(|| Stack::start(options)).await.unwrap().unwrap();
    let it = Replicated::start(test_env, &foreign.env().standby_database_url).await;
    it.api.until_said("it belongs to another cluster").await;
    it.send().await;
    it.read().await;
    assert_eq!((it.metric(&fallbacks("wrong_server")).await, it.metric(READS).await), (4.0, 0.0));
    drop(it.api);

    // The primary is no replica.
    let it = Replicated::start(it.test_env, &env.primary_database_url).await;
    it.api.until_said("those that answer are primaries").await;
    it.send().await;
    it.read().await;
    assert_eq!((it.metric(&fallbacks("wrong_server")).await, it.metric(READS).await), (4.0, 0.0));
    foreign.stop().unwrap();
    std::fs::remove_dir_all(data_dir).unwrap();
}
