//! RFC 6455 as the Autobahn suite asks after it, case by case: framing, control frames, fragments, UTF-8, closing, limits.
//!
//! Each case has a socket of its own. After one that breaks no rule, the socket must still answer.

use std::iter::once;

use e2e::raw::{
    BINARY, CLOSE, CONTINUATION, FINAL, Heard, Length, PING, PONG, RawSocket, TEXT, any_frame, close, frame,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

use crate::place;

/// Largest frame and largest message.
const LIMIT: usize = 64 * 1024;
const MASK: [u8; 4] = [1, 2, 3, 4];

/// What a client sends, each piece by itself, and what it hears.
struct Case {
    name: String,
    pieces: Vec<Vec<u8>>,
    hears: Vec<Heard>,
}

fn case(name: impl Into<String>, pieces: Vec<Vec<u8>>, hears: Vec<Heard>) -> Case {
    Case { name: name.into(), pieces, hears }
}

/// Opens a socket for each case and holds it against what was heard.
async fn run(cases: Vec<Case>) {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let url = format!("{}?{}", place.ws_url, patient.with(&doctor));
    let mut broken = Vec::new();
    for Case { name, pieces, hears } in cases {
        let mut socket = RawSocket::open(&url, &patient.token).await;
        assert!(matches!(socket.hear().await, Heard::Text(ready) if ready["type"] == "ready"), "{name}");
        let heard = answers(&mut socket, &pieces, hears.iter().any(ends)).await;
        if heard != hears {
            broken.push(format!("{name}:\n  expected {hears:?}\n  heard    {heard:?}"));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    // Nobody else has noticed.
    let mut socket = patient.open(&doctor).await;
    let sent = doctor.say(&patient, "goes on").await;
    assert_eq!(socket.expect("message").await["message"], sent);
}

fn ends(heard: &Heard) -> bool {
    matches!(heard, Heard::Close(_) | Heard::End)
}

/// What is said to these pieces: to the end, or up to the answer to a question behind them.
async fn answers(socket: &mut RawSocket, pieces: &[Vec<u8>], to_the_end: bool) -> Vec<Heard> {
    socket.write_pieces(pieces.iter().map(Vec::as_slice)).await;
    if to_the_end {
        return socket.hear_all().await;
    }
    const LAST: &[u8] = b"the last question";
    socket.write(&frame(FINAL | PING, LAST)).await;
    let mut heard = Vec::new();
    loop {
        match socket.hear().await {
            Heard::Pong(payload) if payload == LAST => return heard,
            other => heard.push(other),
        }
        if heard.last().is_some_and(ends) {
            return heard;
        }
    }
}

/// A message that is answered with [`pong`], of this length and of these characters.
fn question(filling: &str) -> Vec<u8> {
    json!({"type": "ping", "x": filling}).to_string().into_bytes()
}

fn question_of(length: usize) -> Vec<u8> {
    question(&"x".repeat(length - question("").len()))
}

fn pong() -> Heard {
    Heard::Text(json!({"type": "pong"}))
}

fn error(code: &str, detail: &str) -> Heard {
    Heard::Text(json!({"type": "error", "code": code, "detail": detail}))
}

fn no_text() -> Heard {
    error("malformed", "frames are JSON text")
}

fn no_frame() -> Heard {
    error("malformed", "a frame is a JSON object with a string `type`")
}

fn closed(code: u16) -> Vec<Heard> {
    vec![Heard::Close(Some(code))]
}

fn bytes_of(frame: &[u8]) -> Vec<Vec<u8>> {
    frame.iter().map(|byte| vec![*byte]).collect()
}

/// A message in fragments of these payloads.
fn fragments<'a>(kind: u8, payloads: impl IntoIterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
    let mut payloads = payloads.into_iter().peekable();
    let (mut frames, mut opcode) = (Vec::new(), kind);
    while let Some(payload) = payloads.next() {
        let last = if payloads.peek().is_none() { FINAL } else { 0 };
        frames.push(frame(last | opcode, payload));
        opcode = CONTINUATION;
    }
    frames
}

#[tokio::test]
async fn frames_of_every_length_and_shape() {
    let mut cases = Vec::new();
    for length in [30, 125, 126, 127, 128, 1_000, 16_384, 65_535, LIMIT] {
        cases.push(case(format!("text of {length}"), vec![frame(FINAL | TEXT, question_of(length))], vec![pong()]));
        cases.push(case(
            format!("binary of {length}"),
            vec![frame(FINAL | BINARY, vec![0xfe; length])],
            vec![no_text()],
        ));
    }
    cases.push(case("an empty text", vec![frame(FINAL | TEXT, "")], vec![no_frame()]));
    cases.push(case("an empty binary", vec![frame(FINAL | BINARY, "")], vec![no_text()]));
    for length in [126, 1_000] {
        let chopped = bytes_of(&frame(FINAL | TEXT, question_of(length)));
        cases.push(case(format!("text of {length}, byte by byte"), chopped, vec![pong()]));
    }
    let long = frame(FINAL | TEXT, question_of(LIMIT));
    for size in [997, 1_448, 4_096, 16_385] {
        let chopped = long.chunks(size).map(<[u8]>::to_vec).collect();
        cases.push(case(format!("64 KiB in writes of {size}"), chopped, vec![pong()]));
    }
    let many = frame(FINAL | TEXT, question("")).repeat(500);
    cases.push(case("500 messages in one write", vec![many], vec![pong(); 500]));
    for mask in [[0; 4], [0xff; 4], [0, 0, 0, 1], MASK] {
        let masked = any_frame(FINAL | TEXT, Some(mask), Length::Least, &question_of(777));
        cases.push(case(format!("masked with {mask:?}"), vec![masked], vec![pong()]));
    }
    run(cases).await;
}

#[tokio::test]
async fn frames_that_are_longer_than_they_say_or_say_it_wrongly() {
    let short = question("");
    let with = |length| vec![any_frame(FINAL | TEXT, Some(MASK), length, &short)];
    let ping = |length| vec![any_frame(FINAL | PING, Some(MASK), length, b"x")];
    let unmasked = |first, payload: &[u8]| vec![any_frame(first, None, Length::Least, payload)];
    run(vec![
        case("a short length in two bytes", with(Length::Two), closed(1002)),
        case("a short length in eight bytes", with(Length::Eight), closed(1002)),
        case(
            "a medium length in eight bytes",
            vec![any_frame(FINAL | TEXT, Some(MASK), Length::Eight, &question_of(1_000))],
            closed(1002),
        ),
        case("a Ping's length in two bytes", ping(Length::Two), closed(1002)),
        case("a Ping's length in eight bytes", ping(Length::Eight), closed(1002)),
        case("a negative length", with(Length::Claimed(1 << 63)), closed(1002)),
        case("all the length there is", with(Length::Claimed(u64::MAX)), closed(1002)),
        case("an exabyte to come", with(Length::Claimed(1 << 60)), closed(1009)),
        case("one byte too many to come", with(Length::Claimed(LIMIT as u64 + 1)), closed(1009)),
        case("an unmasked text", unmasked(FINAL | TEXT, &short), closed(1002)),
        case("an unmasked text of nothing", unmasked(FINAL | TEXT, b""), closed(1002)),
        case("an unmasked Ping", unmasked(FINAL | PING, b"x"), closed(1002)),
        case("an unmasked close", unmasked(FINAL | CLOSE, &1000_u16.to_be_bytes()), closed(1002)),
    ])
    .await;
}

#[tokio::test]
async fn pings_and_pongs() {
    let mut cases = Vec::new();
    for length in [0, 1, 124, 125] {
        let payload = vec![0xa5; length];
        let ping = frame(FINAL | PING, &payload);
        cases.push(case(format!("a Ping of {length}"), vec![ping.clone()], vec![Heard::Pong(payload.clone())]));
        cases.push(case(
            format!("a Ping of {length}, byte by byte"),
            bytes_of(&ping),
            vec![Heard::Pong(payload.clone())],
        ));
        cases.push(case(
            format!("a Pong of {length} that nobody asked for"),
            vec![frame(FINAL | PONG, &payload)],
            vec![],
        ));
    }
    for kind in [PING, PONG, CLOSE] {
        let too_long = frame(FINAL | kind, [&1000_u16.to_be_bytes()[..], &[b'x'; 124]].concat());
        cases.push(case(format!("{kind:#x} of 126"), vec![too_long], closed(1002)));
        cases.push(case(format!("{kind:#x} in fragments"), vec![frame(kind, "")], closed(1002)));
        let head = any_frame(FINAL | kind, Some(MASK), Length::Claimed(1 << 40), b"");
        cases.push(case(format!("{kind:#x} of a terabyte"), vec![head], closed(1002)));
    }
    let pings: Vec<u8> = (0..10_u8).flat_map(|number| frame(FINAL | PING, [number])).collect();
    let pongs = (0..10_u8).map(|number| Heard::Pong(vec![number])).collect::<Vec<_>>();
    cases.push(case("ten Pings in one write", vec![pings.clone()], pongs.clone()));
    cases.push(case("ten Pings, byte by byte", bytes_of(&pings), pongs));
    run(cases).await;
}

#[tokio::test]
async fn reserved_bits_and_kinds() {
    let mut cases = Vec::new();
    for bits in 1..=7_u8 {
        for kind in [TEXT, BINARY, PING, PONG, CLOSE] {
            let reserved = frame(FINAL | (bits << 4) | kind, "");
            cases.push(case(format!("bits {bits:03b} on {kind:#x}"), vec![reserved], closed(1002)));
        }
    }
    for kind in (0x3..=0x7).chain(0xb..=0xf) {
        for payload in [&b""[..], b"x"] {
            let unknown = vec![frame(FINAL | kind, payload)];
            cases.push(case(format!("kind {kind:#x} with {} bytes", payload.len()), unknown, closed(1002)));
        }
    }
    let behind = [frame(FINAL | TEXT, question("")), frame(FINAL | 0x3, ""), frame(FINAL | PING, "x")].concat();
    cases.push(case(
        "what is before it is answered, what is behind it is not",
        vec![behind],
        vec![pong(), Heard::Close(Some(1002))],
    ));
    run(cases).await;
}

#[tokio::test]
async fn fragments_and_what_comes_between_them() {
    let whole = question("in fragments");
    let (one, two) = whole.split_at(9);
    let text = |last: u8, payload: &[u8]| frame(last | TEXT, payload);
    let rest = |last: u8, payload: &[u8]| frame(last | CONTINUATION, payload);
    let ping = || frame(FINAL | PING, "between");
    let between = || Heard::Pong(b"between".to_vec());
    let tiny = fragments(TEXT, whole.chunks(1));
    let large = question_of(10_000);
    run(vec![
        case("two fragments", vec![text(0, one), rest(FINAL, two)], vec![pong()]),
        case("two fragments in one write", vec![[text(0, one), rest(FINAL, two)].concat()], vec![pong()]),
        case("fragments of a byte", tiny.clone(), vec![pong()]),
        case("fragments of a byte, byte by byte", bytes_of(&tiny.concat()), vec![pong()]),
        case("ten thousand fragments of a byte", vec![fragments(TEXT, large.chunks(1)).concat()], vec![pong()]),
        case("empty fragments", vec![text(0, b""), rest(0, &whole), rest(0, b""), rest(FINAL, b"")], vec![pong()]),
        case("nothing but empty fragments", vec![text(0, b""), rest(0, b""), rest(FINAL, b"")], vec![no_frame()]),
        case("binary fragments", fragments(BINARY, [&b"\xff"[..], b"\xfe"]), vec![no_text()]),
        case("a Ping between", vec![text(0, one), ping(), rest(FINAL, two)], vec![between(), pong()]),
        case("a Pong between", vec![text(0, one), frame(FINAL | PONG, "?"), rest(FINAL, two)], vec![pong()]),
        case("Pings between all", tiny.iter().flat_map(|part| [part.clone(), ping()]).collect(), {
            let mut heard = vec![between(); whole.len()];
            heard.insert(whole.len() - 1, pong());
            heard
        }),
        case("a close between", vec![text(0, one), close(1000, b"")], closed(1000)),
        case(
            "two messages in fragments",
            [fragments(TEXT, [one, two]), fragments(TEXT, [one, two])].concat(),
            vec![pong(), pong()],
        ),
        case("the rest of nothing", vec![rest(FINAL, &whole)], closed(1002)),
        case("the beginning of the rest of nothing", vec![rest(0, &whole)], closed(1002)),
        case(
            "the rest of nothing after a message",
            vec![text(FINAL, &whole), rest(FINAL, b"")],
            vec![pong(), Heard::Close(Some(1002))],
        ),
        case("a text within a text", vec![text(0, one), text(FINAL, &whole)], closed(1002)),
        case("a binary within a text", vec![text(0, one), frame(FINAL | BINARY, "x")], closed(1002)),
        case("a beginning within a text", vec![text(0, one), text(0, two)], closed(1002)),
        case("a rest with reserved bits", vec![text(0, one), rest(FINAL | 0x40, two)], closed(1002)),
    ])
    .await;
}

/// Text that is none, and why.
const NO_UTF_8: [(&str, &[u8]); 18] = [
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
async fn text_is_utf_8() {
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
        cases.push(case(format!("{why} in a Ping"), vec![frame(FINAL | PING, bad)], vec![Heard::Pong(bad.to_vec())]));
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

#[tokio::test]
async fn closing() {
    let mut cases = vec![
        case("no code", vec![frame(FINAL | CLOSE, "")], vec![Heard::Close(None)]),
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
            vec![pong(), Heard::Close(Some(1000))],
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

#[tokio::test]
async fn limits_hold_for_frames_and_for_messages() {
    let head = |kind, length| any_frame(FINAL | kind, Some(MASK), Length::Claimed(length as u64), b"");
    let most = question_of(LIMIT);
    let many = |length: usize, size: usize| vec![fragments(TEXT, question_of(length).chunks(size)).concat()];
    let endless: Vec<Vec<u8>> =
        once(frame(TEXT, "x")).chain((0..80).map(|_| frame(CONTINUATION, [b'x'; 1_000]))).collect();
    run(vec![
        case("64 KiB in fragments of 100", many(LIMIT, 100), vec![pong()]),
        case("64 KiB in two fragments", many(LIMIT, LIMIT / 2), vec![pong()]),
        case("64 KiB and a byte in fragments of 100", many(LIMIT + 1, 100), closed(1009)),
        case("64 KiB and a byte in two fragments", many(LIMIT + 1, LIMIT / 2 + 1), closed(1009)),
        case("64 KiB and a byte in one frame", vec![frame(FINAL | TEXT, question_of(LIMIT + 1))], closed(1009)),
        case("the head of a large text is enough", vec![head(TEXT, 10_000_000)], closed(1009)),
        case("the head of a large binary is enough", vec![head(BINARY, 10_000_000)], closed(1009)),
        case("a message that never ends", endless, closed(1009)),
        case(
            "as much as is allowed, twice",
            vec![frame(FINAL | TEXT, &most), frame(FINAL | TEXT, &most)],
            vec![pong(), pong()],
        ),
    ])
    .await;
}

/// Something that a client may send, and what it hears.
fn allowed() -> impl Strategy<Value = (Vec<u8>, Vec<Heard>)> {
    let cuts = prop::collection::vec(1..40_usize, 1..4);
    let message = ("\\PC{0,60}", cuts, any::<bool>()).prop_map(|(filling, cuts, with_pings)| {
        let whole = question(&filling);
        let (mut rest, mut payloads, mut cuts) = (&whole[..], Vec::new(), cuts.iter().cycle());
        while !rest.is_empty() {
            let (payload, left) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
            payloads.push(payload);
            rest = left;
        }
        let between = if with_pings { frame(FINAL | PING, "p") } else { vec![] };
        let mut bytes = fragments(TEXT, payloads.iter().copied()).join(&between[..]);
        bytes.extend(&between);
        let mut heard = vec![Heard::Pong(b"p".to_vec()); if with_pings { payloads.len() } else { 0 }];
        heard.insert(heard.len().saturating_sub(1), pong());
        (bytes, heard)
    });
    let payload = || prop::collection::vec(any::<u8>(), 0..=125);
    prop_oneof![
        3 => message,
        1 => payload().prop_map(|payload| (frame(FINAL | PING, &payload), vec![Heard::Pong(payload)])),
        1 => payload().prop_map(|payload| (frame(FINAL | PONG, &payload), vec![])),
        1 => payload().prop_map(|payload| (frame(FINAL | BINARY, &payload), vec![no_text()])),
    ]
}

/// A property of a socket, tried with `cases` values on a socket of its own each.
fn of_sockets<S: Strategy>(cases: u32, values: &S, holds: impl AsyncFn(RawSocket, S::Value)) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let url = format!("{}?{}", place.ws_url, patient.with(&doctor));
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(cases) });
    let result = runner.run(values, |value| {
        runtime.block_on(async {
            let mut socket = RawSocket::open(&url, &patient.token).await;
            assert!(matches!(socket.hear().await, Heard::Text(ready) if ready["type"] == "ready"));
            holds(socket, value).await;
        });
        Ok(())
    });
    result.unwrap();
}

#[test]
fn whatever_is_allowed_is_answered_in_order_however_it_is_cut() {
    let values = (prop::collection::vec(allowed(), 0..8), prop::collection::vec(1..200_usize, 1..5));
    of_sockets(60, &values, async |mut socket, (said, cuts): (Vec<(Vec<u8>, Vec<Heard>)>, Vec<usize>)| {
        let (bytes, heard): (Vec<_>, Vec<_>) = said.into_iter().unzip();
        let (bytes, mut pieces, mut cuts) = (bytes.concat(), Vec::new(), cuts.iter().cycle());
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (piece, left) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
            pieces.push(piece.to_vec());
            rest = left;
        }
        assert_eq!(answers(&mut socket, &pieces, false).await, heard.concat());
    });
}

#[test]
fn noise_is_refused_or_taken_but_never_hangs() {
    let noise = prop::collection::vec(any::<u8>(), 0..400);
    of_sockets(60, &noise, async |mut socket, mut noise: Vec<u8>| {
        // A frame that breaks the protocol, should the noise happen to be in order or half a frame: at most 64 KiB of it.
        noise.extend(vec![0xff; 70_000]);
        let heard = answers(&mut socket, &[noise], true).await;
        let Some(Heard::Close(code)) = heard.last() else { panic!("{heard:?}") };
        assert!(code.is_none_or(|code| [1002, 1007, 1009].contains(&code) || is_echo(code)), "{heard:?}");
    });
}

/// Codes that only a client's own close frame brings about.
fn is_echo(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1013 | 3000..=4999)
}
