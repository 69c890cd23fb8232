//! RFC 6455 as the Autobahn suite asks after it, case by case: framing, control frames, fragments, UTF-8, closing, limits.
//!
//! Each case has a socket of its own. After one that breaks no rule, the socket must still answer.

mod closing;
mod fragments;
mod framing;
mod properties;
mod text;

use e2e::raw_websocket::{CONTINUATION, FINAL, PING, RawFrame, RawSocket, frame};
use serde_json::json;

use crate::place;

/// Largest frame and largest message.
const LIMIT: usize = 64 * 1024;

/// What a client sends, each piece by itself, and what it hears.
struct Case {
    name: String,
    pieces: Vec<Vec<u8>>,
    hears: Vec<RawFrame>,
}

fn case(name: impl Into<String>, pieces: Vec<Vec<u8>>, hears: Vec<RawFrame>) -> Case {
    Case { name: name.into(), pieces, hears }
}

/// Opens a socket for each case and compares it with the frames that came.
async fn run(cases: Vec<Case>) {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let url = format!("{}?{}", place.ws_url, patient.with(&doctor));
    let mut broken = Vec::new();
    for Case { name, pieces, hears } in cases {
        let mut socket = RawSocket::open(&url, &patient.token).await;
        assert!(matches!(socket.next_frame().await, RawFrame::Text(ready) if ready["type"] == "ready"), "{name}");
        let received = answers(&mut socket, &pieces, hears.iter().any(ends)).await;
        if received != hears {
            broken.push(format!("{name}:\n  expected {hears:?}\n  received {received:?}"));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    // No other client has noticed.
    let mut socket = patient.open(&doctor).await;
    let sent = doctor.send_ok(&patient, "goes on").await;
    assert_eq!(socket.expect("message").await["message"], sent);
}

fn ends(received: &RawFrame) -> bool {
    matches!(received, RawFrame::Close(_) | RawFrame::End)
}

/// What is said to these pieces: to the end, or up to the answer to a question behind them.
async fn answers(socket: &mut RawSocket, pieces: &[Vec<u8>], to_the_end: bool) -> Vec<RawFrame> {
    socket.write_pieces(pieces.iter().map(Vec::as_slice)).await;
    if to_the_end {
        return socket.read_to_end().await;
    }
    const LAST: &[u8] = b"the last question";
    socket.write(&frame(FINAL | PING, LAST)).await;
    let mut received = Vec::new();
    loop {
        match socket.next_frame().await {
            RawFrame::Pong(payload) if payload == LAST => return received,
            other => received.push(other),
        }
        if received.last().is_some_and(ends) {
            return received;
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

fn pong() -> RawFrame {
    RawFrame::Text(json!({"type": "pong"}))
}

fn error(cause: &str, detail: &str) -> RawFrame {
    RawFrame::Text(json!({"type": "error", "code": cause, "cause": cause, "detail": detail}))
}

fn no_text() -> RawFrame {
    error("malformed", "A frame is JSON text, not binary. Send text frames.")
}

fn no_frame() -> RawFrame {
    error("malformed", "A frame is a JSON object with a string `type`, and no key twice.")
}

fn closed(code: u16) -> Vec<RawFrame> {
    vec![RawFrame::Close(Some(code))]
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
