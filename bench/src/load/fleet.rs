//! Many sockets on one thread: opens them, lets events flow to them, and counts what arrives.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mio::{Events, Interest, Poll, Token};

use crate::load::client::{Client, Dialect, Opening, Phase, Reading};
use crate::load::pace::{Pace, Ticker};
use crate::load::publisher::Publisher;
use crate::load::tally::Tally;

/// Handshakes under way at a time: fewer than any server's backlog.
const HANDSHAKES: usize = 100;
/// For sockets to open, or events to arrive, when nothing else happens.
const PATIENCE: Duration = Duration::from_secs(20);
/// After which an event that shows that a channel is live is published again.
const WARM_UP_EVERY: Duration = Duration::from_millis(500);
/// Room for the largest frame, and for many small ones at once.
const BUFFER_BYTES: usize = 256 * 1024;
/// Longest wait of a loop, which then looks at the clock.
const TURN: Duration = Duration::from_millis(20);

const PUBLISHER: Token = Token(usize::MAX - 2);
const TICKER: Token = Token(usize::MAX - 1);

/// How events flow.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Flow {
    /// As fast as they arrive, with so many on their way.
    Full { on_their_way: usize },
    /// So many a second, whatever arrives.
    Rate(f64),
}

/// What came of a flow.
#[derive(Debug)]
pub(crate) struct Flowed {
    /// While events were published; the rest of the figures include what arrived afterwards.
    pub(crate) elapsed: Duration,
    pub(crate) delivered_meanwhile: u64,
    pub(crate) published: u64,
    pub(crate) tally: Tally,
    /// Deliveries that never came.
    pub(crate) lost: u64,
}

/// The sockets.
pub(crate) struct Fleet {
    poll: Poll,
    events: Events,
    pub(crate) clients: Vec<Client>,
    dialect: Dialect,
    pub(crate) keeps_cursors: bool,
    buffer: Vec<u8>,
    reply: Vec<u8>,
    pub(crate) tally: Tally,
    /// Sockets that changed their phase in this turn.
    pub(crate) changed: Vec<usize>,
}

impl Fleet {
    /// Sockets that are not open yet.
    pub(crate) fn new(dialect: Dialect, openings: Vec<Opening>, epoch: Instant) -> Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            clients: openings.into_iter().map(Client::new).collect(),
            dialect,
            keeps_cursors: false,
            buffer: vec![0; BUFFER_BYTES],
            reply: Vec::new(),
            tally: Tally::new(epoch),
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
            ensure!(self.turn(None, PATIENCE)?, "{live} of {} sockets are live, and no more", self.clients.len());
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

    /// Publishes to every channel until every socket has heard of it.
    pub(crate) fn warm_up(&mut self, publisher: &mut Publisher) -> Result<()> {
        self.attach(publisher)?;
        let started = Instant::now();
        while self.tally.warm < self.clients.len() {
            ensure!(started.elapsed() < PATIENCE, "only {} sockets hear anything", self.tally.warm);
            publisher.warm_up(self.tally.now());
            let again = Instant::now() + WARM_UP_EVERY;
            while self.tally.warm < self.clients.len() && Instant::now() < again {
                publisher.flush()?;
                self.turn(Some(publisher), TURN)?;
            }
        }
        self.detach(publisher)?;
        self.rest(Duration::from_millis(300))
    }

    /// Lets events flow for `duration`, each to `fan_out` sockets, then waits for what is on its way. `at_end` is called
    /// between the two: whoever measures something else of the same time reads it there.
    pub(crate) fn flow(
        &mut self,
        publisher: &mut Publisher,
        flow: Flow,
        fan_out: usize,
        duration: Duration,
        at_end: impl FnOnce() -> Result<()>,
    ) -> Result<Flowed> {
        self.tally.reset();
        self.attach(publisher)?;
        let start = self.tally.now();
        let fan_out = fan_out as u64;
        let mut published = 0_u64;
        let ticker = match flow {
            Flow::Rate(_) => Some(Ticker::new(self.poll.registry(), TICKER)?),
            Flow::Full { .. } => None,
        };
        let mut pace = Pace::new(start, if let Flow::Rate(rate) = flow { rate } else { 0.0 });
        loop {
            let now = self.tally.now();
            if now >= start + duration {
                break;
            }
            match flow {
                Flow::Full { on_their_way } => {
                    let arrived = (self.tally.delivered + self.tally.skipped) / fan_out;
                    let room = (arrived + on_their_way as u64).saturating_sub(published);
                    (0..room).for_each(|_| publisher.publish(now));
                    published += room;
                }
                Flow::Rate(_) => {
                    while let Some(due) = pace.next(now) {
                        publisher.publish(due);
                        published += 1;
                    }
                }
            }
            publisher.flush()?;
            self.turn(Some(publisher), TURN)?;
            if let Some(ticker) = &ticker {
                ticker.heard();
            }
        }
        let elapsed = self.tally.now() - start;
        let delivered_meanwhile = self.tally.delivered;
        at_end()?;
        let expected = published * fan_out;
        let mut last = Instant::now();
        while self.tally.delivered < expected && last.elapsed() < Duration::from_secs(3) {
            publisher.flush()?;
            let before = self.tally.delivered;
            self.turn(Some(publisher), TURN)?;
            if self.tally.delivered > before {
                last = Instant::now();
            }
        }
        if let Some(ticker) = ticker {
            ticker.stop(self.poll.registry())?;
        }
        self.detach(publisher)?;
        let epoch = self.tally.epoch;
        let tally = std::mem::replace(&mut self.tally, Tally::new(epoch));
        self.tally.warm = tally.warm;
        let lost = expected.saturating_sub(tally.delivered);
        Ok(Flowed { elapsed, delivered_meanwhile, published, tally, lost })
    }

    /// Answers Pings and whatever else comes, for `duration`.
    pub(crate) fn rest(&mut self, duration: Duration) -> Result<()> {
        let until = Instant::now() + duration;
        while Instant::now() < until {
            self.turn(None, TURN)?;
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

    /// Waits for whatever happens next, and deals with it. Says whether anything happened.
    pub(crate) fn turn(&mut self, mut publisher: Option<&mut Publisher>, patience: Duration) -> Result<bool> {
        match self.poll.poll(&mut self.events, Some(patience)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(true),
            polled => polled?,
        }
        let mut reading = Reading {
            dialect: self.dialect,
            keeps_cursors: self.keeps_cursors,
            buffer: &mut self.buffer,
            reply: &mut self.reply,
            tally: &mut self.tally,
        };
        for event in &self.events {
            match event.token() {
                TICKER => {}
                PUBLISHER => {
                    let publisher = publisher.as_mut().context("nobody publishes")?;
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

/// What came of opening and closing sockets over and over.
#[derive(Debug)]
pub(crate) struct Churned {
    pub(crate) elapsed: Duration,
    pub(crate) opened: u64,
}

impl Fleet {
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
            ensure!(self.turn(None, PATIENCE)?, "handshakes are not answered any more");
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
