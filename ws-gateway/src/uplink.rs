//! What a gateway has to say to the API service, on its way into a stream of Redis.
//!
//! Things are gathered while a batch is under way, and for [`APART`] at least, and leave together. They wait out an outage of
//! Redis in a bounded queue; what becomes of those that find no room is theirs to say ([`Load::overflow`]).

mod shares;

use std::sync::Arc;
use std::time::Duration;

use fred::clients::Client;
use fred::types::Value;
use fred::types::scripts::Script;
use metrics::counter;
use parking_lot::Mutex;
use shared::ids::LocationId;
use shared::participant::Participant;
use shared::shutdown::Shutdown;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use crate::redis::run;
use shares::Shares;

/// Entries in one command.
const BATCH: usize = 256;
/// Between two batches: an idle gateway sends at once, a busy one few large commands.
const APART: Duration = Duration::from_millis(20);
/// How long to wait after a failure.
const PAUSE: Duration = Duration::from_millis(250);

/// What goes up.
pub trait Load: Send + Sync + Sized + 'static {
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
    pub(crate) fn start(client: Client, shutdown: &Shutdown) -> Self {
        let uplink = Self::default();
        let (queue, ended) = (uplink.queue.clone(), shutdown.clone());
        shutdown.spawn(async move { queue.run(&client, &ended).await });
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

impl<L: Load> Queue<L> {
    async fn run(&self, client: &Client, shutdown: &Shutdown) {
        let script = Script::from_lua(L::SCRIPT);
        loop {
            let (loads, lost) = {
                let mut waiting = self.waiting.lock();
                waiting.shares.forget();
                (std::mem::take(&mut waiting.loads), std::mem::take(&mut waiting.lost))
            };
            if loads.is_empty() && lost == 0 {
                if shutdown.has_begun() {
                    return;
                }
                tokio::select! {
                    () = self.arrived.notified() => {}
                    () = shutdown.begun() => {}
                }
                continue;
            }
            let (weight, began) = (loads.iter().map(L::weight).sum::<usize>(), Instant::now());
            let (now, mut later) = L::in_turns(L::pack(loads, lost));
            for loads in now.chunks(BATCH) {
                self.send(client, &script, loads).await;
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

    /// Tries until Redis has them all. Those of a command that was done and not answered are added twice, which their reader
    /// knows how to bear. Whoever shuts down has a deadline for this.
    async fn send(&self, client: &Client, script: &Script, loads: &[L]) {
        let entries = loads.iter().filter_map(L::encode).map(Value::from);
        let cap = Value::from(L::MOST_KEPT.to_string());
        let arguments: Vec<_> = [cap].into_iter().chain(entries).collect();
        while run::<Value>(client, script, L::STREAM, &arguments).await.is_err() {
            counter!(L::RETRIES).increment(1);
            sleep(PAUSE).await;
        }
    }
}
