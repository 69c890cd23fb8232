//! A node of a cluster, a server or a Sentinel, whose connections a device on the way can drop without a word: it answers nothing
//! and closes nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// First slot, last slot, port of the master.
pub(super) type Map = Arc<Mutex<Vec<(u16, u16, u16)>>>;

pub(super) struct FakeNode {
    pub(super) port: u16,
    accepted: Arc<AtomicUsize>,
    /// So many connections, the first ones, are mute.
    forgotten: Arc<AtomicUsize>,
    /// All are, also new ones.
    frozen: Arc<AtomicBool>,
    pub(super) map: Map,
    replication: Arc<Mutex<Replication>>,
}

/// What it says as a server, and as a Sentinel.
#[derive(Default)]
struct Replication {
    is_replica: bool,
    is_busy: bool,
    /// Epoch, and port of the master.
    named: (u64, u16),
}

impl FakeNode {
    /// One that tells this map, and knows from it which slots it serves.
    pub(super) async fn start(map: &Map) -> Self {
        Self::start_with_epoch(map, 0).await
    }

    /// One that knows of so many changes of the map.
    pub(super) async fn start_with_epoch(map: &Map, epoch: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (accepted, forgotten) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let frozen = Arc::new(AtomicBool::new(false));
        let node = Self {
            port,
            accepted: accepted.clone(),
            forgotten: forgotten.clone(),
            frozen: frozen.clone(),
            map: map.clone(),
            replication: Arc::default(),
        };
        let (map, replication) = (map.clone(), node.replication.clone());
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let number = accepted.fetch_add(1, Ordering::SeqCst);
                let (forgotten, frozen) = (forgotten.clone(), frozen.clone());
                let is_mute = move || number < forgotten.load(Ordering::SeqCst) || frozen.load(Ordering::SeqCst);
                tokio::spawn(answer(tcp, (port, epoch), map.clone(), replication.clone(), is_mute));
            }
        });
        node
    }

    pub(super) fn url(&self) -> super::RedisUrl {
        format!("redis-cluster://127.0.0.1:{}", self.port).parse().unwrap()
    }

    /// As a server: what it calls itself.
    pub(super) fn set_replica(&self, is_replica: bool) {
        self.replication.lock().is_replica = is_replica;
    }

    /// As a server: rejects every question for its role, as while a script runs too long.
    pub(super) fn set_busy(&self, is_busy: bool) {
        self.replication.lock().is_busy = is_busy;
    }

    /// As a Sentinel: which server it names, after so many failovers.
    pub(super) fn name_master(&self, master: &Self, epoch: u64) {
        self.replication.lock().named = (epoch, master.port);
    }

    pub(super) fn forget_connections(&self) {
        self.forgotten.store(self.accepted.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    pub(super) fn freeze(&self, is_frozen: bool) {
        // What was asked meanwhile is never answered.
        self.forget_connections();
        self.frozen.store(is_frozen, Ordering::SeqCst);
    }
}

async fn answer(
    tcp: TcpStream,
    (port, epoch): (u16, u64),
    map: Map,
    replication: Arc<Mutex<Replication>>,
    is_mute: impl Fn() -> bool,
) -> std::io::Result<()> {
    let (read, mut write) = tcp.into_split();
    let mut read = BufReader::new(read);
    loop {
        let words = command(&mut read).await?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let bulk = |text: &str| format!("${}\r\n{text}\r\n", text.len());
        let answer = match words.as_slice() {
            ["HELLO", ..] => format!("%1\r\n{}:3\r\n", bulk("proto")),
            ["CLIENT", ..] => ":1\r\n".to_owned(),
            ["INFO", "replication"] if replication.lock().is_busy => "-BUSY Redis is busy\r\n".to_owned(),
            ["INFO", "replication"] => {
                let role = if replication.lock().is_replica { "slave" } else { "master" };
                bulk(&format!("role:{role}\r\nmaster_repl_offset:0\r\n"))
            }
            ["SENTINEL", "MASTER", _] => {
                let (epoch, port) = replication.lock().named;
                let fields =
                    [("ip", "127.0.0.1".to_owned()), ("port", port.to_string()), ("config-epoch", epoch.to_string())];
                let fields: String = fields.iter().map(|(name, value)| bulk(name) + &bulk(value)).collect();
                format!("%3\r\n{fields}")
            }
            ["SENTINEL", ..] => format!("*2\r\n{}{}", bulk("127.0.0.1"), bulk(&replication.lock().named.1.to_string())),
            ["SUBSCRIBE", channel] => format!(">3\r\n{}{}:1\r\n", bulk("subscribe"), bulk(channel)),
            ["INFO", ..] => bulk("redis_version:7.0.15\r\n"),
            ["CLUSTER", "INFO"] => bulk(&format!("cluster_state:ok\r\ncluster_current_epoch:{epoch}\r\n")),
            ["CLUSTER", "SLOTS"] => {
                let map = map.lock();
                let ranges = map.iter().map(|(first, last, port)| {
                    format!("*3\r\n:{first}\r\n:{last}\r\n*3\r\n{}:{port}\r\n{}", bulk("127.0.0.1"), bulk("id"))
                });
                format!("*{}\r\n{}", map.len(), ranges.collect::<String>())
            }
            ["GET", key, ..] => {
                let slot = fred::util::redis_keyslot(key.as_bytes());
                let map = map.lock();
                match map.iter().find(|(first, last, _)| (*first..=*last).contains(&slot)) {
                    _ if replication.lock().is_replica => "-READONLY You can't\r\n".to_owned(),
                    Some((_, _, owner)) if *owner != port => format!("-MOVED {slot} 127.0.0.1:{owner}\r\n"),
                    _ => bulk(&port.to_string()),
                }
            }
            _ => "+OK\r\n".to_owned(),
        };
        if !is_mute() {
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
