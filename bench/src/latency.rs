//! `POST /chat/send` → frame at the receiver, at a fixed rate.
//!
//! Measured from the moment a send was *due*: a system that stalls cannot hide it by being asked less.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::figures::Durations;
use crate::people::{Pair, Target};

/// Conversations that the sends are spread over.
const PAIRS: usize = 20;
/// How long frames may lag behind the last send.
const PATIENCE: Duration = Duration::from_secs(10);

/// What came out.
pub(crate) struct Latency {
    sent: u32,
    received: Durations,
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lost = u64::from(self.sent) - self.received.count();
        write!(f, "POST → frame: {} ({} sends, {lost} lost)", self.received, self.sent)
    }
}

/// Sends `rate` messages a second for `duration`.
pub(crate) async fn measure(target: &Target, rate: u32, duration: Duration) -> Result<Latency> {
    let start = Instant::now();
    let (arrived, mut arrivals) = mpsc::channel(10_000);
    let mut pairs = Vec::with_capacity(PAIRS);
    for number in 0..PAIRS {
        let pair = target.pair(number)?;
        tokio::spawn(receive(connect(target, &pair).await?, start, arrived.clone()));
        pairs.push(pair);
    }
    drop(arrived);

    let pairs = Arc::new(pairs);
    let sends = (f64::from(rate) * duration.as_secs_f64()) as u32;
    let first = start.elapsed() + Duration::from_millis(50);
    let mut requests = tokio::task::JoinSet::new();
    let target = Arc::new(target.clone());
    for send in 0..sends {
        let due = first + Duration::from_secs_f64(f64::from(send) / f64::from(rate));
        tokio::time::sleep_until((start + due).into()).await;
        let (pairs, target) = (pairs.clone(), target.clone());
        // The content is the moment at which the send was due.
        let content = due.as_nanos().to_string();
        requests.spawn(async move { target.send(&pairs[send as usize % PAIRS], &content).await });
    }
    while let Some(sent) = requests.join_next().await {
        sent??;
    }
    let mut received = Durations::new()?;
    while received.count() < u64::from(sends) {
        match tokio::time::timeout(PATIENCE, arrivals.recv()).await {
            Ok(Some(latency)) => received.record(latency),
            _ => break,
        }
    }
    Ok(Latency { sent: sends, received })
}

type Socket = WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>;

async fn connect(target: &Target, pair: &Pair) -> Result<Socket> {
    let mut request = target.socket_url(pair).into_client_request()?;
    request.headers_mut().insert("authorization", format!("Bearer {}", pair.patient_token).parse()?);
    let (mut socket, _) = connect_async(request).await?;
    let ready = socket.next().await.context("the socket closed before `ready`")??;
    ensure!(ready.to_text()?.starts_with("{\"type\":\"ready\""), "the first frame is not `ready`");
    Ok(socket)
}

async fn receive(mut socket: Socket, start: Instant, arrived: mpsc::Sender<Duration>) -> Result<()> {
    while let Some(Ok(message)) = socket.next().await {
        let now = start.elapsed();
        let Message::Text(text) = message else { continue };
        let frame: Value = serde_json::from_str(&text)?;
        if frame["type"] == "message" {
            let due: u64 = frame["message"]["content"].as_str().context("no content")?.parse()?;
            if arrived.send(now.saturating_sub(Duration::from_nanos(due))).await.is_err() {
                break;
            }
        }
    }
    Ok(())
}
