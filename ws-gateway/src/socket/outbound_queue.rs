//! The write queue of one socket, bounded in bytes. The hub fills it, the session empties it.
//!
//! The queue never drops a single event. When it is full, it drops everything and closes the socket (4408). The
//! client resumes with its cursor and gets every event; a client with a gap would never notice.
//!
//! The queue also closes a socket from outside, for example after a revocation (4401). The session always waits for
//! its queue, even during a blocked write, so it needs no further channel.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::{Mutex, MutexGuard};
use shared::contract::event::{Cursor, Header};
use shared::contract::token::Principal;

use super::close_reason::CloseReason;
use super::encoded_event::EncodedEvent;

/// The cost of an entry beside its frame.
const ITEM_OVERHEAD_BYTES: usize = 64;
/// Capacity that an empty queue keeps. A larger one is freed, because most sockets are idle most of the time.
const IDLE_CAPACITY: usize = 8;

/// An entry of the queue.
#[derive(Debug, Clone)]
pub(crate) enum QueueItem {
    /// An event.
    Event(Arc<EncodedEvent>),
    /// Live delivery is interrupted.
    Degraded,
    /// Live delivery works again. Missed events precede this item.
    Recovered,
    /// Missed events cannot be replayed. Later events follow this position of the log; for an inbox it is the start.
    Resync(Cursor),
    /// This gateway shuts down.
    GoingAway,
}

impl QueueItem {
    /// Its position in the log, if it has one.
    #[must_use]
    pub(crate) fn cursor(&self) -> Option<Cursor> {
        match self {
            Self::Event(delivery) => delivery.cursor(),
            _ => None,
        }
    }

    /// Its size in the queue.
    #[must_use]
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Event(delivery) => ITEM_OVERHEAD_BYTES + delivery.frame().len(),
            _ => ITEM_OVERHEAD_BYTES,
        }
    }
}

/// Why the session was woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wakeup {
    /// A batch was taken. The session returns these bytes once they are written.
    Batch(usize),
    /// Its timer fired.
    Timer,
}

/// The queue of one socket.
#[derive(Debug)]
pub(crate) struct OutboundQueue {
    limit_bytes: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The participant, by the current token.
    principal: Arc<Principal>,
    items: VecDeque<QueueItem>,
    /// Of `items` and of the batch that is being written.
    bytes: usize,
    closed: Option<CloseReason>,
    timer_fired: bool,
    /// Wakes the session, while `is_waiting` is set.
    waker: Option<Waker>,
    is_waiting: bool,
}

impl OutboundQueue {
    /// An empty queue of at most `limit_bytes`, for a socket of `principal`.
    #[must_use]
    pub(crate) fn new(principal: Arc<Principal>, limit_bytes: usize) -> Arc<Self> {
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

    /// The current token.
    #[must_use]
    pub(crate) fn principal(&self) -> Arc<Principal> {
        self.state.lock().principal.clone()
    }

    /// Replaces the token.
    pub(crate) fn renew(&self, principal: Arc<Principal>) {
        self.state.lock().principal = principal;
    }

    /// Appends an item, or closes the socket if the queue is full. A socket never receives its own participant's
    /// typing.
    pub(crate) fn push(&self, item: QueueItem) {
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
            metrics::counter!("ehr_chat_gateway_slow_clients_total").increment(1);
            state.close(CloseReason::TooSlow);
        } else {
            state.items.push_back(item);
            state.bytes += bytes;
        }
        wake_task(state);
    }

    /// Closes the socket, unless it is closed already. Queued items are dropped.
    pub(crate) fn close(&self, reason: CloseReason) {
        let mut state = self.state.lock();
        state.close(reason);
        wake_task(state);
    }

    /// Tells the session that its timer fired.
    pub(crate) fn wake_for_timer(&self) {
        let mut state = self.state.lock();
        state.timer_fired = true;
        wake_task(state);
    }

    /// Moves queued items into `items`, until they reach `limit_bytes`. First it releases `written` bytes of the
    /// previous batch.
    ///
    /// # Errors
    /// The reason to close the socket, on this call and every later one.
    pub(crate) fn poll_next_batch(
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

    /// Waits for a close or a timer. The session uses it while a write is blocked.
    ///
    /// # Errors
    /// As [`OutboundQueue::poll_next_batch`].
    pub(crate) fn poll_wakeup(&self, context: &Context<'_>) -> Poll<Result<(), CloseReason>> {
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

/// Wakes the session if it is waiting. Mostly it is not, because an earlier item has woken it.
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
        // Dropped now, because the session may be blocked in a write for seconds.
        self.items = VecDeque::new();
    }

    fn wait(&mut self, context: &Context<'_>) {
        self.is_waiting = true;
        match &mut self.waker {
            // Usually a task keeps its waker.
            Some(waker) if waker.will_wake(context.waker()) => {}
            waker => *waker = Some(context.waker().clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use shared::contract::event::Event;

    use super::*;
    use crate::hub::tests::principal;

    const ALL: usize = usize::MAX;

    impl OutboundQueue {
        /// Waits for a batch and takes all of it, without marking it written.
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
    async fn queued_items_are_taken_together_in_order() {
        let queue = new_queue(10_000);
        for item in [event("1-0", 10), QueueItem::Degraded, event("2-0", 10)] {
            queue.push(item);
        }
        let items = queue.next().await.unwrap();
        assert!(matches!(&items[..], [QueueItem::Event(_), QueueItem::Degraded, QueueItem::Event(_)]));
        assert_eq!(items.iter().map(QueueItem::bytes).sum::<usize>(), 3 * ITEM_OVERHEAD_BYTES + 2 * (2 + 10));
    }

    #[tokio::test]
    async fn push_wakes_waiting_task() {
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
    async fn full_queue_drops_everything_and_stays_closed() {
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
        assert!(recorder.handle().render().contains("ehr_chat_gateway_slow_clients_total 1"));
    }

    #[tokio::test]
    async fn closed_queue_returns_first_reason() {
        let queue = new_queue(10_000);
        queue.push(QueueItem::Degraded);
        let waiting = tokio::spawn({
            let queue = queue.clone();
            async move { queue.closed().await }
        });
        tokio::task::yield_now().await;
        queue.close(CloseReason::TokenRevoked);
        queue.close(CloseReason::TooSlow);
        assert_eq!(waiting.await.unwrap(), CloseReason::TokenRevoked);
        assert_eq!(queue.next().await.unwrap_err(), CloseReason::TokenRevoked);
    }

    #[tokio::test]
    async fn bytes_count_until_written() {
        let queue = new_queue(300);
        queue.push(event("1-0", 100));
        let items = queue.next().await.unwrap();
        queue.written(items.iter().map(QueueItem::bytes).sum());
        queue.push(event("2-0", 100));
        assert_eq!(queue.next().await.unwrap().len(), 1);
        // The test never reported this batch as written.
        queue.push(event("3-0", 100));
        assert_eq!(queue.next().await.unwrap_err(), CloseReason::TooSlow);
    }

    #[test]
    fn debug_output_hides_event_content() {
        let payload = b"5-1 5-0\n{\"type\":\"note\",\"text\":\"hunter2\"}";
        let delivery = EncodedEvent::new(Event::from_channel(payload).unwrap());
        let printed = format!("{:?} {delivery:?}", QueueItem::Event(delivery.clone()));
        assert!(!printed.contains("hunter2") && !printed.contains("104, 117, 110"), "{printed}");
    }

    #[tokio::test]
    async fn socket_does_not_receive_own_typing() {
        let queue = new_queue(10_000);
        for from in ["user:doc123", "contact:doc123"] {
            let payload = shared::contract::event::typing_payload(&from.parse().unwrap());
            queue.push(QueueItem::Event(EncodedEvent::new(Event::from_channel(payload.as_bytes()).unwrap())));
        }
        assert_eq!(queue.next().await.unwrap().len(), 1);
    }
}
