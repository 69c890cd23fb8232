//! When something is due on a socket. The socket's bells ring for all of it; this says when and what for.

use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::Instant;

/// How long before its end a token's end is announced.
const WARNING: Duration = Duration::from_secs(60);

/// What a bell has rung for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// To close: this gateway shuts down.
    Leave,
    /// To close: the token has ended.
    Expired,
    /// To close: the client has fallen silent.
    Silent,
    /// To say that the token ends soon.
    Expiring,
    /// To ping.
    Heartbeat,
}

#[derive(Debug)]
pub(super) struct Clock {
    heartbeat_seconds: u32,
    idle_seconds: u32,
    heartbeat_at: Instant,
    last_heard: Instant,
    /// In seconds since 1970, as tokens have it.
    expires_at: i64,
    announced: bool,
    /// Boxed: only a drain sets it.
    leave_at: Option<Box<Instant>>,
}

impl Clock {
    pub(super) fn new(
        now: Instant,
        heartbeat_every: Duration,
        idle_timeout: Duration,
        expires_at: OffsetDateTime,
    ) -> Self {
        let seconds = |duration: Duration| u32::try_from(duration.as_secs()).unwrap_or(u32::MAX);
        Self {
            heartbeat_seconds: seconds(heartbeat_every),
            idle_seconds: seconds(idle_timeout),
            heartbeat_at: now + heartbeat_every,
            last_heard: now,
            expires_at: expires_at.unix_timestamp(),
            announced: false,
            leave_at: None,
        }
    }

    pub(super) fn heard(&mut self, now: Instant) {
        self.last_heard = now;
    }

    fn heartbeat_every(&self) -> Duration {
        Duration::from_secs(self.heartbeat_seconds.into())
    }

    fn idle_timeout(&self) -> Duration {
        Duration::from_secs(self.idle_seconds.into())
    }

    pub(super) fn expires_at(&self) -> OffsetDateTime {
        // It was made from one.
        OffsetDateTime::from_unix_timestamp(self.expires_at).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }

    /// A fresh token.
    pub(super) fn renew(&mut self, expires_at: OffsetDateTime) {
        self.expires_at = expires_at.unix_timestamp();
        self.announced = false;
    }

    pub(super) fn leave_at(&mut self, at: Instant) {
        self.leave_at.get_or_insert_with(|| at.into());
    }

    /// When to look again.
    pub(super) fn next(&self, now: Instant, wall: OffsetDateTime) -> Instant {
        let left = Duration::try_from(self.expires_at() - wall).unwrap_or_default();
        let token = if self.announced { left } else { left.saturating_sub(WARNING) };
        // The heartbeat bounds it: no addition here goes far beyond, however long the token lives.
        let token = now + token.min(self.heartbeat_every());
        let first = self.heartbeat_at.min(self.last_heard + self.idle_timeout()).min(token);
        self.leave_at.as_deref().map_or(first, |leave| first.min(*leave))
    }

    /// What is due; asked again until nothing is.
    pub(super) fn due(&mut self, now: Instant, wall: OffsetDateTime) -> Option<Due> {
        if self.leave_at.as_deref().is_some_and(|leave| *leave <= now) {
            return Some(Due::Leave);
        }
        if self.expires_at() <= wall {
            return Some(Due::Expired);
        }
        if self.last_heard + self.idle_timeout() <= now {
            return Some(Due::Silent);
        }
        if !self.announced && self.expires_at() - WARNING <= wall {
            self.announced = true;
            return Some(Due::Expiring);
        }
        if self.heartbeat_at <= now {
            self.heartbeat_at = now + self.heartbeat_every();
            return Some(Due::Heartbeat);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn clock(lifetime: i64) -> (Clock, Instant, OffsetDateTime) {
        let (now, wall) = (Instant::now(), OffsetDateTime::from_unix_timestamp(1_790_000_000).unwrap());
        (Clock::new(now, 25 * SECOND, 60 * SECOND, wall + time::Duration::seconds(lifetime)), now, wall)
    }

    #[test]
    fn a_silent_client_is_pinged_then_given_up() {
        let (mut clock, now, wall) = clock(3600);
        assert_eq!(clock.next(now, wall), now + 25 * SECOND);
        assert_eq!(clock.due(now + 24 * SECOND, wall), None);
        assert_eq!(clock.due(now + 25 * SECOND, wall), Some(Due::Heartbeat));
        assert_eq!(clock.due(now + 25 * SECOND, wall), None);
        clock.heard(now + 30 * SECOND);
        assert_eq!(clock.due(now + 89 * SECOND, wall), Some(Due::Heartbeat));
        assert_eq!(clock.due(now + 90 * SECOND, wall), Some(Due::Silent));
    }

    #[test]
    fn the_end_of_a_token_is_announced_once_and_a_fresh_one_starts_over() {
        let (mut clock, now, wall) = clock(70);
        assert_eq!(clock.next(now, wall), now + 10 * SECOND);
        let soon = wall + 10 * SECOND;
        assert_eq!(clock.due(now + 10 * SECOND, soon), Some(Due::Expiring));
        assert_eq!(clock.due(now + 10 * SECOND, soon), None);
        clock.renew(wall + 100 * SECOND);
        assert_eq!(clock.due(now + 10 * SECOND, soon), None);
        assert_eq!(clock.due(now + 20 * SECOND, wall + 40 * SECOND), Some(Due::Expiring));
        assert_eq!(clock.due(now + 21 * SECOND, wall + 100 * SECOND), Some(Due::Expired));
    }

    #[test]
    fn a_token_that_lives_for_ever_overflows_nothing() {
        let (mut clock, now, wall) = clock(200_000_000_000);
        assert_eq!(clock.next(now, wall), now + 25 * SECOND);
        assert_eq!(clock.due(now, wall), None);
    }

    #[test]
    fn leaving_comes_first() {
        let (mut clock, now, wall) = clock(0);
        clock.leave_at(now);
        clock.leave_at(now + SECOND);
        assert_eq!(clock.due(now, wall), Some(Due::Leave));
    }
}
