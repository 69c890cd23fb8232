//! A system for a test: the `stack` binary as a child process that ends with its handle, and with the
//! test process, however that dies, because its standard input ends then.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::control;
use crate::data_dir::{DataDir, ENV_FILE, LOCK_FILE};
use crate::options::StackOptions;
use crate::postgres::{PostgresCommand, let_pass};
use crate::secret::random_hex;
use crate::stack_env::StackEnv;

const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Longer than all the deadlines of an orderly end together.
const STOP_TIMEOUT: Duration = Duration::from_secs(120);

/// A running system.
#[derive(Debug)]
pub struct Stack {
    child: Child,
    data_dir: PathBuf,
    temporary: bool,
}

impl Stack {
    /// Starts a system and blocks until it is ready.
    ///
    /// # Errors
    /// When it does not become ready; the error holds what the stack said.
    #[allow(clippy::needless_pass_by_value, reason = "callers write the options where they start the stack")]
    pub fn start(options: StackOptions) -> Result<Self> {
        let binaries = target_dir()?;
        let temporary = options.data_dir.is_none();
        let data_dir = match &options.data_dir {
            Some(path) => DataDir::create(path)?,
            None => temporary_dir()?,
        };
        let output = File::create(data_dir.join("stack.log"))?;
        let text = File::open(data_dir.join("stack.log"))?; // Still readable when a temporary folder is gone.
        let mut command = options.command(&binaries, &data_dir);
        command.stdin(Stdio::piped()).stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().with_context(|| {
            format!("no `stack` in {}; build it first: cargo build --workspace", binaries.display())
        })?;
        let mut stack = Self { child, data_dir, temporary };
        stack.wait_until_ready(options.startup_timeout, &text)?;
        Ok(stack)
    }

    fn wait_until_ready(&mut self, timeout: Duration, text: &File) -> Result<()> {
        let started = Instant::now();
        while !self.is_ready() {
            if let Some(status) = self.child.try_wait()? {
                bail!("the stack ended while it started ({status}):\n{}", std::io::read_to_string(text)?);
            }
            if started.elapsed() > timeout {
                let text = std::io::read_to_string(text)?;
                bail!("the stack was not ready within {} s:\n{text}", timeout.as_secs());
            }
            sleep(POLL_INTERVAL);
        }
        Ok(())
    }

    /// True when there is a `stack.env`, and it is this stack's and not that of one that was killed.
    fn is_ready(&self) -> bool {
        let holder = std::fs::read_to_string(self.data_dir.join(LOCK_FILE));
        holder.is_ok_and(|holder| holder == self.pid().to_string()) && StackEnv::read(&self.env_file()).is_ok()
    }

    fn env_file(&self) -> PathBuf {
        self.data_dir.join(ENV_FILE)
    }

    /// The system as it is now: process ids change when something is restarted.
    ///
    /// # Panics
    /// When the system is gone.
    #[must_use]
    pub fn env(&self) -> StackEnv {
        match StackEnv::read(&self.env_file()) {
            Ok(env) => env,
            Err(error) => panic!("the stack is gone: {error:#}"),
        }
    }

    /// `http://localhost:PORT`, without a slash at the end.
    #[must_use]
    pub fn base_url(&self) -> String {
        self.env().base_url
    }

    /// `ws://localhost:PORT/ws`.
    #[must_use]
    pub fn ws_url(&self) -> String {
        self.env().ws_url
    }

    /// The key that signs this system's tokens.
    #[must_use]
    pub fn jwt_secret(&self) -> String {
        self.env().jwt_secret
    }

    /// Process id of the stack itself.
    #[must_use]
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap_or_default()
    }

    /// Sends a signal to a process of the system.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn kill(&self, pid: i32, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(pid), signal).with_context(|| format!("cannot send {signal} to process {pid}"))
    }

    /// Fails the pair of PostgreSQL servers over, and blocks until that is done.
    ///
    /// # Errors
    /// When it fails, or there is no standby.
    pub fn postgres(&self, command: PostgresCommand) -> Result<()> {
        control::send(&self.data_dir, command)
    }

    /// Blocks until the system is as wanted, after a restart, say, and gives that state.
    ///
    /// # Errors
    /// When it is not within `timeout`.
    pub fn wait_until(&self, timeout: Duration, is_wanted: impl Fn(&StackEnv) -> bool) -> Result<StackEnv> {
        let started = Instant::now();
        loop {
            let env = self.env();
            if is_wanted(&env) {
                return Ok(env);
            }
            if started.elapsed() > timeout {
                bail!("not within {} ms; the system is {env:?}", timeout.as_millis());
            }
            sleep(POLL_INTERVAL);
        }
    }

    /// Folder of everything that the system keeps.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Folder with one log a process: `api-1.log`, `gateway-2.log`, `postgres.log` …
    #[must_use]
    pub fn logs_dir(&self) -> PathBuf {
        self.data_dir.join("logs")
    }

    /// Stops the system in order and waits for its end.
    ///
    /// # Errors
    /// When it fails, or has to be killed.
    pub fn stop(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        drop(self.child.stdin.take());
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                anyhow::ensure!(status.success(), "the stack failed ({status})");
                return Ok(());
            }
            if started.elapsed() > STOP_TIMEOUT {
                self.child.kill()?; // The kernel then tells its children to end.
                self.child.wait()?;
                bail!("the stack did not stop within {} s", STOP_TIMEOUT.as_secs());
            }
            sleep(POLL_INTERVAL);
        }
    }

    /// A failed test's logs outlive the temporary folder.
    fn keep_logs(&self) {
        let kept = std::env::temp_dir().join(format!("ehr-chat-logs-{}", self.pid()));
        let copied = std::fs::create_dir_all(&kept).is_ok()
            && std::fs::read_dir(self.logs_dir()).is_ok_and(|entries| {
                entries.flatten().all(|entry| std::fs::copy(entry.path(), kept.join(entry.file_name())).is_ok())
            });
        if copied {
            eprintln!("the system's logs are kept in {}", kept.display());
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) && !self.data_dir.exists() {
            return;
        }
        if self.temporary && std::thread::panicking() {
            self.keep_logs();
        }
        if let Err(error) = self.end() {
            eprintln!("{error:#}");
        }
        if self.temporary {
            let _ = std::fs::remove_dir_all(&self.data_dir); // The stack does it, unless it was killed.
        }
    }
}

/// `target/debug` or `target/release`: where Cargo put the caller's binary, or its parent for a test's.
fn target_dir() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own.parent().context("this binary has no folder")?;
    let is_nested = folder.ends_with("deps") || folder.ends_with("examples");
    Ok(if is_nested { folder.parent().unwrap_or(folder) } else { folder }.to_path_buf())
}

fn temporary_dir() -> Result<PathBuf> {
    let path = std::env::temp_dir().join(format!("ehr-chat-{}", random_hex::<6>()?));
    std::fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
    let_pass(&path)?;
    Ok(path.canonicalize()?)
}
