//! An OpenTelemetry collector that keeps what it gets, as it comes over the wire.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

use e2e::WAIT_TIMEOUT;

#[derive(Default)]
struct Kept {
    bytes: Mutex<Vec<u8>>,
    came: Condvar,
}

pub(crate) struct Collector {
    address: SocketAddr,
    kept: Arc<Kept>,
}

impl Collector {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let kept: Arc<Kept> = Arc::default();
        let keeper = kept.clone();
        std::thread::spawn(move || {
            for tcp in listener.incoming().flatten() {
                let kept = keeper.clone();
                std::thread::spawn(move || {
                    if let Some(export) = take(tcp) {
                        kept.bytes.lock().unwrap().extend(export);
                        kept.came.notify_all();
                    }
                });
            }
        });
        Self { address, kept }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All that has come, once `bytes` are in it.
    pub(crate) fn with(&self, bytes: &[u8]) -> Vec<u8> {
        let kept = self.kept.bytes.lock().unwrap();
        let is_missing = |kept: &mut Vec<u8>| !kept.windows(bytes.len()).any(|window| window == bytes);
        let (kept, waited) = self.kept.came.wait_timeout_while(kept, WAIT_TIMEOUT, is_missing).unwrap();
        assert!(!waited.timed_out(), "{bytes:?} has not come to the collector");
        kept.clone()
    }
}

/// One request, whole: head and body.
fn take(mut tcp: TcpStream) -> Option<Vec<u8>> {
    let mut read = Vec::new();
    loop {
        let mut buffer = [0; 8192];
        match tcp.read(&mut buffer).ok()? {
            0 => return None,
            count => read.extend_from_slice(&buffer[..count]),
        }
        let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
        let length: usize = head.lines().find_map(|line| line.strip_prefix("content-length: "))?.parse().ok()?;
        if read.len() >= end + 4 + length {
            let _gone = tcp.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            return Some(read);
        }
    }
}
