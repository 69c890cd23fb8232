//! Writes what the audit trail must say of reads and refusals, which have no transaction of their own. Entries that come while
//! a transaction is in flight share the next one.
//!
//! Whoever reads waits until its entry is on disk, and gets nothing when it cannot be written. Whoever is refused does not wait:
//! refusals that are the same become one row, and what finds no room is counted in a row of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use shared::audit::{Action, Entry, Who, coalesce};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use crate::domain::error::Refused;
use crate::store::{Store, StoreError};

/// Entries that may wait, and whose requests wait with them; more are refused with 503.
const READS: usize = 4_096;
/// Entries that may wait without anybody waiting for them.
const NOTES: usize = 8_192;
/// Entries in one transaction.
const BATCH: usize = 512;
/// How often a batch is tried when another transaction stands in the way, or when it holds what nobody waits for.
const ATTEMPTS: usize = 3;
/// Pause after a failure, when nobody waits.
const PAUSE: Duration = Duration::from_millis(500);
/// Between two logs of where the chains end.
const ANCHOR_EVERY: Duration = Duration::from_secs(300);

/// Where entries are handed in. Clones share the queues, which close with the last of them.
#[derive(Clone)]
pub struct Auditor {
    reads: mpsc::Sender<Awaited>,
    notes: mpsc::Sender<Entry>,
    lost: Arc<AtomicU64>,
}

/// The other end.
pub struct Entries {
    reads: mpsc::Receiver<Awaited>,
    notes: mpsc::Receiver<Entry>,
    lost: Arc<AtomicU64>,
}

/// An entry, and who waits for it.
struct Awaited {
    entry: Entry,
    answer: oneshot::Sender<Result<(), StoreError>>,
}

/// Queues for entries.
#[must_use]
pub fn queue() -> (Auditor, Entries) {
    let ((reads, to_read), (notes, to_note)) = (mpsc::channel(READS), mpsc::channel(NOTES));
    let lost: Arc<AtomicU64> = Arc::default();
    (Auditor { reads, notes, lost: lost.clone() }, Entries { reads: to_read, notes: to_note, lost })
}

impl Auditor {
    /// Writes an entry. When this returns well, it is on disk.
    ///
    /// # Errors
    /// [`Refused`], whatever the reason as if the database were out of reach: then nothing may be shown.
    pub async fn record(&self, entry: Entry) -> Result<(), Refused> {
        let (answer, answered) = oneshot::channel();
        if self.reads.try_send(Awaited { entry, answer }).is_err() {
            metrics::counter!("audit_queue_overflows_total", "queue" => "reads").increment(1);
            return Err(Refused::Overloaded);
        }
        let written = answered.await.unwrap_or_else(|_| Err(StoreError::internal("the auditor has ended")));
        written.map_err(|error| match error {
            StoreError::Unavailable(cause) | StoreError::Contended(cause) | StoreError::Internal(cause) => {
                StoreError::Unavailable(cause).into()
            }
        })
    }

    /// Sees to it that an entry is written soon. Never waits.
    pub fn note(&self, entry: Entry) {
        if let Err(mpsc::error::TrySendError::Full(entry) | mpsc::error::TrySendError::Closed(entry)) =
            self.notes.try_send(entry)
        {
            metrics::counter!("audit_queue_overflows_total", "queue" => "refusals").increment(1);
            self.lost.fetch_add(entry.times.into(), Ordering::Relaxed);
        }
    }
}

impl Entries {
    /// What the next transaction writes, once there is anything; nothing when nobody can hand in entries any more.
    async fn next(&mut self) -> (Vec<Awaited>, Vec<Entry>) {
        let (mut reads, mut notes) = (Vec::new(), Vec::new());
        tokio::select! {
            Some(first) = self.reads.recv() => reads.push(first),
            Some(first) = self.notes.recv() => notes.push(first),
            else => return (reads, notes),
        }
        while reads.len() < BATCH && let Ok(next) = self.reads.try_recv() {
            reads.push(next);
        }
        // Many of them may become few.
        while notes.len() < NOTES && let Ok(next) = self.notes.try_recv() {
            notes.push(next);
        }
        (reads, notes)
    }
}

/// Writes what is handed in until nobody hands in any more.
pub async fn run(store: Store, mut entries: Entries) {
    let mut anchoring = interval(ANCHOR_EVERY);
    anchoring.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let (reads, notes) = tokio::select! {
            next = entries.next() => next,
            _ = anchoring.tick() => {
                store.log_anchors();
                continue;
            }
        };
        if reads.is_empty() && notes.is_empty() {
            break;
        }
        write(&store, &entries.lost, reads, notes).await;
    }
    store.log_anchors();
}

async fn write(store: &Store, lost: &AtomicU64, reads: Vec<Awaited>, notes: Vec<Entry>) {
    let mut batch = coalesce(notes);
    let missing = lost.swap(0, Ordering::Relaxed);
    if missing > 0 {
        let times = u32::try_from(missing).unwrap_or(u32::MAX);
        batch.push(Entry { times, ..Entry::new(Who::System, Action::Lost, 0) });
    }
    let noted = batch.len();
    let (read, waiting): (Vec<_>, Vec<_>) = reads.into_iter().map(|read| (read.entry, read.answer)).unzip();
    batch.extend(read);
    metrics::histogram!("audit_batch_size").record(batch.len() as f64);
    let start = Instant::now();
    let written = attempt(store, &batch).await;
    metrics::histogram!("audit_commit_seconds").record(start.elapsed());
    match &written {
        Ok(()) => metrics::counter!("audit_entries_total").increment(batch.len() as u64),
        Err(error) => tracing::error!(%error, entries = batch.len(), "entries of the audit trail cannot be written"),
    }
    let is_written = written.is_ok();
    for answer in waiting {
        // Whoever no longer waits has seen nothing.
        let _ = answer.send(written.as_ref().map(|()| ()).map_err(StoreError::repeat));
    }
    if !is_written && noted > 0 {
        batch.truncate(noted);
        insist(store, lost, &batch).await;
    }
}

async fn attempt(store: &Store, batch: &[Entry]) -> Result<(), StoreError> {
    let mut attempts = 1;
    loop {
        match store.record(batch).await {
            Err(StoreError::Contended(_)) if attempts < ATTEMPTS => attempts += 1,
            done => return done,
        }
    }
}

/// Tries again what nobody waits for, and counts it as lost when that does not help.
async fn insist(store: &Store, lost: &AtomicU64, batch: &[Entry]) {
    for attempt in 1..=ATTEMPTS as u32 {
        let until = Instant::now() + PAUSE * attempt;
        tokio::time::sleep_until(until).await;
        // Reads wait meanwhile: none of these may hold them up for long.
        if let Ok(Ok(())) = timeout_at(until + PAUSE, self::attempt(store, batch)).await {
            metrics::counter!("audit_entries_total").increment(batch.len() as u64);
            return;
        }
    }
    let times: u64 = batch.iter().map(|entry| u64::from(entry.times)).sum();
    metrics::counter!("audit_entries_lost_total").increment(times);
    lost.fetch_add(times, Ordering::Relaxed);
}
