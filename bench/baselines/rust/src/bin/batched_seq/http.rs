//! As much HTTP/1.1 as a load generator speaks: one request after the other on a connection that is kept, bodies with a
//! `Content-Length`. And the token: signature and `exp`.

use anyhow::{Context, Result, bail};
use jsonwebtoken::{DecodingKey, Validation};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

use crate::batch::{Message, Send};

/// More is no send.
const MAX_REQUEST_BYTES: usize = 64 * 1024;

/// What every connection needs.
pub(crate) struct Handler {
    pub(crate) key: DecodingKey,
    pub(crate) validation: Validation,
    pub(crate) sends: mpsc::Sender<Send>,
}

#[derive(Deserialize)]
struct Claims {}

/// A request: where its body is, and whether its token is good.
struct Head {
    body: std::ops::Range<usize>,
    is_send: bool,
    is_authorized: bool,
}

impl Handler {
    /// One connection, to its end.
    pub(crate) async fn serve(&self, mut stream: TcpStream) -> Result<()> {
        let mut received = Vec::with_capacity(2048);
        let mut answer = Vec::with_capacity(1024);
        loop {
            let head = loop {
                if let Some(head) = self.head(&received)?.filter(|head| head.body.end <= received.len()) {
                    break head;
                }
                if received.len() > MAX_REQUEST_BYTES {
                    bail!("too long a request");
                }
                if stream.read_buf(&mut received).await? == 0 {
                    return Ok(());
                }
            };
            answer.clear();
            match self.answer(&head, &received[head.body.clone()]).await? {
                Ok(json) => write_answer(&mut answer, "201 Created", json.as_bytes()),
                Err(status) => write_answer(&mut answer, status, b"{}"),
            }
            received.drain(..head.body.end);
            stream.write_all(&answer).await?;
        }
    }

    fn head(&self, received: &[u8]) -> Result<Option<Head>> {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut request = httparse::Request::new(&mut headers);
        let httparse::Status::Complete(start) = request.parse(received)? else { return Ok(None) };
        let value = |name: &str| request.headers.iter().find(|h| h.name.eq_ignore_ascii_case(name)).map(|h| h.value);
        let length: usize = match value("content-length") {
            Some(digits) => std::str::from_utf8(digits)?.parse()?,
            None => 0,
        };
        let end = start.checked_add(length).filter(|end| *end <= MAX_REQUEST_BYTES).context("too long a body")?;
        if end > received.len() {
            // Verified once, when the body is there.
            return Ok(None);
        }
        let token = value("authorization").and_then(|value| value.strip_prefix(b"Bearer "));
        let is_good = |token| jsonwebtoken::decode::<Claims>(token, &self.key, &self.validation).is_ok();
        Ok(Some(Head {
            body: start..end,
            is_send: request.method == Some("POST") && request.path == Some("/chat/send"),
            is_authorized: token.is_some_and(is_good),
        }))
    }

    /// The message as it is on disk, or the status of a refusal.
    async fn answer(&self, head: &Head, body: &[u8]) -> Result<Result<String, &'static str>> {
        if !head.is_send {
            return Ok(Err("404 Not Found"));
        }
        if !head.is_authorized {
            return Ok(Err("401 Unauthorized"));
        }
        let message = serde_json::from_slice(body).ok().and_then(Message::new);
        let Some(message) = message else { return Ok(Err("400 Bad Request")) };
        let (done, waiting) = oneshot::channel();
        self.sends.send(Send { message, done }).await.ok().context("the writer is gone")?;
        Ok(Ok(waiting.await?))
    }
}

fn write_answer(out: &mut Vec<u8>, status: &str, json: &[u8]) {
    let length = json.len();
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n");
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(json);
}
