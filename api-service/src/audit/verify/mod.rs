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
pub enum Defect {
    /// The row is not what was written.
    Modified,
    /// Rows are missing, this one and maybe those behind it.
    Missing,
    /// There is a row where none can be.
    Added,
    /// The chain's rows end before its head does, from here on.
    Truncated,
    /// The head is not what was written: neither is where the chain ends.
    Head,
    /// The chain is gone, and maybe those behind it; or it never had a head.
    MissingChain,
    /// None of the keys made this chain: it cannot be verified.
    UnknownKey,
    /// An anchor remembers another row, or one that is not there: the trail was set back, or written anew.
    Anchor,
    /// No chain has this number: they are counted from 1.
    InvalidNumber,
    /// It is below the chain that the walk begins with. Such chains are archived, and not here any more.
    NotVerified,
}

impl Defect {
    fn as_str(self) -> &'static str {
        match self {
            Self::Modified => "was altered",
            Self::Missing => "is missing",
            Self::Added => "was added",
            Self::Truncated => "was cut off with all behind it",
            Self::Head => "is not the end that the head was sealed for",
            Self::MissingChain => "has no chain",
            Self::UnknownKey => "cannot be verified, nor can the rest of its chain: its key is not known",
            Self::Anchor => "is not what the anchor remembers",
            Self::InvalidNumber => "was added: no chain has this number",
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
    pub defect: Defect,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "chain {} row {} {}", self.chain, self.n, self.defect.as_str())
    }
}

/// What a walk has found.
#[derive(Debug, Default)]
pub struct Report {
    /// Chains that were walked.
    pub chains: u64,
    /// Rows that were read.
    pub rows: u64,
    /// What is wrong, as far as [`ChainVerifier::take_findings`] has not taken it.
    pub findings: Vec<Finding>,
    /// How much is wrong in all.
    pub defects: u64,
    /// Where the chains end.
    pub heads: Vec<Head>,
}

impl Report {
    fn add(&mut self, chain: i64, n: i64, defect: Defect) {
        self.defects += 1;
        self.findings.push(Finding { chain, n, defect });
    }
}

/// On its way along the chains.
pub struct ChainVerifier<'a> {
    keys: &'a [AuditKey],
    /// The chain that it begins with.
    from_chain: i64,
    heads: BTreeMap<i64, StoredHead>,
    /// Those that no row has answered yet.
    anchors: Anchors,
    position: Option<Position<'a>>,
    report: Report,
}

/// Where it stands within a chain.
struct Position<'a> {
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

impl<'a> ChainVerifier<'a> {
    /// Begins. `heads` are all that there are; chains before `first` are kept elsewhere, and those that are still here are
    /// named.
    #[must_use]
    pub fn new(keys: &'a [AuditKey], heads: Vec<StoredHead>, from_chain: i64, anchors: Anchors) -> Self {
        let from_chain = from_chain.max(1);
        let mut report = Report::default();
        let mut known: BTreeMap<i64, StoredHead> = BTreeMap::new();
        for head in heads {
            match chain_defect(head.chain, from_chain) {
                Some(defect) => report.add(head.chain, head.n, defect),
                None if known.contains_key(&head.chain) => report.add(head.chain, head.n, Defect::Head),
                None => drop(known.insert(head.chain, head)),
            }
        }
        let heads = known;
        let mut expected = from_chain;
        for chain in heads.keys() {
            if *chain != expected {
                report.add(expected, 0, Defect::MissingChain);
            }
            expected = chain.saturating_add(1);
        }
        let anchors = anchors.into_iter().filter(|((chain, _), _)| *chain >= from_chain).collect();
        Self { keys, from_chain, heads, anchors, position: None, report }
    }

    /// What was found since this was asked last: whoever tells it at once holds no more than a page of it.
    pub fn take_findings(&mut self) -> Vec<Finding> {
        std::mem::take(&mut self.report.findings)
    }

    /// The next row, in the order of chain and place; `None` for one that cannot be read. Returns the key that it was written
    /// with when it is as it was written, and nothing when it is named among the findings.
    pub fn verify_row(
        &mut self,
        chain: i64,
        n: i64,
        row: Option<&Row>,
        mac: &[u8],
        buffer: &mut Vec<u8>,
    ) -> Option<&'a AuditKey> {
        self.report.rows += 1;
        if let Some(defect) = chain_defect(chain, self.from_chain) {
            self.report.add(chain, n, defect);
            return None;
        }
        while self.position.as_ref().is_none_or(|position| position.head.chain != chain) {
            self.close();
            let next = self.heads.keys().next().copied().filter(|next| *next <= chain);
            match next.and_then(|next| self.heads.remove(&next)) {
                Some(head) => self.open(head),
                None => {
                    self.report.add(chain, n, Defect::MissingChain);
                    return None;
                }
            }
        }
        let position = self.position.as_mut()?;
        let mac: Option<Mac> = mac.try_into().ok();
        if let Some(anchor) = self.anchors.remove(&(chain, n))
            && mac.is_none_or(|mac| hex(&mac) != anchor)
        {
            self.report.add(chain, n, Defect::Anchor);
        }
        let expected = position.stored.n.saturating_add(1);
        if n < expected {
            self.report.add(chain, n, Defect::Added);
            return None;
        }
        if n > expected {
            self.report.add(chain, expected, Defect::Missing);
            position.stored.n = n - 1;
            position.is_known = false;
        }
        if n > position.head.n {
            self.report.add(chain, n, Defect::Added);
        }
        let Some(key) = position.key else {
            position.stored.n = n;
            return None;
        };
        let computed = |before: Mac, buffer: &mut Vec<u8>| {
            row.map(|row| {
                let mut head = Head { mac: before, ..position.stored };
                head.advance(key, row, buffer);
                head.mac
            })
        };
        // Where only the hash before was changed, this row is as it was written.
        let (by_stored, by_computed) = (computed(position.stored.mac, buffer), computed(position.computed, buffer));
        let is_right = mac.is_some() && (by_stored == mac || by_computed == mac);
        if !is_right && (position.is_known || row.is_none() || mac.is_none()) {
            self.report.add(chain, n, Defect::Modified);
        }
        position.computed = by_computed.unwrap_or_default();
        position.stored = Head { n, mac: mac.unwrap_or_default(), ..position.stored };
        position.is_known = true;
        if n == position.head.n {
            position.last = mac;
        }
        (is_right && n <= position.head.n).then_some(key)
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
            self.report.add(chain, n, Defect::Anchor);
        }
        self.report
    }

    fn open(&mut self, head: StoredHead) {
        self.close();
        self.report.chains += 1;
        let key = self.keys.iter().find(|key| key.id() == head.key_id);
        if key.is_none() {
            self.report.add(head.chain, 0, Defect::UnknownKey);
        }
        let stored = Head::new(head.chain, head.opened_at);
        let last = (head.n == 0).then_some(stored.mac);
        self.position = Some(Position { head, key, stored, computed: stored.mac, last, is_known: true });
    }

    fn close(&mut self) {
        let Some(Position { head, key, stored, last, .. }) = self.position.take() else { return };
        if stored.n < head.n {
            self.report.add(head.chain, stored.n.saturating_add(1), Defect::Truncated);
        }
        let (Some(key), Some(mac)) = (key, last) else { return };
        let end = Head { n: head.n, mac, ..stored };
        if end.seal(key).as_slice() == head.seal {
            self.report.heads.push(end);
        } else {
            self.report.add(head.chain, head.n, Defect::Head);
        }
    }
}

/// Why a chain of this number is not one to verify.
fn chain_defect(chain: i64, from_chain: i64) -> Option<Defect> {
    match chain {
        ..1 => Some(Defect::InvalidNumber),
        _ if chain < from_chain => Some(Defect::NotVerified),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
