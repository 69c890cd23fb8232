//! What a gateway has to say to the API service, on its way into a stream of Redis.
//!
//! Things are gathered while a batch is under way, and for [`APART`] at least, and leave together. They wait out an outage of
//! Redis in a bounded queue; what becomes of those that find no room is theirs to say ([`Load::overflow`]). What Redis has taken
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

use super::fair_share::Shares;
use super::unconfirmed::{Progress, Unconfirmed};
use crate::redis::{Error, Nodes};

/// Entries in one command.
const BATCH: usize = 256;
/// Between two batches: an idle gateway sends at once, a busy one few large commands.
const APART: Duration = Duration::from_millis(20);
/// How long to wait after a failure.
const PAUSE: Duration = Duration::from_millis(250);
/// Between two questions how far the API services have come.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// What goes up.
pub trait Load: Send + Sync + Sized + 'static {
    /// Names the task that sends it.
    const TASK: &'static str;
    /// The stream.
    const STREAM: &'static str;
    /// Adds to it, or fails. Arguments: [`Load::MOST_KEPT`], entries.
    const SCRIPT: &'static str;
    /// Entries that the stream may hold.
    const MOST_KEPT: usize;
    /// What may wait, in the unit of [`Load::weight`].
    const MOST_WAITING: usize;
    /// Counts what is taken.
    const TAKEN: &'static str;
    /// Counts commands that are tried again.
    const RETRIES: &'static str;
    /// Bytes of entries that are kept until an API service has applied them; 0 where a loss does not matter.
    const MOST_REMEMBERED_BYTES: usize;
    /// Counts entries that are sent again because Redis may have lost them.
    const REPEATED: &'static str;
    /// Counts entries that could not be sent again: there were too many.
    const FORGOTTEN: &'static str;

    /// What it counts for.
    fn weight(&self) -> usize;

    /// Counts what finds no room.
    fn overflow(weight: usize);

    /// Who fills the queue with it; `None` where nobody has to be held back.
    fn owner(&self) -> Option<(&LocationId, &Participant)> {
        None
    }

    /// Those of some packed loads that leave now, and those that let others go first.
    fn in_turns(loads: Vec<Self>) -> (Vec<Self>, Vec<Self>) {
        (loads, Vec::new())
    }

    /// Makes fewer of those that leave together, and adds what there is to say of those that found no room.
    fn pack(loads: Vec<Self>, lost: usize) -> Vec<Self>;

    /// The entry's only field.
    fn encode(&self) -> Option<String>;
}

/// Takes loads from all sockets. Clones are one.
#[derive(Clone)]
pub struct Uplink<L> {
    queue: Arc<Queue<L>>,
}

struct Queue<L> {
    waiting: Mutex<Waiting<L>>,
    arrived: Notify,
}

struct Waiting<L> {
    loads: Vec<L>,
    /// Of `loads` and of the batch under way.
    weight: usize,
    /// Found no room since the last batch left.
    lost: usize,
    shares: Shares,
}

impl<L> Default for Uplink<L> {
    fn default() -> Self {
        let waiting = Mutex::new(Waiting { loads: Vec::new(), weight: 0, lost: 0, shares: Shares::default() });
        Self { queue: Arc::new(Queue { waiting, arrived: Notify::new() }) }
    }
}

impl<L: Load> Uplink<L> {
    /// Sends what is reported until `shutdown`, then what is left.
    pub(crate) fn start(redis: Nodes, shutdown: &Shutdown) -> Self {
        let uplink = Self::default();
        let (queue, ended) = (uplink.queue.clone(), shutdown.clone());
        let [script, progress] = [L::SCRIPT, channel::PROGRESS].map(Script::from_lua);
        let unconfirmed = Unconfirmed::new(L::MOST_REMEMBERED_BYTES);
        let line = Line { redis, script, progress, unconfirmed, ask_at: Instant::now() };
        shutdown.spawn(L::TASK, async move { queue.run(line, &ended).await });
        uplink
    }

    /// Reports. Never waits.
    pub(crate) fn report(&self, load: L) {
        let mut waiting = self.queue.waiting.lock();
        let weight = load.weight();
        let Waiting { loads, weight: before, shares, .. } = &mut *waiting;
        if *before + weight > L::MOST_WAITING || !shares.admit(loads, *before, &load) {
            waiting.lost += weight;
            L::overflow(weight);
            return;
        }
        waiting.weight += weight;
        waiting.loads.push(load);
        drop(waiting);
        counter!(L::TAKEN).increment(weight as u64);
        self.queue.arrived.notify_one();
    }

    /// What no API service has yet.
    pub(crate) fn waiting(&self) -> usize {
        self.queue.waiting.lock().weight
    }

    #[cfg(test)]
    pub(crate) fn take(&self) -> Vec<L> {
        std::mem::take(&mut self.queue.waiting.lock().loads)
    }
}

/// The way into the stream.
struct Line {
    redis: Nodes,
    script: Script,
    progress: Script,
    unconfirmed: Unconfirmed,
    ask_at: Instant,
}

impl<L: Load> Queue<L> {
    async fn run(&self, mut line: Line, shutdown: &Shutdown) {
        loop {
            let (loads, lost) = {
                let mut waiting = self.waiting.lock();
                waiting.shares.forget();
                (std::mem::take(&mut waiting.loads), std::mem::take(&mut waiting.lost))
            };
            line.ask::<L>().await;
            if loads.is_empty() && lost == 0 {
                if shutdown.has_begun() {
                    return;
                }
                tokio::select! {
                    () = self.arrived.notified() => {}
                    () = sleep_until(line.ask_at), if !line.unconfirmed.is_empty() => {}
                    () = shutdown.begun() => {}
                }
                continue;
            }
            let (weight, began) = (loads.iter().map(L::weight).sum::<usize>(), Instant::now());
            let (now, mut later) = L::in_turns(L::pack(loads, lost));
            for loads in now.chunks(BATCH) {
                line.send::<L>(loads.iter().filter_map(L::encode).map(Value::from).collect()).await;
            }
            {
                let mut waiting = self.waiting.lock();
                let left: usize = later.iter().map(L::weight).sum();
                waiting.weight = (waiting.weight + left).saturating_sub(weight);
                if !later.is_empty() {
                    waiting.shares.forget();
                    later.append(&mut waiting.loads);
                    waiting.loads = later;
                }
            }
            tokio::select! {
                () = sleep_until(began + APART) => {}
                () = shutdown.begun() => {}
            }
        }
    }
}

impl Line {
    /// Tries until Redis has them all. Those of a command that was done and not answered are added twice, which their reader
    /// knows how to bear. Whoever shuts down has a deadline for this.
    async fn send<L: Load>(&mut self, entries: Vec<Value>) {
        let cap = Value::from(L::MOST_KEPT.to_string());
        let arguments: Vec<_> = [cap].into_iter().chain(entries.iter().cloned()).collect();
        if L::MOST_REMEMBERED_BYTES > 0 {
            if !self.unconfirmed.knows_server()
                && let Ok((server, ..)) = self.progress::<L>().await
            {
                self.unconfirmed.answered(&server, None);
            }
            let forgotten = self.unconfirmed.remember(entries);
            counter!(L::FORGOTTEN).increment(forgotten as u64);
        }
        loop {
            match self.redis.run::<Option<String>>(&self.script, [L::STREAM], arguments.iter().cloned()).await {
                Ok(last) => return self.unconfirmed.taken(last.and_then(|id| id.parse().ok())),
                Err(_) => {
                    counter!(L::RETRIES).increment(1);
                    sleep(PAUSE).await;
                }
            }
        }
    }

    async fn progress<L: Load>(&self) -> Result<(String, String, String), Error> {
        let keys = [L::STREAM.to_owned(), channel::birth(L::STREAM)];
        let arguments = [Value::from(channel::API_GROUP), Uuid::now_v7().to_string().into()];
        self.redis.run(&self.progress, keys, arguments).await
    }

    /// Asks now and then how far the API services have come, as long as there is something that they have not applied. Sends again
    /// what was given to another Redis than the one that answers.
    async fn ask<L: Load>(&mut self) {
        let now = Instant::now();
        if self.unconfirmed.is_empty() || now < self.ask_at {
            return;
        }
        self.ask_at = now + ASK_EVERY;
        // Without an answer nothing is let go.
        let Ok((server, kind, id)) = self.progress::<L>().await else { return };
        let progress = match (&*kind, id.parse()) {
            ("upto", Ok(id)) => Some(Progress::UpTo(id)),
            ("before", Ok(id)) => Some(Progress::Before(id)),
            _ => None,
        };
        for entries in self.unconfirmed.answered(&server, progress) {
            counter!(L::REPEATED).increment(entries.len() as u64);
            self.send::<L>(entries).await;
        }
    }
}
