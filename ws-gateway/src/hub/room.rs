//! The sockets of one conversation or inbox. A room keeps their events complete and in order.
//!
//! Each event names its predecessor, so a room notices a gap with the next event. It then reads the log again
//! (backfill). Live events that arrive meanwhile are buffered, because the events from the log come first.
//!
//! An inbox has no log and needs none: a newer row replaces an older one. After a possible loss its sockets receive
//! `resync` and reload all rows.

use std::sync::Arc;
use std::time::Duration;

use shared::contract::event::{Cursor, Header, PUBLISH_STATUS_TTL};
use shared::contract::redis::keys::Channel;
use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;

use super::backfill::{Backfill, BackfillBuffer};
use super::epoch::Epoch;
use crate::socket::{EncodedEvent, OutboundQueue, QueueItem};

/// Publish outages per room, one per API service.
const MAX_PUBLISH_OUTAGES: usize = 64;

/// What Redis knows of the subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum SubscriptionState {
    /// The SUBSCRIBE is not sent yet.
    #[default]
    Pending,
    /// The SUBSCRIBE is sent, but not confirmed.
    Subscribing,
    /// Redis has confirmed it.
    Active,
}

#[derive(Debug, Default)]
pub(super) struct Room {
    pub(super) sockets: Vec<Arc<OutboundQueue>>,
    pub(super) subscription: SubscriptionState,
    /// Sockets that wait for the confirmation.
    pub(super) subscribe_waiters: Vec<oneshot::Sender<Epoch>>,
    /// Every socket has all events up to here, or reads them itself.
    pub(super) position: Option<Cursor>,
    /// The first position of the room. A socket that joined earlier received no live event up to here.
    first_position: Option<Cursor>,
    buffer: Option<BackfillBuffer>,
    degraded: bool,
    /// API services that cannot publish this conversation's events, and when they last said so.
    publish_outages: Vec<(Uuid, Instant)>,
    /// Guards that keep the channel subscribed without a socket.
    pub(super) holders: u32,
    /// The conversation has a message, so its participants may see each other's presence.
    pub(super) is_shared: bool,
    /// A typing notice that arrived before it was known whether the conversation has a message.
    typing: Option<Box<WithheldTyping>>,
    /// An inbox has no log, and so no position and no backfill.
    is_inbox: bool,
    /// Rows of this inbox may have been lost, and its sockets do not know yet.
    needs_resync: bool,
}

/// A typing notice that is sent only once the conversation is known to have a message.
#[derive(Debug)]
struct WithheldTyping {
    notice: Arc<EncodedEvent>,
    received_at: Instant,
    checked_at: Instant,
}

/// A withheld typing notice is worthless after this.
const TYPING_TTL: Duration = Duration::from_secs(3);
/// Between two checks of one conversation.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// What happened to a live event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Received {
    /// It was sent, withheld or buffered.
    Delivered,
    /// It revealed a gap. The caller must queue the room for a backfill.
    NeedsBackfill,
    /// It is withheld. The caller must check whether the conversation has a message.
    NeedsCheck,
}

impl Room {
    /// An empty room.
    pub(super) fn new(channel: &Channel) -> Self {
        Self { is_inbox: channel.is_inbox(), ..Self::default() }
    }

    /// Whether nothing needs its channel.
    pub(super) fn is_empty(&self) -> bool {
        self.sockets.is_empty() && self.holders == 0
    }

    /// Handles a live event.
    pub(super) fn receive(&mut self, delivery: Arc<EncodedEvent>) -> Received {
        let Header::Logged { cursor, previous, ref recipient } = delivery.header else {
            if !self.is_shared && matches!(delivery.header, Header::Ephemeral { .. }) {
                return self.withhold_typing(delivery, Instant::now());
            }
            self.send(&QueueItem::Event(delivery));
            return Received::Delivered;
        };
        if recipient.is_some() {
            // The typing participant has sent the message. Before the first message no presence is shown.
            self.typing = None;
        }
        self.is_shared = true;
        if self.typing.is_some() {
            // This event is a receipt, so an earlier message exists.
            self.mark_shared(Instant::now());
        }
        if let Some(buffer) = &mut self.buffer {
            buffer.push(cursor, delivery);
            return Received::Delivered;
        }
        match self.position {
            None => {
                // A socket that joined earlier must have read the log up to the predecessor of this event, or this
                // event.
                self.first_position = previous.or(Some(cursor));
                self.advance(cursor, delivery);
                Received::Delivered
            }
            // A replayed event. The first event of a log is never skipped: a failover may have lost the old log, and
            // the new server's clock may be behind.
            Some(position) if cursor <= position && previous.is_some() => Received::Delivered,
            Some(_) if previous == self.position => {
                self.advance(cursor, delivery);
                Received::Delivered
            }
            // A gap, or a new log.
            Some(_) => {
                metrics::counter!("ehr_chat_gateway_pubsub_gaps_total", "detected_by" => "next_event").increment(1);
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

    /// The conversation has a message. Sends the withheld notice, unless it is too old.
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

    /// A socket has read the log up to `read`. Returns whether it has every event up to there and receives every
    /// later one. `joined_early`: it joined before the room had a position.
    pub(super) fn confirm_position(&mut self, read: Cursor, joined_early: bool) -> bool {
        if self.position.is_none() {
            // An existing position is never advanced here, because the other sockets have not read these events.
            self.position = Some(read);
            self.first_position = Some(read);
        }
        // Events up to the first position were sent to no socket that joined earlier.
        !joined_early || self.first_position.is_none_or(|first_position| first_position <= read)
    }

    /// Whether the room buffers events until a backfill.
    pub(super) fn needs_backfill(&self) -> bool {
        self.buffer.is_some()
    }

    /// Notes that events may be missing. Returns `true` if the room must be queued for a backfill. It must not if it
    /// is queued already, or if it has no position that a socket relies on.
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

    /// An API service reports that it cannot publish this conversation's events, or that it can again and has
    /// published those that waited.
    pub(super) fn record_publish_outage(&mut self, instance: Uuid, is_recovered: bool) {
        self.publish_outages.retain(|(other, at)| *other != instance && at.elapsed() < PUBLISH_STATUS_TTL);
        if !is_recovered && self.publish_outages.len() < MAX_PUBLISH_OUTAGES {
            self.publish_outages.push((instance, Instant::now()));
            // A repetition is for sockets that joined since. A session skips a second `degraded`.
            self.degraded = true;
            self.send(&QueueItem::Degraded);
        } else if is_recovered && !self.needs_backfill() && self.subscription == SubscriptionState::Active {
            self.recover();
        }
    }

    /// Removes outages that were not repeated; their API service has died. Returns `true` if the room must be queued
    /// for a backfill.
    pub(super) fn expire_publish_outages(&mut self) -> bool {
        let before = self.publish_outages.len();
        self.publish_outages.retain(|(_, at)| at.elapsed() < PUBLISH_STATUS_TTL);
        self.publish_outages.len() < before
            && self.publish_outages.is_empty()
            && self.subscription == SubscriptionState::Active
            && self.mark_gap()
    }

    /// Whether its sockets received `degraded` and not yet `recovered`.
    pub(super) fn is_degraded(&self) -> bool {
        self.degraded
    }

    /// The connection to Redis is lost.
    pub(super) fn disconnected(&mut self) {
        self.subscription = SubscriptionState::Pending;
        self.subscribe_waiters.clear();
        self.mark_gap();
        self.degraded = true;
        self.send(&QueueItem::Degraded);
    }

    /// No event is missing any more.
    pub(super) fn recover(&mut self) {
        if std::mem::take(&mut self.needs_resync) {
            self.send(&QueueItem::Resync(Cursor::START));
        }
        if self.publish_outages.is_empty() && std::mem::take(&mut self.degraded) {
            self.send(&QueueItem::Recovered);
        }
    }

    /// Starts the read. Returns the position to read from, or `None` if no read is needed or one is running.
    pub(super) fn start_backfill(&mut self) -> Option<Cursor> {
        let is_started = self.buffer.as_mut().is_some_and(BackfillBuffer::start_read);
        self.position.filter(|_| is_started)
    }

    /// The read failed. The caller queues the room again.
    pub(super) fn backfill_failed(&mut self) {
        if let Some(buffer) = &mut self.buffer {
            buffer.read_failed();
        }
    }

    /// Ends the read: sends the events from the log, then the buffered ones. Returns `false` if there is another gap.
    pub(super) fn finish_backfill(&mut self, backfill: Backfill) -> bool {
        let Some(mut buffer) = self.buffer.take() else { return true };
        match backfill {
            Backfill::Events(events) => {
                for delivery in events {
                    if let Some(cursor) = delivery.cursor() {
                        self.advance(cursor, delivery);
                    }
                }
                // The log does not contain an event that arrived live, so a failover has lost events.
                if let Some(position) = self.position
                    && buffer.expects_more_than(position)
                {
                    self.send(&QueueItem::Resync(position));
                    buffer.forget_newest();
                }
            }
            Backfill::Gap(tail) => {
                self.position = Some(tail);
                self.send(&QueueItem::Resync(tail));
                // That event belongs to the lost log.
                buffer.forget_newest();
            }
        }
        let events = match buffer.finish_read() {
            Ok(events) => events,
            Err(next) => {
                self.buffer = Some(next);
                return false;
            }
        };
        for delivery in events {
            self.receive(delivery);
        }
        if self.needs_backfill() {
            return false;
        }
        self.recover();
        true
    }
}
