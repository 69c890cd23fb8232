//! PostgreSQL and Redis, which all measured servers share: private ones, on free ports, started by `stack`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use stack::{Stack, StackEnv, StackOptions};

use crate::participants::JWT_SECRET;
use crate::redis::{RedisAddress, RedisClient};

/// The two servers.
#[derive(Debug)]
pub(crate) struct Backends {
    stack: Stack,
    pub(crate) database_url: String,
    pub(crate) redis_url: String,
    pub(crate) redis: RedisAddress,
    pub(crate) postgres_pid: i32,
    pub(crate) redis_pid: i32,
}

impl Backends {
    pub(crate) fn start() -> Result<Self> {
        Self::of(Stack::start(StackOptions { only_backends: true, ..StackOptions::default() })?)
    }

    /// A whole system behind HAProxy, with these backends of its own.
    pub(crate) fn with_services(api: usize, gateways: usize) -> Result<Self> {
        let env = vec![("JWT_SECRET".to_owned(), JWT_SECRET.to_owned())];
        Self::of(Stack::start(StackOptions { api, gateways, env, ..StackOptions::default() })?)
    }

    fn of(stack: Stack) -> Result<Self> {
        let env = stack.env();
        Ok(Self {
            redis: RedisAddress::parse(&env.redis_url)?,
            postgres_pid: env.postgres_pid.context("no PostgreSQL")?,
            redis_pid: env.redis_pid.context("no Redis")?,
            database_url: env.database_url,
            redis_url: env.redis_url,
            stack,
        })
    }

    /// Drops every log and every pending receipt, so that no turn pays for the one before.
    pub(crate) fn flush_redis(&self) -> Result<()> {
        RedisClient::open(&self.redis)?.ask(&["FLUSHALL"])?;
        Ok(())
    }

    /// Brings the schema up to date.
    pub(crate) fn migrate(&self, api_service: &Path) -> Result<()> {
        self.migrate_database(api_service, &self.database_url)
    }

    /// The URL of another database of this PostgreSQL, with its schema; made when it is not there.
    pub(crate) fn database(&self, name: &str, api_service: &Path) -> Result<String> {
        if self.ask_postgres(&format!("SELECT 1 FROM pg_database WHERE datname = '{name}'"))?.is_empty() {
            self.ask_postgres(&format!("CREATE DATABASE {name}"))?;
        }
        let (place, _) = self.database_url.rsplit_once('/').context("a URL of PostgreSQL without a database")?;
        let url = format!("{place}/{name}");
        self.migrate_database(api_service, &url)?;
        Ok(url)
    }

    fn migrate_database(&self, api_service: &Path, url: &str) -> Result<()> {
        let mut command = Command::new(api_service);
        command.arg("migrate").env("DATABASE_URL", url).env("REDIS_URL", &self.redis_url);
        let output = command.env("JWT_SECRET", JWT_SECRET).output()?;
        ensure!(output.status.success(), "the migration failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(())
    }

    /// Where a server's log lines go; they end with the backends.
    pub(crate) fn log(&self, name: &str) -> Result<Stdio> {
        let path = self.stack.data_dir().join(format!("bench-{name}.log"));
        Ok(File::options().create(true).append(true).open(path)?.into())
    }

    /// The whole system as it is now.
    pub(crate) fn env(&self) -> StackEnv {
        self.stack.env()
    }

    /// Ends a process of the system without a word.
    pub(crate) fn kill(&self, pid: i32) -> Result<()> {
        self.stack.kill(pid, Signal::SIGKILL)
    }

    /// What PostgreSQL answers to a question, one line.
    pub(crate) fn ask_postgres(&self, query: &str) -> Result<String> {
        let output = postgres_program("psql")?.args(["-XAtq", "-d", &self.database_url, "-c", query]).output()?;
        ensure!(output.status.success(), "psql: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    pub(crate) fn stop(self) -> Result<()> {
        self.stack.stop()
    }
}

/// One of PostgreSQL's own programs, the newest that is installed.
pub(crate) fn postgres_program(name: &str) -> Result<Command> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok().map(|version| (version, entry.path())))
        .max();
    let path = newest.map_or_else(|| PathBuf::from(name), |(_, folder)| folder.join("bin").join(name));
    Ok(Command::new(path))
}
