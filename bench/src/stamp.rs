//! The mark that every event carries in its content: which one of its channel it is, and when it was due.
//!
//! It begins with a byte that stands nowhere else in a payload and holds nothing that JSON escapes, so it is found in
//! all that a server wraps around it, without parsing.

use std::time::{Duration, Instant};

/// `@`, 8 hexadecimal digits of the number, 16 of nanoseconds since the epoch of the run.
pub(crate) const LENGTH: usize = 25;
/// What stands in a template where the message's id goes.
pub(crate) const ID_PLACE: &str = "01990000-0000-7000-8000-000000000000";

/// What stands in a template where the stamp goes.
pub(crate) const PLACE: &str = "@000000000000000000000000";
/// Number of an event that is not counted: it only shows that its channel is live.
pub(crate) const WARM_UP: u32 = u32::MAX;

/// One stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// 0, 1, 2 … within a channel.
    pub(crate) number: u32,
    /// When the event was due, since the epoch of the run.
    pub(crate) due: Duration,
}

impl Stamp {
    /// Writes it over `place`, which is [`LENGTH`] long.
    pub(crate) fn write(self, place: &mut [u8]) {
        place[0] = b'@';
        write_hex(u64::from(self.number), &mut place[1..9]);
        write_hex(u64::try_from(self.due.as_nanos()).unwrap_or(u64::MAX), &mut place[9..LENGTH]);
    }

    /// Finds it in a payload.
    pub(crate) fn find(payload: &[u8]) -> Option<Self> {
        let at = memchr::memchr(b'@', payload)?;
        let digits = payload.get(at + 1..at + LENGTH)?;
        let number = u32::try_from(read_hex(&digits[..8])?).ok()?;
        Some(Self { number, due: Duration::from_nanos(read_hex(&digits[8..])?) })
    }

    /// How long ago it was due.
    pub(crate) fn age(self, epoch: Instant) -> Duration {
        epoch.elapsed().saturating_sub(self.due)
    }
}

/// Fills `place` with the number's last digits.
pub(crate) fn write_hex(mut number: u64, place: &mut [u8]) {
    for digit in place.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 15) as usize];
        number >>= 4;
    }
}

fn read_hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |number: u64, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u64::from(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamp_is_found_in_surrounding_text() {
        let stamp = Stamp { number: 0xabc, due: Duration::from_nanos(1_234_567_890_123) };
        let mut place = [0; LENGTH];
        stamp.write(&mut place);
        let text = String::from_utf8(place.to_vec()).unwrap();
        let wrapped = format!(r#"42["m","{{\"content\":\"{text} How are you?\"}}"]"#);
        assert_eq!(Stamp::find(wrapped.as_bytes()), Some(stamp));
        assert_eq!(Stamp::find(b"{\"type\":\"pong\"}"), None);
        assert_eq!(Stamp::find(b"doctor@example.org"), None);
        assert_eq!(PLACE.len(), LENGTH);
    }
}
