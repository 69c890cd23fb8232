//! Writes the audit entries of reads and denied requests, which have no transaction of their own. Entries that arrive during a
//! transaction share the next one.
//!
//! Reads are durable: a read returns only after its entry is on disk, and fails with 503 if it cannot be written. Denials are
//! best effort: they are written asynchronously, identical ones become one row, a flood becomes a count, and entries that find no
//! room are counted in a row of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use shared::contract::audit::denials::DenialAggregator;
use shared::contract::audit::{Action, AuditActor, AuditEntry, coalesce};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::model::deadline::{Deadline, StepError};
use crate::store::{AuditPosition, Store, StoreError};

/// Read entries that may wait; further reads are answered with 503.
const READ_QUEUE_CAPACITY: usize = 4_096;
/// Denials that may wait.
const DENIAL_QUEUE_CAPACITY: usize = 8_192;
/// Read entries per transaction.
const MAX_BATCH: usize = 512;
/// Attempts when another transaction interferes.
const MAX_ATTEMPTS: usize = 3;
/// Delay after a failure that only affects denials.
const RETRY_DELAY: Duration = Duration::from_millis(500);
/// Between two checks for counts that are due.
const COUNT_INTERVAL: Duration = Duration::from_millis(250);
/// Between two logs of the chains' ends.
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

/// The sending end. The queues close when the last clone is dropped.
#[derive(Clone)]
pub struct AuditWriter {
    reads: mpsc::Sender<PendingEntry>,
    denials: mpsc::Sender<AuditEntry>,
    lost: Arc<AtomicU64>,
    refusals: Arc<DenialAggregator>,
}

/// The receiving end.
pub struct AuditQueue {
    reads: mpsc::Receiver<PendingEntry>,
    denials: mpsc::Receiver<AuditEntry>,
    lost: Arc<AtomicU64>,
    refusals: Arc<DenialAggregator>,
}

/// An entry whose request waits.
struct PendingEntry {
    entry: AuditEntry,
    reply: oneshot::Sender<Result<AuditPosition, StoreError>>,
}

/// Creates the queues. `refusals` counts floods of denials; the store uses the same counters.
#[must_use]
pub fn queue(refusals: Arc<DenialAggregator>) -> (AuditWriter, AuditQueue) {
    let ((reads, read_receiver), (denials, denial_receiver)) =
        (mpsc::channel(READ_QUEUE_CAPACITY), mpsc::channel(DENIAL_QUEUE_CAPACITY));
    let lost: Arc<AtomicU64> = Arc::default();
    let writer = AuditWriter { reads, denials, lost: lost.clone(), refusals: refusals.clone() };
    (writer, AuditQueue { reads: read_receiver, denials: denial_receiver, lost, refusals })
}

impl AuditWriter {
    /// Writes an entry durably. Earlier entries come first, so this may wait until `deadline`. Returns a position that is
    /// committed no earlier than the entry.
    ///
    /// # Errors
    /// [`AuditError`]: nothing may be returned to the caller.
    pub async fn record(&self, entry: AuditEntry, deadline: Deadline) -> Result<AuditPosition, AuditError> {
        let (reply, replied) = oneshot::channel();
        if self.reads.try_send(PendingEntry { entry, reply }).is_err() {
            metrics::counter!("ehr_chat_audit_queue_overflows_total", "queue" => "reads").increment(1);
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

    /// Queues a denial, or counts it when there are too many like it. Never waits.
    pub fn enqueue(&self, entry: AuditEntry) {
        let Some(entry) = self.refusals.admit(entry) else { return };
        if let Err(mpsc::error::TrySendError::Full(entry) | mpsc::error::TrySendError::Closed(entry)) =
            self.denials.try_send(entry)
        {
            metrics::counter!("ehr_chat_audit_queue_overflows_total", "queue" => "denials").increment(1);
            self.lost.fetch_add(entry.times.into(), Ordering::Relaxed);
        }
    }
}

impl AuditQueue {
    /// Whether the queues are closed and empty.
    fn is_closed(&self) -> bool {
        self.reads.is_closed() && self.reads.is_empty() && self.denials.is_closed() && self.denials.is_empty()
    }

    /// The entries of the next transaction; empty once the queues are closed and empty.
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
        // Many denials may become few rows.
        while denials.len() < DENIAL_QUEUE_CAPACITY
            && let Ok(next) = self.denials.try_recv()
        {
            denials.push(next);
        }
        // A request that no longer waits was answered with an error, so its entry is not needed.
        reads.retain(|read| !read.reply.is_closed());
        (reads, denials)
    }
}

/// Writes until the queues are closed and empty.
pub async fn run(store: Store, mut queue: AuditQueue) {
    let mut anchoring = interval(ANCHOR_LOG_INTERVAL);
    anchoring.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut counting = interval(COUNT_INTERVAL);
    counting.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Denials that are not written yet.
    let mut backlog: Vec<AuditEntry> = Vec::new();
    loop {
        let (reads, denials) = tokio::select! {
            next = queue.next() => next,
            _ = counting.tick() => {
                let due = queue.refusals.take_due();
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
            backlog.extend(queue.refusals.take_all());
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

/// The entry that counts lost entries.
fn lost_entry() -> AuditEntry {
    AuditEntry::new(AuditActor::System, Action::Lost, 0)
}

/// Replaces the entries beyond `room` by one entry that counts them.
fn coalesce_overflow(backlog: &mut Vec<AuditEntry>, room: usize) {
    if backlog.len() > room {
        let lost: u32 = backlog.drain(room.saturating_sub(1)..).fold(0, |lost, entry| lost.saturating_add(entry.times));
        metrics::counter!("ehr_chat_audit_entries_lost_total").increment(lost.into());
        backlog.push(AuditEntry { times: lost, ..lost_entry() });
    }
}

/// Writes reads and the backlog in one transaction. On success the backlog is empty.
async fn write(store: &Store, reads: Vec<PendingEntry>, backlog: &mut Vec<AuditEntry>) {
    let mut batch = std::mem::take(backlog);
    let backlog_len = batch.len();
    let (read, waiting): (Vec<_>, Vec<_>) = reads.into_iter().map(|read| (read.entry, read.reply)).unzip();
    batch.extend(read);
    metrics::histogram!("ehr_chat_audit_batch_size").record(batch.len() as f64);
    let start = Instant::now();
    let written = attempt(store, &batch).await;
    metrics::histogram!("ehr_chat_audit_commit_duration_seconds").record(start.elapsed());
    for reply in waiting {
        // The receiver is gone if the request was dropped.
        let _ = reply.send(written.as_ref().copied().map_err(StoreError::duplicate));
    }
    match written {
        Ok(_) => metrics::counter!("ehr_chat_audit_entries_total").increment(batch.len() as u64),
        Err(error) => {
            tracing::error!(%error, entries = batch.len(), "audit entries not written");
            batch.truncate(backlog_len);
            *backlog = batch;
        }
    }
}

async fn attempt(store: &Store, batch: &[AuditEntry]) -> Result<AuditPosition, StoreError> {
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
    async fn overflowing_denials_are_counted() {
        let (audit_writer, mut queue) = queue(Arc::default());
        // No denials, which would be counted earlier.
        let entry = || AuditEntry::new(AuditActor::Anonymous, Action::Send, 0);
        for _ in 0..DENIAL_QUEUE_CAPACITY + 7 {
            audit_writer.enqueue(entry());
        }
        let (reads, denials) = queue.next().await;
        assert!(reads.is_empty());
        assert_eq!((denials.len(), queue.lost.load(Ordering::Relaxed)), (DENIAL_QUEUE_CAPACITY, 7));
    }

    #[tokio::test]
    async fn denial_flood_is_counted_before_queue_fills() {
        let refusals: Arc<DenialAggregator> = Arc::default();
        let (audit_writer, mut queue) = queue(refusals.clone());
        for _ in 0..10_000 {
            audit_writer.enqueue(AuditEntry::new(AuditActor::Anonymous, Action::Send, 401));
        }
        let (_, denials) = queue.next().await;
        let counted = refusals.take_all();
        assert!(denials.len() < 50 && counted.len() == 1, "{} rows", denials.len());
        let times: u32 = denials.iter().chain(&counted).map(|entry| entry.times).sum();
        assert_eq!((times, queue.lost.load(Ordering::Relaxed)), (10_000, 0));
    }

    #[tokio::test]
    async fn reads_beyond_capacity_are_rejected() {
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
    async fn late_read_is_rejected_and_its_entry_dropped() {
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
    fn overlong_backlog_ends_with_count_of_lost() {
        let mut backlog: Vec<_> = (0..5).map(|_| AuditEntry { times: 3, ..lost_entry() }).collect();
        coalesce_overflow(&mut backlog, 5);
        assert_eq!(backlog.len(), 5);
        coalesce_overflow(&mut backlog, 3);
        assert_eq!(backlog.iter().map(|entry| entry.times).collect::<Vec<_>>(), [3, 3, 9]);
        coalesce_overflow(&mut backlog, 0);
        assert_eq!(backlog.iter().map(|entry| entry.times).collect::<Vec<_>>(), [15]);
    }
}
