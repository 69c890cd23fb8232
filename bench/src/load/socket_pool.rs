//! Many sockets on one thread: opens them, lets events mode to them, and counts what arrives.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mio::{Events, Interest, Poll, Token};

use crate::load::client::{Client, ConnectTarget, Phase, Reading, ServerProtocol};
use crate::load::delivery_counts::DeliveryCounts;
use crate::load::publisher::Publisher;
use crate::load::rate::{Pace, Ticker};

/// Handshakes under way at a time: fewer than any server's backlog.
const HANDSHAKES: usize = 100;
/// For sockets to open, or events to arrive, when nothing else happens.
const TIMEOUT: Duration = Duration::from_secs(20);
/// After which an event that shows that a channel is live is published again.
const WARM_UP_INTERVAL: Duration = Duration::from_millis(500);
/// Room for the largest frame, and for many small ones at once.
const BUFFER_BYTES: usize = 256 * 1024;
/// Longest wait of a loop, which then looks at the clock.
const POLL_TIMEOUT: Duration = Duration::from_millis(20);

const PUBLISHER: Token = Token(usize::MAX - 2);
const TICKER: Token = Token(usize::MAX - 1);

/// How events mode.
#[derive(Debug, Clone, Copy)]
pub(crate) enum LoadMode {
    /// As fast as they arrive, with so many on their way.
    Full { on_their_way: usize },
    /// So many per second, independent of what arrives.
    Rate(f64),
}

/// What came of a mode.
#[derive(Debug)]
pub(crate) struct LoadResult {
    /// While events were published; the rest of the figures include what arrived afterwards.
    pub(crate) elapsed: Duration,
    pub(crate) delivered_meanwhile: u64,
    pub(crate) published: u64,
    pub(crate) counts: DeliveryCounts,
    /// Deliveries that never came.
    pub(crate) lost: u64,
}

/// The sockets.
pub(crate) struct SocketPool {
    poll: Poll,
    events: Events,
    pub(crate) clients: Vec<Client>,
    protocol: ServerProtocol,
    pub(crate) keeps_cursors: bool,
    buffer: Vec<u8>,
    reply: Vec<u8>,
    pub(crate) counts: DeliveryCounts,
    /// Sockets that changed their phase in this turn.
    pub(crate) changed: Vec<usize>,
}

impl SocketPool {
    /// Sockets that are not open yet.
    pub(crate) fn new(protocol: ServerProtocol, connect_targets: Vec<ConnectTarget>, epoch: Instant) -> Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            clients: connect_targets.into_iter().map(Client::new).collect(),
            protocol,
            keeps_cursors: false,
            buffer: vec![0; BUFFER_BYTES],
            reply: Vec::new(),
            counts: DeliveryCounts::new(epoch),
            changed: Vec::new(),
        })
    }

    /// Begins to open one socket.
    pub(crate) fn connect(&mut self, number: usize) -> Result<()> {
        let stream = self.clients[number].connect()?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        Ok(self.poll.registry().register(stream, Token(number), interest)?)
    }

    /// Opens all of them and waits until all are live.
    pub(crate) fn open(&mut self) -> Result<Duration> {
        let started = Instant::now();
        let (mut asked, mut live) = (0, 0);
        while live < self.clients.len() {
            while asked < self.clients.len() && asked - live < HANDSHAKES {
                self.connect(asked)?;
                asked += 1;
            }
            ensure!(self.turn(None, TIMEOUT)?, "{live} of {} sockets are live, and no more", self.clients.len());
            for number in std::mem::take(&mut self.changed) {
                match self.clients[number].phase {
                    Phase::Live => live += 1,
                    Phase::Closed => bail!("a socket was closed while others were opened"),
                    _ => {}
                }
            }
        }
        Ok(started.elapsed())
    }

    /// Publishes to every channel until every socket has received one.
    pub(crate) fn warm_up(&mut self, publisher: &mut Publisher) -> Result<()> {
        self.attach(publisher)?;
        let started = Instant::now();
        while self.counts.warm < self.clients.len() {
            ensure!(started.elapsed() < TIMEOUT, "only {} sockets hear anything", self.counts.warm);
            publisher.warm_up(self.counts.now());
            let again = Instant::now() + WARM_UP_INTERVAL;
            while self.counts.warm < self.clients.len() && Instant::now() < again {
                publisher.flush()?;
                self.turn(Some(publisher), POLL_TIMEOUT)?;
            }
        }
        self.detach(publisher)?;
        self.rest(Duration::from_millis(300))
    }

    /// Lets events mode for `duration`, each to `fan_out` sockets, then waits for what is on its way. `at_end` is called
    /// between the two: other measurements of the same time are read there.
    pub(crate) fn run_load(
        &mut self,
        publisher: &mut Publisher,
        mode: LoadMode,
        fan_out: usize,
        duration: Duration,
        at_end: impl FnOnce() -> Result<()>,
    ) -> Result<LoadResult> {
        self.counts.reset();
        self.attach(publisher)?;
        let start = self.counts.now();
        let fan_out = fan_out as u64;
        let mut published = 0_u64;
        let ticker = match mode {
            LoadMode::Rate(_) => Some(Ticker::new(self.poll.registry(), TICKER)?),
            LoadMode::Full { .. } => None,
        };
        let mut pace = Pace::new(start, if let LoadMode::Rate(rate) = mode { rate } else { 0.0 });
        loop {
            let now = self.counts.now();
            if now >= start + duration {
                break;
            }
            match mode {
                LoadMode::Full { on_their_way } => {
                    let arrived = (self.counts.delivered + self.counts.skipped) / fan_out;
                    let room = (arrived + on_their_way as u64).saturating_sub(published);
                    (0..room).for_each(|_| publisher.publish(now));
                    published += room;
                }
                LoadMode::Rate(_) => {
                    while let Some(due) = pace.next(now) {
                        publisher.publish(due);
                        published += 1;
                    }
                }
            }
            publisher.flush()?;
            self.turn(Some(publisher), POLL_TIMEOUT)?;
            if let Some(ticker) = &ticker {
                ticker.rearm();
            }
        }
        let elapsed = self.counts.now() - start;
        let delivered_meanwhile = self.counts.delivered;
        at_end()?;
        let expected = published * fan_out;
        let mut last = Instant::now();
        while self.counts.delivered < expected && last.elapsed() < Duration::from_secs(3) {
            publisher.flush()?;
            let before = self.counts.delivered;
            self.turn(Some(publisher), POLL_TIMEOUT)?;
            if self.counts.delivered > before {
                last = Instant::now();
            }
        }
        if let Some(ticker) = ticker {
            ticker.stop(self.poll.registry())?;
        }
        self.detach(publisher)?;
        let epoch = self.counts.epoch;
        let counts = std::mem::replace(&mut self.counts, DeliveryCounts::new(epoch));
        self.counts.warm = counts.warm;
        let lost = expected.saturating_sub(counts.delivered);
        Ok(LoadResult { elapsed, delivered_meanwhile, published, counts, lost })
    }

    /// Answers Pings and reads all other frames, for `duration`.
    pub(crate) fn rest(&mut self, duration: Duration) -> Result<()> {
        let until = Instant::now() + duration;
        while Instant::now() < until {
            self.turn(None, POLL_TIMEOUT)?;
        }
        Ok(())
    }

    /// How many sockets are live.
    pub(crate) fn live(&self) -> usize {
        self.clients.iter().filter(|client| client.phase == Phase::Live).count()
    }

    fn attach(&mut self, publisher: &mut Publisher) -> Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        Ok(self.poll.registry().register(&mut publisher.stream, PUBLISHER, interest)?)
    }

    fn detach(&mut self, publisher: &mut Publisher) -> Result<()> {
        Ok(self.poll.registry().deregister(&mut publisher.stream)?)
    }

    /// Waits for the next event and handles it. Says whether anything happened.
    pub(crate) fn turn(&mut self, mut publisher: Option<&mut Publisher>, patience: Duration) -> Result<bool> {
        match self.poll.poll(&mut self.events, Some(patience)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(true),
            polled => polled?,
        }
        let mut reading = Reading {
            protocol: self.protocol,
            keeps_cursors: self.keeps_cursors,
            buffer: &mut self.buffer,
            reply: &mut self.reply,
            counts: &mut self.counts,
        };
        for event in &self.events {
            match event.token() {
                TICKER => {}
                PUBLISHER => {
                    let publisher = publisher.as_mut().context("there is no publisher")?;
                    publisher.read(reading.buffer)?;
                }
                Token(number) => {
                    let client = &mut self.clients[number];
                    let before = client.phase;
                    if before == Phase::Connecting && event.is_writable() {
                        client.connected()?;
                        let stream = client.stream.as_mut().context("a socket without a stream")?;
                        self.poll.registry().reregister(stream, Token(number), Interest::READABLE)?;
                    } else if event.is_readable() {
                        client.read(&mut reading)?;
                    }
                    if client.stream.is_some() && event.is_read_closed() {
                        client.read(&mut reading)?; // To the end of what there is.
                    }
                    if client.phase != before {
                        self.changed.push(number);
                    }
                }
            }
        }
        Ok(!self.events.is_empty())
    }
}

/// What came of target and closing sockets over and over.
#[derive(Debug)]
pub(crate) struct Churned {
    pub(crate) elapsed: Duration,
    pub(crate) opened: u64,
}

impl SocketPool {
    /// Opens sockets and closes each as soon as it is live, [`HANDSHAKES`] at a time, over and over.
    pub(crate) fn churn(&mut self, duration: Duration) -> Result<Churned> {
        let started = Instant::now();
        let (mut next, mut under_way, mut opened) = (0, 0, 0);
        while started.elapsed() < duration || under_way > 0 {
            while started.elapsed() < duration && under_way < HANDSHAKES {
                self.connect(next)?;
                next = (next + 1) % self.clients.len();
                under_way += 1;
            }
            ensure!(self.turn(None, TIMEOUT)?, "handshakes are not answered any more");
            for number in std::mem::take(&mut self.changed) {
                match self.clients[number].phase {
                    Phase::Live => {
                        opened += 1;
                        self.clients[number].leave()?;
                    }
                    Phase::Closed => under_way -= 1,
                    _ => {}
                }
            }
        }
        Ok(Churned { elapsed: started.elapsed(), opened })
    }
}
