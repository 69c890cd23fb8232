//! Verifies chains row by row, in order. Finds rows that were altered, removed, added or reordered, truncated ends and missing
//! chains.
//!
//! Invariant: every row and every head is either part of a verified chain or named in a finding. Memory
//! holds one head per chain and one page of findings, never the rows.

use std::collections::BTreeMap;
use std::fmt;

use crate::audit::anchors::{Anchors, hex};
use crate::audit::chain::Head;
use crate::audit::key::{AuditKey, Mac};
use crate::audit::row::Row;

/// A head as the database holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredHead {
    /// Number of the chain.
    pub chain: i64,
    /// Id of the key.
    pub key_id: String,
    /// When it was opened, in microseconds since 1970.
    pub opened_at: i64,
    /// Position of the last row.
    pub n: i64,
    /// [`Head::seal`]
    pub seal: Vec<u8>,
}

/// A defect at a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// The row differs from what was written.
    Modified,
    /// The row is missing, perhaps with rows after it.
    Missing,
    /// A row at a position where none can be.
    Added,
    /// The rows end here, before the position that the head names.
    Truncated,
    /// The head differs from what was written, so the end of the chain is unknown.
    Head,
    /// The chain is missing, perhaps with chains after it, or it has no head.
    MissingChain,
    /// No key is known for this chain, so it cannot be verified.
    UnknownKey,
    /// An anchor names another hash: the trail was restored to an earlier state or rewritten.
    Anchor,
    /// Invalid chain number: they count from 1.
    InvalidNumber,
    /// The chain lies before the first one to verify. Such chains should be archived and gone.
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

/// A defect and its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finding {
    /// Number of the chain.
    pub chain: i64,
    /// Position in the chain.
    pub n: i64,
    /// The defect.
    pub defect: Defect,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "chain {} row {} {}", self.chain, self.n, self.defect.as_str())
    }
}

/// The result of a verification.
#[derive(Debug, Default)]
pub struct Report {
    /// Chains verified.
    pub chains: u64,
    /// Rows read.
    pub rows: u64,
    /// Findings since the last [`ChainVerifier::take_findings`].
    pub findings: Vec<Finding>,
    /// Number of defects.
    pub defects: u64,
    /// Ends of the chains that verified.
    pub heads: Vec<Head>,
}

impl Report {
    fn add(&mut self, chain: i64, n: i64, defect: Defect) {
        self.defects += 1;
        self.findings.push(Finding { chain, n, defect });
    }
}

/// The verifier, which is fed all rows in order.
pub struct ChainVerifier<'a> {
    keys: &'a [AuditKey],
    /// The first chain to verify.
    from_chain: i64,
    heads: BTreeMap<i64, StoredHead>,
    /// Anchors that no row has matched yet.
    anchors: Anchors,
    position: Option<Position<'a>>,
    report: Report,
}

/// The current position in a chain.
struct Position<'a> {
    head: StoredHead,
    key: Option<&'a AuditKey>,
    /// With the stored hash of the last row.
    stored: Head,
    /// The hash that the last row should have.
    computed: Mac,
    /// The hash of the row that the head names.
    last: Option<Mac>,
    /// Whether the preceding row was present. After a gap its hash is unknown.
    is_known: bool,
}

impl<'a> ChainVerifier<'a> {
    /// `heads` are all heads of the database. Heads before `from_chain` are named as findings.
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

    /// Takes the findings so far, so that the caller need not hold them all.
    pub fn take_findings(&mut self) -> Vec<Finding> {
        std::mem::take(&mut self.report.findings)
    }

    /// Verifies the next row, in order of chain and position; `None` is a row that cannot be decoded. Returns its key if the row
    /// verifies, and `None` if a finding names it.
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
        // If only the previous hash was altered, this row itself is intact.
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

    /// Ends the verification.
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

/// The defect of a chain number that cannot be verified.
fn chain_defect(chain: i64, from_chain: i64) -> Option<Defect> {
    match chain {
        ..1 => Some(Defect::InvalidNumber),
        _ if chain < from_chain => Some(Defect::NotVerified),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
