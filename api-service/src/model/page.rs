//! How much fits a page: as many rows as were asked for, and no more content than an answer may hold.

use super::message::Content;

/// Where a page lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PagePosition {
    /// The newest messages.
    Latest,
    /// The messages next to, and before, this `seq`.
    Before(i64),
    /// The messages next to, and after, this `seq`.
    After(i64),
}

/// About how many bytes of content, as JSON, a page has at most. It ends behind the first message that reaches them, so that
/// every page has one.
pub const MAX_PAGE_BYTES: usize = 512 * 1024;

/// How many of these contents a page of `limit` rows has.
pub(crate) fn fitting<'a>(contents: impl Iterator<Item = &'a Content>, limit: usize) -> usize {
    let mut bytes = 0;
    let is_room = |content: &&Content| {
        let is_room = bytes < MAX_PAGE_BYTES;
        bytes += json_bytes(content.as_str());
        is_room
    };
    contents.take(limit).take_while(is_room).count()
}

/// How long a text is in JSON, without its quotes.
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
    fn a_page_ends_with_its_limit_or_with_its_content() {
        assert_eq!(fit(&contents("hello", 300), 200), 200);
        assert_eq!(fit(&contents("hello", 3), 200), 3);
        assert_eq!(fit(&[], 200), 0);
        // 32,000 bytes each: 17 are the first to reach 524,288.
        assert_eq!(fit(&contents(&"\u{1F600}".repeat(8_000), 300), 200), 17);
        // 48,000 bytes of JSON each.
        assert_eq!(fit(&contents(&"\u{1}".repeat(8_000), 300), 200), 11);
        assert_eq!(fit(&contents(&"x".repeat(MAX_PAGE_BYTES * 2), 2), 200), 1, "one is always there");
    }

    proptest! {
        #[test]
        fn lengths_are_those_of_serde_json(text in "[\\x00-\\x7f\u{e9}\u{1F600}]{0,50}") {
            prop_assert_eq!(json_bytes(&text) + 2, serde_json::to_string(&text).unwrap().len());
        }
    }
}
