//! The sockets of one conversation, and the rule that keeps their events whole and in order.
//!
//! While a log is read again, live events are held back: they stand behind what the log will show.

use std::sync::Arc;

use shared::event::Cursor;
use tokio::sync::oneshot;

use super::{Backfill, Epoch};
use crate::outbound::{Delivery, Item, Outbound};

/// Most bytes of frames that a room holds back; past it they are let go and the log is read once more.
const HELD_LIMIT_BYTES: usize = 1024 * 1024;

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
    pub(super) sockets: Vec<Arc<Outbound>>,
    pub(super) stage: Stage,
    /// Sockets that wait to hear that the subscription stands.
    pub(super) waiting: Vec<oneshot::Sender<Epoch>>,
    /// Every socket here has every event up to this one, or will read it itself.
    pub(super) position: Option<Cursor>,
    held: Option<Held>,
    degraded: bool,
}

/// What came while the room was behind.
#[derive(Debug, Default)]
struct Held {
    events: Vec<Arc<Delivery>>,
    bytes: usize,
    reading: bool,
    /// Something was lost since the reading began.
    again: bool,
}

impl Room {
    pub(super) fn receive(&mut self, delivery: Arc<Delivery>) {
        let Some(cursor) = delivery.cursor() else { return self.tell(&Item::Event(delivery)) };
        if let Some(held) = &mut self.held {
            held.bytes += delivery.text.len();
            held.events.push(delivery);
            if held.bytes > HELD_LIMIT_BYTES {
                metrics::counter!("gateway_held_overflows_total").increment(1);
                held.forget();
            }
        } else {
            self.advance(cursor, delivery);
        }
    }

    fn advance(&mut self, cursor: Cursor, delivery: Arc<Delivery>) {
        if self.position.is_none_or(|position| position < cursor) {
            self.position = Some(cursor);
            self.tell(&Item::Event(delivery));
        }
    }

    fn tell(&self, item: &Item) {
        for socket in &self.sockets {
            socket.push(item.clone());
        }
    }

    /// Whether its log is to be read.
    pub(super) fn is_behind(&self) -> bool {
        self.held.is_some()
    }

    /// Something may have been lost. Returns whether the room must be queued for reading: it is not when it is queued or
    /// being read already, nor when no socket here has a position that could fall behind.
    pub(super) fn fall_behind(&mut self) -> bool {
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

    /// Redis is gone.
    pub(super) fn cut(&mut self) {
        self.stage = Stage::Wanted;
        self.waiting.clear();
        self.fall_behind();
        self.degraded = true;
        self.tell(&Item::Degraded);
    }

    /// Nothing is missing any more.
    pub(super) fn recover(&mut self) {
        if std::mem::take(&mut self.degraded) {
            self.tell(&Item::Recovered);
        }
    }

    /// From where on to read, when that is needed and nobody reads already.
    pub(super) fn begin_reading(&mut self) -> Option<Cursor> {
        let held = self.held.as_mut().filter(|held| !held.reading)?;
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
        let Some(held) = self.held.take() else { return true };
        match backfill {
            Backfill::Missed(events) => {
                for delivery in events {
                    if let Some(cursor) = delivery.cursor() {
                        self.advance(cursor, delivery);
                    }
                }
            }
            Backfill::Lost(tail) => {
                self.position = Some(tail);
                self.tell(&Item::Resync(tail));
            }
        }
        if held.again {
            self.held = Some(Held::default());
            return false;
        }
        for delivery in held.events {
            if let Some(cursor) = delivery.cursor() {
                self.advance(cursor, delivery);
            }
        }
        self.recover();
        true
    }
}

impl Held {
    fn forget(&mut self) {
        self.events = Vec::new();
        self.bytes = 0;
        self.again = true;
    }
}
