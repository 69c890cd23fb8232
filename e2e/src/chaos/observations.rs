//! What clients met since the last look.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::take;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Shared by all clients.
#[derive(Debug, Default)]
pub(super) struct Observations(Mutex<ObservedCounts>);

/// Numbers, by what happened.
#[derive(Debug, Clone, Default)]
pub(super) struct ObservedCounts {
    /// Clear errors that senders saw; each was followed by another attempt.
    pub(super) sender_errors: BTreeMap<String, usize>,
    /// The conversations of those senders.
    pub(super) troubled: BTreeSet<String>,
    /// Open sockets that ended otherwise than by 1001.
    pub(super) socket_ends: BTreeMap<String, usize>,
    /// Open sockets that ended by 1001.
    pub(super) moved: usize,
    /// Sockets that could not be opened; each was followed by another attempt.
    pub(super) refused: BTreeMap<String, usize>,
    /// Requests without an answer in time.
    pub(super) hangs: Vec<String>,
    /// What the contract does not allow.
    pub(super) wrong: Vec<String>,
    /// How often a receiver had to load history.
    pub(super) resyncs: usize,
}

impl Observations {
    fn lock(&self) -> MutexGuard<'_, ObservedCounts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take(&self) -> ObservedCounts {
        take(&mut *self.lock())
    }

    pub(super) fn sender_error(&self, conversation: &str, what: impl Into<String>) {
        let mut counts = self.lock();
        *counts.sender_errors.entry(what.into()).or_default() += 1;
        counts.troubled.insert(conversation.to_owned());
    }

    pub(super) fn socket_end(&self, what: impl Into<String>) {
        *self.lock().socket_ends.entry(what.into()).or_default() += 1;
    }

    pub(super) fn moved(&self) {
        self.lock().moved += 1;
    }

    pub(super) fn refused(&self, what: impl Into<String>) {
        *self.lock().refused.entry(what.into()).or_default() += 1;
    }

    pub(super) fn hang(&self, what: impl Into<String>) {
        self.lock().hangs.push(what.into());
    }

    pub(super) fn wrong(&self, what: impl Into<String>) {
        self.lock().wrong.push(what.into());
    }

    pub(super) fn resync(&self) {
        self.lock().resyncs += 1;
    }
}

/// The sum of such a map.
pub(super) fn sum(counts: &BTreeMap<String, usize>) -> usize {
    counts.values().sum()
}

/// Such a map in words.
pub(super) fn words(counts: &BTreeMap<String, usize>) -> String {
    counts.iter().map(|(what, count)| format!("{count}× {what}")).collect::<Vec<_>>().join(", ")
}
