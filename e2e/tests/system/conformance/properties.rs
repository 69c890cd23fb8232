//! Properties of every socket, for any input.

use e2e::raw_websocket::{BINARY, FINAL, PING, PONG, RawFrame, RawSocket, TEXT, frame};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::{answers, fragments, no_text, pong, question};
use crate::place;

/// What a client sends, and what it hears then.
type Exchange = (Vec<u8>, Vec<RawFrame>);

/// Something that a client may send.
fn allowed() -> impl Strategy<Value = Exchange> {
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
        let mut received = vec![RawFrame::Pong(b"p".to_vec()); if with_pings { payloads.len() } else { 0 }];
        received.insert(received.len().saturating_sub(1), pong());
        (bytes, received)
    });
    let payload = || prop::collection::vec(any::<u8>(), 0..=125);
    prop_oneof![
        3 => message,
        1 => payload().prop_map(|payload| (frame(FINAL | PING, &payload), vec![RawFrame::Pong(payload)])),
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
            assert!(matches!(socket.next_frame().await, RawFrame::Text(ready) if ready["type"] == "ready"));
            holds(socket, value).await;
        });
        Ok(())
    });
    result.unwrap();
}

#[test]
fn valid_frames_are_answered_in_order_however_split() {
    let values = (prop::collection::vec(allowed(), 0..8), prop::collection::vec(1..200_usize, 1..5));
    of_sockets(60, &values, async |mut socket, (said, cuts): (Vec<Exchange>, Vec<usize>)| {
        let (bytes, received): (Vec<_>, Vec<_>) = said.into_iter().unzip();
        let (bytes, mut pieces, mut cuts) = (bytes.concat(), Vec::new(), cuts.iter().cycle());
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (piece, left) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
            pieces.push(piece.to_vec());
            rest = left;
        }
        assert_eq!(answers(&mut socket, &pieces, false).await, received.concat());
    });
}

#[test]
fn noise_never_hangs_connection() {
    let noise = prop::collection::vec(any::<u8>(), 0..400);
    of_sockets(60, &noise, async |mut socket, mut noise: Vec<u8>| {
        // A frame that breaks the protocol, should the noise happen to be in order or half a frame: at most 64 KiB of it.
        noise.extend(vec![0xff; 70_000]);
        let received = answers(&mut socket, &[noise], true).await;
        let Some(RawFrame::Close(code)) = received.last() else { panic!("{received:?}") };
        assert!(code.is_none_or(|code| [1002, 1007, 1009].contains(&code) || is_echo(code)), "{received:?}");
    });
}

/// Codes that only a client's own close frame brings about.
fn is_echo(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1013 | 3000..=4999)
}
