//! Wakes sockets at their time. One task and one ring of slots for all: a timer a socket would cost each a place in the
//! runtime's own, and work whenever its time moved.
//!
//! A bell rings up to two [`TICK`]s late, never early. Whoever wants to be rung for later than a lap of the ring (51 s) is
//! rung for then, and asks again.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::hub::outbound_queue::Outbound;

/// How fine time is here.
const TICK: Duration = Duration::from_millis(50);
const SLOTS: u64 = 1024;

/// All bells of a gateway.
#[derive(Debug)]
pub(crate) struct Bells {
    began: Instant,
    slots: Mutex<Slots>,
}

#[derive(Debug)]
struct Slots {
    /// By tick, modulo [`SLOTS`]. A socket that is gone by then is not kept for it.
    ring: Vec<Vec<Weak<Outbound>>>,
    /// The last tick that has been rung.
    tick: u64,
}

impl Bells {
    pub(crate) fn new() -> Arc<Self> {
        let slots = Slots { ring: (0..SLOTS).map(|_| Vec::new()).collect(), tick: 0 };
        Arc::new(Self { began: Instant::now(), slots: Mutex::new(slots) })
    }

    /// Rings until it is dropped.
    pub(crate) async fn run(&self) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.ring(ticks.tick().await);
        }
    }

    /// Has `socket` rung for at `at`, or after a lap if that is sooner. Returns when.
    fn set(&self, at: Instant, socket: &Arc<Outbound>) -> Instant {
        // The tick that ends at or after it.
        let wanted = at.saturating_duration_since(self.began).as_nanos().div_ceil(TICK.as_nanos());
        let mut slots = self.slots.lock();
        let (first, last) = (slots.tick + 1, slots.tick + SLOTS - 1);
        let tick = u64::try_from(wanted).unwrap_or(last).clamp(first, last);
        slots.slot(tick).push(Arc::downgrade(socket));
        self.began + TICK.saturating_mul(u32::try_from(tick).unwrap_or(u32::MAX))
    }

    /// Rings whatever was set for up to `now`.
    fn ring(&self, now: Instant) {
        let reached = u64::try_from(now.duration_since(self.began).as_nanos() / TICK.as_nanos()).unwrap_or(u64::MAX);
        loop {
            let mut slots = self.slots.lock();
            if slots.tick >= reached {
                return;
            }
            // After a long sleep once round is enough: every slot has been seen.
            slots.tick = (slots.tick + 1).max(reached.saturating_sub(SLOTS));
            let tick = slots.tick;
            let due = std::mem::take(slots.slot(tick));
            // Without the lock: who is rung for may set the next bell at once, on another core.
            drop(slots);
            for socket in due.iter().filter_map(Weak::upgrade) {
                socket.ring();
            }
        }
    }
}

impl Slots {
    fn slot(&mut self, tick: u64) -> &mut Vec<Weak<Outbound>> {
        let place = (tick % SLOTS) as usize;
        &mut self.ring[place]
    }
}

/// The bells of one socket, so that they do not pile up: one that is far, and at most one that rings before it.
#[derive(Debug)]
pub(crate) struct Alarm {
    far: Instant,
    near: Option<Instant>,
}

impl Alarm {
    pub(crate) fn new(bells: &Bells, socket: &Arc<Outbound>, at: Instant) -> Self {
        Self { far: bells.set(at, socket), near: None }
    }

    /// When it rings next.
    pub(crate) fn next(&self) -> Instant {
        self.near.unwrap_or(self.far).min(self.far)
    }

    /// Sees to it that `socket` is rung for at `at` or before.
    pub(crate) fn set(&mut self, bells: &Bells, socket: &Arc<Outbound>, at: Instant) {
        if at < self.next() {
            self.near = Some(bells.set(at, socket));
        }
    }

    /// It was rung for. `next`: when that is wanted again at the latest.
    pub(crate) fn rung(&mut self, bells: &Bells, socket: &Arc<Outbound>, now: Instant, next: Instant) {
        self.near = self.near.filter(|near| *near > now);
        if self.far <= now {
            self.far = bells.set(next, socket);
        }
        self.set(bells, socket, next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::tests::bearer;
    use std::future::poll_fn;

    const LAP: Duration = Duration::from_millis(50 * (SLOTS - 1));

    fn socket() -> Arc<Outbound> {
        Outbound::new(bearer("user:doc123", None), 1000)
    }

    /// Whether it was rung for since it was asked last.
    async fn rung(socket: &Outbound) -> bool {
        poll_fn(|context| std::task::Poll::Ready(socket.poll_rung(context).is_ready())).await
    }

    #[tokio::test]
    async fn bells_ring_at_their_time_and_once() {
        let bells = Bells::new();
        let (soon, later) = (socket(), socket());
        bells.set(bells.began + TICK * 3 / 2, &soon);
        bells.set(bells.began + 4 * TICK, &later);
        bells.ring(bells.began + TICK * 19 / 10);
        assert!(!rung(&soon).await, "too early");
        bells.ring(bells.began + 2 * TICK);
        assert!(rung(&soon).await);
        assert!(!rung(&later).await);
        bells.ring(bells.began + 100 * TICK);
        assert!(rung(&later).await);
        assert!(!rung(&soon).await);
    }

    #[tokio::test]
    async fn what_is_past_or_far_ahead_rings_all_the_same() {
        let bells = Bells::new();
        bells.ring(bells.began + 10 * TICK);
        let (past, far) = (socket(), socket());
        bells.set(bells.began, &past);
        let at = bells.set(bells.began + 100 * LAP, &far);
        assert_eq!(at, bells.began + 10 * TICK + LAP);
        bells.ring(bells.began + 11 * TICK);
        assert!(rung(&past).await);
        bells.ring(at - TICK);
        assert!(!rung(&far).await);
        // The machine has slept for a day.
        bells.ring(at + Duration::from_secs(86_400));
        assert!(rung(&far).await);
    }

    #[tokio::test]
    async fn a_socket_that_is_gone_is_not_kept() {
        let bells = Bells::new();
        let socket = socket();
        bells.set(bells.began + TICK, &socket);
        let weak = Arc::downgrade(&socket);
        drop(socket);
        assert!(weak.upgrade().is_none());
        bells.ring(bells.began + TICK);
    }

    #[tokio::test]
    async fn bells_of_a_socket_do_not_pile_up() {
        let bells = Bells::new();
        let socket = socket();
        let far = bells.began + 400 * TICK;
        let mut alarm = Alarm::new(&bells, &socket, far);
        for n in 1..300 {
            let now = bells.began + TICK * n;
            alarm.set(&bells, &socket, now + 5 * TICK);
            alarm.set(&bells, &socket, now + 6 * TICK);
            bells.ring(now);
            if rung(&socket).await {
                alarm.rung(&bells, &socket, now, far);
            }
        }
        let set: usize = bells.slots.lock().ring.iter().map(Vec::len).sum();
        assert_eq!(set, 2);
        bells.ring(far);
        assert!(rung(&socket).await);
        alarm.rung(&bells, &socket, far, far + TICK);
        bells.ring(far + TICK);
        assert!(rung(&socket).await);
    }
}
