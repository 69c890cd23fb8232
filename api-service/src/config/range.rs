//! A check that settings share.

/// Accepts values from `low` to `high`, both included.
pub(crate) fn between<T: PartialOrd + std::fmt::Display>(low: T, high: T) -> impl Fn(&T) -> Result<(), String> {
    move |value| match *value >= low && *value <= high {
        true => Ok(()),
        false => Err(format!("must lie between {low} and {high}")),
    }
}
