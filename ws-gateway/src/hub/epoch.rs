//! Tells whether events may have been lost between two moments.

/// Incremented whenever events may have been lost. A position that was read under one epoch is worthless under the
/// next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Epoch(pub(super) u64);
