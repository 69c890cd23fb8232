//! A service beside the system, on the same servers, with settings of its own.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use e2e::{TestLocation, WAIT_TIMEOUT};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use stack::StackEnv;

/// It ends with the value.
pub(crate) struct ServiceProcess {
    child: Child,
    said: Arc<Mutex<String>>,
    reading: Option<JoinHandle<()>>,
    pub(crate) admin_url: String,
    pub(crate) public_url: String,
}

/// A service's binary.
pub(crate) fn binary(service: &str) -> PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join(service)
}

/// Two addresses that are free, and not the same.
fn free() -> [SocketAddr; 2] {
    let held = [0; 2].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap())
}

impl ServiceProcess {
    /// `SERVICE serve`; `more` wins.
    pub(crate) fn start(service: &str, env: &StackEnv, more: &[(&str, &str)]) -> Self {
        let [admin, public] = free();
        let mut command = Command::new(binary(service));
        command.arg("serve").env_clear().env("MODE", "development").env("JWT_SECRET", &env.jwt_secret);
        command.env("REDIS_URL", &env.redis_url).env("LISTEN_ADDR", public.to_string());
        command.env("ADMIN_ADDR", admin.to_string()).env("DRAIN_SECONDS", "0").env("LOG_FORMAT", "json");
        if service == "api-service" {
            command.env("DATABASE_URL", &env.service_database_url).env("AUDIT_KEY", &env.audit_key);
        }
        command.envs(more.iter().copied()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said: Arc<Mutex<String>> = Arc::default();
        let (lines, received) = (BufReader::new(child.stderr.take().unwrap()).lines(), said.clone());
        let reading = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut received = received.lock().unwrap();
                received.push_str(&line);
                received.push('\n');
            }
        });
        Self {
            child,
            said,
            reading: Some(reading),
            admin_url: format!("http://{admin}"),
            public_url: format!("http://{public}"),
        }
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Waits until its admin port says that it is ready.
    pub(crate) async fn until_ready(&self, place: &TestLocation) {
        let admin = place.with_base_url(&self.admin_url);
        crate::until(200, async || admin.try_get("/readyz").await).await;
    }

    /// Waits until it has said this.
    pub(crate) async fn until_said(&self, what: &str) -> String {
        let hearing = async {
            let mut beat = tokio::time::interval(Duration::from_millis(20));
            while !self.said().contains(what) {
                beat.tick().await;
            }
        };
        let received = tokio::time::timeout(WAIT_TIMEOUT, hearing).await;
        assert!(received.is_ok(), "it does not say {what}: {}", self.said());
        self.said()
    }

    /// What it has said so far.
    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Waits until it ends by itself, and gives all that it has said.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        let started = Instant::now();
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None => assert!(started.elapsed() < WAIT_TIMEOUT * 2, "it goes on: {}", self.said()),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        self.reading.take().unwrap().join().unwrap();
        (status, self.said())
    }
}

impl Drop for ServiceProcess {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}
