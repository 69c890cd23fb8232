//! Three Redis Sentinels, which replace a master that dies. They keep what they know in their settings files.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::data_dir::DataDir;
use crate::ports::Ports;
use crate::probe::Probe;
use crate::program::{self, Program, SECRET_VARIABLES};
use crate::redis::{Redis, SENTINEL_FOLDER};
use crate::secret::{load_or_create, write_private};

/// The least that can decide anything with one of them dead.
const SENTINELS: usize = 3;
const QUORUM: usize = 2;
/// By which they know the master.
const MASTER_NAME: &str = "chat";
/// After which a silent master counts as dead, in milliseconds.
const DOWN_AFTER_MS: u32 = 1_500;
/// After which a failover that does not get on is tried again, in milliseconds.
const FAILOVER_TIMEOUT_MS: u32 = 3_000;

/// A Sentinel that is ready to be started.
#[derive(Debug)]
pub(crate) struct Sentinel {
    number: usize,
    binary: PathBuf,
    settings: PathBuf,
    log: PathBuf,
    /// Another one than that of the servers.
    password: String,
    port: u16,
}

impl Sentinel {
    /// Sentinels of these servers, the master first.
    pub(crate) fn prepare(data: &DataDir, ports: &mut Ports, servers: &[Redis]) -> Result<Vec<Self>> {
        let master = servers.first().context("a master for the Sentinels")?;
        let sentinels = (1..=SENTINELS).map(|number| {
            let sentinel = Self {
                number,
                binary: program::find("redis-server")
                    .context("redis-server is not installed; scripts/install does it")?,
                settings: data.join(SENTINEL_FOLDER).join(format!("sentinel-{number}.conf")),
                log: data.log(&format!("sentinel-{number}")),
                password: load_or_create(&data.join("sentinel_password"))?,
                port: ports.free()?,
            };
            // What they knew of the last start is forgotten, since all have new ports.
            write_private(&sentinel.settings, &sentinel.settings(master))?;
            Ok(sentinel)
        });
        sentinels.collect()
    }

    fn settings(&self, master: &Redis) -> String {
        let Self { port, password, .. } = self;
        let (master_port, master_password) = (master.port(), master.password());
        format!(
            "bind 127.0.0.1\nport {port}\nrequirepass {password}\ndaemonize no\nsupervised no\nset-proc-title no\n\
             logfile \"\"\nsentinel monitor {MASTER_NAME} 127.0.0.1 {master_port} {QUORUM}\n\
             sentinel auth-pass {MASTER_NAME} {master_password}\n\
             sentinel down-after-milliseconds {MASTER_NAME} {DOWN_AFTER_MS}\n\
             sentinel failover-timeout {MASTER_NAME} {FAILOVER_TIMEOUT_MS}\n\
             sentinel parallel-syncs {MASTER_NAME} 2\n"
        )
    }

    pub(crate) fn server(&self) -> Program {
        let name = format!("sentinel-{}", self.number);
        let program = Program::new(name, self.binary.clone(), self.log.clone());
        let mut program = program.args([self.settings.as_os_str()]).args(["--sentinel"]);
        program.removed_env = SECRET_VARIABLES.to_vec();
        program
    }

    /// When it knows the replicas and the other Sentinels.
    pub(crate) fn probe(&self) -> Probe {
        let answer = ",slaves=2,sentinels=3";
        Probe::RedisReply { port: self.port, password: self.password.clone(), command: "INFO sentinel", answer }
    }

    pub(crate) fn url(sentinels: &[Self], servers: &[Redis]) -> String {
        let (Some((first, others)), Some(server)) = (sentinels.split_first(), servers.first()) else {
            return String::new();
        };
        let others: String = others.iter().map(|other| format!("&node=127.0.0.1:{}", other.port)).collect();
        format!(
            "redis-sentinel://default:{}@127.0.0.1:{}?sentinelServiceName={MASTER_NAME}&sentinelPassword={}{others}",
            server.password(),
            first.port,
            first.password
        )
    }
}
