//! Verifies single rows, for an export that reads only a part of a chain.

use super::chain::Head;
use super::key::{AuditKey, Mac};
use super::row::Row;

/// What a row's hash depends on besides the row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowContext {
    /// The key of the chain.
    pub key_id: String,
    /// Position of the chain's last row.
    pub last: i64,
    /// Hash of the preceding row, if there is one.
    pub mac_before: Option<Vec<u8>>,
}

/// Why a row does not verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// The chain has no head, or no such position.
    #[error("stands outside of every chain")]
    Outside,
    /// None of the keys wrote this chain.
    #[error("cannot be verified: its key is not known (AUDIT_PREVIOUS_KEYS)")]
    UnknownKey,
    /// The row, or the row before it, was altered.
    #[error("was altered, or the row before it was")]
    Modified,
}

/// Verifies a row against the hash of the row before it. Without the key, no row passes at any position.
///
/// # Errors
/// [`RowError`]
pub fn check(
    keys: &[AuditKey],
    (chain, n): (i64, i64),
    row: Option<&Row>,
    mac: &[u8],
    context: Option<&RowContext>,
) -> Result<(), RowError> {
    let context = context.filter(|context| chain >= 1 && n >= 1 && n <= context.last);
    let context = context.ok_or(RowError::Outside)?;
    let key = keys.iter().find(|key| key.id() == context.key_id).ok_or(RowError::UnknownKey)?;
    // The opening time is part of the head's seal only.
    let first = Head::new(chain, 0);
    let before: Option<Mac> = match (n, &context.mac_before) {
        (1, _) => Some(first.mac),
        (_, Some(mac)) => mac.as_slice().try_into().ok(),
        (_, None) => None,
    };
    let (row, before) = row.zip(before).ok_or(RowError::Modified)?;
    let mut head = Head { n: n - 1, mac: before, ..first };
    head.advance(key, row, &mut Vec::new());
    if head.mac.as_slice() == mac { Ok(()) } else { Err(RowError::Modified) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::contract::audit::{Action, AuditActor, AuditEntry};

    #[test]
    fn row_verifies_only_at_its_position() {
        let [key, other] = ["x", "y"].map(|letter| AuditKey::new(&letter.repeat(32).parse().unwrap()));
        let row = Row::from(&AuditEntry::new(AuditActor::Anonymous, Action::Send, 401));
        let (mut head, mut buffer) = (Head::new(3, 1_000), Vec::new());
        head.advance(&key, &row, &mut buffer);
        let first = head.mac;
        head.advance(&key, &row, &mut buffer);
        let context = |mac: Option<&[u8]>| {
            Some(RowContext { key_id: key.id().to_owned(), last: 2, mac_before: mac.map(<[u8]>::to_vec) })
        };
        let keys = [other.clone(), key.clone()];
        let check = |place, row: Option<&Row>, mac: &[u8], context: Option<RowContext>| {
            super::check(&keys, place, row, mac, context.as_ref())
        };
        assert_eq!(check((3, 1), Some(&row), &first, context(None)), Ok(()));
        assert_eq!(check((3, 2), Some(&row), &head.mac, context(Some(&first))), Ok(()));
        for (place, mac, context, why) in [
            ((3, 1), head.mac, context(None), RowError::Modified),
            ((3, 2), first, context(Some(&first)), RowError::Modified),
            ((3, 2), head.mac, context(None), RowError::Modified),
            ((3, 2), head.mac, context(Some(b"short")), RowError::Modified),
            ((4, 1), first, context(None), RowError::Modified),
            ((3, 3), first, context(Some(&head.mac)), RowError::Outside),
            ((3, 0), first, context(None), RowError::Outside),
            ((0, 1), first, context(None), RowError::Outside),
            ((-3, 1), first, context(None), RowError::Outside),
            ((3, 1), first, None, RowError::Outside),
        ] {
            assert_eq!(check(place, Some(&row), &mac, context), Err(why), "{place:?}");
        }
        assert_eq!(check((3, 1), None, &first, context(None)), Err(RowError::Modified));
        let altered = Row { outcome: 200, ..row.clone() };
        assert_eq!(check((3, 1), Some(&altered), &first, context(None)), Err(RowError::Modified));
        let elsewhere = super::check(&[other], (3, 1), Some(&row), &first, context(None).as_ref());
        assert_eq!(elsewhere, Err(RowError::UnknownKey));
    }
}
