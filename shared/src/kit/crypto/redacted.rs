//! Values that never appear in logs: message content and structures that hold it. [`crate::kit::env::Secret`] does the same for
//! settings.

use std::fmt;

/// A value whose `Debug` is `[redacted]`, so that no log line, error or failed assertion of a service can hold it.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Redacted<T>(T);

impl<T> Redacted<T> {
    /// Hides a value.
    #[must_use]
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value. Ask for it only where it is used.
    #[must_use]
    pub fn expose(&self) -> &T {
        &self.0
    }

    /// The value, to be changed.
    pub fn expose_mut(&mut self) -> &mut T {
        &mut self.0
    }

    /// The value, out of hiding.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> From<T> for Redacted<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T> fmt::Debug for Redacted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redacted_value_is_hidden_in_debug_output() {
        let value = Redacted::new("hello".to_owned());
        assert_eq!(format!("{value:?} {:#?}", Some(&value)), "[redacted] Some(\n    [redacted],\n)");
        assert_eq!(value.expose(), "hello");
        assert_eq!(value.into_inner(), "hello");
    }
}
