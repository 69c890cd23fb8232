//! Lengths, masks, Pings and Pongs, reserved bits and kinds.

use e2e::raw_websocket::{BINARY, CLOSE, FINAL, Length, PING, PONG, RawFrame, TEXT, any_frame, frame};

use super::{LIMIT, bytes_of, case, closed, no_frame, no_text, pong, question, question_of, run};

const MASK: [u8; 4] = [1, 2, 3, 4];

#[tokio::test]
async fn frames_of_every_length_are_read() {
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
async fn frames_with_wrong_length_are_rejected() {
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
async fn pings_are_answered_with_pongs() {
    let mut cases = Vec::new();
    for length in [0, 1, 124, 125] {
        let payload = vec![0xa5; length];
        let ping = frame(FINAL | PING, &payload);
        cases.push(case(format!("a Ping of {length}"), vec![ping.clone()], vec![RawFrame::Pong(payload.clone())]));
        cases.push(case(
            format!("a Ping of {length}, byte by byte"),
            bytes_of(&ping),
            vec![RawFrame::Pong(payload.clone())],
        ));
        cases.push(case(format!("an unsolicited Pong of {length}"), vec![frame(FINAL | PONG, &payload)], vec![]));
    }
    for kind in [PING, PONG, CLOSE] {
        let too_long = frame(FINAL | kind, [&1000_u16.to_be_bytes()[..], &[b'x'; 124]].concat());
        cases.push(case(format!("{kind:#x} of 126"), vec![too_long], closed(1002)));
        cases.push(case(format!("{kind:#x} in fragments"), vec![frame(kind, "")], closed(1002)));
        let head = any_frame(FINAL | kind, Some(MASK), Length::Claimed(1 << 40), b"");
        cases.push(case(format!("{kind:#x} of a terabyte"), vec![head], closed(1002)));
    }
    let pings: Vec<u8> = (0..10_u8).flat_map(|number| frame(FINAL | PING, [number])).collect();
    let pongs = (0..10_u8).map(|number| RawFrame::Pong(vec![number])).collect::<Vec<_>>();
    cases.push(case("ten Pings in one write", vec![pings.clone()], pongs.clone()));
    cases.push(case("ten Pings, byte by byte", bytes_of(&pings), pongs));
    run(cases).await;
}

#[tokio::test]
async fn reserved_bits_and_opcodes_are_rejected() {
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
        vec![pong(), RawFrame::Close(Some(1002))],
    ));
    run(cases).await;
}
