//! The revocations that this process knows. Each check of a token reads them.

use std::collections::HashMap;

use parking_lot::RwLock;
use tokio::sync::watch;

use super::{RevocationEntry, Target, TokenHash, TokenIdentity};
use crate::contract::ids::ParticipantId;

/// Expired revocations that are removed under one lock, so that checks of tokens wait only briefly.
pub(super) const REMOVAL_BATCH: usize = 1_000;

/// Up to when tokens are revoked, and until when that is remembered.
#[derive(Debug, Clone, Copy)]
struct Bound {
    issued_before: i64,
    ends_at: i64,
}

impl Bound {
    /// Widens it so that it covers what both cover. Returns whether more tokens are revoked than before.
    fn widen(&mut self, issued_before: i64, ends_at: i64) -> bool {
        let is_news = issued_before > self.issued_before;
        self.issued_before = self.issued_before.max(issued_before);
        self.ends_at = self.ends_at.max(ends_at);
        is_news
    }

    fn covers(&self, issued_at: Option<i64>) -> bool {
        issued_at.is_none_or(|issued_at| issued_at < self.issued_before)
    }
}

/// Covers no token, not even those without `iat`: it is never in a set.
const EMPTY_BOUND: Bound = Bound { issued_before: i64::MIN, ends_at: i64::MIN };

#[derive(Default)]
struct RevocationIndex {
    /// When each of them ends. 25 bytes a place, of which 44 to 88 % are taken.
    tokens: HashMap<TokenHash, i64>,
    subjects: HashMap<ParticipantId, Bound>,
    everyone: Option<Bound>,
}

impl RevocationIndex {
    fn add(&mut self, RevocationEntry { target, ends_at }: RevocationEntry) -> bool {
        match target {
            Target::Token(hash) => {
                let known = self.tokens.insert(hash, ends_at);
                if let Some(known) = known.filter(|known| *known > ends_at) {
                    self.tokens.insert(hash, known);
                }
                known.is_none()
            }
            Target::Subject { sub, issued_before } => {
                self.subjects.entry(sub).or_insert(EMPTY_BOUND).widen(issued_before, ends_at)
            }
            Target::Everyone { issued_before } => {
                self.everyone.get_or_insert(EMPTY_BOUND).widen(issued_before, ends_at)
            }
        }
    }
}

/// What this process knows to be revoked.
pub struct RevocationSet {
    known: RwLock<RevocationIndex>,
    changes: watch::Sender<u64>,
}

impl Default for RevocationSet {
    fn default() -> Self {
        Self { known: RwLock::default(), changes: watch::Sender::new(0) }
    }
}

impl RevocationSet {
    /// Learns revocations; those that it knows are no news. Returns whether there was any.
    pub fn add(&self, entries: impl IntoIterator<Item = RevocationEntry>) -> bool {
        let mut known = self.known.write();
        let mut news = false;
        for entry in entries {
            news |= known.add(entry);
        }
        drop(known);
        if news {
            self.changes.send_modify(|version| *version += 1);
        }
        news
    }

    /// Whether a token is revoked.
    #[must_use]
    pub fn is_revoked(&self, token: TokenIdentity<'_>) -> bool {
        let known = self.known.read();
        if known.everyone.is_some_and(|bound| bound.covers(token.issued_at)) {
            return true;
        }
        let is_known = |jti: &str| known.tokens.contains_key(&TokenHash::new(jti));
        let is_named = !known.tokens.is_empty() && token.jti.is_some_and(is_known);
        let is_over = |id: &ParticipantId| known.subjects.get(id).is_some_and(|bound| bound.covers(token.issued_at));
        is_named || is_over(token.subject) || token.participant.is_some_and(is_over)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        let known = self.known.read();
        known.tokens.len() + known.subjects.len() + usize::from(known.everyone.is_some())
    }

    /// Whether nothing is revoked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them.
    #[must_use]
    pub fn entries(&self) -> Vec<RevocationEntry> {
        self.select(|_| true)
    }

    fn select(&self, is_wanted: impl Fn(i64) -> bool) -> Vec<RevocationEntry> {
        let known = self.known.read();
        let entry = |target, ends_at| RevocationEntry { target, ends_at };
        let tokens = known.tokens.iter().filter(|(_, ends_at)| is_wanted(**ends_at));
        let tokens = tokens.map(|(hash, ends_at)| entry(Target::Token(*hash), *ends_at));
        let subjects = known.subjects.iter().filter(|(_, bound)| is_wanted(bound.ends_at)).map(|(sub, bound)| {
            entry(Target::Subject { sub: sub.clone(), issued_before: bound.issued_before }, bound.ends_at)
        });
        let everyone = known.everyone.iter().filter(|bound| is_wanted(bound.ends_at));
        let everyone = everyone.map(|b| entry(Target::Everyone { issued_before: b.issued_before }, b.ends_at));
        tokens.chain(subjects).chain(everyone).collect()
    }

    /// Forgets revocations whose tokens have all ended by `now`, in seconds since 1970. Returns them.
    pub fn remove_expired(&self, now: i64) -> Vec<RevocationEntry> {
        let ended = self.select(|ends_at| ends_at <= now);
        for page in ended.chunks(REMOVAL_BATCH) {
            let mut known = self.known.write();
            for entry in page {
                // One that was extended meanwhile stays.
                match &entry.target {
                    Target::Token(hash) => {
                        if known.tokens.get(hash).is_some_and(|ends_at| *ends_at <= now) {
                            known.tokens.remove(hash);
                        }
                    }
                    Target::Subject { sub, .. } => {
                        if known.subjects.get(sub).is_some_and(|bound| bound.ends_at <= now) {
                            known.subjects.remove(sub);
                        }
                    }
                    Target::Everyone { .. } => known.everyone = known.everyone.filter(|bound| bound.ends_at > now),
                }
            }
        }
        if !ended.is_empty() {
            let mut known = self.known.write();
            if known.tokens.capacity() > 4 * known.tokens.len() {
                known.tokens.shrink_to_fit();
            }
        }
        ended
    }

    /// Changes with every new revocation. An open socket then checks its token again.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
