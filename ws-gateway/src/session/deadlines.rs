//! The deadlines of a socket: which is next, and which have passed. The timer wheel wakes the session for the next
//! one.

use std::time::Duration;

use shared::contract::token::Principal;
use time::OffsetDateTime;
use tokio::time::Instant;

/// Longest warning before a token expires.
const MAX_WARNING_MILLIS: u16 = 60_000;
/// Shortest warning. A timer may fire late, and the client needs time to react.
const MIN_WARNING_MILLIS: u16 = 500;
/// A short-lived token is announced for the last fifth of its life.
const WARNING_FRACTION: i64 = 5;

/// Milliseconds of warning before this token expires. They depend on its life, so that a one-minute token is not
/// renewed permanently.
fn warning_millis(token: &Principal, now: OffsetDateTime) -> u16 {
    let issued_at = token.issued_at.unwrap_or_else(|| now.unix_timestamp());
    let life = token.expires_at.unix_timestamp().saturating_sub(issued_at);
    let part = (life.saturating_mul(1000) / WARNING_FRACTION).max(MIN_WARNING_MILLIS.into());
    u16::try_from(part).unwrap_or(MAX_WARNING_MILLIS).min(MAX_WARNING_MILLIS)
}

/// A deadline that has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deadline {
    /// Close the socket: this gateway shuts down.
    Drain,
    /// Close the socket: its token has expired.
    TokenExpired,
    /// Close the socket: the client sent nothing for too long.
    IdleTimeout,
    /// Tell the client that its token expires soon.
    TokenExpiring,
    /// Send a Ping.
    Heartbeat,
}

#[derive(Debug)]
pub(super) struct Deadlines {
    heartbeat_seconds: u32,
    idle_seconds: u32,
    heartbeat_at: Instant,
    last_activity: Instant,
    /// Unix time in seconds, as in the token.
    expires_at: i64,
    is_warning_sent: bool,
    warning_millis: u16,
    /// Boxed, because only a drain sets it.
    drain_at: Option<Box<Instant>>,
}

impl Deadlines {
    pub(super) fn new(now: Instant, heartbeat_interval: Duration, idle_timeout: Duration, token: &Principal) -> Self {
        let seconds = |duration: Duration| u32::try_from(duration.as_secs()).unwrap_or(u32::MAX);
        Self {
            heartbeat_seconds: seconds(heartbeat_interval),
            idle_seconds: seconds(idle_timeout),
            heartbeat_at: now + heartbeat_interval,
            last_activity: now,
            expires_at: token.expires_at.unix_timestamp(),
            is_warning_sent: false,
            warning_millis: warning_millis(token, OffsetDateTime::now_utc()),
            drain_at: None,
        }
    }

    pub(super) fn record_activity(&mut self, now: Instant) {
        self.last_activity = now;
    }

    fn heartbeat_interval(&self) -> Duration {
        Duration::from_secs(self.heartbeat_seconds.into())
    }

    fn idle_timeout(&self) -> Duration {
        Duration::from_secs(self.idle_seconds.into())
    }

    pub(super) fn expires_at(&self) -> OffsetDateTime {
        // The value came from an `OffsetDateTime`.
        OffsetDateTime::from_unix_timestamp(self.expires_at).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }

    /// Replaces the token.
    pub(super) fn renew(&mut self, token: &Principal) {
        self.expires_at = token.expires_at.unix_timestamp();
        self.is_warning_sent = false;
        self.warning_millis = warning_millis(token, OffsetDateTime::now_utc());
    }

    fn warning(&self) -> Duration {
        Duration::from_millis(self.warning_millis.into())
    }

    pub(super) fn drain_at(&mut self, at: Instant) {
        self.drain_at.get_or_insert_with(|| at.into());
    }

    /// The next deadline.
    pub(super) fn next_at(&self, now: Instant, wall: OffsetDateTime) -> Instant {
        let left = Duration::try_from(self.expires_at() - wall).unwrap_or_default();
        let token = if self.is_warning_sent { left } else { left.saturating_sub(self.warning()) };
        // The heartbeat bounds this addition, however long the token lives.
        let token = now + token.min(self.heartbeat_interval());
        let first = self.heartbeat_at.min(self.last_activity + self.idle_timeout()).min(token);
        self.drain_at.as_deref().map_or(first, |drain| first.min(*drain))
    }

    /// Returns one passed deadline. Call it until it returns `None`.
    pub(super) fn take_due(&mut self, now: Instant, wall: OffsetDateTime) -> Option<Deadline> {
        if self.drain_at.as_deref().is_some_and(|drain| *drain <= now) {
            return Some(Deadline::Drain);
        }
        if self.expires_at() <= wall {
            return Some(Deadline::TokenExpired);
        }
        if self.last_activity + self.idle_timeout() <= now {
            return Some(Deadline::IdleTimeout);
        }
        if !self.is_warning_sent && self.expires_at() - self.warning() <= wall {
            self.is_warning_sent = true;
            return Some(Deadline::TokenExpiring);
        }
        if self.heartbeat_at <= now {
            self.heartbeat_at = now + self.heartbeat_interval();
            return Some(Deadline::Heartbeat);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::tests::principal;

    const SECOND: Duration = Duration::from_secs(1);

    /// A token issued one hour before `wall`, which expires `lifetime` seconds after it.
    fn token(wall: OffsetDateTime, lifetime: i64) -> Principal {
        let issued_at = Some(wall.unix_timestamp() - 3600);
        let expires_at = wall + time::Duration::seconds(lifetime);
        Principal { issued_at, expires_at, ..(*principal("user:doc123", None)).clone() }
    }

    fn deadlines(lifetime: i64) -> (Deadlines, Instant, OffsetDateTime) {
        let (now, wall) = (Instant::now(), OffsetDateTime::from_unix_timestamp(1_790_000_000).unwrap());
        (Deadlines::new(now, 25 * SECOND, 60 * SECOND, &token(wall, lifetime)), now, wall)
    }

    #[test]
    fn expiry_warning_is_a_fifth_of_token_life_at_most_a_minute() {
        let wall = OffsetDateTime::from_unix_timestamp(1_790_000_000).unwrap();
        let token_with_life = |seconds: i64, is_dated: bool| {
            let expires_at = wall + time::Duration::seconds(seconds);
            let issued_at = is_dated.then(|| wall.unix_timestamp());
            Principal { issued_at, expires_at, ..token(wall, 0) }
        };
        for (seconds, warning) in
            [(60, 12_000), (10, 2_000), (2, 500), (300, 60_000), (86_400, 60_000), (i64::MAX / 10_000_000_000, 60_000)]
        {
            assert_eq!(warning_millis(&token_with_life(seconds, true), wall), warning, "{seconds}");
            assert_eq!(warning_millis(&token_with_life(seconds, false), wall), warning, "{seconds}, without `iat`");
        }
        assert_eq!(warning_millis(&token_with_life(-5, true), wall), 500, "it has ended before it began");
        // The whole life counts, not the rest of it.
        assert_eq!(warning_millis(&token(wall, 30), wall), 60_000);
    }

    #[test]
    fn idle_client_is_pinged_then_closed() {
        let (mut deadlines, now, wall) = deadlines(3600);
        assert_eq!(deadlines.next_at(now, wall), now + 25 * SECOND);
        assert_eq!(deadlines.take_due(now + 24 * SECOND, wall), None);
        assert_eq!(deadlines.take_due(now + 25 * SECOND, wall), Some(Deadline::Heartbeat));
        assert_eq!(deadlines.take_due(now + 25 * SECOND, wall), None);
        deadlines.record_activity(now + 30 * SECOND);
        assert_eq!(deadlines.take_due(now + 89 * SECOND, wall), Some(Deadline::Heartbeat));
        assert_eq!(deadlines.take_due(now + 90 * SECOND, wall), Some(Deadline::IdleTimeout));
    }

    #[test]
    fn expiry_is_announced_once_per_token() {
        let (mut deadlines, now, wall) = deadlines(70);
        assert_eq!(deadlines.next_at(now, wall), now + 10 * SECOND);
        let soon = wall + 10 * SECOND;
        assert_eq!(deadlines.take_due(now + 10 * SECOND, soon), Some(Deadline::TokenExpiring));
        assert_eq!(deadlines.take_due(now + 10 * SECOND, soon), None);
        deadlines.renew(&token(wall, 100));
        assert_eq!(deadlines.take_due(now + 10 * SECOND, soon), None);
        assert_eq!(deadlines.take_due(now + 20 * SECOND, wall + 40 * SECOND), Some(Deadline::TokenExpiring));
        assert_eq!(deadlines.take_due(now + 21 * SECOND, wall + 100 * SECOND), Some(Deadline::TokenExpired));
    }

    #[test]
    fn distant_expiry_does_not_overflow() {
        let (mut deadlines, now, wall) = deadlines(200_000_000_000);
        assert_eq!(deadlines.next_at(now, wall), now + 25 * SECOND);
        assert_eq!(deadlines.take_due(now, wall), None);
    }

    #[test]
    fn drain_precedes_other_deadlines() {
        let (mut deadlines, now, wall) = deadlines(0);
        deadlines.drain_at(now);
        deadlines.drain_at(now + SECOND);
        assert_eq!(deadlines.take_due(now, wall), Some(Deadline::Drain));
    }
}
