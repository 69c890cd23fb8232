//! Reads and marks: whole requests that are built beforehand, and one answer in full where a measurement needs it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Result, ensure};
use rand::RngExt;
use rand::rngs::SmallRng;

use crate::load::http::{RequestSource, message_length};
use crate::participants::{Side, token};

const TIMEOUT: Duration = Duration::from_secs(30);

/// Requests that answer 200.
pub(crate) struct Requests {
    requests: Vec<Vec<u8>>,
    order: Order,
}

enum Order {
    /// Each once; so many were sent.
    Once(usize),
    Random(SmallRng),
}

impl Requests {
    pub(crate) fn once(requests: Vec<Vec<u8>>) -> Self {
        Self { requests, order: Order::Once(0) }
    }

    pub(crate) fn at_random(requests: Vec<Vec<u8>>) -> Result<Self> {
        ensure!(!requests.is_empty(), "nothing to ask for");
        Ok(Self { requests, order: Order::Random(rand::make_rng()) })
    }

    /// How many of those that are sent once were sent.
    pub(crate) fn sent(&self) -> usize {
        match self.order {
            Order::Once(sent) => sent,
            Order::Random(_) => 0,
        }
    }
}

impl RequestSource for Requests {
    const GOOD_ANSWER: &'static [u8] = b"HTTP/1.1 200";

    fn append(&mut self, _: usize, _: Duration, out: &mut Vec<u8>) -> bool {
        let place = match &mut self.order {
            Order::Once(sent) => *sent,
            Order::Random(random) => random.random_range(0..self.requests.len()),
        };
        let Some(request) = self.requests.get(place) else { return false };
        out.extend_from_slice(request);
        if let Order::Once(sent) = &mut self.order {
            *sent += 1;
        }
        true
    }
}

/// `GET` by a participant.
pub(crate) fn get(target: &str, caller: &Side<'_>) -> Result<Vec<u8>> {
    let token = token(caller)?;
    Ok(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n").into_bytes())
}

/// `PUT` of a JSON body by a participant.
pub(crate) fn put(target: &str, body: &str, caller: &Side<'_>) -> Result<Vec<u8>> {
    let (token, length) = (token(caller)?, body.len());
    Ok(format!(
        "PUT {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes())
}

/// The body of the answer to one request, on a connection of its own.
pub(crate) fn answer(address: SocketAddr, request: &[u8]) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(request)?;
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    while message_length(&bytes)?.is_none_or(|length| bytes.len() < length) {
        let read = stream.read(&mut buffer)?;
        ensure!(read > 0, "the server closed the connection");
        bytes.extend_from_slice(&buffer[..read]);
    }
    let text = String::from_utf8(bytes)?;
    ensure!(text.starts_with("HTTP/1.1 200"), "a request was answered: {text}");
    Ok(text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}
