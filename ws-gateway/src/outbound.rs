//! What waits to be written to one socket: a queue bounded in bytes, filled by the hub, emptied by the socket's task.
//!
//! It never drops a single event: a queue that is full gives up all it holds and its socket is closed (4408), for
//! a client that resumes with its cursor gets everything, and one that missed something in the middle never would.
//!
//! It is also how a socket is closed from outside (4401, its token was taken back): whatever its task waits for, even a
//! write that does not end, it waits for this as well, so no socket needs a timer or a receiver for it.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::{Mutex, MutexGuard};
use shared::event::{Cursor, Event, Header};
use shared::token::Principal;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::close::Close;

/// What an entry costs beside its frame: its place in the queue and in the socket's bookkeeping.
const ENTRY_BYTES: usize = 64;

/// An event as all sockets of a conversation share it.
#[derive(Debug)]
pub struct Delivery {
    /// What the gateway knows of it.
    pub header: Header,
    /// The frame, checked once to be text.
    pub text: Utf8Bytes,
}

impl Delivery {
    /// Readies an event for any number of sockets. `None` when its frame is not text, which no event of ours is.
    #[must_use]
    pub fn new(event: Event) -> Option<Arc<Self>> {
        let text = Utf8Bytes::try_from(event.frame).ok()?;
        Some(Arc::new(Self { header: event.header, text }))
    }

    /// Its place in the log, if it has one.
    #[must_use]
    pub fn cursor(&self) -> Option<Cursor> {
        match self.header {
            Header::Logged { cursor, .. } => Some(cursor),
            Header::Ephemeral { .. } => None,
        }
    }
}

/// One thing to tell a socket.
#[derive(Debug, Clone)]
pub enum Item {
    /// An event.
    Event(Arc<Delivery>),
    /// Live relay is cut.
    Degraded,
    /// Live relay is back, and what was missed stands before this in the queue.
    Recovered,
    /// What was missed cannot be replayed; what follows comes after this place of the log.
    Resync(Cursor),
    /// This gateway shuts down.
    GoingAway,
}

impl Item {
    fn bytes(&self) -> usize {
        match self {
            Self::Event(delivery) => ENTRY_BYTES + delivery.text.len(),
            _ => ENTRY_BYTES,
        }
    }
}

/// All that waited, for one round of writing.
#[derive(Debug)]
pub struct Batch {
    /// In order.
    pub items: Vec<Item>,
    /// What to give back with [`Outbound::written`].
    pub bytes: usize,
}

/// The queue of one socket.
#[derive(Debug)]
pub struct Outbound {
    limit_bytes: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Whose socket it is, by its present token.
    bearer: Arc<Principal>,
    items: Vec<Item>,
    /// Of `items` and of the batch that is being written.
    bytes: usize,
    closed: Option<Close>,
    /// The socket's task, when it waits.
    waker: Option<Waker>,
}

impl Outbound {
    /// An empty queue of at most `limit_bytes`, for a socket of `bearer`.
    #[must_use]
    pub fn new(bearer: Arc<Principal>, limit_bytes: usize) -> Arc<Self> {
        let state = State { bearer, items: Vec::new(), bytes: 0, closed: None, waker: None };
        Arc::new(Self { limit_bytes, state: Mutex::new(state) })
    }

    /// Whose socket it is.
    #[must_use]
    pub fn bearer(&self) -> Arc<Principal> {
        self.state.lock().bearer.clone()
    }

    /// From now on the socket lives by this token.
    pub fn renew(&self, bearer: Arc<Principal>) {
        self.state.lock().bearer = bearer;
    }

    /// Adds to the queue, or gives up all of it when that would pass the bound. Nobody hears their own typing.
    pub fn push(&self, item: Item) {
        let mut state = self.state.lock();
        if let Item::Event(delivery) = &item
            && let Header::Ephemeral { from } = &delivery.header
            && state.bearer.person() == Some(from)
        {
            return;
        }
        if state.closed.is_some() {
            return;
        }
        let bytes = item.bytes();
        if state.bytes + bytes > self.limit_bytes {
            metrics::counter!("gateway_outbound_overflows_total").increment(1);
            state.close(Close::TooSlow);
        } else {
            state.items.push(item);
            state.bytes += bytes;
        }
        wake(state);
    }

    /// Ends the socket, unless something has already. What waits is given up.
    pub fn close(&self, why: Close) {
        let mut state = self.state.lock();
        state.close(why);
        wake(state);
    }

    /// Waits for something to write and takes all of it.
    ///
    /// # Errors
    /// Why the socket is to be closed: from then on, always.
    pub async fn next(&self) -> Result<Batch, Close> {
        poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&self, context: &mut Context<'_>) -> Poll<Result<Batch, Close>> {
        let mut state = self.state.lock();
        if let Some(why) = state.closed {
            return Poll::Ready(Err(why));
        }
        if state.items.is_empty() {
            state.wait(context);
            return Poll::Pending;
        }
        let items = std::mem::take(&mut state.items);
        let bytes = items.iter().map(Item::bytes).sum();
        Poll::Ready(Ok(Batch { items, bytes }))
    }

    /// Waits until the socket is to be closed: what a task does beside a write that does not end.
    pub async fn closed(&self) -> Close {
        poll_fn(|context| {
            let mut state = self.state.lock();
            if let Some(why) = state.closed {
                return Poll::Ready(why);
            }
            state.wait(context);
            Poll::Pending
        })
        .await
    }

    /// Says that a batch has left, so that its bytes no longer count.
    pub fn written(&self, bytes: usize) {
        let mut state = self.state.lock();
        state.bytes = state.bytes.saturating_sub(bytes);
    }
}

/// Wakes the socket's task without the lock: it may run on another core at once.
fn wake(mut state: MutexGuard<'_, State>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl State {
    fn close(&mut self, why: Close) {
        self.closed.get_or_insert(why);
        // At once: the socket's task may be stuck in a write for seconds.
        self.items = Vec::new();
    }

    fn wait(&mut self, context: &Context<'_>) {
        match &mut self.waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::tests::bearer;

    fn queue(limit_bytes: usize) -> Arc<Outbound> {
        Outbound::new(bearer("user:doc123", None), limit_bytes)
    }

    fn event(cursor: &str, length: usize) -> Item {
        let frame = "x".repeat(length).into();
        let header = Header::Logged { cursor: cursor.parse().unwrap(), previous: None, addressed: None };
        Item::Event(Delivery::new(Event { header, frame }).unwrap())
    }

    #[tokio::test]
    async fn what_waits_together_leaves_together_and_in_order() {
        let outbound = queue(10_000);
        for item in [event("1-0", 10), Item::Degraded, event("2-0", 10)] {
            outbound.push(item);
        }
        let batch = outbound.next().await.unwrap();
        assert!(matches!(&batch.items[..], [Item::Event(_), Item::Degraded, Item::Event(_)]));
        assert_eq!(batch.bytes, 3 * ENTRY_BYTES + 20);
    }

    #[tokio::test]
    async fn a_waiting_task_is_woken() {
        let outbound = queue(10_000);
        let waiting = tokio::spawn({
            let outbound = outbound.clone();
            async move { outbound.next().await }
        });
        tokio::task::yield_now().await;
        outbound.push(Item::Degraded);
        assert_eq!(waiting.await.unwrap().unwrap().items.len(), 1);
    }

    #[tokio::test]
    async fn a_full_queue_gives_up_everything_and_stays_closed() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let _recording = metrics::set_default_local_recorder(&recorder);
        let outbound = queue(300);
        let held = event("1-0", 100);
        let Item::Event(delivery) = &held else { unreachable!() };
        let delivery = Arc::downgrade(delivery);
        outbound.push(held);
        outbound.push(event("2-0", 100));
        assert_eq!(delivery.strong_count(), 0, "the queue let go of what it held");
        assert_eq!(outbound.closed().await, Close::TooSlow);
        assert_eq!(outbound.next().await.unwrap_err(), Close::TooSlow);
        outbound.push(event("3-0", 1));
        assert_eq!(outbound.next().await.unwrap_err(), Close::TooSlow);
        assert!(recorder.handle().render().contains("gateway_outbound_overflows_total 1"));
    }

    #[tokio::test]
    async fn who_is_closed_from_outside_hears_why_and_nothing_else() {
        let outbound = queue(10_000);
        outbound.push(Item::Degraded);
        let waiting = tokio::spawn({
            let outbound = outbound.clone();
            async move { outbound.closed().await }
        });
        tokio::task::yield_now().await;
        outbound.close(Close::TokenEnded);
        outbound.close(Close::TooSlow);
        assert_eq!(waiting.await.unwrap(), Close::TokenEnded);
        assert_eq!(outbound.next().await.unwrap_err(), Close::TokenEnded);
    }

    #[tokio::test]
    async fn bytes_count_until_they_are_written() {
        let outbound = queue(300);
        outbound.push(event("1-0", 100));
        let batch = outbound.next().await.unwrap();
        outbound.written(batch.bytes);
        outbound.push(event("2-0", 100));
        assert_eq!(outbound.next().await.unwrap().items.len(), 1);
        // This batch was never said to be written.
        outbound.push(event("3-0", 100));
        assert_eq!(outbound.next().await.unwrap_err(), Close::TooSlow);
    }

    #[tokio::test]
    async fn nobody_hears_their_own_typing() {
        let outbound = queue(10_000);
        for from in ["user:doc123", "contact:doc123"] {
            let payload = shared::event::typing(&from.parse().unwrap()).into();
            outbound.push(Item::Event(Delivery::new(Event::from_channel(&payload).unwrap()).unwrap()));
        }
        let batch = outbound.next().await.unwrap();
        assert_eq!(batch.items.len(), 1);
    }
}
