//! A WebSocket client that shows every frame, and a plain HTTP client.

use std::collections::VecDeque;
use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::TEST_TIMEOUT;

/// An open socket.
pub(crate) struct Client {
    pub(crate) ws: WebSocketStream<TcpStream>,
    /// Pings received. The library answers each with the next read.
    pub(crate) pings: usize,
    /// Presence frames, apart from others: they may arrive at any time in a test.
    presence: VecDeque<Value>,
    /// Frames that arrived before the presence that a test waited for.
    passed: VecDeque<Value>,
}

impl Client {
    /// Opens a socket and reads its first frame, which must be `ready`.
    pub(crate) async fn open(address: SocketAddr, query: &str, token: &str) -> (Self, Value) {
        let mut client = Self::try_open(address, query, token).await.unwrap();
        let ready = client.frame().await;
        assert_eq!(ready["type"], "ready");
        (client, ready)
    }

    pub(crate) async fn try_open(address: SocketAddr, query: &str, token: &str) -> Result<Self, Error> {
        Self::over(TcpStream::connect(address).await?, query, token).await
    }

    /// With no credential but the ticket in the query.
    pub(crate) async fn ticketed(address: SocketAddr, query: &str) -> Result<Self, Error> {
        Self::try_open(address, query, "").await
    }

    pub(crate) async fn over(tcp: TcpStream, query: &str, token: &str) -> Result<Self, Error> {
        let mut request = format!("ws://localhost/ws?{query}").into_client_request()?;
        if !token.is_empty() {
            request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        let (ws, _) = timeout(TEST_TIMEOUT, client_async(request, tcp)).await.unwrap()?;
        Ok(Self { ws, pings: 0, presence: VecDeque::new(), passed: VecDeque::new() })
    }

    /// The next text frame that is not presence.
    pub(crate) async fn frame(&mut self) -> Value {
        if let Some(passed) = self.passed.pop_front() {
            return passed;
        }
        loop {
            let frame = self.any_frame().await;
            if frame["type"] != "presence" {
                return frame;
            }
            self.presence.push_back(frame);
        }
    }

    /// The next presence frame.
    pub(crate) async fn presence(&mut self) -> Value {
        if let Some(frame) = self.presence.pop_front() {
            return frame;
        }
        loop {
            let frame = self.any_frame().await;
            if frame["type"] == "presence" {
                return frame;
            }
            self.passed.push_back(frame);
        }
    }

    /// All unread presence frames, up to the reply to a `ping` that is sent now.
    pub(crate) async fn all_presence(&mut self) -> Vec<Value> {
        self.send(r#"{"type":"ping"}"#).await;
        loop {
            let frame = self.any_frame().await;
            match frame["type"].as_str() {
                Some("pong") => return self.presence.drain(..).collect(),
                Some("presence") => self.presence.push_back(frame),
                _ => self.passed.push_back(frame),
            }
        }
    }

    async fn any_frame(&mut self) -> Value {
        loop {
            match self.message().await {
                Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).unwrap(),
                Some(Ok(Message::Ping(_))) => self.pings += 1,
                other => panic!("expected a frame, got {other:?}"),
            }
        }
    }

    /// The next frame of another type.
    pub(crate) async fn frame_beside(&mut self, kind: &str) -> Value {
        loop {
            let frame = self.frame().await;
            if frame["type"] != kind {
                return frame;
            }
        }
    }

    /// The next message.
    pub(crate) async fn message(&mut self) -> Option<Result<Message, Error>> {
        timeout(TEST_TIMEOUT, self.ws.next()).await.unwrap()
    }

    /// Reads up to the close frame. Returns its code and how many text frames preceded it.
    pub(crate) async fn closed(&mut self) -> (u16, usize) {
        let mut frames = 0;
        loop {
            match self.message().await {
                Some(Ok(Message::Close(Some(frame)))) => return (frame.code.into(), frames),
                Some(Ok(Message::Text(_))) => frames += 1,
                Some(Ok(_)) => {}
                other => panic!("expected a close frame, got {other:?}"),
            }
        }
    }

    /// Reads up to the close frame. Returns its code and reason.
    pub(crate) async fn close_frame(&mut self) -> (u16, String) {
        loop {
            match self.message().await {
                Some(Ok(Message::Close(Some(frame)))) => return (frame.code.into(), frame.reason.to_string()),
                Some(Ok(_)) => {}
                other => panic!("expected a close frame, got {other:?}"),
            }
        }
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.ws.send(Message::text(text)).await.unwrap();
    }

    /// Sends a frame and returns the reply.
    pub(crate) async fn ask(&mut self, text: &str) -> Value {
        self.send(text).await;
        self.frame().await
    }
}

/// Sends a raw request. Returns status, headers and body of the response.
pub(crate) async fn http(address: SocketAddr, request: &str) -> (u16, String, String) {
    let mut tcp = TcpStream::connect(address).await.unwrap();
    tcp.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(TEST_TIMEOUT, tcp.read_to_string(&mut answer)).await.unwrap().unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_owned(), body.to_owned())
}
