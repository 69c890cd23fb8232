//! Publishes events at a given rate, over one connection, pipelined: templates are built before the run, and during it only
//! the stamp and the message's id are written into a copy.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use memchr::memmem;

use crate::redis::{RedisAddress, RedisClient};
use crate::stamp::{self, ID_PLACE, Stamp};

/// The bytes that publish one event to one channel.
#[derive(Debug)]
pub(crate) struct Template {
    bytes: Vec<u8>,
    stamp: usize,
    /// Where the last 12 digits of the message's id stand.
    ids: Vec<usize>,
}

impl Template {
    /// Bytes that hold [`stamp::PLACE`] once and [`ID_PLACE`] any number of times.
    pub(crate) fn new(bytes: Vec<u8>) -> Result<Self> {
        let stamp = memmem::find(&bytes, stamp::PLACE.as_bytes()).context("an event without a place for its stamp")?;
        let ids = memmem::find_iter(&bytes, ID_PLACE.as_bytes()).map(|at| at + ID_PLACE.len() - 12).collect();
        Ok(Self { bytes, stamp, ids })
    }

    /// Appends the event with this stamp and this id.
    pub(crate) fn append(&self, out: &mut Vec<u8>, stamp: Stamp, id: u64) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        let copy = &mut out[start..];
        stamp.write(&mut copy[self.stamp..self.stamp + stamp::LENGTH]);
        for at in &self.ids {
            stamp::write_hex(id, &mut copy[*at..*at + 12]);
        }
    }
}

/// How a refusal looks in what comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PublishReplies {
    /// Redis: a line that begins with a minus sign.
    Redis,
    /// HTTP: a status of 400 or more.
    Http,
}

/// The connection, and who is next.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub(crate) stream: mio::net::TcpStream,
    answers: PublishReplies,
    templates: Vec<Template>,
    published: Vec<u32>,
    next: usize,
    ids: u64,
    out: Vec<u8>,
    written: usize,
}

impl Publisher {
    /// Publishes through Redis. `prepare` makes the templates; it may load scripts first.
    pub(crate) fn redis(
        address: &RedisAddress,
        prepare: impl FnOnce(&mut RedisClient) -> Result<Vec<Template>>,
    ) -> Result<Self> {
        let mut client = RedisClient::open(address)?;
        let templates = prepare(&mut client)?;
        Self::new(client.into_stream(), PublishReplies::Redis, templates)
    }

    /// Publishes over any connection.
    pub(crate) fn new(stream: TcpStream, answers: PublishReplies, templates: Vec<Template>) -> Result<Self> {
        ensure!(!templates.is_empty(), "nothing to publish");
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream: mio::net::TcpStream::from_std(stream),
            answers,
            published: vec![0; templates.len()],
            templates,
            next: 0,
            ids: 0,
            out: Vec::new(),
            written: 0,
        })
    }

    /// Queues the next event, each channel in its turn.
    pub(crate) fn publish(&mut self, due: Duration) {
        let channel = self.next;
        self.next = (channel + 1) % self.templates.len();
        let stamp = Stamp { number: self.published[channel], due };
        self.published[channel] += 1;
        self.append(channel, stamp);
    }

    /// Queues one event to each channel that shows that it is live.
    pub(crate) fn warm_up(&mut self, due: Duration) {
        for channel in 0..self.templates.len() {
            self.append(channel, Stamp { number: stamp::WARM_UP, due });
        }
    }

    fn append(&mut self, channel: usize, stamp: Stamp) {
        self.ids += 1;
        self.templates[channel].append(&mut self.out, stamp, self.ids);
    }

    /// Writes what is queued, as far as it fits. Says whether all is written.
    pub(crate) fn flush(&mut self) -> Result<bool> {
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(written) => self.written += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("the connection that publishes broke"),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(true)
    }

    /// Reads answers, which matter only if they are refusals.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<()> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => bail!("the connection that publishes was closed"),
                Ok(read) => self.check(&buffer[..read])?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("the connection that publishes broke"),
            }
        }
    }

    fn check(&self, answer: &[u8]) -> Result<()> {
        let refusal = match self.answers {
            PublishReplies::Redis => answer
                .split(|byte| *byte == b'\n')
                .find(|line| line.first() == Some(&b'-') && line.get(1).is_some_and(u8::is_ascii_uppercase)),
            PublishReplies::Http => memmem::find_iter(answer, b"HTTP/1.1 ")
                .map(|at| &answer[at..])
                .find(|line| line.get(9).is_some_and(|digit| *digit >= b'4')),
        };
        match refusal {
            Some(refusal) => bail!("an event was refused: {}", String::from_utf8_lossy(refusal)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_placeholders_of_template_change() {
        let text = format!("PUBLISH c {ID_PLACE} {ID_PLACE} {} end", stamp::PLACE);
        let template = Template::new(text.clone().into_bytes()).unwrap();
        let mut out = b"before ".to_vec();
        template.append(&mut out, Stamp { number: 7, due: Duration::from_nanos(255) }, 16);
        let id = "01990000-0000-7000-8000-000000000010";
        assert_eq!(
            String::from_utf8(out).unwrap(),
            format!("before PUBLISH c {id} {id} @0000000700000000000000ff end")
        );
        assert!(Template::new(b"no place".to_vec()).is_err());
    }
}
