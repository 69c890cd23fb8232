//! What waits to be written to one socket: a queue bounded in bytes, filled by the hub, emptied by the socket's task.
//!
//! It never drops a single event: a queue that is full gives up all it holds and its socket is closed (4408), for
//! a client that resumes with its cursor gets everything, and one that missed something in the middle never would.
//!
//! It is also how a socket is closed from outside (4401, its token was taken back): whatever its task waits for, even a
//! write that does not end, it waits for this as well, so no socket needs a timer or a receiver for it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::{Mutex, MutexGuard};
use shared::event::{Cursor, Event, Header};
use shared::redacted::Redacted;
use shared::token::Principal;

use crate::session::close_reason::CloseReason;
use crate::websocket;

/// What an entry costs beside its frame: its place in the queue and in the socket's bookkeeping.
const ITEM_OVERHEAD_BYTES: usize = 64;
/// Places that an empty queue may keep. A burst must not be paid for by a socket that is idle ever after.
const IDLE_CAPACITY: usize = 8;

/// An event as all sockets of a conversation share it.
#[derive(Debug)]
pub struct EncodedEvent {
    /// What the gateway knows of it.
    pub header: Header,
    /// The frame as it goes over the wire, encoded once for every socket.
    frame: Redacted<Box<[u8]>>,
}

impl EncodedEvent {
    /// Readies an event for any number of sockets. It is copied: what it was read from may be much larger, and must not live
    /// for as long as the slowest socket.
    #[must_use]
    pub fn new(event: Event<'_>) -> Arc<Self> {
        Arc::new(Self { header: event.header, frame: Redacted::new(websocket::text_frame(&event.frame).into()) })
    }

    /// Its place in the log, if it has one.
    #[must_use]
    pub fn cursor(&self) -> Option<Cursor> {
        match self.header {
            Header::Logged { cursor, .. } => Some(cursor),
            Header::Ephemeral { .. } | Header::PublishStatus { .. } | Header::InboxRow { .. } => None,
        }
    }

    /// What goes over the wire.
    #[must_use]
    pub fn frame(&self) -> &[u8] {
        self.frame.expose()
    }
}

/// One thing to tell a socket.
#[derive(Debug, Clone)]
pub enum QueueItem {
    /// An event.
    Event(Arc<EncodedEvent>),
    /// Live relay is cut.
    Degraded,
    /// Live relay is back, and what was missed stands before this in the queue.
    Recovered,
    /// What was missed cannot be replayed; what follows comes after this place of the log. Where there is no log: the beginning.
    Resync(Cursor),
    /// This gateway shuts down.
    GoingAway,
}

impl QueueItem {
    /// Its place in the log, if it has one.
    #[must_use]
    pub fn cursor(&self) -> Option<Cursor> {
        match self {
            Self::Event(delivery) => delivery.cursor(),
            _ => None,
        }
    }

    /// What it counts for in the queue.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Event(delivery) => ITEM_OVERHEAD_BYTES + delivery.frame().len(),
            _ => ITEM_OVERHEAD_BYTES,
        }
    }
}

/// What there is to do for a socket's task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wakeup {
    /// Items were taken; what to give back when they are written.
    Batch(usize),
    /// It was rung for: something may be due.
    Timer,
}

/// The queue of one socket.
#[derive(Debug)]
pub struct OutboundQueue {
    limit_bytes: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Whose socket it is, by its present token.
    principal: Arc<Principal>,
    items: VecDeque<QueueItem>,
    /// Of `items` and of what is being written.
    bytes: usize,
    closed: Option<CloseReason>,
    timer_fired: bool,
    /// The socket's task; woken only while it waits.
    waker: Option<Waker>,
    is_waiting: bool,
}

impl OutboundQueue {
    /// An empty queue of at most `limit_bytes`, for a socket of `principal`.
    #[must_use]
    pub fn new(principal: Arc<Principal>, limit_bytes: usize) -> Arc<Self> {
        let state = State {
            principal,
            items: VecDeque::new(),
            bytes: 0,
            closed: None,
            timer_fired: false,
            waker: None,
            is_waiting: false,
        };
        Arc::new(Self { limit_bytes, state: Mutex::new(state) })
    }

    /// Whose socket it is.
    #[must_use]
    pub fn principal(&self) -> Arc<Principal> {
        self.state.lock().principal.clone()
    }

    /// From now on the socket lives by this token.
    pub fn renew(&self, principal: Arc<Principal>) {
        self.state.lock().principal = principal;
    }

    /// Adds to the queue, or gives up all of it when that would pass the bound. Nobody hears their own typing.
    pub fn push(&self, item: QueueItem) {
        let mut state = self.state.lock();
        if let QueueItem::Event(delivery) = &item
            && let Header::Ephemeral { from } = &delivery.header
            && state.principal.participant() == Some(from)
        {
            return;
        }
        if state.closed.is_some() {
            return;
        }
        let bytes = item.bytes();
        if state.bytes + bytes > self.limit_bytes {
            metrics::counter!("gateway_outbound_overflows_total").increment(1);
            state.close(CloseReason::TooSlow);
        } else {
            state.items.push_back(item);
            state.bytes += bytes;
        }
        wake_task(state);
    }

    /// Ends the socket, unless something has already. What waits is given up.
    pub fn close(&self, reason: CloseReason) {
        let mut state = self.state.lock();
        state.close(reason);
        wake_task(state);
    }

    /// Has the socket's task look at the time.
    pub fn wake_for_timer(&self) {
        let mut state = self.state.lock();
        state.timer_fired = true;
        wake_task(state);
    }

    /// Moves what waits into `items`, until that counts for `limit_bytes` or more. `written` bytes of what was taken
    /// before have left, and no longer count.
    ///
    /// # Errors
    /// Why the socket is to be closed: from then on, always.
    pub fn poll_next_batch(
        &self,
        context: &Context<'_>,
        written: usize,
        items: &mut Vec<QueueItem>,
        limit_bytes: usize,
    ) -> Poll<Result<Wakeup, CloseReason>> {
        let mut state = self.state.lock();
        state.bytes = state.bytes.saturating_sub(written);
        if let Some(reason) = state.closed {
            return Poll::Ready(Err(reason));
        }
        if std::mem::take(&mut state.timer_fired) {
            return Poll::Ready(Ok(Wakeup::Timer));
        }
        let mut bytes = 0;
        while bytes < limit_bytes
            && let Some(item) = state.items.pop_front()
        {
            bytes += item.bytes();
            items.push(item);
        }
        if bytes == 0 {
            state.wait(context);
            return Poll::Pending;
        }
        if state.items.is_empty() && state.items.capacity() > IDLE_CAPACITY {
            state.items = VecDeque::new();
        }
        Poll::Ready(Ok(Wakeup::Batch(bytes)))
    }

    /// Waits until the socket is to be closed or was rung for: what a task does while it can write nothing.
    ///
    /// # Errors
    /// As [`OutboundQueue::poll_next_batch`].
    pub fn poll_wakeup(&self, context: &Context<'_>) -> Poll<Result<(), CloseReason>> {
        let mut state = self.state.lock();
        if let Some(reason) = state.closed {
            return Poll::Ready(Err(reason));
        }
        if std::mem::take(&mut state.timer_fired) {
            return Poll::Ready(Ok(()));
        }
        state.wait(context);
        Poll::Pending
    }
}

/// Wakes the socket's task, if it waits: most often it does not, because it was woken for something before this.
fn wake_task(mut state: MutexGuard<'_, State>) {
    if std::mem::take(&mut state.is_waiting)
        && let Some(waker) = &state.waker
    {
        waker.wake_by_ref();
    }
}

impl State {
    fn close(&mut self, reason: CloseReason) {
        self.closed.get_or_insert(reason);
        // At once: the socket's task may be stuck in a write for seconds.
        self.items = VecDeque::new();
    }

    fn wait(&mut self, context: &Context<'_>) {
        self.is_waiting = true;
        match &mut self.waker {
            // A task's waker stays the same as long as it lives.
            Some(waker) if waker.will_wake(context.waker()) => {}
            waker => *waker = Some(context.waker().clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;
    use crate::hub::tests::principal;

    const ALL: usize = usize::MAX;

    impl OutboundQueue {
        /// Waits for something to write and takes all of it. Says that nothing was written since.
        pub(crate) async fn next(&self) -> Result<Vec<QueueItem>, CloseReason> {
            let mut items = Vec::new();
            poll_fn(|context| self.poll_next_batch(context, 0, &mut items, ALL)).await?;
            Ok(items)
        }

        /// Waits until the socket is to be closed.
        pub(crate) async fn closed(&self) -> CloseReason {
            loop {
                if let Err(reason) = poll_fn(|context| self.poll_wakeup(context)).await {
                    return reason;
                }
            }
        }

        fn written(&self, bytes: usize) {
            let mut state = self.state.lock();
            state.bytes = state.bytes.saturating_sub(bytes);
        }
    }

    fn new_queue(limit_bytes: usize) -> Arc<OutboundQueue> {
        OutboundQueue::new(principal("user:doc123", None), limit_bytes)
    }

    fn event(cursor: &str, length: usize) -> QueueItem {
        let frame = "x".repeat(length).into();
        let header = Header::Logged { cursor: cursor.parse().unwrap(), previous: None, recipient: None };
        QueueItem::Event(EncodedEvent::new(Event { header, frame }))
    }

    #[tokio::test]
    async fn what_waits_together_leaves_together_and_in_order() {
        let queue = new_queue(10_000);
        for item in [event("1-0", 10), QueueItem::Degraded, event("2-0", 10)] {
            queue.push(item);
        }
        let items = queue.next().await.unwrap();
        assert!(matches!(&items[..], [QueueItem::Event(_), QueueItem::Degraded, QueueItem::Event(_)]));
        assert_eq!(items.iter().map(QueueItem::bytes).sum::<usize>(), 3 * ITEM_OVERHEAD_BYTES + 2 * (2 + 10));
    }

    #[tokio::test]
    async fn a_waiting_task_is_woken() {
        let queue = new_queue(10_000);
        let waiting = tokio::spawn({
            let queue = queue.clone();
            async move { queue.next().await }
        });
        tokio::task::yield_now().await;
        queue.push(QueueItem::Degraded);
        assert_eq!(waiting.await.unwrap().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_full_queue_gives_up_everything_and_stays_closed() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let _recording = metrics::set_default_local_recorder(&recorder);
        let queue = new_queue(300);
        let buffer = event("1-0", 100);
        let QueueItem::Event(delivery) = &buffer else { unreachable!() };
        let delivery = Arc::downgrade(delivery);
        queue.push(buffer);
        queue.push(event("2-0", 100));
        assert_eq!(delivery.strong_count(), 0, "the queue let go of what it held");
        assert_eq!(queue.closed().await, CloseReason::TooSlow);
        assert_eq!(queue.next().await.unwrap_err(), CloseReason::TooSlow);
        queue.push(event("3-0", 1));
        assert_eq!(queue.next().await.unwrap_err(), CloseReason::TooSlow);
        assert!(recorder.handle().render().contains("gateway_outbound_overflows_total 1"));
    }

    #[tokio::test]
    async fn who_is_closed_from_outside_hears_why_and_nothing_else() {
        let queue = new_queue(10_000);
        queue.push(QueueItem::Degraded);
        let waiting = tokio::spawn({
            let queue = queue.clone();
            async move { queue.closed().await }
        });
        tokio::task::yield_now().await;
        queue.close(CloseReason::TokenInvalid);
        queue.close(CloseReason::TooSlow);
        assert_eq!(waiting.await.unwrap(), CloseReason::TokenInvalid);
        assert_eq!(queue.next().await.unwrap_err(), CloseReason::TokenInvalid);
    }

    #[tokio::test]
    async fn bytes_count_until_they_are_written() {
        let queue = new_queue(300);
        queue.push(event("1-0", 100));
        let items = queue.next().await.unwrap();
        queue.written(items.iter().map(QueueItem::bytes).sum());
        queue.push(event("2-0", 100));
        assert_eq!(queue.next().await.unwrap().len(), 1);
        // This batch was never said to be written.
        queue.push(event("3-0", 100));
        assert_eq!(queue.next().await.unwrap_err(), CloseReason::TooSlow);
    }

    #[test]
    fn a_delivery_does_not_show_what_somebody_wrote() {
        let payload = b"5-1 5-0\n{\"type\":\"note\",\"text\":\"hunter2\"}";
        let delivery = EncodedEvent::new(Event::from_channel(payload).unwrap());
        let shown = format!("{:?} {delivery:?}", QueueItem::Event(delivery.clone()));
        assert!(!shown.contains("hunter2") && !shown.contains("104, 117, 110"), "{shown}");
    }

    #[tokio::test]
    async fn nobody_hears_their_own_typing() {
        let queue = new_queue(10_000);
        for from in ["user:doc123", "contact:doc123"] {
            let payload = shared::event::typing_payload(&from.parse().unwrap());
            queue.push(QueueItem::Event(EncodedEvent::new(Event::from_channel(payload.as_bytes()).unwrap())));
        }
        assert_eq!(queue.next().await.unwrap().len(), 1);
    }
}
