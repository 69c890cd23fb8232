//! Close frames: codes, reasons, and what comes behind them.

use std::iter::once;

use e2e::raw_websocket::{CLOSE, FINAL, PING, RawFrame, TEXT, close, frame};

use super::text::NO_UTF_8;
use super::{bytes_of, case, closed, pong, question, run};

#[tokio::test]
async fn closing_handshake_follows_rfc_6455() {
    let mut cases = vec![
        case("no code", vec![frame(FINAL | CLOSE, "")], vec![RawFrame::Close(None)]),
        case("half a code", vec![frame(FINAL | CLOSE, b"\x03")], closed(1002)),
        case("a reason of 123 bytes", vec![close(1000, &[b'x'; 123])], closed(1000)),
        case("a reason in Greek", vec![close(1000, "κόσμε".as_bytes())], closed(1000)),
        case("byte by byte", bytes_of(&close(1000, b"bye")), closed(1000)),
        case("twice", vec![[close(1000, b""), close(1001, b"")].concat()], closed(1000)),
        case("a Ping behind it", vec![[close(1000, b""), frame(FINAL | PING, "x")].concat()], closed(1000)),
        case("a text behind it", vec![[close(1000, b""), frame(FINAL | TEXT, question(""))].concat()], closed(1000)),
        case("a broken frame behind it", vec![[close(1000, b""), frame(FINAL | 0x7, "")].concat()], closed(1000)),
        case("noise behind it", vec![close(1000, b""), vec![0xff; 100_000]], closed(1000)),
        case(
            "a message before it",
            vec![[frame(FINAL | TEXT, question("")), close(1000, b"")].concat()],
            vec![pong(), RawFrame::Close(Some(1000))],
        ),
    ];
    for code in (1000..=1003).chain(1007..=1013).chain([3000, 3999, 4000, 4401, 4999]) {
        cases.push(case(format!("{code}"), vec![close(code, b"bye")], closed(code)));
    }
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        cases.push(case(format!("{code}, which may not be sent"), vec![close(code, b"")], closed(1002)));
    }
    for (why, bad) in NO_UTF_8.into_iter().chain(once(("half a character", &b"\xf0\x9f"[..]))) {
        cases.push(case(format!("a reason with {why}"), vec![close(1000, bad)], closed(1007)));
    }
    run(cases).await;
}
