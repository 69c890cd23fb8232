//! Redis and PostgreSQL that speak TLS and nothing else.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::process::{Child, Command, Stdio};

use e2e::WAIT_TIMEOUT;
use stack::{Signal, Stack};

use crate::certificates::Certificates;

/// What a `redis-server` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RedisKind {
    Single,
    /// The only node of a cluster.
    Cluster,
    /// A master, and the only Sentinel that names it.
    Sentinel,
}

/// A `redis-server` that ends with the value, and its Sentinel.
pub(crate) struct TlsRedis {
    kind: RedisKind,
    processes: Vec<Child>,
    /// Where clients ask first.
    pub(crate) port: u16,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl TlsRedis {
    pub(crate) fn start(certificates: &Certificates, kind: RedisKind) -> Self {
        let is_cluster = kind == RedisKind::Cluster;
        let port = free_port();
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", "0", "--tls-port", &port.to_string(), "--save", ""]);
        command.args(["--tls-cert-file", &certificates.certificate(), "--tls-key-file", &certificates.key()]);
        command.args(["--tls-ca-cert-file", &certificates.authority(), "--tls-auth-clients", "no"]);
        command.current_dir(certificates.folder());
        if is_cluster {
            let bus = free_port();
            let file = format!("{port}.nodes");
            command.args(["--cluster-enabled", "yes", "--tls-cluster", "yes", "--cluster-config-file", &file]);
            command.args(["--cluster-port", &bus.to_string()]);
            // Its certificate is for a name, so it must go by that name among its own, too.
            command.args(["--cluster-announce-hostname", "localhost", "--cluster-preferred-endpoint-type", "hostname"]);
        }
        let process = command.stdout(Stdio::null()).spawn().unwrap();
        let mut redis = Self { kind, processes: vec![process], port };
        wait_until("Redis answers", || redis.ask(certificates, &["PING"]) == "PONG");
        if is_cluster {
            assert_eq!(redis.ask(certificates, &["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]), "OK");
            wait_until("the cluster is up", || {
                redis.ask(certificates, &["CLUSTER", "INFO"]).contains("cluster_state:ok")
            });
        }
        if kind == RedisKind::Sentinel {
            redis.start_sentinel(certificates);
        }
        redis
    }

    /// Its certificate is for a name, so it must give that name.
    fn start_sentinel(&mut self, certificates: &Certificates) {
        let (master, port) = (self.port, free_port());
        let file = certificates.folder().join(format!("sentinel-{port}.conf"));
        let (certificate, key, authority) = (certificates.certificate(), certificates.key(), certificates.authority());
        let settings = format!(
            "bind 127.0.0.1\nport 0\ntls-port {port}\ntls-cert-file {certificate}\ntls-key-file {key}\n\
             tls-ca-cert-file {authority}\ntls-auth-clients no\ntls-replication yes\n\
             sentinel resolve-hostnames yes\nsentinel announce-hostnames yes\nsentinel monitor chat localhost {master} 1\n"
        );
        fs::write(&file, settings).unwrap();
        let mut command = Command::new("redis-server");
        command.arg(file).arg("--sentinel").current_dir(certificates.folder());
        self.processes.push(command.stdout(Stdio::null()).spawn().unwrap());
        self.port = port;
        wait_until("the Sentinel knows the master", || {
            self.ask(certificates, &["INFO", "sentinel"]).contains("status=ok")
        });
    }

    pub(crate) fn url(&self, host: &str) -> String {
        self.kind.url(host, self.port)
    }

    pub(crate) fn kind(&self) -> RedisKind {
        self.kind
    }

    fn ask(&self, certificates: &Certificates, words: &[&str]) -> String {
        let mut cli = Command::new("redis-cli");
        cli.args(["-h", "localhost", "-p", &self.port.to_string(), "--tls", "--cacert", &certificates.authority()]);
        let answer = cli.args(words).output().unwrap().stdout;
        String::from_utf8(answer).unwrap().trim().to_owned()
    }
}

impl RedisKind {
    pub(crate) fn url(self, host: &str, port: u16) -> String {
        match self {
            Self::Single => format!("rediss://{host}:{port}"),
            Self::Cluster => format!("rediss-cluster://{host}:{port}"),
            Self::Sentinel => format!("rediss-sentinel://{host}:{port}?sentinelServiceName=chat"),
        }
    }
}

impl Drop for TlsRedis {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _gone = process.kill();
            let _gone = process.wait();
        }
    }
}

/// Makes the PostgreSQL of a system speak TLS with this certificate, and reject clients without TLS. Returns its URL without a mode.
pub(crate) fn encrypt_postgres(backends: &Stack, certificate: String, certificates: &Certificates) -> String {
    offer_tls(backends, certificate, certificates, "hostssl")
}

/// The same, and `clients` says whom it lets in: `hostssl` those with TLS, `host` all.
pub(crate) fn offer_tls(backends: &Stack, certificate: String, certificates: &Certificates, clients: &str) -> String {
    let folder = backends.data_dir().join("postgres").canonicalize().unwrap();
    let owner = fs::metadata(&folder).unwrap();
    // It reads a key only when the key is its own, and no other account can read it.
    for (from, name) in [(certificate, "server.crt"), (certificates.key(), "server.key")] {
        let to = folder.join(name);
        fs::copy(from, &to).unwrap();
        chown(&to, Some(owner.uid()), Some(owner.gid())).unwrap();
        fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).unwrap();
    }
    fs::write(folder.join("postgresql.auto.conf"), "ssl = on\n").unwrap();
    fs::write(folder.join("pg_hba.conf"), format!("{clients} all all all scram-sha-256\n")).unwrap();
    let env = backends.env();
    backends.kill(env.postgres_pid.unwrap(), Signal::SIGHUP).unwrap();
    env.database_url.replace("127.0.0.1", "localhost")
}

/// Blocks until it holds: these servers have no event for it.
pub(crate) fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let started = std::time::Instant::now();
    while !holds() {
        assert!(started.elapsed() < WAIT_TIMEOUT, "not in time: {what}");
        std::thread::yield_now();
    }
}
