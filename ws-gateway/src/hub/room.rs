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
const HELD_LIMIT_BYTES: usize = 1024 * 1024;

/// API services whose announcements a room keeps.
const MOST_INSTANCES: usize = 64;

/// How far Redis knows that we listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Stage {
    /// It has not been told.
    #[default]
    Wanted,
    /// It has not answered.
    Subscribing,
    /// It has confirmed.
    Live,
}

#[derive(Debug, Default)]
pub(super) struct Room {
    pub(super) sockets: Vec<Arc<OutboundQueue>>,
    pub(super) stage: Stage,
    /// Sockets that wait to hear that the subscription stands.
    pub(super) waiting: Vec<oneshot::Sender<Epoch>>,
    /// Every socket here has every event up to this one, or will read it itself.
    pub(super) position: Option<Cursor>,
    /// Where the position began. Sockets that joined before have heard of no event up to here.
    start: Option<Cursor>,
    held: Option<Held>,
    degraded: bool,
    /// API services whose events for it Redis refuses, and when they last said so.
    refused_by: Vec<(Uuid, Instant)>,
    /// Those who hear its channel without a socket.
    pub(super) attendants: u32,
    /// Somebody has written here: its two participants may know of each other.
    pub(super) is_shared: bool,
    /// Somebody has typed, and nobody knows yet whether anything was ever written here.
    typing: Option<Box<Withheld>>,
    /// It has no log, and so no position and nothing to read.
    is_inbox: bool,
    /// Of an inbox: rows may have been lost, and nobody has been told.
    is_stale: bool,
}

/// A notice of typing that may be told only once it is known that something was ever written here.
#[derive(Debug)]
struct Withheld {
    notice: Arc<EncodedEvent>,
    came_at: Instant,
    asked_at: Instant,
}

/// For how long a notice of typing is worth something.
const TYPING_LASTS: Duration = Duration::from_secs(3);
/// Between two questions about one room.
const ASK_EVERY: Duration = Duration::from_secs(10);

/// What became of something that came live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Received {
    /// It was told, or is held back.
    Taken,
    /// The room has fallen behind by it, and must be queued for reading.
    Behind,
    /// It is withheld until somebody says that something was written here, which is to be asked.
    Unknown,
}

/// What came while the room was behind.
#[derive(Debug, Default)]
struct Held {
    events: Vec<Arc<EncodedEvent>>,
    bytes: usize,
    /// The newest event that came, whether or not it is still held.
    newest: Option<Cursor>,
    /// The newest event that had come when the reading began: the log must hold it.
    expected: Option<Cursor>,
    reading: bool,
    /// Something was lost since the reading began.
    again: bool,
}

impl Room {
    /// A room in which nobody is yet.
    pub(super) fn of(channel: &Channel) -> Self {
        Self { is_inbox: channel.is_inbox(), ..Self::default() }
    }

    /// Whether nobody hears its channel.
    pub(super) fn is_empty(&self) -> bool {
        self.sockets.is_empty() && self.attendants == 0
    }

    /// Takes what came live.
    pub(super) fn receive(&mut self, delivery: Arc<EncodedEvent>) -> Received {
        let Header::Logged { cursor, previous, ref recipient } = delivery.header else {
            if !self.is_shared && matches!(delivery.header, Header::Ephemeral { .. }) {
                return self.withhold(delivery, Instant::now());
            }
            self.tell(&QueueItem::Event(delivery));
            return Received::Taken;
        };
        if recipient.is_some() {
            // Whoever has written does not type any more, and before the first message nobody is told of anybody.
            self.typing = None;
        }
        self.is_shared = true;
        if self.typing.is_some() {
            // It is a receipt, so something was written here before.
            self.share(Instant::now());
        }
        if let Some(held) = &mut self.held {
            held.keep(cursor, delivery);
            return Received::Taken;
        }
        match self.position {
            None => {
                // Whoever joined before must have read the log up to what stood before this, or this itself.
                self.start = previous.or(Some(cursor));
                self.advance(cursor, delivery);
                Received::Taken
            }
            // Read from the log already. What opens a log is looked at in any case: should Redis have lost the old one, and its
            // clock stand behind, the new log begins before the end of the old.
            Some(position) if cursor <= position && previous.is_some() => Received::Taken,
            Some(_) if previous == self.position => {
                self.advance(cursor, delivery);
                Received::Taken
            }
            // Something between the two did not arrive, or the log is another one.
            Some(_) => {
                metrics::counter!("gateway_silent_losses_total", "noticed" => "next_event").increment(1);
                self.held.insert(Held::default()).keep(cursor, delivery);
                Received::Behind
            }
        }
    }

    fn withhold(&mut self, notice: Arc<EncodedEvent>, now: Instant) -> Received {
        let asked_at = self.typing.as_ref().map(|withheld| withheld.asked_at).filter(|at| now < *at + ASK_EVERY);
        self.typing = Some(Box::new(Withheld { notice, came_at: now, asked_at: asked_at.unwrap_or(now) }));
        if asked_at.is_some() { Received::Taken } else { Received::Unknown }
    }

    /// Something was written here: tells what was withheld, as far as it is still worth something.
    pub(super) fn share(&mut self, now: Instant) {
        self.is_shared = true;
        if let Some(withheld) = self.typing.take()
            && now < withheld.came_at + TYPING_LASTS
        {
            self.tell(&QueueItem::Event(withheld.notice));
        }
    }

    fn advance(&mut self, cursor: Cursor, delivery: Arc<EncodedEvent>) {
        if self.position.is_none_or(|position| position < cursor) {
            self.position = Some(cursor);
            self.tell(&QueueItem::Event(delivery));
        }
    }

    pub(super) fn tell(&self, item: &QueueItem) {
        for socket in &self.sockets {
            socket.push(item.clone());
        }
    }

    /// A socket has read the log up to `read` by itself. Returns whether it has everything up to there and hears
    /// everything behind it. `early`: it joined before the room had a position.
    pub(super) fn settle(&mut self, read: Cursor, early: bool) -> bool {
        if self.position.is_none() {
            // Never moved forward here: the others in the room have not read what this one has.
            self.position = Some(read);
            self.start = Some(read);
        }
        // What another socket's reading or a first event has skipped was told to nobody.
        !early || self.start.is_none_or(|start| start <= read)
    }

    /// Whether its log is to be read.
    pub(super) fn is_behind(&self) -> bool {
        self.held.is_some()
    }

    /// Something may have been lost. Returns whether the room must be queued for reading: it is not when it is queued or
    /// being read already, nor when no socket here has a position that could fall behind.
    pub(super) fn fall_behind(&mut self) -> bool {
        self.is_stale = self.is_inbox;
        match &mut self.held {
            Some(held) => {
                held.forget();
                false
            }
            None if self.position.is_some() => {
                self.held = Some(Held::default());
                true
            }
            None => false,
        }
    }

    /// An API service says that Redis refuses its events for this conversation, or no longer does and has taken what waited.
    pub(super) fn announced(&mut self, by: Uuid, is_over: bool) {
        self.refused_by.retain(|(instance, at)| *instance != by && at.elapsed() < PUBLISH_STATUS_TTL);
        if !is_over && self.refused_by.len() < MOST_INSTANCES {
            self.refused_by.push((by, Instant::now()));
            // Said again, it is for sockets that have come since; the others leave out what they have heard.
            self.degraded = true;
            self.tell(&QueueItem::Degraded);
        } else if is_over && !self.is_behind() && self.stage == Stage::Live {
            self.recover();
        }
    }

    /// Forgets what was said long ago: whoever said it has died. Returns whether the log is to be read for that.
    pub(super) fn forget_announcements(&mut self) -> bool {
        let before = self.refused_by.len();
        self.refused_by.retain(|(_, at)| at.elapsed() < PUBLISH_STATUS_TTL);
        self.refused_by.len() < before && self.refused_by.is_empty() && self.stage == Stage::Live && self.fall_behind()
    }

    /// Whether its sockets have been told that events may be missing, and not yet that none is.
    pub(super) fn is_degraded(&self) -> bool {
        self.degraded
    }

    /// Redis is gone.
    pub(super) fn cut(&mut self) {
        self.stage = Stage::Wanted;
        self.waiting.clear();
        self.fall_behind();
        self.degraded = true;
        self.tell(&QueueItem::Degraded);
    }

    /// Nothing is missing any more.
    pub(super) fn recover(&mut self) {
        if std::mem::take(&mut self.is_stale) {
            self.tell(&QueueItem::Resync(Cursor::START));
        }
        if self.refused_by.is_empty() && std::mem::take(&mut self.degraded) {
            self.tell(&QueueItem::Recovered);
        }
    }

    /// From where on to read, when that is needed and nobody reads already.
    pub(super) fn begin_reading(&mut self) -> Option<Cursor> {
        let held = self.held.as_mut().filter(|held| !held.reading)?;
        // What was published stands in the log: what has come until now will be read there.
        held.forget();
        held.expected = held.newest;
        held.again = false;
        held.reading = true;
        self.position
    }

    /// The reading failed.
    pub(super) fn give_up_reading(&mut self) {
        if let Some(held) = &mut self.held {
            held.reading = false;
        }
    }

    /// Returns whether the room has caught up.
    pub(super) fn finish_reading(&mut self, backfill: Backfill) -> bool {
        let Some(mut held) = self.held.take() else { return true };
        match backfill {
            Backfill::Missed(events) => {
                for delivery in events {
                    if let Some(cursor) = delivery.cursor() {
                        self.advance(cursor, delivery);
                    }
                }
                // It came live and the log does not know it: a failover has lost it, and who knows what else.
                if let Some(position) = self.position
                    && held.expected > self.position
                {
                    self.tell(&QueueItem::Resync(position));
                    held.newest = None;
                }
            }
            Backfill::Lost(tail) => {
                self.position = Some(tail);
                self.tell(&QueueItem::Resync(tail));
                // Of a log that is gone; whatever the present one holds will come.
                held.newest = None;
            }
        }
        if held.again {
            self.held = Some(Held { newest: held.newest, ..Held::default() });
            return false;
        }
        for delivery in held.events {
            self.receive(delivery);
        }
        if self.is_behind() {
            return false;
        }
        self.recover();
        true
    }
}

impl Held {
    fn keep(&mut self, cursor: Cursor, delivery: Arc<EncodedEvent>) {
        self.newest = self.newest.max(Some(cursor));
        self.bytes += delivery.frame().len();
        self.events.push(delivery);
        if self.bytes > HELD_LIMIT_BYTES {
            metrics::counter!("gateway_held_overflows_total").increment(1);
            self.forget();
        }
    }

    fn forget(&mut self) {
        self.events = Vec::new();
        self.bytes = 0;
        self.again = true;
    }
}
