//! What the tests share: fake-services in place of the services, plain HTTP, and who is still alive.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use stack::{Stack, StackOptions};

/// Far longer than anything takes; only a failure waits for so long.
pub(crate) const WAIT_TIMEOUT: Duration = Duration::from_secs(20);

/// A folder in which both services are the stand-in.
fn fake_services() -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let make = || {
        let own = std::env::current_exe().unwrap();
        let fake_service = own.ancestors().nth(2).unwrap().join("examples/fake_service");
        assert!(fake_service.exists(), "build it first: cargo build -p stack --examples");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fake-services");
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        for name in ["api-service", "ws-gateway"] {
            symlink(&fake_service, folder.join(name)).unwrap();
        }
        folder
    };
    FOLDER.get_or_init(make).clone()
}

pub(crate) fn with_fake_services() -> StackOptions {
    StackOptions { profile_dir: Some(fake_services()), ..StackOptions::default() }
}

pub(crate) fn backends() -> StackOptions {
    StackOptions { only_backends: true, ..StackOptions::default() }
}

/// A path that no other test uses.
pub(crate) fn unused_path(name: &str) -> PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    Path::new("/tmp").join(format!("stack-test-{}-{number}-{name}", std::process::id()))
}

/// Sends these bytes to the public port and gives the answer's bytes as text.
pub(crate) fn exchange(stack: &Stack, request: &str) -> String {
    exchange_with(&stack.base_url(), request)
}

/// The same, with the server of any URL.
pub(crate) fn exchange_with(url: &str, request: &str) -> String {
    let address = url.split('/').nth(2).unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// `GET path`, with extra header lines.
pub(crate) fn get(stack: &Stack, path: &str, headers: &str) -> String {
    exchange(stack, &format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{headers}\r\n"))
}

/// True while the process runs (a zombie does not).
pub(crate) fn is_alive(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|rest| !rest.starts_with('Z')))
}

/// Blocks until it holds.
pub(crate) fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < WAIT_TIMEOUT, "not within {WAIT_TIMEOUT:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
