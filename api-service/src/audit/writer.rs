//! Writes what the audit trail must say of reads and refusals, which have no transaction of their own. AuditQueue that come while
//! a transaction is in flight share the next one.
//!
//! Whoever reads waits until its entry is on disk, and gets nothing when it cannot be written. Whoever is refused does not wait:
//! refusals that are the same become one row, a flood of them becomes a count, and what finds no room is counted in a row of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use shared::audit::{Action, AuditActor, AuditEntry, coalesce};
use shared::refusals::Refusals;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::model::deadline::{Deadline, StepError};
use crate::store::{Store, StoreError};

/// AuditQueue that may wait, and whose requests wait with them; more are refused with 503.
const READ_QUEUE_CAPACITY: usize = 4_096;
/// AuditQueue that may wait without anybody waiting for them.
const DENIAL_QUEUE_CAPACITY: usize = 8_192;
/// AuditQueue in one transaction.
const MAX_BATCH: usize = 512;
/// How often a batch is tried when another transaction stands in the way.
const MAX_ATTEMPTS: usize = 3;
/// Pause after a failure, while nobody waits.
const RETRY_DELAY: Duration = Duration::from_millis(500);
/// Between two looks for counts of refusals that are due.
const COUNT_INTERVAL: Duration = Duration::from_millis(250);
/// Between two logs of where the chains end.
const ANCHOR_LOG_INTERVAL: Duration = Duration::from_secs(300);

/// Why an entry is not on disk.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The queue is full.
    #[error("too many entries of the audit trail are waiting")]
    Overloaded,
    /// The entry was not written before the deadline of its request.
    #[error("the entry of the audit trail was not written in time")]
    DeadlineExceeded,
    /// The database rejected it, or did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Where entries are handed in. Clones share the queues, which close with the last of them.
#[derive(Clone)]
pub struct AuditWriter {
    reads: mpsc::Sender<PendingEntry>,
    denials: mpsc::Sender<AuditEntry>,
    lost: Arc<AtomicU64>,
    refusals: Arc<Refusals>,
}

/// The other end.
pub struct AuditQueue {
    reads: mpsc::Receiver<PendingEntry>,
    denials: mpsc::Receiver<AuditEntry>,
    lost: Arc<AtomicU64>,
    refusals: Arc<Refusals>,
}

/// An entry, and who waits for it.
struct PendingEntry {
    entry: AuditEntry,
    reply: oneshot::Sender<Result<(), StoreError>>,
}

/// Queues for entries. `refusals` counts those of which there are too many; the store counts with it as well.
#[must_use]
pub fn queue(refusals: Arc<Refusals>) -> (AuditWriter, AuditQueue) {
    let ((reads, read_receiver), (denials, denial_receiver)) =
        (mpsc::channel(READ_QUEUE_CAPACITY), mpsc::channel(DENIAL_QUEUE_CAPACITY));
    let lost: Arc<AtomicU64> = Arc::default();
    let writer = AuditWriter { reads, denials, lost: lost.clone(), refusals: refusals.clone() };
    (writer, AuditQueue { reads: read_receiver, denials: denial_receiver, lost, refusals })
}

impl AuditWriter {
    /// Writes an entry. When this returns well, it is on disk. AuditQueue wait for those before them, each of which may take as long as a
    /// transaction may, so whoever waits here does so until its `deadline`.
    ///
    /// # Errors
    /// [`AuditError`]: then nothing may be shown.
    pub async fn record(&self, entry: AuditEntry, deadline: Deadline) -> Result<(), AuditError> {
        let (reply, replied) = oneshot::channel();
        if self.reads.try_send(PendingEntry { entry, reply }).is_err() {
            metrics::counter!("audit_queue_overflows_total", "queue" => "reads").increment(1);
            return Err(AuditError::Overloaded);
        }
        let written = async {
            replied.await.unwrap_or_else(|_| Err(StoreError::Unavailable("the audit_writer has ended".into())))
        };
        deadline.limit(written).await.map_err(|error| match error {
            StepError::DeadlineExceeded => AuditError::DeadlineExceeded,
            // Many concurrent writers: the next attempt may succeed.
            StepError::Failed(StoreError::Contended(cause)) => StoreError::Unavailable(cause).into(),
            StepError::Failed(error) => error.into(),
        })
    }

    /// Sees to it that an entry is written soon, or counted when there are too many like it. Never waits.
    pub fn enqueue(&self, entry: AuditEntry) {
        let Some(entry) = self.refusals.admit(entry) else { return };
        if let Err(mpsc::error::TrySendError::Full(entry) | mpsc::error::TrySendError::Closed(entry)) =
            self.denials.try_send(entry)
        {
            metrics::counter!("audit_queue_overflows_total", "queue" => "refusals").increment(1);
            self.lost.fetch_add(entry.times.into(), Ordering::Relaxed);
        }
    }
}

impl AuditQueue {
    /// Whether nobody hands in entries any more, and none is left.
    fn is_closed(&self) -> bool {
        self.reads.is_closed() && self.reads.is_empty() && self.denials.is_closed() && self.denials.is_empty()
    }

    /// What the next transaction writes, once there is anything; nothing when nobody can hand in entries any more.
    async fn next(&mut self) -> (Vec<PendingEntry>, Vec<AuditEntry>) {
        let (mut reads, mut denials) = (Vec::new(), Vec::new());
        tokio::select! {
            Some(first) = self.reads.recv() => reads.push(first),
            Some(first) = self.denials.recv() => denials.push(first),
            else => return (reads, denials),
        }
        while reads.len() < MAX_BATCH
            && let Ok(next) = self.reads.try_recv()
        {
            reads.push(next);
        }
        // Many of them may become few.
        while denials.len() < DENIAL_QUEUE_CAPACITY
            && let Ok(next) = self.denials.try_recv()
        {
            denials.push(next);
        }
        // Whoever no longer waits was refused, and sees nothing.
        reads.retain(|read| !read.reply.is_closed());
        (reads, denials)
    }
}

/// Writes what is handed in until nobody hands in any more.
pub async fn run(store: Store, mut queue: AuditQueue) {
    let mut anchoring = interval(ANCHOR_LOG_INTERVAL);
    anchoring.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut counting = interval(COUNT_INTERVAL);
    counting.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // What nobody waits for, and could not be written yet.
    let mut backlog: Vec<AuditEntry> = Vec::new();
    loop {
        let (reads, denials) = tokio::select! {
            next = queue.next() => next,
            _ = counting.tick() => {
                let due = queue.refusals.due();
                if due.is_empty() {
                    continue;
                }
                (Vec::new(), due)
            }
            () = sleep(RETRY_DELAY), if !backlog.is_empty() => (Vec::new(), Vec::new()),
            _ = anchoring.tick() => {
                store.log_anchors();
                continue;
            }
        };
        let is_last = reads.is_empty() && denials.is_empty() && queue.is_closed();
        backlog.extend(denials);
        if is_last {
            backlog.extend(queue.refusals.rest());
        }
        let lost = queue.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            backlog.push(AuditEntry { times: u32::try_from(lost).unwrap_or(u32::MAX), ..lost_entry() });
        }
        backlog = coalesce(std::mem::take(&mut backlog));
        if !reads.is_empty() || !backlog.is_empty() {
            write(&store, reads, &mut backlog).await;
        }
        coalesce_overflow(&mut backlog, if is_last { 0 } else { DENIAL_QUEUE_CAPACITY });
        if is_last {
            break;
        }
    }
    store.log_anchors();
}

/// The entry that says how many others there would be.
fn lost_entry() -> AuditEntry {
    AuditEntry::new(AuditActor::System, Action::Lost, 0)
}

/// Makes one entry of those that there is no room for, which says how many they were.
fn coalesce_overflow(backlog: &mut Vec<AuditEntry>, room: usize) {
    if backlog.len() > room {
        let lost: u32 = backlog.drain(room.saturating_sub(1)..).fold(0, |lost, entry| lost.saturating_add(entry.times));
        metrics::counter!("audit_entries_lost_total").increment(lost.into());
        backlog.push(AuditEntry { times: lost, ..lost_entry() });
    }
}

/// Writes reads, and the backlog with them, which is empty when that works.
async fn write(store: &Store, reads: Vec<PendingEntry>, backlog: &mut Vec<AuditEntry>) {
    let mut batch = std::mem::take(backlog);
    let backlog_len = batch.len();
    let (read, waiting): (Vec<_>, Vec<_>) = reads.into_iter().map(|read| (read.entry, read.reply)).unzip();
    batch.extend(read);
    metrics::histogram!("audit_batch_size").record(batch.len() as f64);
    let start = Instant::now();
    let written = attempt(store, &batch).await;
    metrics::histogram!("audit_commit_seconds").record(start.elapsed());
    for reply in waiting {
        // Whoever no longer waits has seen nothing.
        let _ = reply.send(written.as_ref().copied().map_err(StoreError::duplicate));
    }
    match written {
        Ok(()) => metrics::counter!("audit_entries_total").increment(batch.len() as u64),
        Err(error) => {
            tracing::error!(%error, entries = batch.len(), "entries of the audit trail cannot be written");
            batch.truncate(backlog_len);
            *backlog = batch;
        }
    }
}

async fn attempt(store: &Store, batch: &[AuditEntry]) -> Result<(), StoreError> {
    let mut attempts = 1;
    loop {
        match store.record(batch).await {
            Err(StoreError::Contended(_)) if attempts < MAX_ATTEMPTS => attempts += 1,
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_finds_no_room_is_counted_and_what_waits_is_kept() {
        let (audit_writer, mut queue) = queue(Arc::default());
        // No refusals, which would be counted before.
        let entry = || AuditEntry::new(AuditActor::Anonymous, Action::Send, 0);
        for _ in 0..DENIAL_QUEUE_CAPACITY + 7 {
            audit_writer.enqueue(entry());
        }
        let (reads, denials) = queue.next().await;
        assert!(reads.is_empty());
        assert_eq!((denials.len(), queue.lost.load(Ordering::Relaxed)), (DENIAL_QUEUE_CAPACITY, 7));
    }

    #[tokio::test]
    async fn a_flood_of_refusals_is_counted_before_it_fills_the_queue() {
        let refusals: Arc<Refusals> = Arc::default();
        let (audit_writer, mut queue) = queue(refusals.clone());
        for _ in 0..10_000 {
            audit_writer.enqueue(AuditEntry::new(AuditActor::Anonymous, Action::Send, 401));
        }
        let (_, denials) = queue.next().await;
        let counted = refusals.rest();
        assert!(denials.len() < 50 && counted.len() == 1, "{} rows", denials.len());
        let times: u32 = denials.iter().chain(&counted).map(|entry| entry.times).sum();
        assert_eq!((times, queue.lost.load(Ordering::Relaxed)), (10_000, 0));
    }

    #[tokio::test]
    async fn more_reads_than_may_wait_are_refused() {
        let (audit_writer, queue) = queue(Arc::default());
        let deadline = Deadline::from_arrival(std::time::Instant::now());
        let read = || audit_writer.record(AuditEntry::new(AuditActor::Anonymous, Action::HistoryRead, 200), deadline);
        let mut waiting: Vec<_> = (0..READ_QUEUE_CAPACITY).map(|_| Box::pin(read())).collect();
        for read in &mut waiting {
            assert!(futures_util::poll!(read.as_mut()).is_pending());
        }
        assert!(matches!(read().await, Err(AuditError::Overloaded)));
        drop(queue);
        assert!(matches!(waiting.remove(0).await, Err(AuditError::Store(StoreError::Unavailable(_)))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_whose_entry_is_not_written_in_time_is_refused_and_its_entry_is_dropped() {
        let (audit_writer, mut queue) = queue(Arc::default());
        let deadline = Deadline::from_arrival(Instant::now().into_std());
        let entry = |action| AuditEntry::new(AuditActor::Anonymous, action, 200);
        let refused = audit_writer.record(entry(Action::HistoryRead), deadline).await;
        assert!(matches!(refused, Err(AuditError::DeadlineExceeded)), "{refused:?}");
        let later = Deadline::from_arrival(Instant::now().into_std());
        let mut waiting = Box::pin(audit_writer.record(entry(Action::InboxRead), later));
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        let (reads, _) = queue.next().await;
        let reads: Vec<_> = reads.iter().map(|read| read.entry.action).collect();
        assert_eq!(reads, [Action::InboxRead]);
    }

    #[test]
    fn a_backlog_that_grows_too_long_ends_with_how_many_it_has_forgotten() {
        let mut backlog: Vec<_> = (0..5).map(|_| AuditEntry { times: 3, ..lost_entry() }).collect();
        coalesce_overflow(&mut backlog, 5);
        assert_eq!(backlog.len(), 5);
        coalesce_overflow(&mut backlog, 3);
        assert_eq!(backlog.iter().map(|entry| entry.times).collect::<Vec<_>>(), [3, 3, 9]);
        coalesce_overflow(&mut backlog, 0);
        assert_eq!(backlog.iter().map(|entry| entry.times).collect::<Vec<_>>(), [15]);
    }
}
