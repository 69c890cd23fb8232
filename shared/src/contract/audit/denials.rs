//! Limits the audit rows of a flood of denied requests. The first denials per source are one row each. Later ones are counted,
//! and each count is one row.
//!
//! A source that continues costs one row per minute. Every denial is counted. A killed process loses at most the counts of one
//! minute.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::contract::audit::{Action, AuditActor, AuditEntry};
use crate::kit::token_bucket::client_network;

/// Rows per address, when the caller is unknown, before its denials are counted.
const ADDRESS_BUDGET: u32 = 20;
/// Rows per known caller, action and outcome.
const ACTOR_BUDGET: u32 = 300;
/// Rows per caller for tokens that it sends on open sockets, valid or not.
const TOKEN_BUDGET: u32 = 60;
/// Rows for requests beyond a rate limit.
const TOO_MANY_REQUESTS_BUDGET: u32 = 5;
/// Time from the first counted denial to the row with the count. It doubles with each row, up to [`MAX_INTERVAL`].
const MIN_INTERVAL: Duration = Duration::from_secs(1);
const MAX_INTERVAL: Duration = Duration::from_secs(60);
/// A source without a denial for so long starts again with single rows.
const RESET_AFTER: Duration = Duration::from_secs(60);
/// Sources that are counted separately. Beyond that, all further sources share one count.
const MAX_SOURCES: usize = 20_000;

/// The source of denials that are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum DenialSource {
    Address(Option<IpAddr>, u16),
    Actor(AuditActor, Action, u16),
    Overflow,
}

struct DenialCounter {
    /// Single rows that are still allowed.
    budget: u32,
    summary: Option<AuditEntry>,
    /// When the row with the count is due.
    due_at: Instant,
    interval: Duration,
    /// When one of them was seen last.
    last_seen: Instant,
    /// When the first of them was seen.
    first_seen: Instant,
}

/// Denials on their way to the audit trail.
#[derive(Default)]
pub struct DenialAggregator {
    counters: Mutex<HashMap<DenialSource, DenialCounter>>,
}

impl DenialAggregator {
    /// Returns the entry if it is to be written as a row. Otherwise counts it. Entries that are neither denials nor tokens on
    /// open sockets pass.
    pub fn admit(&self, entry: AuditEntry) -> Option<AuditEntry> {
        match entry.is_denied() || entry.action == Action::SocketAuth {
            true => self.admit_at(entry, Instant::now()),
            false => Some(entry),
        }
    }

    /// The same for any other entry that a caller can cause without limit.
    pub fn admit_limited(&self, entry: AuditEntry) -> Option<AuditEntry> {
        self.admit_at(entry, Instant::now())
    }

    fn admit_at(&self, entry: AuditEntry, now: Instant) -> Option<AuditEntry> {
        let (mut source, mut left) = classify(&entry);
        let mut floods = self.counters.lock();
        if floods.len() >= MAX_SOURCES && !floods.contains_key(&source) {
            (source, left) = (DenialSource::Overflow, 0);
        }
        let fresh = DenialCounter {
            budget: left,
            summary: None,
            due_at: now,
            interval: MIN_INTERVAL,
            last_seen: now,
            first_seen: now,
        };
        let flood = match floods.entry(source) {
            Slot::Occupied(known) => {
                let flood = known.into_mut();
                let is_quiet = now.duration_since(if flood.budget > 0 { flood.first_seen } else { flood.last_seen })
                    >= RESET_AFTER;
                if is_quiet && flood.summary.is_none() {
                    *flood = fresh;
                }
                flood
            }
            Slot::Vacant(slot) => slot.insert(fresh),
        };
        flood.last_seen = now;
        if flood.budget > 0 {
            flood.budget -= 1;
            return Some(entry);
        }
        match &mut flood.summary {
            Some(counted) => merge(counted, &entry),
            None => {
                flood.due_at = now + flood.interval;
                flood.summary = Some(entry);
            }
        }
        None
    }

    /// Takes the counts that are due.
    pub fn take_due(&self) -> Vec<AuditEntry> {
        self.take_due_at(Instant::now())
    }

    fn take_due_at(&self, now: Instant) -> Vec<AuditEntry> {
        let mut due = Vec::new();
        self.counters.lock().retain(|_, flood| {
            if flood.due_at <= now
                && let Some(counted) = flood.summary.take()
            {
                flood.interval = (2 * flood.interval).min(MAX_INTERVAL);
                due.push(counted);
            }
            flood.summary.is_some() || now.duration_since(flood.last_seen) < RESET_AFTER
        });
        due
    }

    /// Takes all counts, due or not: for the end of the process.
    pub fn take_all(&self) -> Vec<AuditEntry> {
        self.counters.lock().drain().filter_map(|(_, flood)| flood.summary).collect()
    }
}

/// The source of an entry, and how many single rows that source may have.
fn classify(entry: &AuditEntry) -> (DenialSource, u32) {
    let few = if entry.outcome == 429 { TOO_MANY_REQUESTS_BUDGET } else { u32::MAX };
    match &entry.actor {
        AuditActor::Anonymous => {
            let address = entry.request.as_ref().map_or(Ipv4Addr::UNSPECIFIED.into(), |request| request.address);
            (DenialSource::Address(client_network(address), entry.outcome), ADDRESS_BUDGET.min(few))
        }
        actor => {
            let most = if entry.action == Action::SocketAuth { TOKEN_BUDGET } else { ACTOR_BUDGET };
            (DenialSource::Actor(actor.clone(), entry.action, entry.outcome), most.min(few))
        }
    }
}

/// Adds an entry to a count. Fields in which they differ are cleared.
fn merge(counted: &mut AuditEntry, entry: &AuditEntry) {
    fn keep<T: PartialEq>(of_all: &mut Option<T>, of_one: &Option<T>) {
        if of_all != of_one {
            *of_all = None;
        }
    }
    counted.times = counted.times.saturating_add(entry.times);
    if counted.action != entry.action {
        counted.action = Action::Request;
    }
    if counted.actor != entry.actor || counted.outcome != entry.outcome {
        (counted.actor, counted.action, counted.outcome) = (AuditActor::System, Action::Lost, 0);
        counted.request = None;
    }
    keep(&mut counted.location, &entry.location);
    keep(&mut counted.conversation, &entry.conversation);
    keep(&mut counted.acts_for, &entry.acts_for);
    keep(&mut counted.counterpart, &entry.counterpart);
    keep(&mut counted.detail, &entry.detail);
    if counted.message_ids != entry.message_ids {
        counted.message_ids.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::http::request::RequestContext;

    fn refused(participant: &str, action: Action, outcome: u16, address: [u8; 4]) -> AuditEntry {
        let request = RequestContext { request_id: "r".into(), address: address.into() };
        AuditEntry::new(participant.parse().unwrap(), action, outcome).with_request(&request)
    }

    /// What was written of a flood of `per_second` that goes on for so many seconds: rows, and how many they stand for.
    fn written(entry: &AuditEntry, per_second: u32, seconds: u32) -> (usize, u32) {
        let (refusals, start) = (DenialAggregator::default(), Instant::now());
        let mut rows = Vec::new();
        for second in 0..seconds {
            let now = start + Duration::from_secs(second.into());
            rows.extend((0..per_second).filter_map(|_| refusals.admit_at(entry.clone(), now)));
            rows.extend(refusals.take_due_at(now));
        }
        rows.extend(refusals.take_all());
        (rows.len(), rows.iter().map(|row| row.times).sum())
    }

    #[test]
    fn address_flood_costs_one_row_per_minute() {
        for (outcome, first) in [(401, 20), (429, 5)] {
            let entry = refused("anonymous", Action::HistoryRead, outcome, [203, 0, 113, 9]);
            let (rows, times) = written(&entry, 2_000, 600);
            assert_eq!(times, 1_200_000);
            assert!(rows <= first + 6 + 10, "{rows} rows of {outcome} in ten minutes");
        }
    }

    #[test]
    fn known_callers_are_counted_too() {
        for (entry, first) in [
            (refused("user:mallory", Action::HistoryRead, 403, [1; 4]), 300),
            (refused("user:mallory", Action::Send, 429, [1; 4]), 5),
            (refused("user:mallory", Action::SocketAuth, 200, [1; 4]), 60),
        ] {
            let (rows, times) = written(&entry, 100, 300);
            assert_eq!(times, 30_000);
            assert!(rows <= first + 6 + 5, "{rows} rows");
        }
    }

    #[test]
    fn occasional_denials_are_written_one_by_one() {
        let entry = refused("anonymous", Action::Send, 401, [203, 0, 113, 9]);
        let (refusals, mut now) = (DenialAggregator::default(), Instant::now());
        for _ in 0..100 {
            assert!(refusals.admit_at(entry.clone(), now).is_some());
            now += Duration::from_secs(4);
        }
        for _ in 0..1_000 {
            assert!(refusals.admit(refused("user:doc", Action::HistoryRead, 200, [1; 4])).is_some());
        }
        // Quiet for a while, it is let go.
        assert_eq!(refusals.take_due_at(now + RESET_AFTER), []);
        assert_eq!(refusals.counters.lock().len(), 0);
    }

    #[test]
    fn count_keeps_only_shared_fields() {
        let refusals = DenialAggregator::default();
        let now = Instant::now();
        let of = |action, location: &str| {
            let entry = refused("anonymous", action, 401, [203, 0, 113, 9]);
            AuditEntry { location: Some(location.parse().unwrap()), ..entry }
        };
        let last = |entries: &[AuditEntry]| {
            for _ in 0..ADDRESS_BUDGET {
                refusals.admit_at(of(Action::Send, "loc1"), now);
            }
            assert!(entries.iter().all(|entry| refusals.admit_at(entry.clone(), now).is_none()));
            refusals.take_all().remove(0)
        };
        let same = last(&[of(Action::Send, "loc1"), of(Action::Send, "loc1")]);
        assert_eq!((same.times, same.action, same.location), (2, Action::Send, Some("loc1".parse().unwrap())));
        let different = last(&[of(Action::Send, "loc1"), of(Action::InboxRead, "loc2")]);
        assert_eq!((different.times, different.action, different.location), (2, Action::Request, None));
        assert_eq!(different.request.unwrap().address, IpAddr::from([203, 0, 113, 9]));
    }

    #[test]
    fn sources_are_bounded() {
        let (refusals, now) = (DenialAggregator::default(), Instant::now());
        let mut written = 0;
        for number in 0..MAX_SOURCES as u32 + 5_000 {
            let address = (0x0a00_0000_u32 + number).to_be_bytes();
            let entry = refused("anonymous", Action::Send, 401, address);
            written += usize::from(refusals.admit_at(entry, now).is_some());
        }
        assert_eq!((written, refusals.counters.lock().len()), (MAX_SOURCES, MAX_SOURCES + 1));
        assert_eq!(refusals.take_all().iter().map(|entry| entry.times).collect::<Vec<_>>(), [5_000]);
    }
}
