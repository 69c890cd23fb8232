//! Requests to one API service for a while, with what they cost all processes.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::backends::Backends;
use crate::figures::Samples;
use crate::load::http::{Connections, RequestSource};
use crate::server::{Cpu, Server, binaries};

/// An API service of its own, on one database.
pub(crate) struct Service<'a> {
    pub(crate) server: Server,
    backends: &'a Backends,
}

/// What one kind of request cost, in several rounds.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) per_second: Samples,
    pub(crate) p50: Samples,
    pub(crate) p99: Samples,
    /// CPU of all processes, µs a request.
    pub(crate) cpu: Samples,
    pub(crate) postgres_cpu: Samples,
    pub(crate) wal_bytes: Samples,
}

impl<'a> Service<'a> {
    /// Starts it, with a Redis that holds nothing.
    pub(crate) fn start(backends: &'a Backends, database_url: &str) -> Result<Self> {
        backends.flush_redis()?;
        let server = Server::of_ours_alone(&binary()?, backends, &[("DATABASE_URL", database_url)])?;
        Ok(Self { server, backends })
    }

    /// Connections to it.
    pub(crate) fn connect<S: RequestSource>(&self, count: usize, source: S) -> Result<Connections<S>> {
        Connections::open(&[self.server.address], count, source, Instant::now())
    }

    /// Requests at full speed. Gives their number.
    pub(crate) fn measure<S: RequestSource>(
        &self,
        connections: &mut Connections<S>,
        duration: Duration,
        figures: &mut Figures,
    ) -> Result<u64> {
        let (before, wal_before) = (self.cpu()?, self.wal_bytes()?);
        let sent = connections.at_full_speed(duration)?;
        let (after, wal_after) = (self.cpu()?, self.wal_bytes()?);
        let each = |value: f64| value / sent.answered as f64;
        figures.per_second.push(sent.answered as f64 / sent.elapsed.as_secs_f64());
        figures.p50.push(sent.ages.millis(0.5));
        figures.p99.push(sent.ages.millis(0.99));
        let spent = after.iter().zip(before).map(|(after, before)| each(after.since(before) * 1e6));
        figures.cpu.push(spent.clone().sum());
        figures.postgres_cpu.push(spent.clone().nth(1).unwrap_or(f64::NAN));
        figures.wal_bytes.push(each(wal_after - wal_before));
        Ok(sent.answered)
    }

    /// Of the service, PostgreSQL and Redis.
    fn cpu(&self) -> Result<[Cpu; 3]> {
        Ok([self.server.cpu()?, Cpu::of(self.backends.postgres_pid)?, Cpu::of(self.backends.redis_pid)?])
    }

    fn wal_bytes(&self) -> Result<f64> {
        Ok(self.backends.ask_postgres("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")?.parse()?)
    }
}

/// The API service that was built with this program.
pub(crate) fn binary() -> Result<PathBuf> {
    Ok(binaries()?.join("api-service"))
}

/// Of each round, `a` in units of `b`; the two were measured in turns.
pub(crate) fn ratios(a: &Samples, b: &Samples) -> Samples {
    let mut ratios = Samples::default();
    a.pairs(b).for_each(|(a, b)| ratios.push(a / b));
    ratios
}

/// Two turns, in the other order every second round: neither side is always measured on the machine that the other one left.
pub(super) fn alternating<T>(round: usize, mut turns: [T; 2]) -> [T; 2] {
    if round.is_multiple_of(2) {
        turns.reverse();
    }
    turns
}
