//! Who wrote how much to whom, and when: a few conversations without end, many short ones, all going on at the same time.
//!
//! Everything follows from numbers: the same arguments give the same messages, apart from the time.

use std::f64::consts::TAU;

use anyhow::{Result, ensure};
use shared::contract::participant::{Conversation, Participant};

/// Tenants.
const LOCATIONS: u32 = 50;
/// Conversations a user has on average; the busiest have many times as many.
const CONVERSATIONS_PER_USER: u32 = 400;
/// Every so many-th conversation is one of two users.
const COLLEAGUES: u32 = 20;
/// Size of the conversations without end, and how many messages there are to one of them.
const LONG: u32 = 120_000;
const MESSAGES_PER_LONG: u32 = 5_000_000;
/// How unevenly messages spread over the other conversations: sigma of a log-normal distribution.
const UNEVENNESS: f64 = 1.2;
/// How far back the first message lies, in microseconds.
const SPAN_US: i64 = 2 * 365 * 86_400 * 1_000_000;

/// All that is known before the first row is made.
pub(crate) struct Shape {
    /// The conversation of each message, in the order in which they were sent.
    pub(crate) order: Vec<u32>,
    /// How many messages each conversation has.
    pub(crate) sizes: Vec<u32>,
    /// The place in `order` of the last message of each conversation.
    pub(crate) last: Vec<u32>,
    now_us: i64,
}

impl Shape {
    pub(crate) fn new(messages: u32, conversations: u32, now_us: i64) -> Result<Self> {
        ensure!(conversations >= 1_000, "at least 1000 conversations, or there is no variety");
        ensure!(messages >= conversations.saturating_mul(2), "at least two messages a conversation");
        let sizes = sizes(messages, conversations);
        let mut order = Vec::with_capacity(messages as usize);
        for (conversation, size) in (0_u32..).zip(&sizes) {
            order.extend(std::iter::repeat_n(conversation, *size as usize));
        }
        // Fisher and Yates. Neighbours in time belong to different conversations, so a page of history lies scattered
        // over as many pages of the table: what a busy system looks like, and the worst case for reading.
        for place in (1..order.len()).rev() {
            order.swap(place, (mix(place as u64) % (place as u64 + 1)) as usize);
        }
        let mut last = vec![0; sizes.len()];
        for (place, conversation) in (0_u32..).zip(&order) {
            last[*conversation as usize] = place;
        }
        Ok(Self { order, sizes, last, now_us })
    }

    /// When a message was sent, in microseconds since 1970.
    pub(crate) fn sent_at_us(&self, place: u32) -> i64 {
        let apart = SPAN_US / self.order.len() as i64;
        self.now_us - (self.order.len() as i64 - i64::from(place)) * apart
    }

    /// No receipt is later.
    pub(crate) fn now_us(&self) -> i64 {
        self.now_us
    }

    /// Who takes part. Patients have two conversations, with two users of one location.
    pub(crate) fn pair(&self, conversation: u32) -> Result<Conversation> {
        let users = (self.sizes.len() as u32 / CONVERSATIONS_PER_USER / LOCATIONS).max(60);
        let user = |location: u32, number: u32| format!("doc-{location:02}{number:04}").parse().map(Participant::user);
        let kind = conversation / COLLEAGUES;
        let (location, first, second) = if conversation % COLLEAGUES == COLLEAGUES - 1 {
            // Counts through the pairs of a location, so that none comes twice.
            let (location, pair) = (kind % LOCATIONS, kind / LOCATIONS);
            let (one, apart) = (pair % users, 1 + pair / users);
            (location, user(location, one)?, user(location, (one + apart) % users)?)
        } else {
            let patient = conversation / 2;
            let location = patient % LOCATIONS;
            // Squared: the first users have most of the patients.
            let chance = unit(mix(u64::from(patient)));
            let one = (f64::from(users) * chance * chance) as u32;
            let contact = Participant::contact(format!("pat-{patient:07}").parse()?);
            (location, user(location, (one + conversation % 2) % users)?, contact)
        };
        Ok(Conversation::new(format!("clinic-{location:02}").parse()?, first, second)?)
    }

    /// Whether the first participant wrote a message; otherwise the second did.
    pub(crate) fn is_from_first(conversation: u32, seq: u32) -> bool {
        mix(u64::from(conversation) << 32 | u64::from(seq)) & 1 == 0
    }

    /// How many messages at a conversation's end are unread: none in most of them.
    pub(crate) fn unread_tail(&self, conversation: u32) -> u32 {
        let chance = mix(!u64::from(conversation));
        let tail = if chance.is_multiple_of(7) { 1 + (chance >> 32) as u32 % 8 } else { 0 };
        tail.min(self.sizes[conversation as usize])
    }
}

fn sizes(messages: u32, conversations: u32) -> Vec<u32> {
    let long = (messages / MESSAGES_PER_LONG).max(1);
    let long_size = LONG.min(messages / 10);
    // One message each, and the rest by weight.
    let rest = f64::from(messages - conversations - long * (long_size - 1));
    let weight = |conversation: u32| match conversation < long {
        true => 0.0,
        false => (UNEVENNESS * normal(mix(u64::from(conversation) + 0x5eed))).exp(),
    };
    let sum: f64 = (0..conversations).map(weight).sum();
    let size = |conversation: u32| match conversation < long {
        true => long_size,
        false => 1 + (rest * weight(conversation) / sum) as u32,
    };
    let mut sizes: Vec<u32> = (0..conversations).map(size).collect();
    // What rounding down left over.
    let missing = messages - sizes.iter().sum::<u32>();
    for extra in 0..missing {
        sizes[(long + extra % (conversations - long)) as usize] += 1;
    }
    sizes
}

/// A number's reproducible noise (splitmix64).
pub(crate) fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Noise as a number from 0 to below 1.
fn unit(noise: u64) -> f64 {
    (noise >> 11) as f64 / (1_u64 << 53) as f64
}

/// Noise as a normally distributed number (Box and Muller).
pub(crate) fn normal(noise: u64) -> f64 {
    let (radius, angle) = (1.0 - unit(noise), unit(mix(noise)));
    (-2.0 * radius.ln()).sqrt() * (TAU * angle).cos()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn messages_and_pairs_are_unique() {
        let shape = Shape::new(300_000, 20_000, 1).unwrap();
        assert_eq!(shape.order.len(), 300_000);
        assert_eq!(shape.sizes.iter().sum::<u32>(), 300_000);
        assert_eq!(shape.sizes.iter().max(), Some(&30_000), "one is without end");
        let ids: HashSet<_> = (0..20_000).map(|conversation| shape.pair(conversation).unwrap().id()).collect();
        assert_eq!(ids.len(), 20_000);
        let read_up = (0..20_000).filter(|conversation| shape.unread_tail(*conversation) == 0).count();
        assert!((16_000..18_500).contains(&read_up), "{read_up}");
    }

    #[test]
    fn million_conversations_have_unique_pairs() {
        let shape = Shape { order: Vec::new(), sizes: vec![0; 1_000_000], last: Vec::new(), now_us: 0 };
        let colleagues = (COLLEAGUES - 1..1_000_000).step_by(COLLEAGUES as usize);
        let ids: HashSet<_> = colleagues.map(|conversation| shape.pair(conversation).unwrap().id()).collect();
        assert_eq!(ids.len(), 50_000);
    }
}
