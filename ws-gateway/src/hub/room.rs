//! The sockets of one conversation or inbox, and the rule that keeps their events whole and in order.
//!
//! Each event names the one before it, so a room knows when one did not arrive. Then its log is read again, and while
//! that lasts live events are held back: they stand behind what the log will show.
//!
//! An inbox has no log and needs none: a row is worth nothing once a newer one is there. When some may have been lost, its
//! sockets are told to load them all (`resync`).

use std::sync::Arc;
use std::time::Duration;

use shared::channel::Channel;
use shared::event::{Cursor, Header, PUBLISH_STATUS_TTL};
use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Backfill, Epoch};
use crate::hub::outbound_queue::{EncodedEvent, OutboundQueue, QueueItem};

/// Most bytes of frames that a room holds back; past it they are let go and the log is read once more.
const MAX_BUFFERED_BYTES: usize = 1024 * 1024;

/// API services whose announcements a room keeps.
const MAX_PUBLISH_OUTAGES: usize = 64;

/// How far Redis knows that we listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum SubscriptionState {
    /// It has not been told.
    #[default]
    Pending,
    /// It has not answered.
    Subscribing,
    /// It has confirmed.
    Active,
}

#[derive(Debug, Default)]
pub(super) struct Room {
    pub(super) sockets: Vec<Arc<OutboundQueue>>,
    pub(super) subscription: SubscriptionState,
    /// Sockets that wait to hear that the subscription stands.
    pub(super) subscribe_waiters: Vec<oneshot::Sender<Epoch>>,
    /// Every socket here has every event up to this one, or will read it itself.
    pub(super) position: Option<Cursor>,
    /// Where the position began. Sockets that joined before have heard of no event up to here.
    first_position: Option<Cursor>,
    buffer: Option<BackfillBuffer>,
    degraded: bool,
    /// API services whose events for it Redis refuses, and when they last said so.
    publish_outages: Vec<(Uuid, Instant)>,
    /// Those who hear its channel without a socket.
    pub(super) holders: u32,
    /// Somebody has written here: its two participants may know of each other.
    pub(super) is_shared: bool,
    /// Somebody has typed, and nobody knows yet whether anything was ever written here.
    typing: Option<Box<WithheldTyping>>,
    /// It has no log, and so no position and nothing to read.
    is_inbox: bool,
    /// Of an inbox: rows may have been lost, and nobody has been told.
    needs_resync: bool,
}

/// A notice of typing that may be told only once it is known that something was ever written here.
#[derive(Debug)]
struct WithheldTyping {
    notice: Arc<EncodedEvent>,
    received_at: Instant,
    checked_at: Instant,
}

/// For how long a notice of typing is worth something.
const TYPING_TTL: Duration = Duration::from_secs(3);
/// Between two questions about one room.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// What became of something that came live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Received {
    /// It was told, or is held back.
    Delivered,
    /// The room has fallen behind by it, and must be queued for reading.
    NeedsBackfill,
    /// It is withheld until somebody says that something was written here, which is to be asked.
    NeedsCheck,
}

/// What came while the room was behind.
#[derive(Debug, Default)]
struct BackfillBuffer {
    events: Vec<Arc<EncodedEvent>>,
    bytes: usize,
    /// The newest event that came, whether or not it is still held.
    newest: Option<Cursor>,
    /// The newest event that had come when the reading began: the log must hold it.
    expected: Option<Cursor>,
    is_reading: bool,
    /// Something was lost since the reading began.
    must_repeat: bool,
}

impl Room {
    /// A room in which nobody is yet.
    pub(super) fn new(channel: &Channel) -> Self {
        Self { is_inbox: channel.is_inbox(), ..Self::default() }
    }

    /// Whether nobody hears its channel.
    pub(super) fn is_empty(&self) -> bool {
        self.sockets.is_empty() && self.holders == 0
    }

    /// Takes what came live.
    pub(super) fn receive(&mut self, delivery: Arc<EncodedEvent>) -> Received {
        let Header::Logged { cursor, previous, ref recipient } = delivery.header else {
            if !self.is_shared && matches!(delivery.header, Header::Ephemeral { .. }) {
                return self.withhold_typing(delivery, Instant::now());
            }
            self.send(&QueueItem::Event(delivery));
            return Received::Delivered;
        };
        if recipient.is_some() {
            // Whoever has written does not type any more, and before the first message nobody is told of anybody.
            self.typing = None;
        }
        self.is_shared = true;
        if self.typing.is_some() {
            // It is a receipt, so something was written here before.
            self.mark_shared(Instant::now());
        }
        if let Some(buffer) = &mut self.buffer {
            buffer.push(cursor, delivery);
            return Received::Delivered;
        }
        match self.position {
            None => {
                // Whoever joined before must have read the log up to what stood before this, or this itself.
                self.first_position = previous.or(Some(cursor));
                self.advance(cursor, delivery);
                Received::Delivered
            }
            // Read from the log already. What opens a log is looked at in any case: should Redis have lost the old one, and its
            // clock stand behind, the new log begins before the end of the old.
            Some(position) if cursor <= position && previous.is_some() => Received::Delivered,
            Some(_) if previous == self.position => {
                self.advance(cursor, delivery);
                Received::Delivered
            }
            // Something between the two did not arrive, or the log is another one.
            Some(_) => {
                metrics::counter!("gateway_silent_losses_total", "noticed" => "next_event").increment(1);
                self.buffer.insert(BackfillBuffer::default()).push(cursor, delivery);
                Received::NeedsBackfill
            }
        }
    }

    fn withhold_typing(&mut self, notice: Arc<EncodedEvent>, now: Instant) -> Received {
        let checked_at =
            self.typing.as_ref().map(|withheld| withheld.checked_at).filter(|at| now < *at + CHECK_INTERVAL);
        self.typing =
            Some(Box::new(WithheldTyping { notice, received_at: now, checked_at: checked_at.unwrap_or(now) }));
        if checked_at.is_some() { Received::Delivered } else { Received::NeedsCheck }
    }

    /// Something was written here: tells what was withheld, as far as it is still worth something.
    pub(super) fn mark_shared(&mut self, now: Instant) {
        self.is_shared = true;
        if let Some(withheld) = self.typing.take()
            && now < withheld.received_at + TYPING_TTL
        {
            self.send(&QueueItem::Event(withheld.notice));
        }
    }

    fn advance(&mut self, cursor: Cursor, delivery: Arc<EncodedEvent>) {
        if self.position.is_none_or(|position| position < cursor) {
            self.position = Some(cursor);
            self.send(&QueueItem::Event(delivery));
        }
    }

    pub(super) fn send(&self, item: &QueueItem) {
        for socket in &self.sockets {
            socket.push(item.clone());
        }
    }

    /// A socket has read the log up to `read` by itself. Returns whether it has everything up to there and hears
    /// everything behind it. `joined_early`: it joined before the room had a position.
    pub(super) fn confirm_position(&mut self, read: Cursor, joined_early: bool) -> bool {
        if self.position.is_none() {
            // Never moved forward here: the others in the room have not read what this one has.
            self.position = Some(read);
            self.first_position = Some(read);
        }
        // What another socket's reading or a first event has skipped was told to nobody.
        !joined_early || self.first_position.is_none_or(|first_position| first_position <= read)
    }

    /// Whether its log is to be read.
    pub(super) fn needs_backfill(&self) -> bool {
        self.buffer.is_some()
    }

    /// Something may have been lost. Returns whether the room must be queued for reading: it is not when it is queued or
    /// being read already, nor when no socket here has a position that could fall behind.
    pub(super) fn mark_gap(&mut self) -> bool {
        self.needs_resync = self.is_inbox;
        match &mut self.buffer {
            Some(buffer) => {
                buffer.clear();
                false
            }
            None if self.position.is_some() => {
                self.buffer = Some(BackfillBuffer::default());
                true
            }
            None => false,
        }
    }

    /// An API service says that Redis refuses its events for this conversation, or no longer does and has taken what waited.
    pub(super) fn record_publish_outage(&mut self, instance: Uuid, is_recovered: bool) {
        self.publish_outages.retain(|(other, at)| *other != instance && at.elapsed() < PUBLISH_STATUS_TTL);
        if !is_recovered && self.publish_outages.len() < MAX_PUBLISH_OUTAGES {
            self.publish_outages.push((instance, Instant::now()));
            // Said again, it is for sockets that have come since; the others leave out what they have heard.
            self.degraded = true;
            self.send(&QueueItem::Degraded);
        } else if is_recovered && !self.needs_backfill() && self.subscription == SubscriptionState::Active {
            self.recover();
        }
    }

    /// Forgets what was said long ago: whoever said it has died. Returns whether the log is to be read for that.
    pub(super) fn expire_publish_outages(&mut self) -> bool {
        let before = self.publish_outages.len();
        self.publish_outages.retain(|(_, at)| at.elapsed() < PUBLISH_STATUS_TTL);
        self.publish_outages.len() < before
            && self.publish_outages.is_empty()
            && self.subscription == SubscriptionState::Active
            && self.mark_gap()
    }

    /// Whether its sockets have been told that events may be missing, and not yet that none is.
    pub(super) fn is_degraded(&self) -> bool {
        self.degraded
    }

    /// Redis is gone.
    pub(super) fn disconnected(&mut self) {
        self.subscription = SubscriptionState::Pending;
        self.subscribe_waiters.clear();
        self.mark_gap();
        self.degraded = true;
        self.send(&QueueItem::Degraded);
    }

    /// Nothing is missing any more.
    pub(super) fn recover(&mut self) {
        if std::mem::take(&mut self.needs_resync) {
            self.send(&QueueItem::Resync(Cursor::START));
        }
        if self.publish_outages.is_empty() && std::mem::take(&mut self.degraded) {
            self.send(&QueueItem::Recovered);
        }
    }

    /// From where on to read, when that is needed and nobody reads already.
    pub(super) fn start_backfill(&mut self) -> Option<Cursor> {
        let buffer = self.buffer.as_mut().filter(|buffer| !buffer.is_reading)?;
        // What was published stands in the log: what has come until now will be read there.
        buffer.clear();
        buffer.expected = buffer.newest;
        buffer.must_repeat = false;
        buffer.is_reading = true;
        self.position
    }

    /// The reading failed.
    pub(super) fn backfill_failed(&mut self) {
        if let Some(buffer) = &mut self.buffer {
            buffer.is_reading = false;
        }
    }

    /// Returns whether the room has caught up.
    pub(super) fn finish_backfill(&mut self, backfill: Backfill) -> bool {
        let Some(mut buffer) = self.buffer.take() else { return true };
        match backfill {
            Backfill::Events(events) => {
                for delivery in events {
                    if let Some(cursor) = delivery.cursor() {
                        self.advance(cursor, delivery);
                    }
                }
                // It came live and the log does not know it: a failover has lost it, and who knows what else.
                if let Some(position) = self.position
                    && buffer.expected > self.position
                {
                    self.send(&QueueItem::Resync(position));
                    buffer.newest = None;
                }
            }
            Backfill::Gap(tail) => {
                self.position = Some(tail);
                self.send(&QueueItem::Resync(tail));
                // Of a log that is gone; whatever the present one holds will come.
                buffer.newest = None;
            }
        }
        if buffer.must_repeat {
            self.buffer = Some(BackfillBuffer { newest: buffer.newest, ..BackfillBuffer::default() });
            return false;
        }
        for delivery in buffer.events {
            self.receive(delivery);
        }
        if self.needs_backfill() {
            return false;
        }
        self.recover();
        true
    }
}

impl BackfillBuffer {
    fn push(&mut self, cursor: Cursor, delivery: Arc<EncodedEvent>) {
        self.newest = self.newest.max(Some(cursor));
        self.bytes += delivery.frame().len();
        self.events.push(delivery);
        if self.bytes > MAX_BUFFERED_BYTES {
            metrics::counter!("gateway_held_overflows_total").increment(1);
            self.clear();
        }
    }

    fn clear(&mut self) {
        self.events = Vec::new();
        self.bytes = 0;
        self.must_repeat = true;
    }
}
