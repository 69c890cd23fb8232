//! A relay on raw epoll: the limit of what one thread can do. An event is framed once, each socket gets one write per
//! loop turn, and an idle socket holds no buffer. What clients send is ignored, but for a close.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};

use anyhow::{Result, bail};
use baselines::redis::{self, Reply, next_reply, write_command};
use baselines::settings;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::OwnedFd;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

const LISTENER: u64 = u64::MAX;
const REDIS: u64 = u64::MAX - 1;
/// Events taken from the kernel in one turn.
const EVENTS: usize = 1024;
/// Bytes taken from Redis in one turn.
const REDIS_CHUNK_BYTES: usize = 64 * 1024;
/// A socket that is further behind is closed.
const MAX_UNSENT_BYTES: usize = 16 * 1024 * 1024;

fn main() -> Result<()> {
    let mut relay = Relay::start()?;
    settings::say_ready()?;
    let mut events = Vec::with_capacity(EVENTS);
    loop {
        relay.turn(&mut events)?;
    }
}

/// A client. `held` is the part of its request that has come, then what could not be written yet.
struct Socket {
    stream: TcpStream,
    channel: Option<usize>,
    held: Vec<u8>,
}

#[derive(Default)]
struct Channel {
    name: Box<[u8]>,
    members: Vec<usize>,
    /// Frames of this turn.
    framed: Vec<u8>,
}

struct Relay {
    epoll: OwnedFd,
    listener: TcpListener,
    sockets: Vec<Option<Socket>>,
    free: Vec<usize>,
    channels: Vec<Channel>,
    by_name: HashMap<Box<[u8]>, usize>,
    free_channels: Vec<usize>,
    redis: TcpStream,
    from_redis: Vec<u8>,
    to_redis: Vec<u8>,
    scratch: Vec<u8>,
}

impl Relay {
    fn start() -> Result<Self> {
        let redis = redis::connect(&settings::required("REDIS_URL")?)?;
        redis.set_nonblocking(true)?;
        let listener = settings::listen()?;
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        epoll::add(&epoll, &redis, EventData::new_u64(REDIS), EventFlags::IN)?;
        Ok(Self {
            epoll,
            listener,
            sockets: Vec::new(),
            free: Vec::new(),
            channels: Vec::new(),
            by_name: HashMap::new(),
            free_channels: Vec::new(),
            redis,
            from_redis: Vec::new(),
            to_redis: Vec::new(),
            scratch: vec![0; REDIS_CHUNK_BYTES],
        })
    }

    fn turn(&mut self, events: &mut Vec<Event>) -> Result<()> {
        events.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(events), None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in events.iter() {
            match event.data.u64() {
                LISTENER => self.accept()?,
                REDIS => self.relay()?,
                place => self.serve(usize::try_from(place)?, event.flags),
            }
        }
        self.write_redis()
    }

    fn accept(&mut self) -> Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => bail!("cannot accept: {error}"),
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let place = self.free.pop().unwrap_or_else(|| {
                self.sockets.push(None);
                self.sockets.len() - 1
            });
            epoll::add(&self.epoll, &stream, EventData::new_u64(u64::try_from(place)?), EventFlags::IN)?;
            self.sockets[place] = Some(Socket { stream, channel: None, held: Vec::new() });
        }
    }

    /// Frames all that Redis has sent, then writes to each socket that is concerned, once.
    fn relay(&mut self) -> Result<()> {
        match self.redis.read(&mut self.scratch) {
            Ok(0) => bail!("Redis hung up"),
            Ok(read) => self.from_redis.extend_from_slice(&self.scratch[..read]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let mut done = 0;
        let mut dirty = Vec::new();
        while let Some((reply, length)) = next_reply(&self.from_redis[done..])? {
            done += length;
            let Reply::Message { channel, payload } = reply else { continue };
            let Some(&place) = self.by_name.get(channel) else { continue };
            let framed = &mut self.channels[place].framed;
            if framed.is_empty() {
                dirty.push(place);
            }
            push_frame(framed, payload);
        }
        self.from_redis.drain(..done);
        for place in dirty {
            let framed = std::mem::take(&mut self.channels[place].framed);
            let mut lost = Vec::new();
            for &member in &self.channels[place].members {
                let Some(socket) = &mut self.sockets[member] else { continue };
                if !write(&self.epoll, member, socket, &framed) {
                    lost.push(member);
                }
            }
            lost.into_iter().for_each(|member| self.drop_socket(member));
            let channel = &mut self.channels[place];
            channel.framed = framed;
            channel.framed.clear();
        }
        Ok(())
    }

    fn serve(&mut self, place: usize, flags: EventFlags) {
        let Some(socket) = self.sockets.get_mut(place).and_then(Option::as_mut) else { return };
        let mut alive = true;
        if flags.contains(EventFlags::OUT) {
            alive = write_held(&self.epoll, place, socket);
        }
        if alive && flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            alive = match socket.stream.read(&mut self.scratch) {
                Ok(0) => false,
                // Opcode 8: a close.
                Ok(_) if socket.channel.is_some() => self.scratch[0] & 0x0f != 8,
                Ok(read) => self.handshake(place, read),
                Err(error) => error.kind() == ErrorKind::WouldBlock,
            };
        }
        if !alive {
            self.drop_socket(place);
        }
    }

    /// PublishReplies the request, of which `read` more bytes are in `scratch`, once it is complete. False: not a good one.
    fn handshake(&mut self, place: usize, read: usize) -> bool {
        let Some(socket) = &mut self.sockets[place] else { return false };
        socket.held.extend_from_slice(&self.scratch[..read]);
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(&socket.held) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) => return true,
            Err(_) => return false,
        }
        let key = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case("sec-websocket-key"));
        let (Some(name), Some(key)) = (request.path.and_then(settings::channel_of), key) else { return false };
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n",
            derive_accept_key(key.value)
        );
        let name = name.as_bytes().into();
        socket.held = Vec::new();
        self.join(place, name);
        self.sockets[place].as_mut().is_some_and(|socket| write(&self.epoll, place, socket, answer.as_bytes()))
    }

    fn join(&mut self, place: usize, name: Box<[u8]>) {
        let channel = self.by_name.get(&name).copied().unwrap_or_else(|| {
            write_command(&mut self.to_redis, &[b"SUBSCRIBE", &name]);
            let free = self.free_channels.pop().unwrap_or_else(|| {
                self.channels.push(Channel::default());
                self.channels.len() - 1
            });
            self.channels[free].name = name.clone();
            self.by_name.insert(name, free);
            free
        });
        self.channels[channel].members.push(place);
        if let Some(socket) = &mut self.sockets[place] {
            socket.channel = Some(channel);
        }
    }

    fn drop_socket(&mut self, place: usize) {
        // Closing the descriptor takes it out of the epoll set.
        let Some(socket) = self.sockets[place].take() else { return };
        self.free.push(place);
        let Some(left) = socket.channel else { return };
        let channel = &mut self.channels[left];
        channel.members.retain(|member| *member != place);
        if channel.members.is_empty() {
            let channel = std::mem::take(channel);
            write_command(&mut self.to_redis, &[b"UNSUBSCRIBE", &channel.name]);
            self.by_name.remove(&channel.name);
            self.free_channels.push(left);
        }
    }

    /// Sends Redis what this turn has to say. Of what it does not take now, the rest goes when it takes more.
    fn write_redis(&mut self) -> Result<()> {
        if self.to_redis.is_empty() {
            return Ok(());
        }
        match self.redis.write(&self.to_redis) {
            Ok(written) => drop(self.to_redis.drain(..written)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        let more = if self.to_redis.is_empty() { EventFlags::IN } else { EventFlags::IN | EventFlags::OUT };
        Ok(epoll::modify(&self.epoll, &self.redis, EventData::new_u64(REDIS), more)?)
    }
}

/// Appends a text frame.
fn push_frame(out: &mut Vec<u8>, payload: &[u8]) {
    out.push(0x81);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length @ 0..126), _) => out.push(length),
        (_, Ok(length)) => {
            out.push(126);
            out.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}

/// Writes once; the rest waits until the socket takes more. False: the socket is gone, or too far behind.
fn write(epoll: &OwnedFd, place: usize, socket: &mut Socket, bytes: &[u8]) -> bool {
    if !socket.held.is_empty() {
        socket.held.extend_from_slice(bytes);
        return socket.held.len() <= MAX_UNSENT_BYTES;
    }
    let Ok(written) = write_some(socket, bytes) else { return false };
    socket.held.extend_from_slice(&bytes[written..]);
    socket.held.is_empty() || watch(epoll, place, socket, EventFlags::IN | EventFlags::OUT)
}

/// Writes what is held, now that the socket takes more. False: the socket is gone.
fn write_held(epoll: &OwnedFd, place: usize, socket: &mut Socket) -> bool {
    let held = std::mem::take(&mut socket.held);
    let Ok(written) = write_some(socket, &held) else { return false };
    socket.held.extend_from_slice(&held[written..]);
    !socket.held.is_empty() || watch(epoll, place, socket, EventFlags::IN)
}

fn write_some(socket: &mut Socket, bytes: &[u8]) -> std::io::Result<usize> {
    match socket.stream.write(bytes) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        result => result,
    }
}

fn watch(epoll: &OwnedFd, place: usize, socket: &Socket, flags: EventFlags) -> bool {
    epoll::modify(epoll, &socket.stream, EventData::new_u64(place as u64), flags).is_ok()
}
