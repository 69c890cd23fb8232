//! One hashed timer wheel for all sockets. A Tokio timer per socket would cost memory, and a re-registration whenever
//! a deadline changes.
//!
//! The wheel has [`SLOTS`] slots and advances one slot per [`TICK`]. A timer is put into the slot of its tick modulo
//! [`SLOTS`]. When the wheel reaches a slot, it takes all its sockets and wakes them.
//!
//! A timer fires up to two ticks late, never early. A deadline beyond one lap (51 s) is scheduled one lap ahead; the
//! session then schedules it again. There is no removal: a stale timer wakes a session, which finds nothing due.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::outbound_queue::OutboundQueue;

/// Resolution of the wheel.
const TICK: Duration = Duration::from_millis(50);
const SLOTS: u64 = 1024;

/// The wheel of a gateway.
#[derive(Debug)]
pub(crate) struct TimerWheel {
    started_at: Instant,
    slots: Mutex<Slots>,
}

#[derive(Debug)]
struct Slots {
    /// One bucket per tick, modulo [`SLOTS`]. Weak, so that the wheel does not keep closed sockets.
    buckets: Vec<Vec<Weak<OutboundQueue>>>,
    /// The last tick that has fired.
    tick: u64,
}

impl TimerWheel {
    pub(crate) fn new() -> Arc<Self> {
        let slots = Slots { buckets: (0..SLOTS).map(|_| Vec::new()).collect(), tick: 0 };
        Arc::new(Self { started_at: Instant::now(), slots: Mutex::new(slots) })
    }

    /// Advances until it is dropped.
    pub(crate) async fn run(&self) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.advance(ticks.tick().await);
        }
    }

    /// Schedules a wakeup at `at`, at most one lap ahead. Returns its time.
    fn schedule(&self, at: Instant, socket: &Arc<OutboundQueue>) -> Instant {
        // The tick that ends at or after `at`.
        let wanted = at.saturating_duration_since(self.started_at).as_nanos().div_ceil(TICK.as_nanos());
        let mut slots = self.slots.lock();
        let (first, last) = (slots.tick + 1, slots.tick + SLOTS - 1);
        let tick = u64::try_from(wanted).unwrap_or(last).clamp(first, last);
        slots.slot(tick).push(Arc::downgrade(socket));
        self.started_at + TICK.saturating_mul(u32::try_from(tick).unwrap_or(u32::MAX))
    }

    /// Wakes all sockets that are scheduled up to `now`.
    fn advance(&self, now: Instant) {
        let reached =
            u64::try_from(now.duration_since(self.started_at).as_nanos() / TICK.as_nanos()).unwrap_or(u64::MAX);
        loop {
            let mut slots = self.slots.lock();
            if slots.tick >= reached {
                return;
            }
            // After a long suspension one lap is enough: it visits every slot.
            slots.tick = (slots.tick + 1).max(reached.saturating_sub(SLOTS));
            let tick = slots.tick;
            let due = std::mem::take(slots.slot(tick));
            // Unlocked, because a woken session may schedule its next timer on another core.
            drop(slots);
            for socket in due.iter().filter_map(Weak::upgrade) {
                socket.wake_for_timer();
            }
        }
    }
}

impl Slots {
    fn slot(&mut self, tick: u64) -> &mut Vec<Weak<OutboundQueue>> {
        let index = (tick % SLOTS) as usize;
        &mut self.buckets[index]
    }
}

/// The wheel entries of one socket: the next scheduled one, and at most one earlier one. The bound keeps entries from
/// piling up when deadlines move.
#[derive(Debug)]
pub(crate) struct SocketTimer {
    next_scheduled: Instant,
    earlier: Option<Instant>,
}

impl SocketTimer {
    pub(crate) fn new(wheel: &TimerWheel, socket: &Arc<OutboundQueue>, at: Instant) -> Self {
        Self { next_scheduled: wheel.schedule(at, socket), earlier: None }
    }

    /// When it fires next.
    pub(crate) fn next_at(&self) -> Instant {
        self.earlier.unwrap_or(self.next_scheduled).min(self.next_scheduled)
    }

    /// Makes sure that `socket` is woken at `at` or before.
    pub(crate) fn wake_by(&mut self, wheel: &TimerWheel, socket: &Arc<OutboundQueue>, at: Instant) {
        if at < self.next_at() {
            self.earlier = Some(wheel.schedule(at, socket));
        }
    }

    /// Call it after a wakeup. `next`: the next deadline.
    pub(crate) fn fired(&mut self, wheel: &TimerWheel, socket: &Arc<OutboundQueue>, now: Instant, next: Instant) {
        self.earlier = self.earlier.filter(|earlier| *earlier > now);
        if self.next_scheduled <= now {
            self.next_scheduled = wheel.schedule(next, socket);
        }
        self.wake_by(wheel, socket, next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::tests::principal;
    use std::future::poll_fn;

    const LAP: Duration = Duration::from_millis(50 * (SLOTS - 1));

    fn socket() -> Arc<OutboundQueue> {
        OutboundQueue::new(principal("user:doc123", None), 1000)
    }

    /// Whether it was woken since the last call.
    async fn was_woken(socket: &OutboundQueue) -> bool {
        poll_fn(|context| std::task::Poll::Ready(socket.poll_wakeup(context).is_ready())).await
    }

    #[tokio::test]
    async fn timers_fire_once_at_their_time() {
        let wheel = TimerWheel::new();
        let (soon, later) = (socket(), socket());
        wheel.schedule(wheel.started_at + TICK * 3 / 2, &soon);
        wheel.schedule(wheel.started_at + 4 * TICK, &later);
        wheel.advance(wheel.started_at + TICK * 19 / 10);
        assert!(!was_woken(&soon).await, "too early");
        wheel.advance(wheel.started_at + 2 * TICK);
        assert!(was_woken(&soon).await);
        assert!(!was_woken(&later).await);
        wheel.advance(wheel.started_at + 100 * TICK);
        assert!(was_woken(&later).await);
        assert!(!was_woken(&soon).await);
    }

    #[tokio::test]
    async fn past_and_distant_timers_fire() {
        let wheel = TimerWheel::new();
        wheel.advance(wheel.started_at + 10 * TICK);
        let (past, next_scheduled) = (socket(), socket());
        wheel.schedule(wheel.started_at, &past);
        let at = wheel.schedule(wheel.started_at + 100 * LAP, &next_scheduled);
        assert_eq!(at, wheel.started_at + 10 * TICK + LAP);
        wheel.advance(wheel.started_at + 11 * TICK);
        assert!(was_woken(&past).await);
        wheel.advance(at - TICK);
        assert!(!was_woken(&next_scheduled).await);
        // The machine was suspended for a day.
        wheel.advance(at + Duration::from_secs(86_400));
        assert!(was_woken(&next_scheduled).await);
    }

    #[tokio::test]
    async fn wheel_does_not_keep_closed_socket() {
        let wheel = TimerWheel::new();
        let socket = socket();
        wheel.schedule(wheel.started_at + TICK, &socket);
        let weak = Arc::downgrade(&socket);
        drop(socket);
        assert!(weak.upgrade().is_none());
        wheel.advance(wheel.started_at + TICK);
    }

    #[tokio::test]
    async fn socket_timers_do_not_accumulate() {
        let wheel = TimerWheel::new();
        let socket = socket();
        let next_scheduled = wheel.started_at + 400 * TICK;
        let mut timer = SocketTimer::new(&wheel, &socket, next_scheduled);
        for n in 1..300 {
            let now = wheel.started_at + TICK * n;
            timer.wake_by(&wheel, &socket, now + 5 * TICK);
            timer.wake_by(&wheel, &socket, now + 6 * TICK);
            wheel.advance(now);
            if was_woken(&socket).await {
                timer.fired(&wheel, &socket, now, next_scheduled);
            }
        }
        let scheduled: usize = wheel.slots.lock().buckets.iter().map(Vec::len).sum();
        assert_eq!(scheduled, 2);
        wheel.advance(next_scheduled);
        assert!(was_woken(&socket).await);
        timer.fired(&wheel, &socket, next_scheduled, next_scheduled + TICK);
        wheel.advance(next_scheduled + TICK);
        assert!(was_woken(&socket).await);
    }
}
