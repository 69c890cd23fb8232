//! A cluster of one node, whose connections can be forgotten by somebody on the way: nothing is answered, nothing ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fred::interfaces::{ClientLike, KeysInterface};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{interval, timeout};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

struct FakeNode {
    port: u16,
    accepted: Arc<AtomicUsize>,
    /// So many connections, the first ones, are mute.
    forgotten: Arc<AtomicUsize>,
}

impl FakeNode {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (accepted, forgotten) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let node = Self { port, accepted: accepted.clone(), forgotten: forgotten.clone() };
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let number = accepted.fetch_add(1, Ordering::SeqCst);
                let forgotten = forgotten.clone();
                tokio::spawn(answer(tcp, port, move || number < forgotten.load(Ordering::SeqCst)));
            }
        });
        node
    }

    fn forget_connections(&self) {
        self.forgotten.store(self.accepted.load(Ordering::SeqCst), Ordering::SeqCst);
    }
}

async fn answer(tcp: TcpStream, port: u16, is_forgotten: impl Fn() -> bool) -> std::io::Result<()> {
    let (read, mut write) = tcp.into_split();
    let mut read = BufReader::new(read);
    loop {
        let words = command(&mut read).await?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let bulk = |text: &str| format!("${}\r\n{text}\r\n", text.len());
        let answer = match words.as_slice() {
            ["HELLO", ..] => format!("%1\r\n{}:3\r\n", bulk("proto")),
            ["CLIENT", ..] => ":1\r\n".to_owned(),
            ["INFO", ..] => bulk("redis_version:7.0.15\r\n"),
            ["CLUSTER", "INFO"] => bulk("cluster_state:ok\r\n"),
            ["CLUSTER", "SLOTS"] => {
                format!("*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n{}:{port}\r\n{}", bulk("127.0.0.1"), bulk("id"))
            }
            ["GET", ..] => bulk("value"),
            _ => "+OK\r\n".to_owned(),
        };
        if !is_forgotten() {
            write.write_all(answer.as_bytes()).await?;
        }
    }
}

/// `*N`, then N times `$LENGTH` and so many bytes. The greeting is a line of its own.
async fn command(read: &mut (impl AsyncBufReadExt + Unpin)) -> std::io::Result<Vec<String>> {
    let head = line(read).await?;
    let Some(count) = head.strip_prefix('*') else {
        return Ok(head.split_whitespace().map(str::to_owned).collect());
    };
    let mut words = Vec::new();
    for _ in 0..number(count)? {
        let length = line(read).await?;
        let mut word = vec![0; number(length.trim_start_matches('$'))? + 2];
        read.read_exact(&mut word).await?;
        words.push(String::from_utf8_lossy(&word[..word.len() - 2]).into_owned());
    }
    Ok(words)
}

async fn line(read: &mut (impl AsyncBufReadExt + Unpin)) -> std::io::Result<String> {
    let mut line = String::new();
    match read.read_line(&mut line).await? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(line.trim_end().to_owned()),
    }
}

fn number(digits: &str) -> std::io::Result<usize> {
    digits.parse().map_err(|_| std::io::ErrorKind::InvalidData.into())
}

#[tokio::test]
async fn a_connection_to_a_node_that_is_cut_without_a_word_is_replaced_however_busy_it_is() {
    let node = FakeNode::start().await;
    let url = format!("redis-cluster://127.0.0.1:{}", node.port).parse().unwrap();
    let client = Redis::new(url, None, Duration::from_millis(500)).unwrap().commands(&Shutdown::new()).unwrap();
    let get = async |client: Client| client.get::<String, _>("key").await;
    timeout(PATIENCE, client.wait_for_connect()).await.unwrap().unwrap();
    assert_eq!(get(client.clone()).await.unwrap(), "value");

    node.forget_connections();
    // Somebody always asks for something.
    let mut busy = interval(Duration::from_millis(50));
    let works_again = async {
        let mut asked = FuturesUnordered::new();
        loop {
            tokio::select! {
                _ = busy.tick() => asked.push(get(client.clone())),
                Some(Ok(value)) = asked.next() => return value,
            }
        }
    };
    assert_eq!(timeout(PATIENCE, works_again).await.unwrap(), "value");
    say_goodbye(&client).await;
}
