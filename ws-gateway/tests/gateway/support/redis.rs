//! A `redis-server` per test, and a publisher that acts as the API service.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use fred::clients::Client;
use fred::interfaces::{ClientLike, StreamsInterface};
use fred::types::config::Config;
use fred::types::scripts::Script;
use fred::types::{Builder, CustomCommand, RespVersion};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use shared::contract::event::publish_batch::{PublishBatch, PublishMode};
use shared::contract::event::relay_keys::RelayKeys;
use shared::contract::event::{Cursor, OutgoingEvent, Recipient};
use shared::contract::receipt::Receipt;
use shared::contract::redis::keys::{self, Channel};
use shared::contract::redis::revocations;
use shared::kit::redis::Topology;
use tokio::io::AsyncBufReadExt;
use uuid::Uuid;

use super::TEST_TIMEOUT;

/// A server that stops when the value is dropped.
pub(crate) struct RedisServer {
    port: u16,
    process: Child,
}

impl RedisServer {
    pub(crate) fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { port, process: spawn(port) }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Starts an empty server on the port of the killed one.
    pub(crate) fn restart_empty_after_kill(&mut self) {
        self.process = spawn(self.port);
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Suspends the process: connections stay open, but get no replies.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    pub(crate) fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.process.id().try_into().unwrap()), signal).unwrap();
    }

    pub(crate) async fn client(&self) -> Client {
        let mut config = Config::from_url(&self.url()).unwrap();
        config.version = RespVersion::RESP3;
        let client = Builder::from_config(config).build().unwrap();
        client.init().await.unwrap();
        client
    }

    /// Returns once its clock has advanced, so that the next log entry gets a new id.
    pub(crate) async fn next_millisecond(&self) {
        let client = self.client().await;
        let now = async || {
            let time: (i64, i64) = client
                .custom(CustomCommand::new_static("TIME", None::<u16>, false), Vec::<String>::new())
                .await
                .unwrap();
            (time.0, time.1 / 1000)
        };
        let begin = now().await;
        while now().await == begin {}
    }

    /// Marks the copy of the revocations complete, as the API service does. Without a copy, it is empty.
    pub(crate) async fn confirm_revocations(&self) -> RevocationCopy {
        let client = self.client().await;
        let (mut position, mut stamp) = ("0".to_owned(), "0".to_owned());
        loop {
            let arguments = vec![position, stamp, "1".to_owned(), "0".to_owned()];
            let compare = Script::from_lua(revocations::COMPARE);
            let compared = compare.evalsha_with_reload(&client, keys::REVOCATIONS_KEY, arguments).await;
            // A key of another type is no copy either.
            let (outcome, epoch, at, stamped, _): (String, String, String, String, u64) = compared.unwrap();
            match outcome.as_str() {
                "same" => return RevocationCopy { client, epoch, position: at.parse().unwrap(), stamp: stamped },
                "ahead" => (position, stamp) = (at, stamped),
                _ => {
                    let epoch = Uuid::now_v7().simple().to_string();
                    let keys = vec![keys::REVOCATIONS_KEY.to_owned(), revocations::draft_key(&epoch)];
                    let arguments = ["", &epoch, "0", "0", "0", "1", "0"].map(str::to_owned).to_vec();
                    let replace = Script::from_lua(revocations::REPLACE);
                    let replaced: u8 = replace.evalsha_with_reload(&client, keys, arguments).await.unwrap();
                    assert_eq!(replaced, 1);
                    (position, stamp) = ("0".to_owned(), "0".to_owned());
                }
            }
        }
    }

    /// How often a command was called, by scripts too.
    pub(crate) async fn calls(&self, command: &str) -> u64 {
        let stats = self.info("commandstats").await;
        let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
        line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
    }

    /// Watches the commands from now on.
    pub(crate) async fn monitor(&self) -> Monitor {
        let mut process = tokio::process::Command::new("redis-cli");
        process.args(["-p", &self.port.to_string(), "MONITOR"]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = process.kill_on_drop(true).spawn().expect("`redis-cli` comes with `redis-server`");
        let lines = tokio::io::BufReader::new(process.stdout.take().unwrap()).lines();
        let mut monitor = Monitor { _process: process, lines };
        monitor.until("OK").await;
        monitor
    }

    /// Bytes sent so far.
    pub(crate) async fn sent_bytes(&self) -> u64 {
        let stats = self.info("stats").await;
        stats.lines().find_map(|line| line.strip_prefix("total_net_output_bytes:")).unwrap().parse().unwrap()
    }

    async fn info(&self, section: &'static str) -> String {
        let info = CustomCommand::new_static("INFO", None::<u16>, false);
        self.client().await.custom(info, vec![section]).await.unwrap()
    }

    /// Deletes everything, and keeps all connections.
    pub(crate) async fn flush(&self) {
        let flush = CustomCommand::new_static("FLUSHALL", None::<u16>, false);
        let _: () = self.client().await.custom(flush, Vec::<String>::new()).await.unwrap();
    }

    pub(crate) async fn publisher(&self) -> Publisher {
        Publisher {
            client: self.client().await,
            script: Script::from_lua(Topology::Single.publish_script()),
            entries: 10_000,
            relay_keys: RelayKeys::default(),
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _gone = self.process.wait();
    }
}

/// Waits until it accepts connections.
fn spawn(port: u16) -> Child {
    let mut process = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("these tests need `redis-server` in PATH: apt-get install redis-server");
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let ready = lines.any(|line| line.is_ok_and(|line| line.contains("eady to accept connections")));
    assert!(ready, "redis-server did not start");
    // The output must be read, or the server stops when the pipe is full.
    std::thread::spawn(move || lines.for_each(drop));
    process
}

/// Writes the copy of the revocations, as the API service does.
pub(crate) struct RevocationCopy {
    client: Client,
    pub(crate) epoch: String,
    position: i64,
    stamp: String,
}

impl RevocationCopy {
    /// Adds revocations.
    pub(crate) async fn append(&mut self, members: impl IntoIterator<Item = String>) {
        let (mut next, mut pairs) = (self.position, Vec::new());
        for member in members {
            next += 1;
            pairs.extend([next.to_string(), member]);
        }
        let mut arguments = vec![self.epoch.clone(), self.position.to_string(), self.stamp.clone()];
        arguments.extend([next.to_string(), next.to_string(), "1".to_owned()]);
        arguments.extend(pairs);
        let append = Script::from_lua(revocations::APPEND);
        let appended: u8 = append.evalsha_with_reload(&self.client, keys::REVOCATIONS_KEY, arguments).await.unwrap();
        assert_eq!(appended, 1);
        (self.position, self.stamp) = (next, next.to_string());
    }
}

/// The commands that Redis receives, in order.
pub(crate) struct Monitor {
    _process: tokio::process::Child,
    lines: tokio::io::Lines<tokio::io::BufReader<tokio::process::ChildStdout>>,
}

impl Monitor {
    /// Waits for this command.
    pub(crate) async fn until(&mut self, what: &str) {
        let telling = async { while !self.lines.next_line().await.unwrap().unwrap().contains(what) {} };
        tokio::time::timeout(TEST_TIMEOUT, telling).await.unwrap_or_else(|_| panic!("no command {what}"));
    }
}

/// Publishes as the API service does.
pub(crate) struct Publisher {
    pub(crate) client: Client,
    script: Script,
    /// Entries kept in each log.
    pub(crate) entries: u32,
    /// Keys that seal the events, if any.
    pub(crate) relay_keys: RelayKeys,
}

impl Publisher {
    /// Publishes a message with `text` to `to`.
    pub(crate) async fn message(&self, channel: &Channel, to: &str, text: &str) -> (Uuid, Cursor) {
        let id = Uuid::now_v7();
        let json = serde_json::json!({"id": id, "content": text}).to_string();
        // These tests do not use the counters.
        let draft = OutgoingEvent {
            seq: None,
            ..OutgoingEvent::message(&json, Recipient { participant: to.parse().unwrap(), message_id: id }, 0)
        };
        let cursors = self.publish(channel, &[&draft], PublishMode::Force).await;
        (id, cursors[0].parse().unwrap())
    }

    /// Publishes events in one call of the script. Returns the cursor of each, or nothing where the log held it already.
    pub(crate) async fn publish(&self, channel: &Channel, events: &[&OutgoingEvent], mode: PublishMode) -> Vec<String> {
        let mut publication = PublishBatch::new(self.entries, 3_600_000);
        for event in events {
            publication.add(channel, event, mode, &self.relay_keys).unwrap();
        }
        let (logs, arguments) = publication.into_parts();
        self.script.evalsha_with_reload(&self.client, logs, arguments).await.unwrap()
    }

    /// The number of receipts so far.
    pub(crate) async fn receipts_so_far(&self) -> usize {
        self.client.xlen(keys::RECEIPT_STREAM).await.unwrap()
    }

    /// Waits for the first `count` receipts.
    pub(crate) async fn receipts(&self, count: usize) -> Vec<Receipt> {
        type Entries = Vec<(String, std::collections::HashMap<String, String>)>;
        let (mut receipts, mut last) = (Vec::new(), "0-0".to_owned());
        let reading = async {
            while receipts.len() < count {
                let read: std::collections::HashMap<String, Entries> = self
                    .client
                    .xread_map(None, Some(1000), keys::RECEIPT_STREAM, last.clone())
                    .await
                    .unwrap_or_default();
                for (id, fields) in read.into_values().flatten() {
                    receipts.push(Receipt::decode(&fields[keys::ENTRY_FIELD]).unwrap());
                    last = id;
                }
            }
        };
        tokio::time::timeout(TEST_TIMEOUT, reading).await.unwrap();
        receipts
    }
}
