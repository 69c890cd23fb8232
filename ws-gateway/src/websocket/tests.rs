use std::io::{self, Cursor, Read, Write};

use proptest::prelude::*;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, WebSocket};

use super::*;

const LIMIT: usize = 70_000;

/// A decoded frame, as a value.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Decoded {
    Text(String),
    Binary,
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
    Error(ReadError),
}

impl From<ReadError> for Decoded {
    fn from(error: ReadError) -> Self {
        Self::Error(error)
    }
}

/// Reads these pieces, up to a close frame or an error.
fn ours(pieces: &[Vec<u8>]) -> (Vec<Decoded>, Engine) {
    let (mut engine, mut read) = (Engine::default(), Vec::new());
    for piece in pieces {
        let result = engine.read(piece, LIMIT, |frame| {
            read.push(match frame {
                Frame::Text(text) => Decoded::Text(text.to_owned()),
                Frame::Binary => Decoded::Binary,
                Frame::Ping { pong } => {
                    assert_eq!(pong[..2], [0x8a, (pong.len() - 2) as u8]);
                    Decoded::Ping(pong[2..].to_vec())
                }
                Frame::Pong(payload) => Decoded::Pong(payload.to_vec()),
                // The library does not report fragments.
                Frame::Fragment { .. } => return Ok(()),
                Frame::Close(code) => return Err(Decoded::Close(code)),
            });
            Ok(())
        });
        if let Err(last) = result {
            read.push(last);
            break;
        }
    }
    (read, engine)
}

/// A connection with these bytes to read, which accepts any write.
struct Line(Cursor<Vec<u8>>);

impl Read for Line {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            read => Ok(read),
        }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The same bytes, decoded by the library.
fn theirs(role: Role, bytes: Vec<u8>) -> Vec<Decoded> {
    let config = WebSocketConfig::default().max_message_size(Some(LIMIT)).max_frame_size(Some(LIMIT));
    let mut socket = WebSocket::from_raw_socket(Line(Cursor::new(bytes)), role, Some(config));
    let mut read = Vec::new();
    loop {
        match socket.read() {
            Ok(Message::Text(text)) => read.push(Decoded::Text(text.to_string())),
            Ok(Message::Binary(_)) => read.push(Decoded::Binary),
            Ok(Message::Ping(payload)) => read.push(Decoded::Ping(payload.to_vec())),
            Ok(Message::Pong(payload)) => read.push(Decoded::Pong(payload.to_vec())),
            Ok(Message::Close(frame)) => {
                read.push(Decoded::Close(frame.map(|frame| frame.code.into())));
                return read;
            }
            Ok(Message::Frame(_)) => unreachable!("never read"),
            Err(Error::Io(_)) => return read,
            Err(Error::Utf8(_)) => read.push(Decoded::Error(ReadError::NotUtf8)),
            Err(Error::Capacity(_)) => read.push(Decoded::Error(ReadError::TooLarge)),
            Err(Error::Protocol(_)) => read.push(Decoded::Error(ReadError::Protocol)),
            Err(error) => panic!("{error}"),
        }
        if matches!(read.last(), Some(Decoded::Error(_))) {
            return read;
        }
    }
}

/// A client frame, valid or not.
fn client_frame(first: u8, mask: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
    let (mut frame, length) = match payload.len() {
        0..=125 => (vec![first, payload.len() as u8], vec![]),
        126..=0xffff => (vec![first, 126], (payload.len() as u16).to_be_bytes().to_vec()),
        _ => (vec![first, 127], (payload.len() as u64).to_be_bytes().to_vec()),
    };
    frame.extend(length);
    if let Some(mask) = mask {
        frame[1] |= 0x80;
        frame.extend(mask);
    }
    let mask = mask.unwrap_or_default();
    frame.extend(payload.iter().enumerate().map(|(n, byte)| byte ^ mask[n % 4]));
    frame
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => "\\PC{0,60}".prop_map(String::into_bytes),
        2 => prop_oneof![Just(125), Just(126), Just(127), Just(0xffff), Just(0x10000), Just(LIMIT), Just(LIMIT + 1)]
            .prop_map(|length| vec![b'x'; length]),
        1 => prop::collection::vec(any::<u8>(), 0..10),
        1 => Just([&3000_u16.to_be_bytes()[..], b"bye"].concat()),
    ]
}

fn client_frames() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        8 => prop_oneof![Just(0x81_u8), Just(0x82), Just(0x89), Just(0x8a)],
        4 => prop_oneof![Just(0x01_u8), Just(0x02), Just(0x00), Just(0x80)],
        1 => Just(0x88_u8),
        1 => any::<u8>(),
    ];
    let mask = prop_oneof![30 => any::<[u8; 4]>().prop_map(Some), 1 => Just(None)];
    let frame = (first, mask, payload()).prop_map(|(first, mask, payload)| client_frame(first, mask, &payload));
    prop::collection::vec(frame, 0..8).prop_map(|frames| frames.concat())
}

/// Splits bytes into pieces of these lengths.
fn cut(bytes: &[u8], lengths: &[usize]) -> Vec<Vec<u8>> {
    let (mut rest, mut pieces, mut lengths) = (bytes, Vec::new(), lengths.iter().cycle());
    while !rest.is_empty() {
        let (piece, left) = rest.split_at((*lengths.next().unwrap()).min(rest.len()));
        pieces.push(piece.to_vec());
        rest = left;
    }
    pieces
}

proptest! {
    #[test]
    fn engine_agrees_with_library_on_client_frames(bytes in client_frames(), lengths in prop::collection::vec(1..20_000_usize, 1..5)) {
        let (read, _) = ours(&cut(&bytes, &lengths));
        let mut expected = theirs(Role::Server, bytes);
        // The library alone reports a bad close code or header later, or as another error. Both reject it.
        if let (Some(Decoded::Error(error)), Some(Decoded::Error(_) | Decoded::Close(_))) = (read.last(), expected.last()) {
            let last = expected.pop();
            prop_assert_eq!(&read[..read.len() - 1], &expected[..]);
            // Text is judged by the library.
            prop_assert!(*error != ReadError::NotUtf8 || last == Some(Decoded::Error(ReadError::NotUtf8)), "{:?}", last);
        } else {
            prop_assert_eq!(read, expected);
        }
    }

    #[test]
    fn reader_never_panics_on_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300), lengths in prop::collection::vec(1..50_usize, 1..5)) {
        let _ = ours(&cut(&bytes, &lengths));
    }

    #[test]
    fn frames_are_the_same_however_split(bytes in prop_oneof![client_frames(), prop::collection::vec(any::<u8>(), 0..300)], lengths in prop::collection::vec(1..20_000_usize, 1..5)) {
        let whole = ours(std::slice::from_ref(&bytes)).0;
        prop_assert_eq!(ours(&cut(&bytes, &lengths)).0, whole.clone());
        if bytes.len() < 5_000 {
            prop_assert_eq!(ours(&cut(&bytes, &[1])).0, whole);
        }
    }

    #[test]
    fn library_decodes_encoded_frames(words in prop::collection::vec("\\PC{0,200}", 0..5), long in prop_oneof![Just(125_usize), Just(126), Just(0xffff), Just(0x10000)], code in 3000..5000_u16) {
        let (mut out, mut expected, mut engine) = (Vec::new(), Vec::new(), Engine::default());
        let long = "x".repeat(long);
        for word in words.iter().chain([&long]) {
            text(&mut out, word);
            expected.push(Decoded::Text(word.clone()));
            let payload = &word.as_bytes()[..word.len().min(125)];
            ping(&mut out, payload);
            out.extend(pong(&mut engine, payload));
            expected.extend([Decoded::Ping(payload.to_vec()), Decoded::Pong(payload.to_vec())]);
            let frame = text_frame(word);
            prop_assert_eq!(frame.len(), frame.capacity());
            out.extend(frame);
            expected.push(Decoded::Text(word.clone()));
        }
        engine.close(Some(code), "bye", LIMIT, &mut out);
        expected.push(Decoded::Close(Some(code)));
        prop_assert_eq!(theirs(Role::Client, out), expected);
    }
}

/// The answer to a Ping.
fn pong(engine: &mut Engine, payload: &[u8]) -> Vec<u8> {
    let mut answer = Vec::new();
    let read = engine.read(&client_frame(0x89, Some([6; 4]), payload), LIMIT, |frame| {
        let Frame::Ping { pong } = frame else { panic!("a Ping is a Ping") };
        answer.extend_from_slice(pong);
        Ok::<_, ReadError>(())
    });
    assert_eq!(read, Ok(()));
    answer
}

/// The close frame of a socket that reads these pieces and then closes.
fn closed(pieces: &[Vec<u8>], code: Option<u16>, reason: &'static str) -> Vec<u8> {
    let (_, mut engine) = ours(pieces);
    let mut out = Vec::new();
    engine.close(code, reason, LIMIT, &mut out);
    out
}

#[test]
fn engine_keeps_nothing_between_messages() {
    for bytes in [0, 100, 5000, 60_000, LIMIT] {
        let frame = client_frame(0x81, Some([1, 2, 3, 4]), &vec![b'x'; bytes]);
        let (_, engine) = ours(&cut(&frame, &[700]));
        assert!(engine.holds_nothing(), "after {bytes} bytes");
        let (_, engine) = ours(&cut(&frame[..frame.len() - 1], &[700]));
        assert!(!engine.holds_nothing(), "in the last of {bytes} bytes");
    }
    let fragments = [client_frame(0x01, Some([9; 4]), b"one "), client_frame(0x80, Some([7; 4]), b"two")];
    let (read, engine) = ours(&fragments);
    assert_eq!(read, [Decoded::Text("one two".to_owned())]);
    assert!(engine.holds_nothing());
    let ping = client_frame(0x89, Some([9; 4]), b"between");
    let (_, engine) = ours(&[fragments[0].clone(), ping]);
    assert!(!engine.holds_nothing(), "the message goes on");
}

#[test]
fn fragmented_message_has_frame_limit() {
    let half = vec![b'x'; LIMIT / 2 + 1];
    let (read, _) = ours(&[client_frame(0x01, Some([0; 4]), &half), client_frame(0x80, Some([0; 4]), &half)]);
    assert_eq!(read, [Decoded::Error(ReadError::TooLarge)]);
}

#[test]
fn fragmented_text_is_rejected_at_first_invalid_byte() {
    let text = "é€😀".as_bytes();
    let mut fragments: Vec<_> = text.iter().map(|byte| client_frame(0x00, Some([3; 4]), &[*byte])).collect();
    fragments[0][0] = 0x01;
    fragments.push(client_frame(0x80, Some([3; 4]), b""));
    assert_eq!(ours(&fragments).0, [Decoded::Text("é€😀".to_owned())]);
    let half = [client_frame(0x01, Some([3; 4]), b"\xe2\x82"), client_frame(0x80, Some([3; 4]), b"")];
    assert_eq!(ours(&half).0, [Decoded::Error(ReadError::NotUtf8)]);
    let endless = [client_frame(0x01, Some([3; 4]), b"\xe2\x82"), client_frame(0x00, Some([3; 4]), b"(")];
    assert_eq!(ours(&endless).0, [Decoded::Error(ReadError::NotUtf8)]);
}

#[test]
fn text_that_is_not_utf8_is_rejected() {
    for payload in [&b"\xff"[..], b"\xe2\x82", b"valid, then \xc0\x80"] {
        assert_eq!(
            ours(&[client_frame(0x81, Some([3; 4]), payload)]).0,
            [Decoded::Error(ReadError::NotUtf8)],
            "{payload:?}"
        );
    }
    assert_eq!(ours(&[client_frame(0x82, Some([3; 4]), b"\xff")]).0, [Decoded::Binary]);
}

/// A session closes for a reason of its own in the middle of a read, and reads on to the client's close frame.
#[test]
fn frames_behind_an_error_of_the_caller_are_read_next() {
    let frame = |first, payload: &[u8]| client_frame(first, Some([5; 4]), payload);
    let bytes = [frame(0x89, b"stop"), frame(0x8a, b"read"), frame(0x88, b"\x03\xe8")].concat();
    for length in 1..=bytes.len() {
        let (mut engine, mut read, mut stopped) = (Engine::default(), Vec::new(), 0);
        for piece in cut(&bytes, &[length, bytes.len()]) {
            // The session reads again behind its own error, without further bytes.
            for input in [&piece[..], &[]] {
                let result = engine.read(input, LIMIT, |frame| match frame {
                    Frame::Ping { .. } => Err(Decoded::Binary),
                    Frame::Pong(payload) => {
                        read.push(payload.to_vec());
                        Ok(())
                    }
                    Frame::Close(code) => Err(Decoded::Close(code)),
                    _ => unreachable!("there are no others"),
                });
                match result {
                    Ok(()) => {}
                    Err(Decoded::Close(code)) => assert_eq!(code, Some(1000)),
                    Err(error) => {
                        assert_eq!(error, Decoded::Binary);
                        stopped += 1;
                    }
                }
            }
        }
        assert_eq!((stopped, &read[..]), (1, &[b"read".to_vec()][..]), "{length}");
    }
}

#[test]
fn invalid_headers_are_rejected_before_payload() {
    // Without one byte of payload. The mask completes the header.
    for head in [
        &[0x81, 0xfe, 0, 125][..],
        &[0x81, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff],
        &[0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0],
        &[0x89, 0xfe, 0, 126],
        &[0x8a, 0xff, 0, 0, 1, 0, 0, 0, 0, 0],
        &[0x09, 0x81],
        &[0xc1, 0x81],
        &[0x83, 0x81],
    ] {
        let header = [head, &[0; 4]].concat();
        assert_eq!(ours(&[header]).0, [Decoded::Error(ReadError::Protocol)], "{head:?}");
    }
    assert_eq!(ours(&[vec![0x81, 0x7d]]).0, [Decoded::Error(ReadError::Protocol)], "without a mask");
    let too_large = [&[0x81, 0xff, 0, 0, 0, 0, 0, 0x7f, 0, 0][..], &[0; 4]].concat();
    assert_eq!(ours(&[too_large]).0, [Decoded::Error(ReadError::TooLarge)]);
}

#[test]
fn forbidden_close_codes_are_rejected() {
    for code in 0..=u16::MAX {
        let (read, _) = ours(&[client_frame(0x88, Some([5, 6, 7, 8]), &code.to_be_bytes())]);
        // The library does not know 1014 (IANA: bad gateway).
        let expected = match CloseCode::from(code).is_allowed() || code == 1014 {
            true => Decoded::Close(Some(code)),
            false => Decoded::Error(ReadError::Protocol),
        };
        assert_eq!(read, [expected], "{code}");
    }
    let (read, _) = ours(&[client_frame(0x88, Some([5; 4]), &[])]);
    assert_eq!(read, [Decoded::Close(None)]);
    let half_a_code = [client_frame(0x88, Some([5; 4]), &[3])];
    assert_eq!(ours(&half_a_code).0, [Decoded::Error(ReadError::Protocol)]);
    for code in [1000, 1014] {
        let reason = [&u16::to_be_bytes(code)[..], b"\xff"].concat();
        let (read, _) = ours(&[client_frame(0x88, Some([5; 4]), &reason)]);
        assert_eq!(read, [Decoded::Error(ReadError::NotUtf8)], "{code}");
    }
}

#[test]
fn close_frame_of_client_is_echoed_once() {
    let said = |payload: &[u8]| vec![client_frame(0x88, Some([5; 4]), payload)];
    assert_eq!(closed(&said(b""), None, ""), [0x88, 0]);
    assert_eq!(closed(&said(b"\x03\xe8bye"), Some(1000), ""), b"\x88\x05\x03\xe8bye");
    assert_eq!(closed(&said(b"\x03\xf6bad gateway"), Some(1014), ""), b"\x88\x02\x03\xf6");
    let (_, mut engine) = ours(&said(b"\x03\xe8"));
    engine.close(Some(1000), "", LIMIT, &mut Vec::new());
    let mut again = Vec::new();
    engine.close(Some(1000), "", LIMIT, &mut again);
    assert_eq!(again, b"");
}

#[test]
fn close_frame_follows_any_error() {
    let expected = b"\x88\x07\x03\xeaagain";
    let frame = |first, payload| client_frame(first, Some([5; 4]), payload);
    for pieces in [
        vec![],
        vec![frame(0x81, b"half a frame")[..8].to_vec()],
        vec![frame(0x89, b"Ping"), frame(0x83, b"")],
        vec![frame(0x81, b"\xff")],
        vec![frame(0x01, b"one"), frame(0x81, b"two")],
        vec![frame(0x88, b"\x03\xec")],
        vec![vec![0x81, 0xff, 0, 0, 0, 0, 0, 0x7f, 0, 0, 0, 0, 0, 0]],
    ] {
        assert_eq!(closed(&pieces, Some(1002), "again"), expected, "{pieces:?}");
    }
}

#[test]
fn ping_after_close_frame_is_not_answered() {
    let mut engine = Engine::default();
    assert_eq!(pong(&mut engine, b"before"), b"\x8a\x06before");
    engine.close(Some(1001), "", LIMIT, &mut Vec::new());
    assert_eq!(pong(&mut engine, b"after"), b"");
    assert!(!engine.holds_nothing(), "it must know that it has closed");
}

#[test]
fn every_frame_is_reported_once() {
    let frames = [
        client_frame(0x01, Some([1; 4]), b"a"),
        client_frame(0x00, Some([1; 4]), b""),
        client_frame(0x89, Some([1; 4]), b""),
        client_frame(0x00, Some([1; 4]), b""),
        client_frame(0x80, Some([1; 4]), b""),
        client_frame(0x81, Some([1; 4]), b""),
        client_frame(0x8a, Some([1; 4]), b""),
    ];
    for length in [1, 7, 100] {
        let (mut engine, mut handed_on, mut empty_fragments) = (Engine::default(), 0, 0);
        for piece in cut(&frames.concat(), &[length]) {
            let read = engine.read(&piece, LIMIT, |frame| {
                handed_on += 1;
                empty_fragments += usize::from(frame == Frame::Fragment { is_empty: true });
                Ok::<_, ReadError>(())
            });
            assert_eq!(read, Ok(()));
        }
        assert_eq!((handed_on, empty_fragments), (frames.len(), 2), "in pieces of {length}");
    }
}
