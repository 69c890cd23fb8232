//! What people write: words of made-up length in lines of made-up length, enough to be stored like prose.

use crate::shape::{mix, normal};

/// Median length of a message in characters, and sigma of the log-normal distribution round it: the mean is 150.
const MEDIAN: f64 = 125.0;
const SIGMA: f64 = 0.6;
/// Longest that the API takes.
const MAX_CHARS: usize = 8_000;
const WORDS: [&str; 32] = [
    "the",
    "results",
    "of",
    "your",
    "blood",
    "test",
    "are",
    "back",
    "and",
    "look",
    "good",
    "please",
    "come",
    "to",
    "ward",
    "at",
    "nine",
    "tomorrow",
    "bring",
    "list",
    "medication",
    "thank",
    "you",
    "doctor",
    "I",
    "feel",
    "better",
    "since",
    "dose",
    "was",
    "changed",
    "Monday",
];

/// A store of prose, of which every message is a part.
pub(crate) struct Prose {
    text: String,
    lengths: Vec<usize>,
}

impl Prose {
    pub(crate) fn new() -> Self {
        let words: Vec<_> = (0..40_000).map(|place| WORDS[(mix(place) % 32) as usize]).collect();
        let length = |noise| (MEDIAN * (SIGMA * normal(mix(noise))).exp()).clamp(1.0, MAX_CHARS as f64) as usize;
        Self { text: words.join(" "), lengths: (0..4_096).map(length).collect() }
    }

    /// A message's content, by its noise.
    pub(crate) fn content(&self, noise: u64) -> &str {
        let length = self.lengths[(noise % 4_096) as usize];
        let start = (noise >> 12) as usize % (self.text.len() - MAX_CHARS);
        &self.text[start..start + length]
    }
}
