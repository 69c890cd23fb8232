//! PostgreSQL and Redis, which all measured servers share: private ones, on free ports, started by `stack`.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use stack::{Stack, StackEnv, StackOptions};

use crate::participants::JWT_SECRET;
use crate::redis::{RedisAddress, RedisClient};

/// For PostgreSQL to write all pages, end and start again.
const RESTART_TIMEOUT: Duration = Duration::from_secs(300);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

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
        Self::start_in(None)
    }

    /// With a data folder that is kept; with a temporary one when there is none.
    pub(crate) fn start_in(data_dir: Option<PathBuf>) -> Result<Self> {
        Self::of(Stack::start(StackOptions { only_backends: true, data_dir, ..StackOptions::default() })?)
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
        let url = self.url_of(name)?;
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
        ask_database(&self.database_url, query)
    }

    /// Makes a database from another one of this PostgreSQL. Ends all sessions of both.
    pub(crate) fn copy_database(&self, name: &str, from: &str) -> Result<String> {
        self.drop_database(name)?;
        let sessions = format!("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{from}'");
        self.ask_postgres(&sessions)?;
        self.ask_postgres(&format!("CREATE DATABASE {name} TEMPLATE {from}"))?;
        self.url_of(name)
    }

    /// Drops a database if it is there.
    pub(crate) fn drop_database(&self, name: &str) -> Result<()> {
        self.ask_postgres(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).map(drop)
    }

    fn url_of(&self, database: &str) -> Result<String> {
        let (place, _) = self.database_url.rsplit_once('/').context("a URL of PostgreSQL without a database")?;
        Ok(format!("{place}/{database}"))
    }

    /// Starts PostgreSQL again with another size of its buffers.
    pub(crate) fn restart_postgres(&mut self, shared_buffers: &str) -> Result<()> {
        self.ask_postgres(&format!("ALTER SYSTEM SET shared_buffers = '{shared_buffers}'"))?;
        let old = self.postgres_pid;
        self.stack.kill(old, Signal::SIGINT)?;
        let env = self.stack.wait_until(RESTART_TIMEOUT, |env| env.postgres_pid.is_some_and(|pid| pid != old))?;
        self.postgres_pid = env.postgres_pid.context("no PostgreSQL")?;
        let started = Instant::now();
        while self.ask_postgres("SELECT 1").is_err() {
            ensure!(started.elapsed() < RESTART_TIMEOUT, "PostgreSQL does not become ready");
            sleep(POLL_INTERVAL);
        }
        Ok(())
    }

    pub(crate) fn stop(self) -> Result<()> {
        self.stack.stop()
    }
}

/// What a database answers to statements. Each runs by itself, and an error ends all.
pub(crate) fn ask_database(url: &str, statements: &str) -> Result<String> {
    let mut psql = postgres_program("psql")?;
    psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", url]).stdin(Stdio::piped());
    let mut child = psql.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("cannot start psql")?;
    let mut input = child.stdin.take().context("psql without input")?;
    let statements = format!("{statements};\n");
    // From a thread: psql may answer before it has read all.
    let writing = std::thread::spawn(move || input.write_all(statements.as_bytes()));
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "psql: {}", String::from_utf8_lossy(&output.stderr).trim());
    writing.join().ok().context("the writer of psql's input panicked")??;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
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
