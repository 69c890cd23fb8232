//! How many messages a statement covers: fewer while the database is slow.

use std::time::Duration;

use tokio::time::sleep;

use crate::store::StoreError;

/// The minimum.
const MIN_MESSAGES: i64 = 8;
/// Attempts per window while the database is down or slow, and the delay before each.
const MAX_ATTEMPTS: usize = 30;
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// The window of the next statement.
pub(super) struct Window {
    messages: i64,
    max: i64,
    attempts: usize,
}

impl Window {
    /// Begins with the largest window.
    pub(super) fn new(max: i64) -> Self {
        Self { messages: max, max, attempts: 1 }
    }

    pub(super) fn messages(&self) -> i64 {
        self.messages
    }

    /// The next window is larger.
    pub(super) fn succeeded(&mut self) {
        (self.messages, self.attempts) = ((2 * self.messages).min(self.max), 1);
    }

    /// Waits before a smaller window is tried.
    ///
    /// # Errors
    /// The same error, when a smaller window would not help or was tried too often.
    pub(super) async fn failed(&mut self, error: StoreError) -> Result<(), StoreError> {
        if !is_transient(&error) || self.attempts >= MAX_ATTEMPTS {
            return Err(error);
        }
        self.attempts += 1;
        self.messages = (self.messages / 2).max(MIN_MESSAGES);
        sleep(RETRY_DELAY).await;
        Ok(())
    }
}

/// Whether the database was down, slow or contended, so that a smaller window may succeed later.
fn is_transient(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Unavailable(_) | StoreError::TimedOut(_) | StoreError::Locked(_) | StoreError::Contended(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn only_transient_errors_are_retried() {
        type Make = fn(Box<dyn std::error::Error + Send + Sync>) -> StoreError;
        let passing: [Make; 4] =
            [StoreError::Unavailable, StoreError::TimedOut, StoreError::Locked, StoreError::Contended];
        for make in passing {
            assert!(is_transient(&make("slow".into())));
        }
        assert!(!is_transient(&StoreError::internal("refused")) && !is_transient(&StoreError::Unreadable(Uuid::nil())));
    }
}
