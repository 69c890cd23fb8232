//! Rate limit of one client's frames: GCRA, with one timestamp per socket.

use std::time::Duration;

/// Burst, in seconds of the rate.
const BURST_SECONDS: u64 = 10;
/// Excess, in seconds of the rate, that disconnects the client.
const FLOOD_SECONDS: u64 = 100;
const MICROS: u64 = 1_000_000;
/// Non-empty fragments that count as one frame.
const FRAGMENTS_PER_FRAME: u64 = 16;

/// What to do with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    Accept,
    /// Drop this frame.
    Drop,
    /// Close the socket.
    Disconnect,
}

/// Theoretical arrival time of the next frame: when all frames so far would have come at the allowed rate. In
/// microseconds since the gateway's start. Dropped frames count too.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct FrameLimiter(u64);

impl FrameLimiter {
    /// Charges one frame at `now`; `per_second` 0 is no limit.
    pub(super) fn check_frame(&mut self, now: Duration, per_second: u32) -> Decision {
        self.check_frames(1, now, per_second)
    }

    /// Charges a non-empty fragment. A client may use small fragments (RFC 6455, section 5.4), and the message limit
    /// bounds their number.
    pub(super) fn check_fragment(&mut self, now: Duration, per_second: u32) -> Decision {
        self.charge(MICROS / FRAGMENTS_PER_FRAME, now, per_second)
    }

    /// Charges a frame that costs as much as `frames`.
    pub(super) fn check_frames(&mut self, frames: u64, now: Duration, per_second: u32) -> Decision {
        self.charge(frames * MICROS, now, per_second)
    }

    fn charge(&mut self, micros: u64, now: Duration, per_second: u32) -> Decision {
        if per_second == 0 {
            return Decision::Accept;
        }
        let now = u64::try_from(now.as_micros()).unwrap_or(u64::MAX / 2);
        self.0 = self.0.max(now) + micros / u64::from(per_second);
        match self.0 - now {
            ahead if ahead <= BURST_SECONDS * MICROS => Decision::Accept,
            ahead if ahead <= FLOOD_SECONDS * MICROS => Decision::Drop,
            _ => Decision::Disconnect,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weighted_frame_is_charged_by_weight() {
        let mut limiter = FrameLimiter::default();
        let now = Duration::from_secs(60);
        assert_eq!(limiter.check_frames(1000, now, 100), Decision::Accept);
        assert_eq!(limiter.check_frame(now, 100), Decision::Drop);
        assert_eq!(limiter.check_frames(9000, now, 100), Decision::Disconnect);
    }

    #[test]
    fn many_fragments_are_accepted_until_flood_limit() {
        let (mut limiter, now) = (FrameLimiter::default(), Duration::from_secs(60));
        assert!((0..10_000).all(|_| limiter.check_fragment(now, 100) == Decision::Accept));
        assert!((0..200_000).any(|_| limiter.check_fragment(now, 100) == Decision::Disconnect));
    }

    fn count(limiter: &mut FrameLimiter, at: Duration, frames: usize, decision: Decision) -> usize {
        (0..frames).filter(|_| limiter.check_frame(at, 100) == decision).count()
    }

    #[test]
    fn burst_is_accepted_then_dropped_then_disconnected() {
        let mut limiter = FrameLimiter::default();
        let now = Duration::from_secs(5);
        assert_eq!(count(&mut limiter, now, 1000, Decision::Accept), 1000);
        assert_eq!(count(&mut limiter, now, 9000, Decision::Drop), 9000);
        assert_eq!(limiter.check_frame(now, 100), Decision::Disconnect);
    }

    #[test]
    fn limiter_recovers_when_client_slows_down() {
        let mut limiter = FrameLimiter::default();
        let second = Duration::from_secs(1);
        assert_eq!(count(&mut limiter, second, 1001, Decision::Accept), 1000);
        assert_eq!(count(&mut limiter, 2 * second, 100, Decision::Accept), 99);
        assert_eq!(count(&mut limiter, 100 * second, 1000, Decision::Accept), 1000);
    }

    #[test]
    fn allowed_rate_is_never_limited() {
        let mut limiter = FrameLimiter::default();
        for n in 0..100_000 {
            assert_eq!(limiter.check_frame(Duration::from_millis(10 * n), 100), Decision::Accept);
            assert_eq!(FrameLimiter(u64::MAX).check_frame(Duration::ZERO, 0), Decision::Accept);
        }
    }
}
