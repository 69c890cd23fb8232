//! A WebSocket client that reads all the time, as browsers do, and hands out frames one by one.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::{WAIT_TIMEOUT, contract};

/// What a socket hears.
#[derive(Debug, Clone, PartialEq)]
pub enum Received {
    /// A frame.
    Frame(Value),
    /// The end: the server's close code, or none when the connection broke.
    Closed(Option<u16>),
}

/// An open socket. Every frame, either way, must be one of `asyncapi.yaml`. Pings are answered by the WebSocket library and nothing else: no code here knows of deliveries.
#[derive(Debug)]
pub struct Socket {
    outgoing: UnboundedSender<Message>,
    incoming: UnboundedReceiver<Received>,
    /// Frames that came before the one that a test waited for.
    passed: VecDeque<Value>,
    /// Presence changes. Apart, because they come beside what a test is about.
    presence: VecDeque<Value>,
    /// What was wrong with a frame, whether or not the test has come to it.
    fault: Arc<OnceLock<String>>,
    /// Headers of the answered handshake.
    pub headers: HeaderMap,
}

impl Socket {
    /// Opens a socket with the token in the `Authorization` header.
    pub async fn connect(url: &str, token: &str) -> Self {
        let header = format!("Bearer {token}");
        let opened = Self::connect_with(url, &[("authorization", &header)]).await;
        opened.unwrap_or_else(|error| panic!("the handshake is refused: {error}"))
    }

    /// Opens a socket with any headers.
    ///
    /// # Errors
    /// An error of the WebSocket library, a rejection above all.
    pub async fn connect_with(url: &str, headers: &[(&'static str, &str)]) -> Result<Self, Error> {
        let (stream, headers) = Self::handshake(url, headers).await?;
        let (outgoing, to_send) = unbounded_channel();
        let (frames, incoming) = unbounded_channel();
        let fault = Arc::default();
        tokio::spawn(converse(stream, to_send, frames, Arc::clone(&fault)));
        Ok(Self { outgoing, incoming, passed: VecDeque::new(), presence: VecDeque::new(), fault, headers })
    }

    /// A socket that is not read: Pings get no answer either.
    ///
    /// # Errors
    /// As [`Socket::connect_with`].
    pub async fn handshake(
        url: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<(WebSocketStream<TcpStream>, HeaderMap), Error> {
        let mut request = url.into_client_request()?;
        for (name, value) in headers {
            request.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        let address = request.uri().authority().expect("a URL with a host").to_string();
        let opening = async {
            let tcp = TcpStream::connect(address).await?;
            tcp.set_nodelay(true)?;
            tokio_tungstenite::client_async(request, tcp).await
        };
        let (stream, answer) = timeout(WAIT_TIMEOUT, opening).await.expect("the handshake is answered in time")?;
        Ok((stream, answer.headers().clone()))
    }

    /// Sends a frame that `asyncapi.yaml` describes. For others there is [`Socket::send_message`].
    pub fn send(&self, frame: &Value) {
        contract::from_client(frame);
        self.send_message(Message::text(frame.to_string()));
    }

    /// Sends anything.
    pub fn send_message(&self, message: Message) {
        self.outgoing.send(message).expect("the socket is open");
    }

    /// Sends bytes as a text frame, whether they are text or not.
    pub fn send_as_text(&self, bytes: Vec<u8>) {
        self.send_message(Message::Frame(Frame::message(bytes, OpCode::Data(Data::Text), true)));
    }

    /// The next frame of any kind.
    pub async fn next(&mut self) -> Value {
        match self.hear(Instant::now() + WAIT_TIMEOUT).await {
            Received::Frame(frame) => frame,
            Received::Closed(code) => panic!("the socket closed with {code:?}"),
        }
    }

    /// The next frame, or none when the server has closed.
    pub async fn next_or_end(&mut self) -> Option<Value> {
        match self.hear(Instant::now() + WAIT_TIMEOUT).await {
            Received::Frame(frame) => Some(frame),
            Received::Closed(_) => None,
        }
    }

    /// The next frame of a type. Those that come before it are kept for [`Socket::everything`].
    pub async fn expect(&mut self, kind: &str) -> Value {
        let deadline = Instant::now() + WAIT_TIMEOUT;
        loop {
            match self.hear(deadline).await {
                Received::Frame(frame) if frame["type"] == kind => return frame,
                Received::Frame(frame) => self.passed.push_back(frame),
                Received::Closed(code) => {
                    panic!("the socket closed with {code:?} before a `{kind}`; it had received {:?}", self.passed);
                }
            }
        }
    }

    /// The code that the server closes with. Frames before it are skipped.
    pub async fn expect_close(&mut self) -> u16 {
        let deadline = Instant::now() + WAIT_TIMEOUT;
        loop {
            match self.hear(deadline).await {
                Received::Frame(frame) => self.passed.push_back(frame),
                Received::Closed(code) => return code.expect("a close frame, not a broken connection"),
            }
        }
    }

    /// Waits for the end, be it orderly or not.
    pub async fn expect_end(&mut self) {
        let deadline = Instant::now() + WAIT_TIMEOUT;
        while let Received::Frame(frame) = self.hear(deadline).await {
            self.passed.push_back(frame);
        }
    }

    /// Every frame that came and was not handed out, up to the answer to a `ping` that is sent now. Since the server
    /// answers in order, all that it wrote to this socket before is among them.
    pub async fn everything(&mut self) -> Vec<Value> {
        self.send(&serde_json::json!({"type": "ping"}));
        self.expect("pong").await;
        self.passed.drain(..).collect()
    }

    /// The next presence change.
    pub async fn expect_presence(&mut self) -> Value {
        let deadline = Instant::now() + WAIT_TIMEOUT;
        loop {
            if let Some(frame) = self.presence.pop_front() {
                return frame;
            }
            match self.receive(deadline).await {
                Received::Frame(frame) if is_presence(&frame) => return frame,
                Received::Frame(frame) => self.passed.push_back(frame),
                Received::Closed(code) => panic!("the socket closed with {code:?} before a `presence`"),
            }
        }
    }

    /// All presence changes that were not handed out, up to now, as in [`Socket::everything`].
    pub async fn all_presence(&mut self) -> Vec<Value> {
        let passed = self.everything().await;
        self.passed.extend(passed);
        self.presence.drain(..).collect()
    }

    /// The next one that is no presence change.
    async fn hear(&mut self, deadline: Instant) -> Received {
        loop {
            match self.receive(deadline).await {
                Received::Frame(frame) if is_presence(&frame) => self.presence.push_back(frame),
                received => return received,
            }
        }
    }

    async fn receive(&mut self, deadline: Instant) -> Received {
        match timeout_at(deadline, self.incoming.recv()).await {
            Ok(received) => {
                let received = received.unwrap_or(Received::Closed(None));
                self.assert_no_fault();
                received
            }
            Err(_) => panic!("nothing more came within {} s; before: {:?}", WAIT_TIMEOUT.as_secs(), self.passed),
        }
    }

    fn assert_no_fault(&self) {
        if let Some(fault) = self.fault.get() {
            panic!("{fault}");
        }
    }

    /// Closes as a client does.
    pub async fn close(mut self) {
        self.send_message(Message::Close(None));
        self.expect_end().await;
    }
}

fn is_presence(frame: &Value) -> bool {
    frame["type"] == "presence"
}

impl Drop for Socket {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.assert_no_fault();
        }
    }
}

async fn converse(
    mut stream: WebSocketStream<TcpStream>,
    mut to_send: UnboundedReceiver<Message>,
    frames: UnboundedSender<Received>,
    fault: Arc<OnceLock<String>>,
) {
    let mut sends = true;
    let code = loop {
        tokio::select! {
            message = to_send.recv(), if sends => match message {
                Some(message) => sends = stream.send(message).await.is_ok(),
                None => {
                    // The holder of the socket has dropped it.
                    let _gone = timeout(Duration::from_secs(1), stream.close(None)).await;
                    return;
                }
            },
            message = stream.next() => match message {
                Some(Ok(Message::Text(text))) => match contract::from_server(&text) {
                    Ok(frame) => {
                        let _dropped = frames.send(Received::Frame(frame));
                    }
                    Err(why) => {
                        let _first = fault.set(why);
                        break None;
                    }
                },
                Some(Ok(Message::Close(frame))) => break frame.map(|frame| frame.code.into()),
                Some(Ok(Message::Binary(_))) => {
                    let _first = fault.set("the server sent a binary frame".to_owned());
                    break None;
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => break None,
            },
        }
    };
    let _dropped = frames.send(Received::Closed(code));
}
