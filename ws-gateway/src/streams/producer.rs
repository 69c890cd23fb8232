//! Batches entries into a Redis stream.
//!
//! Entries are collected during a batch, and for at least [`MIN_INTERVAL`]. During an outage of Redis they wait in a
//! bounded queue; an overflow is counted ([`StreamEntry::count_overflow`]). Entries that Redis accepted but may have
//! lost are sent again ([`super::unconfirmed`]). So the consumer must tolerate duplicates.

use std::sync::Arc;
use std::time::Duration;

use fred::types::Value;
use fred::types::scripts::Script;
use metrics::counter;
use parking_lot::Mutex;
use shared::contract::redis::{keys, scripts};
use shared::kit::shutdown::Shutdown;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};
use uuid::Uuid;

use super::entry::StreamEntry;
use super::fair_share::FairShare;
use super::unconfirmed::{Progress, Unconfirmed};
use crate::redis::{Error, RedisNodes};

/// Entries per command.
const ENTRIES_PER_COMMAND: usize = 256;
/// Between two batches: an idle gateway sends at once, a busy one sends few large commands.
const MIN_INTERVAL: Duration = Duration::from_millis(20);
/// Delay after a failure.
const RETRY_DELAY: Duration = Duration::from_millis(250);
/// Between two reads of the consumer group's progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Queues entries of all sockets. Clones share the queue.
#[derive(Clone)]
pub(crate) struct StreamProducer<L> {
    queue: Arc<Queue<L>>,
}

struct Queue<L> {
    queued: Mutex<Queued<L>>,
    entry_added: Notify,
}

struct Queued<L> {
    entries: Vec<L>,
    /// Of `entries` and of the batch that is being sent.
    weight: usize,
    /// Did not fit since the last batch.
    lost: usize,
    fair_share: FairShare,
}

impl<L> Default for StreamProducer<L> {
    fn default() -> Self {
        let queued = Mutex::new(Queued { entries: Vec::new(), weight: 0, lost: 0, fair_share: FairShare::default() });
        Self { queue: Arc::new(Queue { queued, entry_added: Notify::new() }) }
    }
}

impl<L: StreamEntry> StreamProducer<L> {
    /// Sends entries until `shutdown`, then the remaining ones.
    pub(crate) fn start(redis: RedisNodes, shutdown: &Shutdown) -> Self {
        let producer = Self::default();
        let (queue, ended) = (producer.queue.clone(), shutdown.clone());
        let [script, progress] = [L::SCRIPT, scripts::GROUP_PROGRESS].map(Script::from_lua);
        let unconfirmed = Unconfirmed::new(L::MAX_UNCONFIRMED_BYTES);
        let writer = StreamWriter { redis, script, progress, unconfirmed, next_check_at: Instant::now() };
        shutdown.spawn(L::TASK, async move { queue.run(writer, &ended).await });
        producer
    }

    /// Queues an entry. It never waits.
    pub(crate) fn enqueue(&self, entry: L) {
        let mut queued = self.queue.queued.lock();
        let weight = entry.weight();
        let Queued { entries, weight: before, fair_share, .. } = &mut *queued;
        if *before + weight > L::MAX_QUEUED_WEIGHT || !fair_share.admit(entries, *before, &entry) {
            queued.lost += weight;
            L::count_overflow(weight);
            return;
        }
        queued.weight += weight;
        queued.entries.push(entry);
        drop(queued);
        counter!(L::ENQUEUED_METRIC).increment(weight as u64);
        self.queue.entry_added.notify_one();
    }

    /// Weight that Redis has not accepted yet.
    pub(crate) fn queued_weight(&self) -> usize {
        self.queue.queued.lock().weight
    }

    #[cfg(test)]
    pub(crate) fn take_queued(&self) -> Vec<L> {
        std::mem::take(&mut self.queue.queued.lock().entries)
    }
}

/// Writes batches into the stream.
struct StreamWriter {
    redis: RedisNodes,
    script: Script,
    progress: Script,
    unconfirmed: Unconfirmed,
    next_check_at: Instant,
}

impl<L: StreamEntry> Queue<L> {
    async fn run(&self, mut writer: StreamWriter, shutdown: &Shutdown) {
        loop {
            let (entries, lost) = {
                let mut queued = self.queued.lock();
                queued.fair_share.reset();
                (std::mem::take(&mut queued.entries), std::mem::take(&mut queued.lost))
            };
            writer.check_progress::<L>().await;
            if entries.is_empty() && lost == 0 {
                if shutdown.has_begun() {
                    return;
                }
                tokio::select! {
                    () = self.entry_added.notified() => {}
                    () = sleep_until(writer.next_check_at), if !writer.unconfirmed.is_empty() => {}
                    () = shutdown.wait_for_begin() => {}
                }
                continue;
            }
            let (weight, started_at) = (entries.iter().map(L::weight).sum::<usize>(), Instant::now());
            let (now, mut later) = L::split_fair(L::coalesce(entries, lost));
            for entries in now.chunks(ENTRIES_PER_COMMAND) {
                writer.send::<L>(entries.iter().filter_map(L::encode).map(Value::from).collect()).await;
            }
            {
                let mut queued = self.queued.lock();
                let left: usize = later.iter().map(L::weight).sum();
                queued.weight = (queued.weight + left).saturating_sub(weight);
                if !later.is_empty() {
                    queued.fair_share.reset();
                    later.append(&mut queued.entries);
                    queued.entries = later;
                }
            }
            tokio::select! {
                () = sleep_until(started_at + MIN_INTERVAL) => {}
                () = shutdown.wait_for_begin() => {}
            }
        }
    }
}

impl StreamWriter {
    /// Retries until Redis has accepted the batch. A command whose reply was lost adds its entries twice. At
    /// shutdown, the deadline ends this.
    async fn send<L: StreamEntry>(&mut self, entries: Vec<Value>) {
        let cap = Value::from(L::MAX_STREAM_LENGTH.to_string());
        let arguments: Vec<_> = [cap].into_iter().chain(entries.iter().cloned()).collect();
        if L::MAX_UNCONFIRMED_BYTES > 0 {
            if !self.unconfirmed.has_server()
                && let Ok((server, ..)) = self.read_progress::<L>().await
            {
                self.unconfirmed.on_progress(&server, None);
            }
            let forgotten = self.unconfirmed.remember(entries);
            counter!(L::UNREPEATABLE_METRIC).increment(forgotten as u64);
        }
        loop {
            match self.redis.run_script::<Option<String>>(&self.script, [L::STREAM], arguments.iter().cloned()).await {
                Ok(last) => return self.unconfirmed.accepted(last.and_then(|id| id.parse().ok())),
                Err(_) => {
                    counter!(L::RETRIES_METRIC).increment(1);
                    sleep(RETRY_DELAY).await;
                }
            }
        }
    }

    async fn read_progress<L: StreamEntry>(&self) -> Result<(String, String, String), Error> {
        let keys = [L::STREAM.to_owned(), keys::stream_birth_key(L::STREAM)];
        let arguments = [Value::from(keys::API_GROUP), Uuid::now_v7().to_string().into()];
        self.redis.run_script(&self.progress, keys, arguments).await
    }

    /// Reads the consumer group's progress from time to time, while entries are unconfirmed. Sends again what was
    /// sent to a server that has been replaced.
    async fn check_progress<L: StreamEntry>(&mut self) {
        let now = Instant::now();
        if self.unconfirmed.is_empty() || now < self.next_check_at {
            return;
        }
        self.next_check_at = now + PROGRESS_INTERVAL;
        // Without a reply nothing is released.
        let Ok((server, kind, id)) = self.read_progress::<L>().await else { return };
        let progress = match (&*kind, id.parse()) {
            ("upto", Ok(id)) => Some(Progress::UpTo(id)),
            ("before", Ok(id)) => Some(Progress::Before(id)),
            _ => None,
        };
        for entries in self.unconfirmed.on_progress(&server, progress) {
            counter!(L::REPEATED_METRIC).increment(entries.len() as u64);
            self.send::<L>(entries).await;
        }
    }
}
