use std::pin::pin;

use super::*;
use crate::redis::subscriber_connection::reader::MAX_IDLE_BUFFER_BYTES;
use crate::redis::{BarrierReply, Push};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::{Instant, timeout};

const REPLY_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection, and the server's end of it.
fn linked() -> (SubscriberWriter, SubscriberReader, DuplexStream) {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let (writer, reader) = split_connection(Box::new(ours), REPLY_TIMEOUT);
    (writer, reader, theirs)
}

/// The words of the next commands.
async fn replies(redis: &mut DuplexStream) -> Vec<String> {
    let mut bytes = vec![0; 1000];
    let read = redis.read(&mut bytes).await.unwrap();
    let text = String::from_utf8(bytes[..read].to_vec()).unwrap();
    text.split("\r\n").filter(|line| !line.is_empty() && !line.starts_with(['*', '$'])).map(str::to_owned).collect()
}

async fn say(redis: &mut DuplexStream, text: &str) {
    redis.write_all(text.as_bytes()).await.unwrap();
}

#[tokio::test]
async fn replies_reach_their_barrier_and_events_the_handler() {
    let (writer, mut reader, mut redis) = linked();
    let mut commands = Vec::new();
    command(&mut commands, &["SSUBSCRIBE", "a"]);
    command(&mut commands, &["SSUBSCRIBE", "b"]);
    let barrier = tokio::spawn(async move { writer.send_with_barrier(commands).await });
    let words = replies(&mut redis).await;
    assert_eq!(words[..5], ["SSUBSCRIBE", "a", "SSUBSCRIBE", "b", "PING"]);
    say(&mut redis, ">3\r\n$8\r\nsmessage\r\n$1\r\nx\r\n$2\r\nhi\r\n>3\r\n$10\r\nssubscribe\r\n$1\r\na\r\n:1\r\n")
        .await;
    say(&mut redis, "-MOVED 7 h:1\r\n>3\r\n$12\r\nsunsubscribe\r\n$1\r\nx\r\n:0\r\n").await;
    say(&mut redis, &format!("${}\r\n{}\r\n", words[5].len(), words[5])).await;
    reader.read_more().await.unwrap();
    let mut push = Vec::new();
    reader
        .handle_received(|reply| match reply {
            Push::Event { channel, payload } => push.push((channel.to_owned(), payload.to_vec())),
            Push::Unsubscribed(channel) => push.push((channel.to_owned(), b"unsubscribed".to_vec())),
        })
        .unwrap();
    assert_eq!(push, [("x".to_owned(), b"hi".to_vec()), ("x".to_owned(), b"unsubscribed".to_vec())]);
    let BarrierReply { subscribed, errors } = barrier.await.unwrap().unwrap();
    assert_eq!((subscribed, errors), (vec!["a".to_owned()], vec!["MOVED 7 h:1".to_owned()]));
}

#[tokio::test]
async fn unexpected_reply_ends_connection() {
    let (writer, mut reader, mut redis) = linked();
    let _asking = tokio::spawn(async move { writer.send_with_barrier(Vec::new()).await });
    replies(&mut redis).await;
    say(&mut redis, "$1\r\nx\r\n").await;
    reader.read_more().await.unwrap();
    assert!(matches!(reader.handle_received(|_| {}), Err(ConnectionError::UnexpectedReply)));
}

#[tokio::test]
async fn unrequested_reply_ends_connection() {
    for reply in ["+PONG\r\n", "-ERR x\r\n", ">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n"] {
        let (_link, mut reader, mut redis) = linked();
        say(&mut redis, reply).await;
        reader.read_more().await.unwrap();
        assert!(matches!(reader.handle_received(|_| {}), Err(ConnectionError::UnexpectedReply)), "{reply}");
    }
}

#[tokio::test]
async fn reader_returns_events_of_any_size_and_frees_large_buffer() {
    let (_link, mut reader, mut redis) = linked();
    let lengths = [1, 40_000, 70_000, 3, 900_000, 64 * 1024, 5];
    let sending = tokio::spawn(async move {
        for length in lengths {
            let payload = "x".repeat(length);
            say(&mut redis, &format!(">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n${length}\r\n{payload}\r\n")).await;
        }
        redis
    });
    let mut push = Vec::new();
    while push.len() < lengths.len() {
        reader.read_more().await.unwrap();
        reader
            .handle_received(|reply| {
                let Push::Event { payload, .. } = reply else { panic!("{reply:?}") };
                push.push(payload.len());
            })
            .unwrap();
    }
    assert_eq!(push, lengths);
    drop(sending.await.unwrap());
    assert!(matches!(reader.read_more().await, Err(ConnectionError::Closed)));
    assert!(reader.buffer.len() <= MAX_IDLE_BUFFER_BYTES);
}

#[tokio::test]
async fn rejected_hello_fails_without_showing_password() {
    let repeated = "ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `default`, `hunter2`, ";
    for (error, shown) in [
        (repeated, "redis: ERR"),
        ("WRONGPASS invalid username-password pair or user is disabled.", "redis: WRONGPASS"),
        ("ERR max number of clients reached", "redis: ERR max number of clients reached"),
    ] {
        // With and without a reply to the barrier.
        for is_answered in [true, false] {
            let (ours, mut redis) = tokio::io::duplex(1 << 20);
            let greeting = tokio::spawn(async move {
                let password = Some("hunter2".to_owned());
                hello(Box::new(ours), &ConnectOptions { username: None, password, tls: None, timeout: REPLY_TIMEOUT })
                    .await
            });
            let words = replies(&mut redis).await;
            assert_eq!(words[..5], ["HELLO", "3", "AUTH", "default", "hunter2"]);
            let text = words.last().unwrap();
            let reply = if is_answered { format!("${}\r\n{text}\r\n", text.len()) } else { String::new() };
            say(&mut redis, &format!("-{error}\r\n{reply}")).await;
            let error = greeting.await.unwrap().err().unwrap();
            assert_eq!(error.to_string(), shown, "answered: {is_answered}");
        }
    }
}

#[tokio::test]
async fn rejection_before_hello_is_reported() {
    let (ours, mut redis) = tokio::io::duplex(1 << 20);
    say(&mut redis, "-DENIED Redis is running in protected mode\r\n").await;
    let options = ConnectOptions { username: None, password: None, tls: None, timeout: REPLY_TIMEOUT };
    let error = hello(Box::new(ours), &options).await.err().unwrap();
    assert_eq!(error.to_string(), "redis: DENIED");
}

#[tokio::test]
async fn subscription_is_unconfirmed_when_ended_before_reply() {
    let (writer, mut reader, mut redis) = linked();
    let barrier = tokio::spawn(async move { writer.send_with_barrier(Vec::new()).await });
    let words = replies(&mut redis).await;
    for (kind, channel) in [("ssubscribe", "a"), ("ssubscribe", "b"), ("sunsubscribe", "a")] {
        say(&mut redis, &format!(">3\r\n${}\r\n{kind}\r\n$1\r\n{channel}\r\n:1\r\n", kind.len())).await;
    }
    say(&mut redis, &format!("${}\r\n{}\r\n", words[1].len(), words[1])).await;
    reader.read_more().await.unwrap();
    reader.handle_received(|_| {}).unwrap();
    assert_eq!(barrier.await.unwrap().unwrap().subscribed, ["b"]);
}

#[tokio::test]
async fn barrier_times_out_only_when_no_bytes_arrive() {
    let (ours, mut redis) = tokio::io::duplex(1 << 20);
    // Every reply is late.
    let (writer, mut reader) = split_connection(Box::new(ours), Duration::ZERO);
    let began = Instant::now();
    say(&mut redis, ">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nx\r\n").await;
    reader.read_more().await.unwrap();
    assert!(reader.replies.last_received_at.lock().is_some_and(|at| at >= began));
    assert!(matches!(writer.send_with_barrier(Vec::new()).await, Err(ConnectionError::Timeout)));

    let (ours, mut redis) = tokio::io::duplex(1 << 20);
    let (writer, mut reader) = split_connection(Box::new(ours), Duration::ZERO);
    // Pretends that bytes keep arriving.
    *reader.replies.last_received_at.lock() = Some(Instant::now() + REPLY_TIMEOUT);
    let mut barrier = pin!(writer.send_with_barrier(Vec::new()));
    assert!(timeout(Duration::from_millis(1), &mut barrier).await.is_err(), "it has no patience, and waits on");
    let words = replies(&mut redis).await;
    say(&mut redis, &format!("${}\r\n{}\r\n", words[1].len(), words[1])).await;
    reader.read_more().await.unwrap();
    reader.handle_received(|_| {}).unwrap();
    assert!(barrier.await.is_ok());
}
