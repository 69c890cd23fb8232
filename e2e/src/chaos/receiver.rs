//! A client that follows the contract: reconnects with its cursor after a pause with full jitter, loads history when it
//! gets a `resync`, takes every message once, and orders by `seq`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::mem::take;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::AUTHORIZATION;
use tokio_tungstenite::tungstenite::{Error, Message};
use uuid::Uuid;

use super::observations::Observations;
use super::requests::until_answered;
use super::{Backoff, HANG_TIMEOUT};
use crate::contract;
use crate::test_location::TestUser;

const MAX_BACKOFF: Duration = Duration::from_secs(2);
/// Between two signs of life to a socket on which nothing may happen for long.
const PING_INTERVAL: Duration = Duration::from_secs(4);
/// Between two batches of read marks.
const READ_INTERVAL: Duration = Duration::from_millis(500);
/// Messages in one frame.
const MAX_IDS: usize = 500;
/// One of how many messages is read.
const READS_ONE_OF: u64 = 3;

type Stream = WebSocketStream<TcpStream>;

/// One person's client of one conversation.
#[derive(Debug)]
pub(super) struct Receiver {
    owner: TestUser,
    other: TestUser,
    observations: Arc<Observations>,
    events: Mutex<ReceivedEvents>,
    /// ObservedCounts messages that came as frames.
    frames: watch::Sender<u64>,
    /// History has to be loaded. A notification while it is loaded means once more.
    missed: Notify,
}

#[derive(Debug, Default)]
struct ReceivedEvents {
    by_seq: BTreeMap<u64, Uuid>,
    seq_of: HashMap<Uuid, u64>,
    /// Those that came as frames; the others were loaded.
    by_frame: HashSet<Uuid>,
    /// Up to here nothing is missing.
    complete_to: u64,
    to_read: Vec<Uuid>,
    marked: HashSet<Uuid>,
    /// Those to its owner that came as frames since it could last resume, or began. They may be unacknowledged.
    unproven: Vec<Uuid>,
    /// Those that it says itself have arrived.
    to_confirm: Vec<Uuid>,
}

/// How a socket ended.
enum End {
    GoingAway,
    Other,
}

impl Receiver {
    pub(super) fn new(owner: TestUser, other: TestUser, observations: Arc<Observations>) -> Arc<Self> {
        let frames = watch::Sender::new(0);
        Arc::new(Self { owner, other, observations, events: Mutex::default(), frames, missed: Notify::new() })
    }

    fn events(&self) -> MutexGuard<'_, ReceivedEvents> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All messages that this client has.
    pub(super) fn messages(&self) -> HashMap<Uuid, u64> {
        self.events().seq_of.clone()
    }

    /// Those that came over the socket.
    pub(super) fn by_frame(&self) -> HashSet<Uuid> {
        self.events().by_frame.clone()
    }

    /// Those that it marked as read, where the mark was acknowledged.
    pub(super) fn marked(&self) -> HashSet<Uuid> {
        self.events().marked.clone()
    }

    /// Waits until a message has come as a frame.
    pub(super) async fn hears(&self, id: Uuid, deadline: Instant) -> bool {
        let mut frames = self.frames.subscribe();
        let waiting = async {
            while !self.events().by_frame.contains(&id) {
                if frames.changed().await.is_err() {
                    return;
                }
            }
        };
        timeout_at(deadline, waiting).await.is_ok()
    }

    /// Lives until it is dropped.
    pub(super) async fn live(&self, marks_by_socket: bool) {
        tokio::join!(self.stay_connected(marks_by_socket), self.load_what_was_missed(), async {
            if !marks_by_socket {
                self.mark_over_http().await;
            }
        });
    }

    async fn stay_connected(&self, marks: bool) {
        let mut cursor = None;
        let mut backoff = Backoff::up_to(MAX_BACKOFF);
        loop {
            match timeout(HANG_TIMEOUT, self.open(cursor.as_deref())).await {
                Ok(Ok(stream)) => {
                    if let End::GoingAway = self.listen(stream, &mut cursor, &mut backoff, marks).await {
                        self.observations.moved();
                        continue;
                    }
                }
                Ok(Err(error)) => self.cannot_open(&error),
                Err(_) => self.observations.hang("a handshake got no answer"),
            }
            backoff.pause().await;
        }
    }

    async fn open(&self, cursor: Option<&str>) -> Result<Stream, Error> {
        let mut url = format!("{}?{}", self.owner.place.ws_url, self.owner.with(&self.other));
        if let Some(cursor) = cursor {
            url.push_str("&cursor=");
            url.push_str(cursor);
        }
        let mut request = url.into_client_request()?;
        let token = HeaderValue::from_str(&format!("Bearer {}", self.owner.token))?;
        request.headers_mut().insert(AUTHORIZATION, token);
        let address = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        Ok(tokio_tungstenite::client_async(request, tcp).await?.0)
    }

    fn cannot_open(&self, error: &Error) {
        match error {
            Error::Http(answer) if matches!(answer.status().as_u16(), 429 | 502 | 503 | 504) => {
                self.observations.refused(answer.status().as_u16().to_string());
            }
            Error::Http(answer) => self.observations.wrong(format!("a handshake was answered {}", answer.status())),
            _ => self.observations.refused("no connection"),
        }
    }

    async fn listen(&self, mut stream: Stream, cursor: &mut Option<String>, backoff: &mut Backoff, marks: bool) -> End {
        let (mut ping, mut read) = (interval(PING_INTERVAL), interval(READ_INTERVAL));
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        read.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last_heard = Instant::now();
        loop {
            let to_send = tokio::select! {
                message = stream.next() => {
                    last_heard = Instant::now();
                    match message {
                        Some(Ok(Message::Text(text))) => {
                            self.take(&text, cursor, backoff);
                            continue;
                        }
                        Some(Ok(Message::Close(frame))) => {
                            let code = frame.map(|frame| u16::from(frame.code));
                            if code == Some(1001) {
                                return End::GoingAway;
                            }
                            self.observations.socket_end(code.map_or("closed without a code".to_owned(), |code| code.to_string()));
                            return End::Other;
                        }
                        Some(Ok(_)) => continue,
                        Some(Err(_)) | None => {
                            self.observations.socket_end("connection broke");
                            return End::Other;
                        }
                    }
                }
                () = sleep_until(last_heard + HANG_TIMEOUT) => {
                    self.observations.hang("an open socket answers no ping");
                    return End::Other;
                }
                _ = ping.tick() => json!({"type": "ping"}),
                _ = read.tick() => match self.some_to_say(marks) {
                    Some(frame) => frame,
                    None => continue,
                },
            };
            // What cannot be sent will show as the socket's end.
            let _ = timeout(HANG_TIMEOUT, stream.send(Message::text(to_send.to_string()))).await;
        }
    }

    fn take(&self, text: &str, cursor: &mut Option<String>, backoff: &mut Backoff) {
        let frame = match contract::from_server(text) {
            Ok(frame) => frame,
            Err(why) => return self.observations.wrong(why),
        };
        match frame["type"].as_str().unwrap_or_default() {
            "ready" => {
                backoff.reset();
                if frame["resumed"] != json!(true) {
                    if cursor.is_some() {
                        self.observations.resync();
                        // The cursor would have proven what came before the socket broke, and cannot any more.
                        let mut events = self.events();
                        let unproven = take(&mut events.unproven);
                        events.to_confirm.extend(unproven);
                    }
                    self.missed.notify_one();
                } else {
                    self.events().unproven.clear();
                }
            }
            "resync" => {
                self.observations.resync();
                self.missed.notify_one();
            }
            "message" => {
                self.note(&frame["message"], true);
                self.frames.send_modify(|count| *count += 1);
            }
            "error" => self.observations.wrong(format!("an error frame: {frame}")),
            _ => {}
        }
        if let Some(last) = frame["cursor"].as_str() {
            *cursor = Some(last.to_owned());
        }
    }

    fn note(&self, message: &Value, by_frame: bool) {
        let id = message["id"].as_str().and_then(|id| id.parse::<Uuid>().ok());
        let (Some(id), Some(seq)) = (id, message["seq"].as_u64()) else {
            return self.observations.wrong("a message without id or seq");
        };
        let mut events = self.events();
        if by_frame {
            events.by_frame.insert(id);
        }
        if events.seq_of.get(&id) == Some(&seq) {
            return; // An event may come twice.
        }
        if let Some(other) = events.by_seq.insert(seq, id) {
            self.observations.wrong(format!("seq {seq} is of {other} and of {id}"));
        }
        events.seq_of.insert(id, seq);
        while events.by_seq.contains_key(&(events.complete_to + 1)) {
            events.complete_to += 1;
        }
        let is_mine = message[format!("receiver_{}_id", self.owner.role)] == self.owner.id.as_str();
        if is_mine && by_frame {
            events.unproven.push(id);
        }
        if is_mine && seq % READS_ONE_OF == 0 {
            events.to_read.push(id);
        }
    }

    /// What has arrived and may be unacknowledged; then, if it `marks`, what was read.
    fn some_to_say(&self, marks: bool) -> Option<Value> {
        let confirmed: Vec<Uuid> = {
            let mut events = self.events();
            let some = events.to_confirm.len().min(MAX_IDS);
            events.to_confirm.drain(..some).collect()
        };
        if !confirmed.is_empty() {
            return Some(json!({"type": "delivered", "message_ids": confirmed}));
        }
        let read = if marks { self.some_to_read() } else { None };
        read.map(|ids| json!({"type": "read", "message_ids": ids}))
    }

    fn some_to_read(&self) -> Option<Vec<Uuid>> {
        let mut events = self.events();
        let rest = if events.to_read.len() > 100 { events.to_read.split_off(100) } else { Vec::new() };
        let some = std::mem::replace(&mut events.to_read, rest);
        (!some.is_empty()).then_some(some)
    }

    async fn load_what_was_missed(&self) {
        loop {
            self.missed.notified().await;
            let mut after = self.events().complete_to;
            loop {
                let path = format!("/chat/history?{}&limit=200&after={after}", self.owner.with(&self.other));
                let request = || self.owner.request(Method::GET, &path);
                let Some(page) = until_answered(&self.observations, "GET /chat/history", &[200], None, request).await
                else {
                    self.observations.wrong("history could not be loaded");
                    break;
                };
                let messages = page["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
                for message in messages {
                    self.note(message, false);
                    after = message["seq"].as_u64().unwrap_or(after);
                }
                if page["has_more"] != json!(true) {
                    break;
                }
            }
        }
    }

    async fn mark_over_http(&self) {
        let mut beat = interval(READ_INTERVAL);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beat.tick().await;
            let Some(mut ids) = self.some_to_read() else { continue };
            let body = json!({"message_ids": ids});
            let request = || self.owner.request(Method::PUT, "/chat/read").json(&body);
            let answer = until_answered(&self.observations, "PUT /chat/read", &[200], None, request).await;
            match answer {
                Some(answer) if answer["not_found"] == json!([]) => self.events().marked.extend(take(&mut ids)),
                Some(answer) => self.observations.wrong(format!("messages that are there cannot be marked: {answer}")),
                None => self.observations.wrong("marks were never acknowledged"),
            }
        }
    }
}
