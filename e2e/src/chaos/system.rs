//! The running system, with a network that can be cut between its parts, and how each fault is done to it.

use std::collections::HashSet;
use std::path::Path;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use stack::{PostgresCommand, Signal, Stack, StackEnv, StackOptions};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::aborts::abort_requests;
use super::comes_true;
use super::database::Database;
use super::fault::{Fault, Topology};
use super::fault_proxy::AfterPartition;
use super::log_pipes::LogPipes;
use super::neighbours::Neighbours;
use super::proxy_set::ProxySet;
use super::redis_cluster::Cluster;
use super::redis_sentinel::Failover;
use super::redis_server::RedisServer;
use super::timing::{FROZEN, WAIT_TIMEOUT};
use crate::test_location::TestLocation;

/// Numbers of instances: enough that one can be missing.
const APIS: usize = 2;
const GATEWAYS: usize = 2;
/// How long a soft stop of HAProxy may take before its sockets are ended.
const LAST_REQUESTS: Duration = Duration::from_secs(2);
/// How long some slots of a cluster are not served: longer than any timeout of the services.
const UNSERVED: Duration = Duration::from_secs(8);
/// How much later everything comes to a slow Redis, and for how long it is slow.
const SLOW: Duration = Duration::from_millis(1_500);
const SLOW_FOR: Duration = Duration::from_secs(9);
/// Where on the loopback network each kind of service finds the nodes of a Redis Cluster.
const FOR_GATEWAYS: &str = "127.0.0.2";
const FOR_APIS: &str = "127.0.0.3";

/// Two stacks, the servers and the services, so that proxies fit between them.
#[derive(Debug)]
pub(super) struct System {
    services: Stack,
    backends: Stack,
    gateways_to_redis: ProxySet,
    apis_to_redis: ProxySet,
    apis_to_postgres: ProxySet,
    logs: LogPipes,
    topology: Topology,
    http: reqwest::Client,
}

impl System {
    pub(super) async fn start(topology: Topology, postgres_standby: bool) -> Result<Self> {
        let is_cluster = topology == Topology::Cluster;
        let backends = start(StackOptions {
            only_backends: true,
            redis_cluster: is_cluster,
            redis_nodes_by_port: is_cluster,
            redis_sentinel: topology == Topology::Sentinel,
            postgres_standby,
            ..StackOptions::default()
        });
        let backends = backends.await?;
        let env = backends.env();
        let (gateways_to_redis, apis_to_redis) = match topology {
            Topology::Single => {
                (ProxySet::to_server(&env.redis_url).await?, ProxySet::to_server(&env.redis_url).await?)
            }
            Topology::Cluster => (
                ProxySet::to_cluster(&env.redis_url, FOR_GATEWAYS).await?,
                ProxySet::to_cluster(&env.redis_url, FOR_APIS).await?,
            ),
            Topology::Sentinel => (ProxySet::without_links(&env.redis_url), ProxySet::without_links(&env.redis_url)),
        };
        let apis_to_postgres = ProxySet::to_servers(&env.database_url).await?;
        let urls = [
            ("REDIS_URL", &apis_to_redis.url),
            ("GATEWAY_REDIS_URL", &gateways_to_redis.url),
            ("DATABASE_URL", &apis_to_postgres.url),
        ];
        let mut env: Vec<_> = urls.into_iter().map(|(name, url)| (name.to_owned(), url.clone())).collect();
        env.push(("DRAIN_SECONDS".to_owned(), "2".to_owned()));
        let folder = std::env::temp_dir().join(format!("ehr-chat-chaos-{}", Uuid::now_v7().simple()));
        let apis = (1..=APIS).map(|number| format!("api-{number}"));
        let names = apis.chain((1..=GATEWAYS).map(|number| format!("gateway-{number}")));
        let logs = LogPipes::create(&folder.join("logs"), names)?;
        let options = StackOptions { api: APIS, gateways: GATEWAYS, env, data_dir: Some(folder), ..Default::default() };
        let services = start(options).await?;
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?;
        Ok(Self { services, backends, gateways_to_redis, apis_to_redis, apis_to_postgres, logs, topology, http })
    }

    /// A fresh location.
    pub(super) fn place(&self) -> TestLocation {
        TestLocation::new(&self.services)
    }

    /// How many processes these faults may restart.
    pub(super) fn restarts(&self, faults: &[Fault]) -> usize {
        let redis_nodes = self.backends.env().redis_node_pids.len();
        faults.iter().map(|fault| fault.restarts(APIS, GATEWAYS, redis_nodes)).sum()
    }

    /// All process ids.
    pub(super) fn pids(&self) -> Vec<i32> {
        [self.services.env().pids(), self.backends.env().pids()].concat()
    }

    /// Where the logs are.
    pub(super) fn logs(&self) -> [String; 2] {
        [&self.services, &self.backends].map(|stack| stack.logs_dir().display().to_string())
    }

    /// Stops everything; fails when a part does not end in order.
    pub(super) async fn stop(self) -> Result<()> {
        let Self { services, backends, logs: _read_to_the_end, .. } = self;
        tokio::task::spawn_blocking(move || {
            let folder = services.data_dir().to_path_buf();
            services.stop()?;
            // A folder made here, because the pipes had to be there first; kept when something is wrong.
            std::fs::remove_dir_all(folder)?;
            backends.stop()
        })
        .await?
    }

    /// Does it, to the `choice`th instance where there are several. Returns when its cause is gone, and says when that was;
    /// what it broke may not work yet.
    pub(super) async fn inject(&self, fault: Fault, choice: usize) -> Result<Instant> {
        match fault {
            Fault::ApiKilled => self.kill(&self.services, |env| env.api_pids.get(choice % APIS).copied()).await,
            Fault::GatewayKilled => {
                self.kill(&self.services, |env| env.gateway_pids.get(choice % GATEWAYS).copied()).await
            }
            Fault::RedisKilled => self.kill(&self.backends, |env| env.redis_pid).await,
            Fault::PostgresKilled => self.kill(&self.backends, |env| env.postgres_pid).await,
            Fault::HaproxyKilled => self.kill(&self.services, |env| env.haproxy_pid).await,
            Fault::RedisStopped => self.freeze_redis().await,
            Fault::MasterReplaced => self.sentinels().await?.replace_master().await,
            Fault::SentinelsKilled => self.sentinels().await?.kill_sentinels().await,
            Fault::MasterKilled if self.has_sentinels() => self.sentinels().await?.kill_master().await,
            Fault::MasterLost if self.has_sentinels() => self.sentinels().await?.lose_master().await,
            Fault::MasterStopped if self.has_sentinels() => self.sentinels().await?.freeze_master().await,
            Fault::NodesKilled if self.has_sentinels() => self.sentinels().await?.kill_servers().await,
            Fault::MasterKilled => {
                let cluster = self.cluster().await?;
                cluster.kill(&[cluster.master(choice).await?]).await
            }
            Fault::MasterLost => {
                let cluster = self.cluster().await?;
                cluster.lose(&cluster.master(choice).await?).await
            }
            Fault::SlotsUnserved => {
                let cluster = self.cluster().await?;
                let master = cluster.master(choice).await?;
                let mut neighbours = Neighbours::of(&master, &self.place()).await?;
                cluster.leave_unserved(&master, neighbours.stay_live(UNSERVED)).await
            }
            Fault::MasterStopped => {
                let cluster = self.cluster().await?;
                cluster.freeze(&cluster.master(choice).await?).await
            }
            Fault::NodesKilled => self.cluster().await?.kill_all().await,
            Fault::SlotsMoved => self.cluster().await?.migrate(choice).await,
            Fault::GatewaysCutOff => Ok(self.gateways_to_redis.cut(AfterPartition::Resume).await),
            Fault::GatewaysReset => Ok(self.gateways_to_redis.cut(AfterPartition::Reset).await),
            Fault::GatewaysForgotten => Ok(self.gateways_to_redis.cut(AfterPartition::Forget).await),
            Fault::ApisForgotten => Ok(self.apis_to_redis.cut(AfterPartition::Forget).await),
            Fault::GatewaysLostMaster => {
                let master = self.cluster().await?.master(choice).await?;
                self.gateways_to_redis.cut_one(master.place, AfterPartition::Forget).await
            }
            Fault::ApisLostMaster => {
                let master = self.cluster().await?.master(choice).await?;
                self.apis_to_redis.cut_one(master.place, AfterPartition::Forget).await
            }
            Fault::ClientsAbort => abort_requests(&self.place()).await,
            Fault::OutboxRowsPoisoned => {
                Database::of(&self.backends).poison_outbox().await?;
                self.redis()?.disconnect_clients().await?;
                Ok(Instant::now())
            }
            Fault::PostgresFrozen => Database::of(&self.backends).freeze().await,
            Fault::BackendsTerminated => Database::of(&self.backends).terminate_backends().await,
            Fault::ConversationLocked => Database::of(&self.backends).lock_conversation(choice).await,
            Fault::DatabaseReadOnly => Database::of(&self.backends).make_read_only().await,
            Fault::RedisFull | Fault::NodeFull => self.redis()?.fill(choice).await,
            Fault::WrongKeyTypes => self.redis()?.overwrite_keys(choice).await,
            Fault::InvalidStreamEntries => self.redis()?.add_invalid_entries().await,
            Fault::RedisSlow => {
                let (gateways, apis) = (&self.gateways_to_redis, &self.apis_to_redis);
                let (ended, _) = tokio::join!(gateways.slow(SLOW, SLOW_FOR), apis.slow(SLOW, SLOW_FOR));
                Ok(ended)
            }
            Fault::LogReaderStalled => {
                self.logs.stall()?;
                // What every service has something to say about.
                self.gateways_to_redis.reset();
                self.apis_to_redis.reset();
                sleep(FROZEN).await;
                self.logs.resume();
                Ok(Instant::now())
            }
            Fault::DatabaseForgotten => Ok(self.apis_to_postgres.cut(AfterPartition::Forget).await),
            Fault::PrimaryLost => Database::of(&self.backends).lose_primary().await,
            Fault::PrimaryFrozen => Database::of(&self.backends).freeze_primary().await,
            Fault::StandbyAway => Database::of(&self.backends).stop_standby().await,
            Fault::HaproxyReloaded => self.reload_haproxy().await,
            Fault::GatewaysDeployed => {
                self.deploy(|env| &env.gateway_pids, APIS, "ehr_chat_gateway_handshakes_total", "/ws").await
            }
            Fault::ApisDeployed => {
                self.deploy(|env| &env.api_pids, 0, "ehr_chat_http_requests_total{route=\"/healthz\"", "/healthz").await
            }
        }
    }

    /// What follows a fault when everything is live again.
    pub(super) fn repair(&self, fault: Fault) -> Result<()> {
        match fault {
            Fault::PrimaryLost | Fault::PrimaryFrozen => Database::of(&self.backends).command(PostgresCommand::Rejoin),
            _ => Ok(()),
        }
    }

    fn redis(&self) -> Result<RedisServer> {
        RedisServer::of(&self.backends, self.topology)
    }

    fn has_sentinels(&self) -> bool {
        self.topology == Topology::Sentinel
    }

    async fn sentinels(&self) -> Result<Failover<'_>> {
        Failover::when_whole(&self.backends).await
    }

    async fn cluster(&self) -> Result<Cluster<'_>> {
        Cluster::when_whole(&self.backends).await
    }

    /// `kill -9`; the stack's keeper starts it again by itself.
    async fn kill(&self, stack: &Stack, pid_of: impl Fn(&StackEnv) -> Option<i32>) -> Result<Instant> {
        let pid = pid_of(&stack.env()).context("nothing to kill")?;
        stack.kill(pid, Signal::SIGKILL)?;
        let struck = Instant::now();
        let restarted = comes_true(WAIT_TIMEOUT, || async { pid_of(&stack.env()) != Some(pid) }).await;
        ensure!(restarted, "process {pid} was not started again");
        Ok(struck)
    }

    async fn freeze_redis(&self) -> Result<Instant> {
        let pid = self.backends.env().redis_pid.context("no Redis")?;
        self.backends.kill(pid, Signal::SIGSTOP)?;
        sleep(FROZEN).await;
        // When something else killed it meanwhile, the new one runs already.
        let _ = self.backends.kill(pid, Signal::SIGCONT);
        Ok(Instant::now())
    }

    /// SIGTERM to one after the other, each when the one before is ready, and the balancer has noticed: seen in a metric
    /// that only the balancer's requests move.
    async fn deploy(
        &self,
        pids: impl Fn(&StackEnv) -> &Vec<i32>,
        first_admin: usize,
        metric: &str,
        path: &str,
    ) -> Result<Instant> {
        for instance in 0..pids(&self.services.env()).len() {
            let pid = pids(&self.services.env())[instance];
            let Ok(()) = self.services.kill(pid, Signal::SIGTERM) else { continue };
            let restarted = comes_true(WAIT_TIMEOUT, || async { pids(&self.services.env())[instance] != pid }).await;
            ensure!(restarted, "process {pid} did not end and come back");
            let env = self.services.env();
            let admin = &env.admin_urls[first_admin + instance];
            let ready = format!("{admin}/readyz");
            let is_ready = comes_true(WAIT_TIMEOUT, || async {
                self.http.get(&ready).send().await.is_ok_and(|answer| answer.status().is_success())
            });
            ensure!(is_ready.await, "the new process {instance} does not become ready");
            let before = self.metric(admin, metric).await.unwrap_or(0.0);
            let public = format!("{}{path}", env.base_url);
            let works = comes_true(WAIT_TIMEOUT, || async {
                // Any response will do: the request may reach the new one.
                let _ = self.http.get(&public).send().await;
                self.metric(admin, metric).await.is_some_and(|value| value > before)
            });
            ensure!(works.await, "the balancer gives the new process {instance} no work");
        }
        Ok(Instant::now())
    }

    /// The sum of all lines that begin with this; none when there is none.
    async fn metric(&self, admin_url: &str, start: &str) -> Option<f64> {
        let text = self.http.get(format!("{admin_url}/metrics")).send().await.ok()?.text().await.ok()?;
        let lines = text.lines().filter(|line| line.starts_with(start));
        let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
    }

    /// Waits until no API service sees an event that is not published. Gives the last number when it is never 0.
    pub(super) async fn outbox(&self, patience: Duration) -> f64 {
        let last = Mutex::new(f64::NAN);
        let urls = self.services.env().admin_urls;
        comes_true(patience, || async {
            let mut sum = 0.0;
            for url in &urls[..APIS] {
                sum += self.metric(url, "ehr_chat_outbox_events ").await.unwrap_or(f64::NAN);
            }
            *last.lock().expect("no holder panics") = sum;
            sum == 0.0
        })
        .await;
        last.into_inner().expect("no holder panics")
    }

    /// As an administrator does it without a master process: a new HAProxy takes the port over (`-sf`), and the old one
    /// goes on with the sockets that it has. Its `hard-stop-after` is not waited for: they are ended now. Then the stack
    /// starts its own again, and the new one retires in the same way.
    async fn reload_haproxy(&self) -> Result<Instant> {
        let pid_of = |env: &StackEnv| env.haproxy_pid;
        let old = pid_of(&self.services.env()).context("no HAProxy")?;
        let log = self.services.logs_dir().join("haproxy.log");
        let mut replacement = take_over_from(old, &log)?;
        // The new one listens before it tells the old one to close its ports.
        let retires = comes_true(WAIT_TIMEOUT, || async { !listens(old) });
        if !retires.await || replacement.try_wait()?.is_some() {
            bail!("the new HAProxy did not take over: see {}", log.display());
        }
        self.services.kill(old, Signal::SIGTERM)?;
        let restarted = comes_true(WAIT_TIMEOUT, || async { pid_of(&self.services.env()) != Some(old) }).await;
        ensure!(restarted, "HAProxy did not end and come back");
        let listening = comes_true(WAIT_TIMEOUT, || async { pid_of(&self.services.env()).is_some_and(listens) }).await;
        ensure!(listening, "HAProxy came back and does not listen");
        if let Some(pid) = replacement.id().and_then(|pid| i32::try_from(pid).ok()) {
            self.services.kill(pid, Signal::SIGUSR1)?;
        }
        if timeout(LAST_REQUESTS, replacement.wait()).await.is_err() {
            replacement.kill().await?;
        }
        Ok(Instant::now())
    }
}

/// Whether a process has a port open.
fn listens(pid: i32) -> bool {
    let tables = ["tcp", "tcp6"].map(|table| std::fs::read_to_string(format!("/proc/{pid}/net/{table}")));
    let listening: HashSet<String> = tables
        .iter()
        .flatten()
        .flat_map(|table| table.lines())
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|columns| columns.get(3) == Some(&"0A"))
        .filter_map(|columns| Some(format!("socket:[{}]", columns.get(9)?)))
        .collect();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    open.filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .any(|link| link.to_str().is_some_and(|link| listening.contains(link)))
}

/// The same program as another process, with the same arguments and environment, which takes over from it.
fn take_over_from(pid: i32, log: &Path) -> Result<Child> {
    let read = |what: &str| -> Result<Vec<String>> {
        let bytes = std::fs::read(format!("/proc/{pid}/{what}"))?;
        let words = bytes.split(|byte| *byte == 0).filter(|word| !word.is_empty());
        Ok(words.map(|word| String::from_utf8_lossy(word).into_owned()).collect())
    };
    let (words, variables) = (read("cmdline")?, read("environ")?);
    let output = std::fs::File::options().append(true).open(log)?;
    let child = Command::new(std::fs::read_link(format!("/proc/{pid}/exe"))?)
        .args(words.iter().skip(1))
        .args(["-sf", &pid.to_string()])
        .env_clear()
        .envs(variables.iter().filter_map(|variable| variable.split_once('=')))
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .kill_on_drop(true)
        .spawn()?;
    Ok(child)
}

async fn start(options: StackOptions) -> Result<Stack> {
    tokio::task::spawn_blocking(|| Stack::start(options)).await?
}
