//! A server under measurement: one process that we start, measure and end. It ends with us, however we end.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::backends::Backends;
use crate::participants::JWT_SECRET;
use crate::process;

/// For a server to become ready.
const TIMEOUT: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// Below the kernel's ephemeral range, from which the sockets of the load take theirs.
const PORTS: std::ops::Range<u16> = 12_000..32_000;

/// Limits that are there, and are never met by the few people who take part.
const LIMITS: [(&str, &str); 7] = [
    ("RATE_LIMIT_PARTICIPANT_PER_SECOND", "1000000"),
    ("RATE_LIMIT_PARTICIPANT_BURST", "10000000"),
    ("RATE_LIMIT_CONTACT_SENDS_PER_SECOND", "1000000"),
    ("RATE_LIMIT_CONTACT_SENDS_BURST", "10000000"),
    ("MAX_SOCKETS_PER_PARTICIPANT", "1000000"),
    ("HANDSHAKES_PER_PARTICIPANT_PER_SECOND", "1000000"),
    ("HANDSHAKES_PER_PARTICIPANT_BURST", "10000000"),
];

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    name: String,
    /// From its start until it was ready; of our services only.
    pub(crate) ready_after: Duration,
}

/// What a server has used up so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cpu(Duration);

impl Server {
    /// A service of this system, `ws-gateway` or `api-service`, with these backends. `settings` are added to its environment.
    pub(crate) fn of_ours(binary: &Path, backends: &Backends, settings: &[(&str, &str)]) -> Result<Self> {
        // A gateway rejects sockets until an API service has said that Redis holds all revocations.
        let _says_so = match binary.ends_with("ws-gateway") {
            true => Some(Self::of_ours(&binaries()?.join("api-service"), backends, &[])?),
            false => None,
        };
        if binary.ends_with("api-service") {
            backends.migrate(binary)?;
        }
        Self::of_ours_alone(binary, backends, settings)
    }

    /// The same, where the database is migrated and an API service is there for a gateway.
    pub(crate) fn of_ours_alone(binary: &Path, backends: &Backends, settings: &[(&str, &str)]) -> Result<Self> {
        let (address, admin) = (free_address()?, free_address()?);
        let name = binary.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut command = dying_with_us(binary);
        command.arg("serve").env("LISTEN_ADDR", address.to_string()).env("ADMIN_ADDR", admin.to_string());
        command.env("REDIS_URL", &backends.redis_url).env("JWT_SECRET", JWT_SECRET).env("MODE", "development");
        command.envs(LIMITS);
        if name == "api-service" {
            command.env("DATABASE_URL", &backends.database_url);
        }
        command.envs(settings.iter().copied()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(backends.log(&name)?);
        let child = command.spawn().with_context(|| format!("cannot start {}", binary.display()))?;
        let mut server = Self { child, address, name, ready_after: Duration::ZERO };
        let started = Instant::now();
        while !is_ready(address) {
            if let Some(status) = server.child.try_wait()? {
                bail!("{} ended while it started ({status})", server.name);
            }
            ensure!(started.elapsed() < TIMEOUT, "{} does not become ready", server.name);
            sleep(POLL_INTERVAL);
        }
        server.ready_after = started.elapsed();
        Ok(server)
    }

    /// One of `bench/baselines`.
    pub(crate) fn baseline(name: &str, backends: &Backends, settings: &[(&str, &str)]) -> Result<Self> {
        let address = free_address()?;
        let mut command = dying_with_us(&baselines()?.join("run"));
        command.arg(name).env("PORT", address.port().to_string()).env("JWT_SECRET", JWT_SECRET);
        command.env("DATABASE_URL", &backends.database_url).env("REDIS_URL", &backends.redis_url);
        command.envs(settings.iter().copied());
        Self::start_saying_ready(command, address, name)
    }

    /// Any program that says `ready` when it listens on `address`.
    pub(crate) fn start_saying_ready(mut command: Command, address: SocketAddr, name: &str) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let text = child.stdout.take().context("no output")?;
        let mut server = Self { child, address, name: name.to_owned(), ready_after: Duration::ZERO };
        let mut line = String::new();
        let mut text = BufReader::new(text);
        text.read_line(&mut line)?;
        if line.trim() != "ready" {
            let status = server.child.wait()?;
            bail!("{name} did not become ready ({status}): {}", line.trim());
        }
        // Its further output must not block it.
        std::thread::spawn(move || std::io::copy(&mut text, &mut std::io::sink()));
        Ok(server)
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// CPU time so far, of all its processes.
    pub(crate) fn cpu(&self) -> Result<Cpu> {
        Cpu::of(self.pid())
    }

    /// Resident memory, in KiB.
    pub(crate) fn resident_kib(&self) -> Result<u64> {
        process::resident_kib(self.pid()).with_context(|| format!("{} is gone", self.name))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing of value is in it.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

impl Cpu {
    pub(crate) fn of(pid: i32) -> Result<Self> {
        process::cpu(pid).map(Self)
    }

    /// Of this process: the generator.
    pub(crate) fn own() -> Result<Self> {
        process::own_cpu().map(Self)
    }

    /// CPU seconds so far.
    pub(crate) fn seconds(self) -> f64 {
        self.0.as_secs_f64()
    }

    /// CPU seconds since `earlier`.
    pub(crate) fn since(self, earlier: Self) -> f64 {
        self.0.saturating_sub(earlier.0).as_secs_f64()
    }
}

/// Where Cargo put this binary, and so the services.
pub(crate) fn binaries() -> Result<PathBuf> {
    Ok(std::env::current_exe()?.parent().context("this binary has no folder")?.to_path_buf())
}

/// `bench/baselines` of the working copy that this binary was built from.
pub(crate) fn baselines() -> Result<PathBuf> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/baselines"));
    ensure!(folder.is_dir(), "{} is missing", folder.display());
    Ok(folder)
}

/// A command whose process the kernel ends with ours, where `setpriv` is there to arrange it.
pub(crate) fn dying_with_us(program: &Path) -> Command {
    let setpriv = Path::new("/usr/bin/setpriv");
    if !setpriv.exists() {
        return Command::new(program);
    }
    let mut command = Command::new(setpriv);
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// A loopback address that nothing listens on. Ports go up, so that none is handed out twice in a run.
pub(crate) fn free_address() -> Result<SocketAddr> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() % 20_000) as u16;
    for _ in PORTS {
        let offset = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % (PORTS.end - PORTS.start);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PORTS.start + offset));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    bail!("no free TCP port")
}

fn is_ready(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        Ok(&status == b"HTTP/1.1 200")
    };
    ask().unwrap_or(false)
}
