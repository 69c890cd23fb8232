//! Text is UTF-8, however it is cut, and what is none is refused at once.

use e2e::raw_websocket::{BINARY, CONTINUATION, FINAL, PING, RawFrame, TEXT, frame};

use super::{bytes_of, case, closed, fragments, no_text, pong, question, run};

/// Text that is none, and why.
pub(super) const NO_UTF_8: [(&str, &[u8]); 18] = [
    ("a continuation byte alone", b"\x80"),
    ("the last continuation byte alone", b"\xbf"),
    ("many continuation bytes", b"\x80\xbf\x80\xbf"),
    ("a lead byte before ASCII", b"\xc3("),
    ("a lead byte before a lead byte", b"\xc3\xc3"),
    ("two of three bytes before ASCII", b"\xe2\x82("),
    ("three of four bytes before ASCII", b"\xf0\x9f\x98("),
    ("an overlong slash in two bytes", b"\xc0\xaf"),
    ("an overlong slash in three bytes", b"\xe0\x80\xaf"),
    ("an overlong slash in four bytes", b"\xf0\x80\x80\xaf"),
    ("an overlong NUL", b"\xc0\x80"),
    ("the largest overlong of two bytes", b"\xc1\xbf"),
    ("the first surrogate", b"\xed\xa0\x80"),
    ("the last surrogate", b"\xed\xbf\xbf"),
    ("a pair of surrogates", b"\xed\xa0\xbd\xed\xb8\x80"),
    ("past the last code point", b"\xf4\x90\x80\x80"),
    ("five bytes", b"\xf8\x88\x80\x80\x80"),
    ("0xff", b"\xff"),
];

/// Text that is some, at the edges of what each number of bytes can say.
const UTF_8: [&str; 9] = [
    "κόσμε",
    "\u{7f}\u{80}",
    "\u{7ff}\u{800}",
    "\u{d7ff}\u{e000}",
    "\u{fffd}",
    "\u{ffff}\u{10000}",
    "\u{10ffff}",
    "😀",
    "\u{feff}",
];

#[tokio::test]
async fn text_must_be_utf_8() {
    let mut cases = Vec::new();
    for text in UTF_8 {
        let whole = question(text);
        cases.push(case(format!("{text:?}"), vec![frame(FINAL | TEXT, &whole)], vec![pong()]));
        cases.push(case(format!("{text:?} in fragments of a byte"), fragments(TEXT, whole.chunks(1)), vec![pong()]));
        cases.push(case(format!("{text:?}, byte by byte"), bytes_of(&frame(FINAL | TEXT, &whole)), vec![pong()]));
    }
    for (why, bad) in NO_UTF_8 {
        let whole = [b"{\"type\":\"ping\",\"x\":\"", bad, b"\"}"].concat();
        cases.push(case(why, vec![frame(FINAL | TEXT, &whole)], closed(1007)));
        cases.push(case(format!("{why} in fragments of a byte"), fragments(TEXT, whole.chunks(1)), closed(1007)));
        // The message has no end, and the socket no more patience.
        cases.push(case(format!("{why} in a beginning"), vec![frame(TEXT, &whole)], closed(1007)));
        let rest = vec![frame(TEXT, "{"), frame(CONTINUATION, bad), frame(CONTINUATION, "x")];
        cases.push(case(format!("{why} in a middle"), rest, closed(1007)));
        cases.push(case(format!("{why} in binary"), vec![frame(FINAL | BINARY, bad)], vec![no_text()]));
        cases.push(case(
            format!("{why} in a Ping"),
            vec![frame(FINAL | PING, bad)],
            vec![RawFrame::Pong(bad.to_vec())],
        ));
    }
    for half in [&b"\xc3"[..], b"\xe2\x82", b"\xf0\x9f\x98"] {
        let name = format!("{} bytes of a character at the end", half.len());
        cases.push(case(format!("{name} of a message"), vec![frame(FINAL | TEXT, half)], closed(1007)));
        cases.push(case(format!("{name} of fragments"), fragments(TEXT, [&b"x"[..], half]), closed(1007)));
        cases.push(case(
            format!("{name} of a fragment before an empty one"),
            fragments(TEXT, [half, b""]),
            closed(1007),
        ));
    }
    run(cases).await;
}
