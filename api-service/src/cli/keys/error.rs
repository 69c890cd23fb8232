//! What prevents a `keys` command, in words for operators.

use crate::cli::error::CommandError;
use crate::store::{RewrapReport, RunningServicesError, StoreError};

/// Shows what prevents the command without the wording of an internal error.
pub(super) fn explain(error: StoreError) -> CommandError {
    match error {
        StoreError::Internal(cause) if cause.is::<RunningServicesError>() => cause,
        error => error.into(),
    }
}

/// Fails with a list of the data keys that were skipped, if any.
pub(super) fn reject_unopened(wrapped: &RewrapReport) -> Result<(), CommandError> {
    let skipped = &wrapped.skipped;
    if skipped.is_empty() {
        return Ok(());
    }
    skipped.iter().for_each(|key| println!("{key}: does not open, left unchanged"));
    let count = skipped.len();
    Err(format!(
        "{count} data keys do not open: their rows were altered; restore them from a backup, then run this again"
    )
    .into())
}
