//! The logs of the services as pipes, with a reader that can stall: what a container runtime or a paused terminal does.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Pipes in place of log files. What comes out of them is kept beside them.
#[derive(Debug)]
pub(super) struct LogPipes {
    stalled: watch::Sender<bool>,
    pipes: Vec<PathBuf>,
    _readers: JoinSet<()>,
}

impl LogPipes {
    /// Makes a pipe for each of these processes in a folder of logs, before they are started.
    pub(super) fn create(logs: &Path, names: impl IntoIterator<Item = String>) -> Result<Self> {
        std::fs::create_dir_all(logs)?;
        let (stalled, seen) = watch::channel(false);
        let (mut pipes, mut readers) = (Vec::new(), JoinSet::new());
        for name in names {
            let path = logs.join(format!("{name}.log"));
            mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).with_context(|| format!("cannot make {}", path.display()))?;
            // Also a writer, so that the pipe does not end when its process does.
            let pipe = pipe::OpenOptions::new().read_write(true).open_receiver(&path)?;
            readers.spawn(read(pipe, logs.join(format!("{name}.txt")), seen.clone()));
            pipes.push(path);
        }
        Ok(Self { stalled, pipes, _readers: readers })
    }

    /// The readers take nothing more, and the pipes are full to the last byte.
    pub(super) fn stall(&self) -> Result<()> {
        self.stalled.send_replace(true);
        for path in &self.pipes {
            let pipe = pipe::OpenOptions::new().read_write(true).open_sender(path)?;
            for chunk in [4096, 256, 16, 1] {
                // Until it would block: less than a chunk is free, and in the end nothing.
                while pipe.try_write(&vec![b'\n'; chunk]).is_ok() {}
            }
        }
        Ok(())
    }

    /// The readers go on.
    pub(super) fn resume(&self) {
        self.stalled.send_replace(false);
    }
}

async fn read(mut pipe: pipe::Receiver, log: PathBuf, mut stalled: watch::Receiver<bool>) {
    let Ok(mut log) = File::options().create(true).append(true).open(log).await else { return };
    let mut buffer = vec![0; 16 * 1024];
    loop {
        if stalled.wait_for(|stalled| !stalled).await.is_err() {
            return;
        }
        let read = tokio::select! {
            biased;
            _ = stalled.wait_for(|stalled| *stalled) => continue,
            read = pipe.read(&mut buffer) => read,
        };
        let Ok(read) = read else { return };
        if log.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn stalled_pipe_fills_and_loses_nothing() {
        let logs = std::env::temp_dir().join(format!("log-pipes-{}", std::process::id()));
        let pipes = LogPipes::create(&logs, ["service".to_owned()]).unwrap();
        let writer = pipe::OpenOptions::new().open_sender(logs.join("service.log")).unwrap();
        pipes.stall().unwrap();
        assert_eq!(writer.try_write(b"x").unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        pipes.resume();
        writer.writable().await.unwrap();
        writer.try_write(b"after the stall").unwrap();
        let kept = logs.join("service.txt");
        let arrived = super::super::comes_true(crate::WAIT_TIMEOUT, || async {
            std::fs::read_to_string(&kept).is_ok_and(|text| text.ends_with("after the stall"))
        });
        assert!(arrived.await);
        std::fs::remove_dir_all(logs).unwrap();
    }
}
