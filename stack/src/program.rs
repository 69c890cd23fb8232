//! A program as it is started: path, arguments, environment, account, log.
//! Each gets its own process group (the terminal's Ctrl-C is for the stack alone) and a death signal,
//! so that not even `kill -9` of the stack leaves one behind.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use nix::unistd::User;
use tokio::process::{Child, Command};

/// Environment variable that marks every child with its data folder; `orphans` looks for it.
pub(crate) const DATA_DIR_VAR: &str = "STACK_DATA_DIR";

/// Variables that speak to the stack and not to what it starts.
const OWN_VARIABLES: [&str; 4] = ["PORT", "BIND", "API", "GATEWAYS"];
/// Variables with secrets of the services, which servers that others have written need not know.
pub(crate) const SECRET_VARIABLES: [&str; 5] =
    ["JWT_SECRET", "AUDIT_KEY", "DATABASE_URL", "CONTENT_KEYS", "RELAY_KEYS"];

/// What to start. Starting it twice gives the same program again.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    pub name: String,
    pub path: PathBuf,
    pub args: Vec<OsString>,
    /// Added to the caller's environment.
    pub env: Vec<(String, String)>,
    /// Taken out of the caller's environment, if they are there.
    pub removed_env: Vec<&'static str>,
    /// Fed to standard input: what must not show in a process list.
    pub input: String,
    pub account: Option<User>,
    pub folder: Option<PathBuf>,
    pub log: PathBuf,
    /// Asks it to end; also sent by the kernel when the stack dies.
    pub stop: Signal,
    /// PostgreSQL's data folder: who works in it must be gone before a restart.
    pub data_folder: Option<PathBuf>,
    /// Whether it is started again when it dies.
    pub restarts: bool,
}

impl Program {
    /// `path`, with nothing special about it.
    pub(crate) fn new(name: impl Into<String>, path: PathBuf, log: PathBuf) -> Self {
        Self {
            name: name.into(),
            path,
            args: Vec::new(),
            env: Vec::new(),
            removed_env: Vec::new(),
            input: String::new(),
            account: None,
            folder: None,
            log,
            stop: Signal::SIGTERM,
            data_folder: None,
            restarts: true,
        }
    }

    /// Adds arguments.
    pub(crate) fn args<I: IntoIterator<Item = S>, S: Into<OsString>>(mut self, args: I) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Adds an environment variable.
    pub(crate) fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// Starts it; output goes to the end of its log.
    pub(crate) fn spawn(&self) -> Result<Child> {
        self.command().spawn().with_context(|| format!("cannot start {} ({})", self.name, self.path.display()))
    }

    fn command(&self) -> Command {
        let mut command = match find("setpriv") {
            // Sets the death signal as the new account, then becomes the program: same process id.
            Some(setpriv) => {
                let mut command = Command::new(setpriv);
                let signal = self.stop.as_str().trim_start_matches("SIG");
                command.args(["--pdeathsig", signal, "--"]).arg(&self.path);
                command
            }
            None => Command::new(&self.path),
        };
        command.args(&self.args).process_group(0).kill_on_drop(true);
        for name in OWN_VARIABLES.iter().chain(&self.removed_env) {
            command.env_remove(name);
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some(account) = &self.account {
            command.uid(account.uid.as_raw()).gid(account.gid.as_raw());
        }
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command.stdin(self.stdin().unwrap_or_else(Stdio::null));
        command.stdout(self.output()).stderr(self.output());
        command
    }

    /// A pipe that already holds the input (which fits its buffer).
    fn stdin(&self) -> Option<Stdio> {
        if self.input.is_empty() {
            return None;
        }
        let (reader, mut writer) = std::io::pipe().ok()?;
        writer.write_all(self.input.as_bytes()).ok()?;
        Some(reader.into())
    }

    fn output(&self) -> Stdio {
        File::options().create(true).append(true).open(&self.log).map_or_else(|_| Stdio::null(), Stdio::from)
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// When it fails; the error holds the end of its log.
    pub(crate) async fn complete(&self) -> Result<()> {
        let status = self.command().status().await.with_context(|| format!("cannot start {}", self.path.display()))?;
        anyhow::ensure!(status.success(), "{} failed ({status})\n{}", self.name, self.log_tail());
        Ok(())
    }

    /// Runs it to its end and gives what it printed.
    ///
    /// # Errors
    /// When it fails; the error holds what it said.
    pub(crate) async fn read(&self) -> Result<String> {
        let output = self.command().output().await;
        let output = output.with_context(|| format!("cannot start {}", self.path.display()))?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "{} failed ({})\n{said}", self.name, output.status);
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The last lines of its log, for a message.
    pub(crate) fn log_tail(&self) -> String {
        let text = fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last = lines[lines.len().saturating_sub(20)..].join("\n  ");
        format!("  {last}\n(the end of {})", self.log.display())
    }
}

/// An executable by name: in `PATH`, or where system programs lie that users lack in theirs.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).map(|folder| folder.join(name)).find(|file| is_executable(file))
}

/// True for a file with an execute bit.
pub(crate) fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(file).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}
