//! Messages in fragments, what may come between these and what may not, and how large all of it may be.

use std::iter::once;

use e2e::raw_websocket::{BINARY, CONTINUATION, FINAL, Length, PING, PONG, RawFrame, TEXT, any_frame, close, frame};

use super::{LIMIT, bytes_of, case, closed, fragments, no_frame, no_text, pong, question, question_of, run};

#[tokio::test]
async fn fragments_are_joined_around_control_frames() {
    let whole = question("in fragments");
    let (one, two) = whole.split_at(9);
    let text = |last: u8, payload: &[u8]| frame(last | TEXT, payload);
    let rest = |last: u8, payload: &[u8]| frame(last | CONTINUATION, payload);
    let ping = || frame(FINAL | PING, "between");
    let between = || RawFrame::Pong(b"between".to_vec());
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
            let mut received = vec![between(); whole.len()];
            received.insert(whole.len() - 1, pong());
            received
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
            vec![pong(), RawFrame::Close(Some(1002))],
        ),
        case("a text within a text", vec![text(0, one), text(FINAL, &whole)], closed(1002)),
        case("a binary within a text", vec![text(0, one), frame(FINAL | BINARY, "x")], closed(1002)),
        case("a beginning within a text", vec![text(0, one), text(0, two)], closed(1002)),
        case("a rest with reserved bits", vec![text(0, one), rest(FINAL | 0x40, two)], closed(1002)),
    ])
    .await;
}

#[tokio::test]
async fn size_limits_hold_for_frames_and_messages() {
    let head = |kind, length| any_frame(FINAL | kind, Some([1, 2, 3, 4]), Length::Claimed(length as u64), b"");
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
