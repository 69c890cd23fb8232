//! Detects texts that show nothing: spaces and invisible characters only.

use icu_properties::CodePointSetData;
use icu_properties::props::DefaultIgnorableCodePoint;

/// Whether every character is `White_Space` or `Default_Ignorable_Code_Point` of the Unicode Character Database.
pub(crate) fn is_blank(text: &str) -> bool {
    text.chars().all(|c| c.is_whitespace() || is_default_ignorable(c))
}

fn is_default_ignorable(c: char) -> bool {
    CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invisible_text_is_blank() {
        for c in [
            ' ',
            '\t',
            '\n',
            '\r',
            '\u{B}',
            '\u{85}',
            '\u{A0}',
            '\u{1680}',
            '\u{2003}',
            '\u{2028}',
            '\u{202F}',
            '\u{205F}',
            '\u{3000}',
            '\u{AD}',
            '\u{34F}',
            '\u{61C}',
            '\u{115F}',
            '\u{1160}',
            '\u{17B4}',
            '\u{180B}',
            '\u{180E}',
            '\u{180F}',
            '\u{200B}',
            '\u{200D}',
            '\u{200F}',
            '\u{202A}',
            '\u{202E}',
            '\u{2060}',
            '\u{2065}',
            '\u{206F}',
            '\u{3164}',
            '\u{FE00}',
            '\u{FE0F}',
            '\u{FEFF}',
            '\u{FFA0}',
            '\u{FFF0}',
            '\u{1BCA0}',
            '\u{1D173}',
            '\u{E0001}',
            '\u{E0100}',
            '\u{E0FFF}',
        ] {
            assert!(is_blank(&c.to_string()), "U+{:04X}", u32::from(c));
            assert!(!is_blank(&format!("{c}a{c}")), "U+{:04X}", u32::from(c));
        }
        assert!(is_blank("") && is_blank(" \u{200B}\u{3164}\n\u{FE0F}"));
    }

    #[test]
    fn visible_text_is_not_blank() {
        for text in [
            "a",
            ".",
            "0",
            "👍",
            "❤\u{FE0F}",
            "\u{1F468}\u{200D}\u{1F469}",
            "ㅤa",
            "한",
            "\u{2800}",
            "\u{E000}",
            "\u{301}",
            "\u{FFFD}",
            "\u{FFFC}",
            "\u{1}",
            "\u{7F}",
            "\u{FFF9}",
            "\u{2069}x",
            "\u{1161}",
            "\u{180A}",
            "\u{E1000}",
        ] {
            assert!(!is_blank(text), "{text:?}");
        }
    }

    /// The size of the property in Unicode 6.3 to 17.
    #[test]
    fn ignorable_list_has_size_of_property() {
        let count = ('\0'..=char::MAX).filter(|c| is_default_ignorable(*c)).count();
        assert_eq!(count, 4174);
    }
}
