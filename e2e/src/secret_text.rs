//! Texts that may occur in messages only.

use uuid::Uuid;

/// In every text that must not show up outside a message.
pub const SECRET_MARK: &str = "PHI-";

/// A text that occurs nowhere else, and that no log and no error may hold.
#[must_use]
pub fn secret_text() -> String {
    format!("{SECRET_MARK}{}", Uuid::now_v7().simple())
}
