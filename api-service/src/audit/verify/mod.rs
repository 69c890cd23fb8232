//! Walks along the chains, row by row in their order, and says what is wrong: rows altered, removed, added or reordered, ends cut
//! off, chains gone. Every row and every head is either part of a chain that was verified or named, whatever number it has.
//! Holds a head a chain and the findings, never the rows.

use std::collections::BTreeMap;
use std::fmt;

use crate::audit::anchors::{Anchors, hex};
use crate::audit::chain::Head;
use crate::audit::key::{AuditKey, Mac};
use crate::audit::row::Row;

/// A head as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredHead {
    /// Which chain.
    pub chain: i64,
    /// Which key.
    pub key_id: String,
    /// When it was opened, in microseconds since 1970.
    pub opened_at: i64,
    /// The last row's place.
    pub n: i64,
    /// [`Head::seal`]
    pub seal: Vec<u8>,
}

/// What is wrong at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// The row is not what was written.
    Altered,
    /// Rows are missing, this one and maybe those behind it.
    Missing,
    /// There is a row where none can be.
    Added,
    /// The chain's rows end before its head does, from here on.
    CutOff,
    /// The head is not what was written: neither is where the chain ends.
    Head,
    /// The chain is gone, and maybe those behind it; or it never had a head.
    NoChain,
    /// None of the keys made this chain: it cannot be verified.
    UnknownKey,
    /// An anchor remembers another row, or one that is not there: the trail was set back, or written anew.
    Anchor,
    /// No chain has this number: they are counted from 1.
    NoNumber,
    /// It is below the chain that the walk begins with. Such chains are archived, and not here any more.
    NotVerified,
}

impl Wrong {
    fn as_str(self) -> &'static str {
        match self {
            Self::Altered => "was altered",
            Self::Missing => "is missing",
            Self::Added => "was added",
            Self::CutOff => "was cut off with all behind it",
            Self::Head => "is not the end that the head was sealed for",
            Self::NoChain => "has no chain",
            Self::UnknownKey => "cannot be verified, nor can the rest of its chain: its key is not known",
            Self::Anchor => "is not what the anchor remembers",
            Self::NoNumber => "was added: no chain has this number",
            Self::NotVerified => "was not verified: it is below --from-chain, where everything is archived",
        }
    }
}

/// Something wrong, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finding {
    /// The chain.
    pub chain: i64,
    /// The place in it.
    pub n: i64,
    /// What.
    pub wrong: Wrong,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "chain {} row {} {}", self.chain, self.n, self.wrong.as_str())
    }
}

/// What a walk has found.
#[derive(Debug, Default)]
pub struct Report {
    /// Chains that were walked.
    pub chains: u64,
    /// Rows that were read.
    pub rows: u64,
    /// What is wrong, as far as [`Walk::take_findings`] has not taken it.
    pub findings: Vec<Finding>,
    /// How much is wrong in all.
    pub wrong: u64,
    /// Where the chains end.
    pub heads: Vec<Head>,
}

impl Report {
    fn tell(&mut self, chain: i64, n: i64, wrong: Wrong) {
        self.wrong += 1;
        self.findings.push(Finding { chain, n, wrong });
    }
}

/// On its way along the chains.
pub struct Walk<'a> {
    keys: &'a [AuditKey],
    /// The chain that it begins with.
    first: i64,
    heads: BTreeMap<i64, StoredHead>,
    /// Those that no row has answered yet.
    anchors: Anchors,
    at: Option<Place<'a>>,
    report: Report,
}

/// Where it stands within a chain.
struct Place<'a> {
    head: StoredHead,
    key: Option<&'a AuditKey>,
    /// With the hash that the last row has.
    stored: Head,
    /// With the hash that it should have.
    computed: Mac,
    /// The hash of the row that the head names.
    last: Option<Mac>,
    /// Whether the row before is there: behind a gap nothing is known of the hash.
    is_known: bool,
}

impl<'a> Walk<'a> {
    /// Begins. `heads` are all that there are; chains before `first` are kept elsewhere, and those that are still here are
    /// named.
    #[must_use]
    pub fn new(keys: &'a [AuditKey], heads: Vec<StoredHead>, first: i64, anchors: Anchors) -> Self {
        let first = first.max(1);
        let mut report = Report::default();
        let mut known: BTreeMap<i64, StoredHead> = BTreeMap::new();
        for head in heads {
            match outside(head.chain, first) {
                Some(wrong) => report.tell(head.chain, head.n, wrong),
                None if known.contains_key(&head.chain) => report.tell(head.chain, head.n, Wrong::Head),
                None => drop(known.insert(head.chain, head)),
            }
        }
        let heads = known;
        let mut expected = first;
        for chain in heads.keys() {
            if *chain != expected {
                report.tell(expected, 0, Wrong::NoChain);
            }
            expected = chain.saturating_add(1);
        }
        let anchors = anchors.into_iter().filter(|((chain, _), _)| *chain >= first).collect();
        Self { keys, first, heads, anchors, at: None, report }
    }

    /// What was found since this was asked last: whoever tells it at once holds no more than a page of it.
    pub fn take_findings(&mut self) -> Vec<Finding> {
        std::mem::take(&mut self.report.findings)
    }

    /// The next row, in the order of chain and place; `None` for one that cannot be read. Returns the key that it was written
    /// with when it is as it was written, and nothing when it is named among the findings.
    pub fn row(
        &mut self,
        chain: i64,
        n: i64,
        row: Option<&Row>,
        mac: &[u8],
        buffer: &mut Vec<u8>,
    ) -> Option<&'a AuditKey> {
        self.report.rows += 1;
        if let Some(wrong) = outside(chain, self.first) {
            self.report.tell(chain, n, wrong);
            return None;
        }
        while self.at.as_ref().is_none_or(|place| place.head.chain != chain) {
            self.close();
            let next = self.heads.keys().next().copied().filter(|next| *next <= chain);
            match next.and_then(|next| self.heads.remove(&next)) {
                Some(head) => self.open(head),
                None => {
                    self.report.tell(chain, n, Wrong::NoChain);
                    return None;
                }
            }
        }
        let place = self.at.as_mut()?;
        let mac: Option<Mac> = mac.try_into().ok();
        if let Some(anchor) = self.anchors.remove(&(chain, n))
            && mac.is_none_or(|mac| hex(&mac) != anchor)
        {
            self.report.tell(chain, n, Wrong::Anchor);
        }
        let expected = place.stored.n.saturating_add(1);
        if n < expected {
            self.report.tell(chain, n, Wrong::Added);
            return None;
        }
        if n > expected {
            self.report.tell(chain, expected, Wrong::Missing);
            place.stored.n = n - 1;
            place.is_known = false;
        }
        if n > place.head.n {
            self.report.tell(chain, n, Wrong::Added);
        }
        let Some(key) = place.key else {
            place.stored.n = n;
            return None;
        };
        let computed = |before: Mac, buffer: &mut Vec<u8>| {
            row.map(|row| {
                let mut head = Head { mac: before, ..place.stored };
                head.advance(key, row, buffer);
                head.mac
            })
        };
        // Where only the hash before was changed, this row is as it was written.
        let (by_stored, by_computed) = (computed(place.stored.mac, buffer), computed(place.computed, buffer));
        let is_right = mac.is_some() && (by_stored == mac || by_computed == mac);
        if !is_right && (place.is_known || row.is_none() || mac.is_none()) {
            self.report.tell(chain, n, Wrong::Altered);
        }
        place.computed = by_computed.unwrap_or_default();
        place.stored = Head { n, mac: mac.unwrap_or_default(), ..place.stored };
        place.is_known = true;
        if n == place.head.n {
            place.last = mac;
        }
        (is_right && n <= place.head.n).then_some(key)
    }

    /// Ends.
    #[must_use]
    pub fn finish(mut self) -> Report {
        self.close();
        while let Some((_, head)) = self.heads.pop_first() {
            self.open(head);
            self.close();
        }
        for (chain, n) in std::mem::take(&mut self.anchors).into_keys() {
            self.report.tell(chain, n, Wrong::Anchor);
        }
        self.report
    }

    fn open(&mut self, head: StoredHead) {
        self.close();
        self.report.chains += 1;
        let key = self.keys.iter().find(|key| key.id() == head.key_id);
        if key.is_none() {
            self.report.tell(head.chain, 0, Wrong::UnknownKey);
        }
        let stored = Head::new(head.chain, head.opened_at);
        let last = (head.n == 0).then_some(stored.mac);
        self.at = Some(Place { head, key, stored, computed: stored.mac, last, is_known: true });
    }

    fn close(&mut self) {
        let Some(Place { head, key, stored, last, .. }) = self.at.take() else { return };
        if stored.n < head.n {
            self.report.tell(head.chain, stored.n.saturating_add(1), Wrong::CutOff);
        }
        let (Some(key), Some(mac)) = (key, last) else { return };
        let end = Head { n: head.n, mac, ..stored };
        if end.seal(key).as_slice() == head.seal {
            self.report.heads.push(end);
        } else {
            self.report.tell(head.chain, head.n, Wrong::Head);
        }
    }
}

/// Why a chain of this number is not one to verify.
fn outside(chain: i64, first: i64) -> Option<Wrong> {
    match chain {
        ..1 => Some(Wrong::NoNumber),
        _ if chain < first => Some(Wrong::NotVerified),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
