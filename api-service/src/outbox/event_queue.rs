//! The bounded queue of committed events, between transactions and the fast path. Events that it cannot hold are published from
//! the outbox.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::mpsc;

use crate::store::OutboxEntry;

/// Events that may wait in memory.
const QUEUE_CAPACITY: usize = 10_000;

/// The sending end. Clones share the queue.
///
/// Never waits and never loses an event: each is in the outbox, which is read after an overflow.
#[derive(Clone)]
pub struct EventSender {
    queue: mpsc::Sender<OutboxEntry>,
    stats: Arc<QueueStats>,
}

/// The receiving end.
pub struct EventReceiver {
    queue: mpsc::Receiver<OutboxEntry>,
    stats: Arc<QueueStats>,
}

/// How full the queue is.
#[derive(Default)]
struct QueueStats {
    events: AtomicUsize,
    overflowed: AtomicBool,
}

/// Creates a queue.
#[must_use]
pub fn queue() -> (EventSender, EventReceiver) {
    let (sender, receiver) = mpsc::channel(QUEUE_CAPACITY);
    let stats = Arc::new(QueueStats::default());
    (EventSender { queue: sender, stats: stats.clone() }, EventReceiver { queue: receiver, stats })
}

impl EventSender {
    /// Queues entries. Call it after the commit, in the order of the commits.
    pub fn publish(&self, entries: impl IntoIterator<Item = OutboxEntry>) {
        for entry in entries {
            let events = entry.events.len();
            let has_room = self.stats.events.fetch_add(events, Ordering::AcqRel) + events <= QUEUE_CAPACITY;
            if !has_room || self.queue.try_send(entry).is_err() {
                self.stats.events.fetch_sub(events, Ordering::AcqRel);
                metrics::counter!("ehr_chat_publish_queue_overflows_total").increment(events as u64);
                self.stats.overflowed.store(true, Ordering::Release);
            }
        }
    }
}

impl EventSender {
    /// Events in the queue.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.stats.events.load(Ordering::Acquire)
    }
}

impl EventReceiver {
    /// The next entries, with about `max_events` events; none when the queue is closed.
    pub async fn next(&mut self, max_events: usize) -> Vec<OutboxEntry> {
        let mut entries = Vec::new();
        let mut events = 0;
        let mut next = self.queue.recv().await;
        while let Some(entry) = next {
            events += entry.events.len();
            entries.push(entry);
            next = if events < max_events { self.queue.try_recv().ok() } else { None };
        }
        self.stats.events.fetch_sub(events, Ordering::AcqRel);
        entries
    }

    /// Drops all queued entries, which the outbox holds too.
    pub fn discard(&mut self) {
        while let Ok(entry) = self.queue.try_recv() {
            self.stats.events.fetch_sub(entry.events.len(), Ordering::AcqRel);
        }
    }

    /// Whether the queue overflowed since the last call.
    pub fn overflowed(&self) -> bool {
        self.stats.overflowed.swap(false, Ordering::AcqRel)
    }

    /// Whether the queue is closed and empty.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.queue.is_closed() && self.queue.is_empty()
    }
}
