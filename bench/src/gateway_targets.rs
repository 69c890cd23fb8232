//! The servers that relay events from Redis to sockets: our gateway and its baselines, each with how one connects to it and
//! publishes to it.

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use shared::contract::event::OutgoingEvent;
use shared::contract::event::publish_batch::{PublishBatch, PublishMode};
use shared::contract::event::relay_keys::RelayKeys;
use shared::contract::participant::ParticipantKind;
use shared::contract::redis::scripts::LOG_TAIL;
use shared::kit::redis::Topology;

use crate::backends::Backends;
use crate::load::client::{ConnectTarget, ServerProtocol};
use crate::load::publisher::{PublishReplies, Publisher, Template};
use crate::load::socket_pool::SocketPool;
use crate::participants::{Pair, handshake};
use crate::redis::{RedisClient, encode};
use crate::server::{Server, binaries};

/// Entries that a log keeps, and for how long, as the API service has it.
const LOG_LENGTH: u32 = 128;
const LOG_TTL_MS: u32 = 3_600_000;
/// A gateway on one core: the baselines have one thread each, and deliveries a CPU second are compared with theirs.
const ONE_THREAD: [(&str, &str); 1] = [("WORKER_THREADS", "1")];

/// One kind of server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GatewayTarget {
    /// Our gateway, as it was built with this program.
    Ours,
    /// Another build of it, to compare with.
    OtherBuild(PathBuf),
    Baseline(String),
}

/// One of them, running, with what it takes to load it.
pub(crate) struct Running {
    pub(crate) server: Server,
    pub(crate) pool: SocketPool,
    pub(crate) publisher: Publisher,
    /// Holds what the publisher publishes through, where that is another server.
    _publishes: Option<Server>,
}

impl GatewayTarget {
    /// Whether it is a baseline, not this system.
    pub(crate) fn is_baseline(&self) -> bool {
        matches!(self, Self::Baseline(_))
    }

    /// As it is called in a table.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Ours => "**ours**".to_owned(),
            Self::OtherBuild(path) => format!("ours, {}", path.display()),
            Self::Baseline(name) => name.clone(),
        }
    }

    pub(crate) fn protocol(&self) -> ServerProtocol {
        match self {
            Self::Ours | Self::OtherBuild(_) => ServerProtocol::Chat,
            Self::Baseline(name) if name == "socketio" => ServerProtocol::SocketIo,
            Self::Baseline(_) => ServerProtocol::Bare,
        }
    }

    /// Starts it.
    pub(crate) fn start(&self, backends: &Backends) -> Result<Server> {
        self.start_with(backends, &[])
    }

    /// `settings` are for ours only.
    fn start_with(&self, backends: &Backends, settings: &[(&str, &str)]) -> Result<Server> {
        match self {
            Self::Ours => Server::of_ours(&binaries()?.join("ws-gateway"), backends, settings),
            Self::OtherBuild(path) => Server::of_ours(path, backends, settings),
            Self::Baseline(name) => Server::baseline(name, backends, &[]),
        }
    }

    /// Starts it on one thread with `sockets` sockets, so many to a conversation, all open and live.
    pub(crate) fn run(&self, backends: &Backends, sockets: usize, to_a_conversation: usize) -> Result<Running> {
        backends.flush_redis()?;
        let server = self.start_with(backends, &ONE_THREAD)?;
        let pairs = pairs(sockets.div_ceil(to_a_conversation))?;
        let connect_targets = self.connect_targets(server.address, &pairs, sockets, to_a_conversation)?;
        let mut pool = SocketPool::new(self.protocol(), connect_targets, Instant::now())?;
        pool.open()?;
        let (mut publisher, publishes) = self.publisher(backends, &pairs)?;
        pool.warm_up(&mut publisher)?;
        Ok(Running { server, pool, publisher, _publishes: publishes })
    }

    /// The sockets of these pairs: doctor and patient by turns.
    pub(crate) fn connect_targets(
        &self,
        address: SocketAddr,
        pairs: &[Pair],
        sockets: usize,
        to_a_conversation: usize,
    ) -> Result<Vec<ConnectTarget>> {
        let mut tokens = Vec::new();
        let target = |number: usize| {
            let pair = &pairs[number / to_a_conversation];
            let channel = pair.channel();
            let request = match self.protocol() {
                ServerProtocol::Chat => {
                    let place = number % to_a_conversation;
                    if place == 0 {
                        tokens = vec![pair.token(ParticipantKind::User)?, pair.token(ParticipantKind::Contact)?];
                    }
                    pair.handshake(&tokens[place % 2], None)
                }
                ServerProtocol::Bare => handshake(&format!("/ws?channel={}", plain(channel.as_str())), None),
                ServerProtocol::SocketIo => {
                    handshake(&format!("/ws/?EIO=4&transport=websocket&channel={}", plain(channel.as_str())), None)
                }
            };
            Ok(ConnectTarget { address, request })
        };
        (0..sockets).map(target).collect()
    }

    /// A publisher to these pairs in the way that this server needs.
    pub(crate) fn publisher(&self, backends: &Backends, pairs: &[Pair]) -> Result<(Publisher, Option<Server>)> {
        match self {
            Self::Ours | Self::OtherBuild(_) => Ok((scripted(backends, pairs)?, None)),
            Self::Baseline(name) if name == "nchan" => {
                let server = Server::baseline("nchan-publisher", backends, &[])?;
                let post = |pair: &Pair| {
                    let (payload, channel) = (pair.frame()?, plain(pair.channel().as_str()));
                    let length = payload.len();
                    let request = format!(
                        "POST /pub?channel={channel} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{payload}"
                    );
                    Template::new(request.into_bytes())
                };
                let templates = pairs.iter().map(post).collect::<Result<_>>()?;
                let publisher = Publisher::new(TcpStream::connect(server.address)?, PublishReplies::Http, templates)?;
                Ok((publisher, Some(server)))
            }
            Self::Baseline(_) => {
                let publish =
                    |pair: &Pair| Template::new(encode(&["PUBLISH", &plain(pair.channel().as_str()), &pair.frame()?]));
                let prepare = |_: &mut RedisClient| pairs.iter().map(publish).collect();
                Ok((Publisher::redis(&backends.redis, prepare)?, None))
            }
        }
    }
}

/// The first `count` pairs.
pub(crate) fn pairs(count: usize) -> Result<Vec<Pair>> {
    (0..count).map(Pair::new).collect()
}

/// Publishes as the API service does: appended to the conversation's log and published, in one step.
pub(crate) fn scripted(backends: &Backends, pairs: &[Pair]) -> Result<Publisher> {
    Publisher::redis(&backends.redis, |redis| {
        let sha = redis.ask(&["SCRIPT", "LOAD", Topology::Single.publish_script()])?;
        pairs.iter().map(|pair| Template::new(command(&sha, pair, &pair.draft()?)?)).collect()
    })
}

/// Publishes one event to each pair without a receiver, and waits until Redis has them all.
pub(crate) fn publish_unproven(backends: &Backends, pairs: &[Pair]) -> Result<()> {
    let mut redis = RedisClient::open(&backends.redis)?;
    let sha = redis.ask(&["SCRIPT", "LOAD", Topology::Single.publish_script()])?;
    let event = |pair: &Pair| command(&sha, pair, &OutgoingEvent { recipient: None, ..pair.draft()? });
    let events = pairs.iter().map(event).collect::<Result<Vec<_>>>()?;
    redis.ask_all(&events)
}

/// Opens the logs of these pairs, as a gateway does for its first socket: from then on every event goes into one.
pub(crate) fn open_logs(backends: &Backends, pairs: &[Pair]) -> Result<()> {
    let life = LOG_TTL_MS.to_string();
    let open = |pair: &Pair| encode(&["EVAL", LOG_TAIL, "1", &pair.channel().log_key(), &life, &life]);
    RedisClient::open(&backends.redis)?.ask_all(&pairs.iter().map(open).collect::<Vec<_>>())
}

/// Leaves Redis without any log, as after an hour without sockets.
pub(crate) fn forget_logs(backends: &Backends) -> Result<()> {
    RedisClient::open(&backends.redis)?.ask(&["FLUSHALL"]).map(drop)
}

fn command(sha: &str, pair: &Pair, draft: &OutgoingEvent) -> Result<Vec<u8>> {
    // Templates are published again and again, so they are not counted.
    let draft = OutgoingEvent { seq: None, ..draft.clone() };
    let mut publication = PublishBatch::new(LOG_LENGTH, LOG_TTL_MS);
    publication.add(&pair.channel(), &draft, PublishMode::Force, &RelayKeys::default())?;
    let (logs, args) = publication.into_parts();
    let args = args.iter().map(|arg| std::str::from_utf8(arg)).collect::<Result<Vec<_>, _>>()?;
    let words: Vec<&str> =
        ["EVALSHA", sha, "1"].into_iter().chain(logs.iter().map(String::as_str)).chain(args).collect();
    Ok(encode(&words))
}

/// A channel's name without what the baselines' names cannot hold.
fn plain(channel: &str) -> String {
    channel.replace(['{', '}'], "")
}
