//! What a gateway has to say to the API service, on its way into a stream of Redis.
//!
//! Things are gathered while a batch is under way, and for [`MIN_INTERVAL`] at least, and leave together. They wait out an outage of
//! Redis in a bounded queue; what becomes of those that find no room is theirs to say ([`StreamEntry::overflow`]). What Redis has taken
//! and may have lost since is sent again ([`super::unconfirmed`]): those who read it know how to bear what comes twice.

use std::sync::Arc;
use std::time::Duration;

use fred::types::Value;
use fred::types::scripts::Script;
use metrics::counter;
use parking_lot::Mutex;
use shared::channel;
use shared::ids::LocationId;
use shared::participant::Participant;
use shared::shutdown::Shutdown;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};
use uuid::Uuid;

use super::fair_share::FairShare;
use super::unconfirmed::{Progress, Unconfirmed};
use crate::redis::{Error, Nodes};

/// Entries in one command.
const ENTRIES_PER_COMMAND: usize = 256;
/// Between two batches: an idle gateway sends at once, a busy one few large commands.
const MIN_INTERVAL: Duration = Duration::from_millis(20);
/// How long to wait after a failure.
const RETRY_DELAY: Duration = Duration::from_millis(250);
/// Between two questions how far the API services have come.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// What goes up.
pub trait StreamEntry: Send + Sync + Sized + 'static {
    /// Names the task that sends it.
    const TASK: &'static str;
    /// The stream.
    const STREAM: &'static str;
    /// Adds to it, or fails. Arguments: [`StreamEntry::MAX_STREAM_LENGTH`], entries.
    const SCRIPT: &'static str;
    /// Entries that the stream may hold.
    const MAX_STREAM_LENGTH: usize;
    /// What may wait, in the unit of [`StreamEntry::weight`].
    const MAX_QUEUED_WEIGHT: usize;
    /// Counts what is taken.
    const ENQUEUED_METRIC: &'static str;
    /// Counts commands that are tried again.
    const RETRIES_METRIC: &'static str;
    /// Bytes of entries that are kept until an API service has applied them; 0 where a loss does not matter.
    const MAX_UNCONFIRMED_BYTES: usize;
    /// Counts entries that are sent again because Redis may have lost them.
    const REPEATED_METRIC: &'static str;
    /// Counts entries that could not be sent again: there were too many.
    const UNREPEATABLE_METRIC: &'static str;

    /// What it counts for.
    fn weight(&self) -> usize;

    /// Counts what finds no room.
    fn count_overflow(weight: usize);

    /// Who fills the queue with it; `None` where nobody has to be held back.
    fn owner(&self) -> Option<(&LocationId, &Participant)> {
        None
    }

    /// Those of some packed loads that leave now, and those that let others go first.
    fn split_fair(entries: Vec<Self>) -> (Vec<Self>, Vec<Self>) {
        (entries, Vec::new())
    }

    /// Makes fewer of those that leave together, and adds what there is to say of those that found no room.
    fn coalesce(entries: Vec<Self>, lost: usize) -> Vec<Self>;

    /// The entry's only field.
    fn encode(&self) -> Option<String>;
}

/// Takes loads from all sockets. Clones are one.
#[derive(Clone)]
pub struct StreamProducer<L> {
    queue: Arc<Queue<L>>,
}

struct Queue<L> {
    queued: Mutex<Queued<L>>,
    entry_added: Notify,
}

struct Queued<L> {
    entries: Vec<L>,
    /// Of `entries` and of the batch under way.
    weight: usize,
    /// Found no room since the last batch left.
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
    /// Sends what is reported until `shutdown`, then what is left.
    pub(crate) fn start(redis: Nodes, shutdown: &Shutdown) -> Self {
        let producer = Self::default();
        let (queue, ended) = (producer.queue.clone(), shutdown.clone());
        let [script, progress] = [L::SCRIPT, channel::GROUP_PROGRESS].map(Script::from_lua);
        let unconfirmed = Unconfirmed::new(L::MAX_UNCONFIRMED_BYTES);
        let writer = StreamWriter { redis, script, progress, unconfirmed, next_check_at: Instant::now() };
        shutdown.spawn(L::TASK, async move { queue.run(writer, &ended).await });
        producer
    }

    /// Reports. Never waits.
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

    /// What no API service has yet.
    pub(crate) fn queued_weight(&self) -> usize {
        self.queue.queued.lock().weight
    }

    #[cfg(test)]
    pub(crate) fn take_queued(&self) -> Vec<L> {
        std::mem::take(&mut self.queue.queued.lock().entries)
    }
}

/// The way into the stream.
struct StreamWriter {
    redis: Nodes,
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
    /// Tries until Redis has them all. Those of a command that was done and not answered are added twice, which their reader
    /// knows how to bear. Whoever shuts down has a deadline for this.
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
            match self.redis.run::<Option<String>>(&self.script, [L::STREAM], arguments.iter().cloned()).await {
                Ok(last) => return self.unconfirmed.accepted(last.and_then(|id| id.parse().ok())),
                Err(_) => {
                    counter!(L::RETRIES_METRIC).increment(1);
                    sleep(RETRY_DELAY).await;
                }
            }
        }
    }

    async fn read_progress<L: StreamEntry>(&self) -> Result<(String, String, String), Error> {
        let keys = [L::STREAM.to_owned(), channel::stream_birth_key(L::STREAM)];
        let arguments = [Value::from(channel::API_GROUP), Uuid::now_v7().to_string().into()];
        self.redis.run(&self.progress, keys, arguments).await
    }

    /// Asks now and then how far the API services have come, as long as there is something that they have not applied. Sends again
    /// what was given to another Redis than the one that answers.
    async fn check_progress<L: StreamEntry>(&mut self) {
        let now = Instant::now();
        if self.unconfirmed.is_empty() || now < self.next_check_at {
            return;
        }
        self.next_check_at = now + PROGRESS_INTERVAL;
        // Without an answer nothing is let go.
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
