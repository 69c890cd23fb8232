//! How fast a client talks. One number a socket.

use std::time::Duration;

/// Seconds' worth of frames that may come at once.
const BURST_SECONDS: u64 = 10;
/// Seconds' worth after which nobody can believe that it is no flood.
const FLOOD_SECONDS: u64 = 100;
const MICROS: u64 = 1_000_000;
/// Fragments that hold something count as one frame.
const FRAGMENTS_A_FRAME: u64 = 16;

/// What becomes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Hear,
    /// Not this one.
    Ignore,
    /// Nor any other.
    Close,
}

/// The moment at which all frames so far would have come, had they come no faster than allowed; in microseconds since
/// the gateway began. Frames that are not heard count as well.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Pace(u64);

impl Pace {
    /// A frame comes at `now`, where so many may a second; 0 is no limit.
    pub(super) fn frame(&mut self, now: Duration, per_second: u32) -> Verdict {
        self.frames(1, now, per_second)
    }

    /// A fragment of a message, which is not empty. A client may cut a message as small as it likes (RFC 6455, section 5.4), and the length
    /// of a message bounds how many there are.
    pub(super) fn fragment(&mut self, now: Duration, per_second: u32) -> Verdict {
        self.spend(MICROS / FRAGMENTS_A_FRAME, now, per_second)
    }

    /// A frame that makes as much work as so many.
    pub(super) fn frames(&mut self, frames: u64, now: Duration, per_second: u32) -> Verdict {
        self.spend(frames * MICROS, now, per_second)
    }

    fn spend(&mut self, micros: u64, now: Duration, per_second: u32) -> Verdict {
        if per_second == 0 {
            return Verdict::Hear;
        }
        let now = u64::try_from(now.as_micros()).unwrap_or(u64::MAX / 2);
        self.0 = self.0.max(now) + micros / u64::from(per_second);
        match self.0 - now {
            ahead if ahead <= BURST_SECONDS * MICROS => Verdict::Hear,
            ahead if ahead <= FLOOD_SECONDS * MICROS => Verdict::Ignore,
            _ => Verdict::Close,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_that_is_worth_many_counts_as_many() {
        let mut pace = Pace::default();
        let now = Duration::from_secs(60);
        assert_eq!(pace.frames(1000, now, 100), Verdict::Hear);
        assert_eq!(pace.frame(now, 100), Verdict::Ignore);
        assert_eq!(pace.frames(9000, now, 100), Verdict::Close);
    }

    #[test]
    fn a_message_in_ten_thousand_pieces_is_heard_and_an_endless_one_ends_the_socket() {
        let (mut pace, now) = (Pace::default(), Duration::from_secs(60));
        assert!((0..10_000).all(|_| pace.fragment(now, 100) == Verdict::Hear));
        assert!((0..200_000).any(|_| pace.fragment(now, 100) == Verdict::Close));
    }

    fn count(pace: &mut Pace, at: Duration, frames: usize, verdict: Verdict) -> usize {
        (0..frames).filter(|_| pace.frame(at, 100) == verdict).count()
    }

    #[test]
    fn a_burst_is_heard_a_flood_is_not_and_a_long_one_ends_the_socket() {
        let mut pace = Pace::default();
        let now = Duration::from_secs(5);
        assert_eq!(count(&mut pace, now, 1000, Verdict::Hear), 1000);
        assert_eq!(count(&mut pace, now, 9000, Verdict::Ignore), 9000);
        assert_eq!(pace.frame(now, 100), Verdict::Close);
    }

    #[test]
    fn who_slows_down_is_heard_again() {
        let mut pace = Pace::default();
        let second = Duration::from_secs(1);
        assert_eq!(count(&mut pace, second, 1001, Verdict::Hear), 1000);
        assert_eq!(count(&mut pace, 2 * second, 100, Verdict::Hear), 99);
        assert_eq!(count(&mut pace, 100 * second, 1000, Verdict::Hear), 1000);
    }

    #[test]
    fn the_allowed_rate_is_heard_for_ever_and_no_limit_is_none() {
        let mut pace = Pace::default();
        for n in 0..100_000 {
            assert_eq!(pace.frame(Duration::from_millis(10 * n), 100), Verdict::Hear);
            assert_eq!(Pace(u64::MAX).frame(Duration::ZERO, 0), Verdict::Hear);
        }
    }
}
