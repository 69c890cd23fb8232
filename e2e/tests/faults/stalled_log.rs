//! Standard error is a full pipe without a reader, as behind a blocking log driver or a paused terminal.

use std::io::Write;
use std::net::SocketAddr;
use std::process::Stdio;

use e2e::{TestLocation, TestUser, WAIT_TIMEOUT};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::{test_env, until, until_true};

/// What a new pipe holds on Linux.
const PIPE_BYTES: usize = 64 * 1024;

/// A service that cannot log, and the unread end of its pipe.
struct Mute {
    child: Child,
    address: SocketAddr,
    admin: SocketAddr,
    _reader: std::io::PipeReader,
}

impl Mute {
    /// Starts a service beside those of the system, with the same servers.
    fn start(place: &TestLocation, service: &str, database: bool) -> Self {
        let (reader, mut pipe) = std::io::pipe().unwrap();
        pipe.write_all(&vec![b'.'; PIPE_BYTES]).unwrap();
        let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (address, admin, env) = (free(), free(), &place.env);
        let folder = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_path_buf();
        let mut command = Command::new(folder.join(service));
        command.arg("serve").env_clear().kill_on_drop(true).stdin(Stdio::null());
        command.stdout(pipe.try_clone().unwrap()).stderr(pipe);
        command.env("LISTEN_ADDR", address.to_string()).env("ADMIN_ADDR", admin.to_string());
        command.env("REDIS_URL", &env.redis_url).env("JWT_SECRET", &env.jwt_secret).env("MODE", "development");
        command.env("DRAIN_SECONDS", "0").env("LOG_LEVEL", "debug");
        if database {
            command.env("DATABASE_URL", &env.service_database_url).env("AUDIT_KEY", &env.audit_key);
        }
        Self { child: command.spawn().unwrap(), address, admin, _reader: reader }
    }

    fn place(&self, place: &TestLocation) -> TestLocation {
        place.with_base_url(&format!("http://{}", self.address))
    }

    /// The same person, whose requests and sockets this service gets.
    fn asked_by(&self, person: &TestUser) -> TestUser {
        person.at(&format!("http://{}", self.address), &format!("ws://{}/ws", self.address))
    }

    /// Waits until it answers on both ports.
    async fn serves(&self, place: &TestLocation) {
        let here = self.place(place);
        let answers = async || here.request(reqwest::Method::GET, "/readyz").send().await.is_ok();
        until_true("it listens", answers).await;
        let _ready = until(200, async || here.get("/readyz").await).await;
        assert_eq!(here.get("/healthz").await.status, 200);
        assert_eq!(place.with_base_url(&format!("http://{}", self.admin)).get("/healthz").await.status, 200);
    }

    async fn ends(mut self) {
        kill(Pid::from_raw(i32::try_from(self.child.id().unwrap()).unwrap()), Signal::SIGTERM).unwrap();
        let status = timeout(WAIT_TIMEOUT, self.child.wait()).await.expect("it ends in time").unwrap();
        assert!(status.success(), "{status}");
    }
}

#[tokio::test]
async fn unread_log_pipe_stops_nothing() {
    let test_env = test_env().await;
    let place = &test_env.place;
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let api = Mute::start(place, "api-service", true);
    let gateway = Mute::start(place, "ws-gateway", false);
    api.serves(place).await;
    gateway.serves(place).await;

    let writer = api.asked_by(&doctor);
    let mut socket = gateway.asked_by(&patient).open(&doctor).await;
    // Each is a line of the log: more than the pipe and the queue hold would be too slow, more than the pipe holds is not.
    for number in 0..40 {
        let sent = writer.send_ok(&patient, &number.to_string()).await;
        assert_eq!(socket.expect("message").await["message"]["id"], sent["id"]);
        let closing = gateway.asked_by(&doctor).open(&patient).await;
        drop(closing);
        let _problem = api.place(place).get("/chat/history").await.expect_problem(401);
    }
    assert_eq!(api.place(place).get("/healthz").await.status, 200);
    assert_eq!(gateway.place(place).get("/healthz").await.status, 200);
    drop(socket);
    api.ends().await;
    gateway.ends().await;
    test_env.stack.stop().unwrap();
}

#[tokio::test]
async fn wrong_setting_ends_service_when_log_pipe_is_full() {
    for service in ["api-service", "ws-gateway"] {
        let (reader, mut pipe) = std::io::pipe().unwrap();
        pipe.write_all(&vec![b'.'; PIPE_BYTES]).unwrap();
        let folder = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_path_buf();
        let mut command = Command::new(folder.join(service));
        command.arg("serve").env_clear().stdin(Stdio::null()).stdout(pipe.try_clone().unwrap()).stderr(pipe);
        let mut child = command.kill_on_drop(true).spawn().unwrap();
        let status = timeout(WAIT_TIMEOUT, child.wait()).await.expect("it ends").unwrap();
        assert_eq!(status.code(), Some(64), "{service}");
        drop(reader);
    }
}
