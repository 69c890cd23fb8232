//! Pages: their position, and how much content fits.

use super::message::Content;

/// Which page of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PagePosition {
    /// The latest messages.
    Latest,
    /// The messages just before this `seq`.
    Before(i64),
    /// The messages just after this `seq`.
    After(i64),
}

/// Approximate content of a page, as bytes of JSON. The page ends with the message that reaches it, so every page has at least
/// one.
pub const MAX_PAGE_BYTES: usize = 512 * 1024;

/// How many of these contents fit a page of `limit` rows.
pub(crate) fn fitting<'a>(contents: impl Iterator<Item = &'a Content>, limit: usize) -> usize {
    let mut bytes = 0;
    let is_room = |content: &&Content| {
        let is_room = bytes < MAX_PAGE_BYTES;
        bytes += json_bytes(content.as_str());
        is_room
    };
    contents.take(limit).take_while(is_room).count()
}

/// Length of a text as JSON, without its quotes.
fn json_bytes(text: &str) -> usize {
    let of_byte = |byte| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..0x20 => 6,
        _ => 1,
    };
    text.bytes().map(of_byte).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fit(contents: &[Content], limit: usize) -> usize {
        fitting(contents.iter(), limit)
    }

    fn contents(text: &str, count: usize) -> Vec<Content> {
        vec![Content::trusted(text.to_owned()); count]
    }

    #[test]
    fn page_ends_at_limit_or_content_bytes() {
        assert_eq!(fit(&contents("hello", 300), 200), 200);
        assert_eq!(fit(&contents("hello", 3), 200), 3);
        assert_eq!(fit(&[], 200), 0);
        // 32,000 bytes each: the 17th reaches 524,288.
        assert_eq!(fit(&contents(&"\u{1F600}".repeat(8_000), 300), 200), 17);
        // 48,000 bytes of JSON each.
        assert_eq!(fit(&contents(&"\u{1}".repeat(8_000), 300), 200), 11);
        assert_eq!(fit(&contents(&"x".repeat(MAX_PAGE_BYTES * 2), 2), 200), 1, "one is always there");
    }

    proptest! {
        #[test]
        fn json_lengths_match_serde_json(text in "[\\x00-\\x7f\u{e9}\u{1F600}]{0,50}") {
            prop_assert_eq!(json_bytes(&text) + 2, serde_json::to_string(&text).unwrap().len());
        }
    }
}
