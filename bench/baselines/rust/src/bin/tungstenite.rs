//! A relay as a decent first attempt in Rust looks: tokio on one thread, tokio-tungstenite, a task and a queue a socket.
//! Small read buffers, and frames that are ready together are flushed together; nothing else is tuned.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use anyhow::{Context, Result, bail};
use baselines::redis::{self, Reply, next_reply, write_command};
use baselines::settings;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tokio_tungstenite::accept_hdr_async_with_config;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::StatusCode;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

/// Frames that a socket may be behind before it is closed.
const QUEUE: usize = 4096;
/// Frames flushed together, at most.
const BURST: usize = 64;
const REDIS_CHUNK_BYTES: usize = 64 * 1024;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    LocalSet::new().run_until(run()).await
}

async fn run() -> Result<()> {
    let read_buffer_bytes = settings::number("READ_BUFFER_BYTES", 4096)?;
    let redis = redis::connect(&settings::required("REDIS_URL")?)?;
    redis.set_nonblocking(true)?;
    let (from_redis, to_redis) = TcpStream::from_std(redis)?.into_split();
    let (commands, queued) = mpsc::unbounded_channel();
    let hub = Rc::new(Hub { channels: RefCell::default(), commands });
    let listener = TcpListener::from_std(settings::listen()?)?;
    settings::say_ready()?;
    tokio::try_join!(accept(&hub, &listener, read_buffer_bytes), subscribe(queued, to_redis), relay(&hub, from_redis))?;
    Ok(())
}

async fn accept(hub: &Rc<Hub>, listener: &TcpListener, read_buffer_bytes: usize) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::task::spawn_local(serve(Rc::clone(hub), stream, read_buffer_bytes));
    }
}

async fn subscribe(mut queued: mpsc::UnboundedReceiver<Vec<u8>>, mut redis: OwnedWriteHalf) -> Result<()> {
    while let Some(command) = queued.recv().await {
        redis.write_all(&command).await?;
    }
    Ok(())
}

async fn relay(hub: &Hub, mut redis: OwnedReadHalf) -> Result<()> {
    let mut buffer = Vec::new();
    loop {
        buffer.reserve(REDIS_CHUNK_BYTES);
        if redis.read_buf(&mut buffer).await? == 0 {
            bail!("Redis hung up");
        }
        let mut done = 0;
        while let Some((reply, length)) = next_reply(&buffer[done..])? {
            done += length;
            if let Reply::Message { channel, payload } = reply {
                hub.publish(channel, payload)?;
            }
        }
        buffer.drain(..done);
    }
}

/// The sockets of each channel.
struct Hub {
    channels: RefCell<HashMap<String, Members>>,
    commands: mpsc::UnboundedSender<Vec<u8>>,
}

#[derive(Default)]
struct Members {
    next: u64,
    queues: HashMap<u64, mpsc::Sender<Utf8Bytes>>,
}

impl Hub {
    fn publish(&self, channel: &[u8], payload: &[u8]) -> Result<()> {
        let mut channels = self.channels.borrow_mut();
        let Some(members) = channels.get_mut(std::str::from_utf8(channel)?) else { return Ok(()) };
        let payload = Utf8Bytes::from(std::str::from_utf8(payload).context("a payload is not UTF-8")?.to_owned());
        // A socket that is too far behind loses its queue, and closes when it has sent what is in it.
        members.queues.retain(|_, queue| queue.try_send(payload.clone()).is_ok());
        Ok(())
    }

    fn join(&self, channel: &str) -> (u64, mpsc::Receiver<Utf8Bytes>) {
        let mut channels = self.channels.borrow_mut();
        if !channels.contains_key(channel) {
            self.command(b"SUBSCRIBE", channel);
        }
        let members = channels.entry(channel.to_owned()).or_default();
        let (queue, frames) = mpsc::channel(QUEUE);
        members.next += 1;
        members.queues.insert(members.next, queue);
        (members.next, frames)
    }

    fn leave(&self, channel: &str, id: u64) {
        let mut channels = self.channels.borrow_mut();
        let Some(members) = channels.get_mut(channel) else { return };
        members.queues.remove(&id);
        if members.queues.is_empty() {
            channels.remove(channel);
            self.command(b"UNSUBSCRIBE", channel);
        }
    }

    fn command(&self, verb: &[u8], channel: &str) {
        let mut command = Vec::new();
        write_command(&mut command, &[verb, channel.as_bytes()]);
        // Commands have no receiver only when all ends.
        let _ = self.commands.send(command);
    }
}

/// One socket, from its handshake to its end. How it ends is of no interest here.
async fn serve(hub: Rc<Hub>, stream: TcpStream, read_buffer_bytes: usize) {
    let mut joined = None;
    let _ = relay_to(&hub, stream, read_buffer_bytes, &mut joined).await;
    if let Some((channel, id)) = joined {
        hub.leave(&channel, id);
    }
}

async fn relay_to(
    hub: &Hub,
    stream: TcpStream,
    read_buffer_bytes: usize,
    joined: &mut Option<(String, u64)>,
) -> Result<()> {
    let config = WebSocketConfig::default().read_buffer_size(read_buffer_bytes);
    let mut frames = None;
    #[allow(clippy::result_large_err)] // the library's own type
    let join = |request: &Request, response: Response| {
        let target = request.uri().path_and_query().map_or("", |target| target.as_str());
        let Some(channel) = settings::channel_of(target) else {
            let mut refused = ErrorResponse::new(None);
            *refused.status_mut() = StatusCode::NOT_FOUND;
            return Err(refused);
        };
        let (id, receiver) = hub.join(channel);
        *joined = Some((channel.to_owned(), id));
        frames = Some(receiver);
        Ok(response)
    };
    let mut socket = Box::pin(accept_hdr_async_with_config(stream, join, Some(config))).await?;
    let mut frames = frames.context("the handshake joined no channel")?;
    let mut burst = Vec::new();
    loop {
        tokio::select! {
            count = frames.recv_many(&mut burst, BURST) => {
                if count == 0 {
                    return Ok(socket.close(None).await?);
                }
                for frame in burst.drain(..) {
                    socket.feed(Message::Text(frame)).await?;
                }
                socket.flush().await?;
            }
            incoming = socket.next() => match incoming {
                Some(message) => drop(message?),
                None => return Ok(()),
            },
        }
    }
}
