//! Processes of this data folder that outlived their stack (`kill -9` on a system without `setpriv`,
//! or one that is still on its way out). Ends them, politely first; refuses to touch anything that does
//! not bear this folder's mark. Knows Linux's `/proc`; elsewhere it finds none.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::program::DATA_DIR_VAR;

/// Between two looks at who is still there.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Processes that a stack started on `data_dir`.
pub(crate) fn marked(data_dir: &Path) -> Vec<i32> {
    let mark = [DATA_DIR_VAR.as_bytes(), b"=", data_dir.as_os_str().as_bytes()].concat();
    processes(|pid| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == mark)
    })
}

/// PostgreSQL's processes in its data folder `folder` (they overwrite their environment).
pub(crate) fn postgres_in(folder: &Path) -> Vec<i32> {
    let Ok(folder) = folder.canonicalize() else { return Vec::new() };
    processes(|pid| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim_end() == "postgres")
            && fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == folder)
    })
}

/// Sends `signal` to the processes that `find` finds, waits until it finds none, and kills those that are left
/// after `timeout`.
pub(crate) async fn end(signal: Signal, timeout: Duration, find: impl Fn() -> Vec<i32>) {
    let started = Instant::now();
    let mut signalled = Vec::new();
    loop {
        let found = find();
        if found.is_empty() {
            return;
        }
        let late = started.elapsed() > timeout;
        for pid in found {
            if late || !signalled.contains(&pid) {
                let _ = kill(Pid::from_raw(pid), if late { Signal::SIGKILL } else { signal });
                signalled.push(pid);
            }
        }
        if started.elapsed() > timeout * 2 {
            return; // Not ours to end, after all: the start that follows will say what is wrong.
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

fn processes(is_wanted: impl Fn(i32) -> bool) -> Vec<i32> {
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != own && is_wanted(*pid))
        .collect()
}
