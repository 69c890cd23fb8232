//! The control socket of a running stack, in its data folder: one command a connection, one line each way.
//! Only the account that runs the stack can connect.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use crate::data_dir::{DataDir, remove_file};
use crate::postgres::PostgresCommand;

/// In the data folder.
const SOCKET: &str = "control";
/// The answer to a command that was done.
const DONE: &str = "done";
/// For the line of a client.
const READ_TIMEOUT: Duration = Duration::from_secs(1);
/// Longer than the longest command takes.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(120);

/// The stack's end.
#[derive(Debug)]
pub(crate) struct Control(UnixListener);

/// A command whose sender waits.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) command: PostgresCommand,
    sender: UnixStream,
}

impl Control {
    /// Listens from now on.
    ///
    /// # Errors
    /// When the path is too long for a socket, or not writable.
    pub(crate) fn listen(data: &DataDir) -> Result<Self> {
        let path = data.join(SOCKET);
        remove_file(&path)?;
        let listener = UnixListener::bind(&path).with_context(|| format!("cannot listen on {}", path.display()))?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        Ok(Self(listener))
    }

    /// The next command. Senders of nonsense get an error.
    pub(crate) async fn next(&self) -> Request {
        loop {
            let Ok((mut sender, _)) = self.0.accept().await else { continue };
            let mut line = String::new();
            let read = tokio::time::timeout(READ_TIMEOUT, sender.read_to_string(&mut line)).await;
            if !matches!(read, Ok(Ok(_))) {
                continue;
            }
            match PostgresCommand::from_str(line.trim(), false) {
                Ok(command) => return Request { command, sender },
                Err(error) => answer(sender, &error).await,
            }
        }
    }
}

impl Request {
    /// Tells the sender the outcome.
    pub(crate) async fn answer(self, outcome: &Result<()>) {
        match outcome {
            Ok(()) => answer(self.sender, DONE).await,
            Err(error) => answer(self.sender, &format!("{error:#}")).await,
        }
    }
}

/// The sender may have gone away.
async fn answer(mut sender: UnixStream, text: &str) {
    let _ = sender.write_all(text.as_bytes()).await;
}

/// Sends a command to the stack that runs on this data folder, and blocks until it is done.
///
/// # Errors
/// The stack's; or when no stack with a pair of servers runs there.
pub(crate) fn send(data_dir: &Path, command: PostgresCommand) -> Result<()> {
    let path = data_dir.join(SOCKET);
    let mut stream = BlockingStream::connect(&path)
        .with_context(|| format!("no stack with --postgres-standby listens on {}", path.display()))?;
    stream.set_read_timeout(Some(COMMAND_TIMEOUT))?;
    stream.write_all(command.name().as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut outcome = String::new();
    stream.read_to_string(&mut outcome).context("no answer from the stack")?;
    match outcome.as_str() {
        DONE => Ok(()),
        "" => bail!("the stack ended meanwhile"),
        error => bail!("{}: {error}", command.name()),
    }
}
