//! A private Redis: one server, a cluster of three masters, with a replica each or without, or a master with two replicas for
//! Sentinels. Keeps no data on disk: PostgreSQL is the truth, and a Redis that comes back empty is a case the services must handle every day.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::data_dir::{DataDir, remove_file};
use crate::ports::Ports;
use crate::probe::Probe;
use crate::program::{self, Program, SECRET_VARIABLES};
use crate::secret::{load_or_create, write_private};

/// Masters of a cluster: the least that it can decide anything with.
const MASTERS: usize = 3;
/// After which a silent node of a cluster counts as dead, in milliseconds; its replica takes over soon after.
const NODE_TIMEOUT_MS: u32 = 1_500;

/// The settings files that servers with Sentinels rewrite. Redis makes them readable for all, so their folder is private.
pub(crate) const SENTINEL_FOLDER: &str = "sentinel";
/// Servers of which Sentinels choose the master.
const REPLICATED_SERVERS: usize = 3;

/// A server that is ready to be started.
#[derive(Debug)]
pub(crate) struct Redis {
    binary: PathBuf,
    folder: PathBuf,
    log: PathBuf,
    password: String,
    port: u16,
    /// In a cluster: its place there.
    node: Option<Node>,
    /// With Sentinels: its place among the servers.
    replication: Option<Replication>,
}

/// What makes a server one of which Sentinels choose the master.
#[derive(Debug, Clone, Copy)]
struct Replication {
    number: usize,
    /// The port of the first master, of its replicas.
    replica_of: Option<u16>,
}

/// What makes a server a node of a cluster.
#[derive(Debug, Clone, Copy)]
struct Node {
    number: usize,
    /// Where the other nodes reach it.
    bus: u16,
    layout: Layout,
}

/// What is wanted of a cluster.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    /// Nodes tell clients the ports of the others and no addresses.
    pub(crate) by_port: bool,
    /// One replica per master. Without, none takes over from a master that dies, and the others serve on.
    pub(crate) has_replicas: bool,
}

impl Redis {
    pub(crate) fn prepare(data: &DataDir, port: u16) -> Result<Self> {
        Ok(Self {
            binary: program::find("redis-server").context("redis-server is not installed; scripts/install does it")?,
            folder: data.path().to_path_buf(),
            log: data.log("redis"),
            password: load_or_create(&data.join("redis_password"))?,
            port,
            node: None,
            replication: None,
        })
    }

    /// A master and its replicas, for Sentinels.
    pub(crate) fn prepare_replicated(data: &DataDir, ports: &mut Ports) -> Result<Vec<Self>> {
        create_private_folder(&data.join(SENTINEL_FOLDER))?;
        let mut servers: Vec<Self> = Vec::new();
        for number in 1..=REPLICATED_SERVERS {
            let replication = Replication { number, replica_of: servers.first().map(|master| master.port) };
            let log = data.log(&format!("redis-{number}"));
            servers.push(Self { log, replication: Some(replication), ..Self::prepare(data, ports.free()?)? });
        }
        for server in &servers {
            write_private(&server.settings_file(), &server.settings())?;
        }
        Ok(servers)
    }

    /// When a replica has what its master has.
    pub(crate) fn replication_probe(&self) -> Probe {
        let is_replica = self.replication.is_some_and(|replication| replication.replica_of.is_some());
        let answer = if is_replica { "master_link_status:up" } else { "role:master" };
        Probe::RedisReply { port: self.port, password: self.password.clone(), command: "INFO replication", answer }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn password(&self) -> &str {
        &self.password
    }

    /// The nodes of a cluster, masters first. What they knew of each other is forgotten, since they have new ports.
    pub(crate) fn prepare_cluster(data: &DataDir, ports: &mut Ports, layout: Layout) -> Result<Vec<Self>> {
        let count = if layout.has_replicas { MASTERS * 2 } else { MASTERS };
        let nodes = (1..=count).map(|number| {
            let (port, bus) = (ports.free()?, ports.free()?);
            remove_file(&data.join(&node_file(number)))?;
            let log = data.log(&format!("redis-{number}"));
            Ok(Self { log, node: Some(Node { number, bus, layout }), ..Self::prepare(data, port)? })
        });
        nodes.collect()
    }

    /// Makes a cluster of nodes that run.
    pub(crate) fn creation(data: &DataDir, nodes: &[Self]) -> Result<Program> {
        let cli = program::find("redis-cli").context("redis-cli is not installed; scripts/install does it")?;
        let mut program = Program::new("redis-cli --cluster create", cli, data.log("redis-create"))
            .args(["--no-auth-warning", "--cluster", "create"])
            .args(nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)))
            .args(["--cluster-replicas", if nodes.len() > MASTERS { "1" } else { "0" }, "--cluster-yes"]);
        if let Some(node) = nodes.first() {
            program = program.env("REDISCLI_AUTH", &node.password);
        }
        Ok(program)
    }

    /// When the nodes are a cluster, each as it is to be: a master with its replica, or any that knows who serves what.
    pub(crate) fn cluster_probe(&self) -> Probe {
        let has_replica = self.node.is_some_and(|node| node.layout.has_replicas && node.number <= MASTERS);
        let (command, answer) =
            if has_replica { ("INFO replication", "state=online") } else { ("CLUSTER INFO", "cluster_state:ok") };
        Probe::RedisReply { port: self.port, password: self.password.clone(), command, answer }
    }

    pub(crate) fn cluster_url(nodes: &[Self]) -> String {
        let Some((first, others)) = nodes.split_first() else { return String::new() };
        let others: Vec<String> = others.iter().map(|node| format!("node=127.0.0.1:{}", node.port)).collect();
        format!("redis-cluster://default:{}@127.0.0.1:{}?{}", first.password, first.port, others.join("&"))
    }

    /// The server; its settings go through standard input, where no process list shows the password.
    pub(crate) fn server(&self) -> Program {
        let number = self.node.map(|node| node.number).or(self.replication.map(|replication| replication.number));
        let name = number.map_or("redis".to_owned(), |number| format!("redis-{number}"));
        let mut program = Program::new(name, self.binary.clone(), self.log.clone());
        if self.replication.is_some() {
            program = program.args([self.settings_file()]);
        } else {
            program = program.args(["-"]);
            program.input = self.settings();
        }
        program.folder = Some(self.folder.clone());
        program.removed_env = SECRET_VARIABLES.to_vec();
        program
    }

    /// Sentinels have a server write its role there. One that was dead meanwhile comes back in the role that it had, and calls
    /// itself a master until they see it.
    fn settings_file(&self) -> PathBuf {
        let number = self.replication.map_or(0, |replication| replication.number);
        self.folder.join(SENTINEL_FOLDER).join(format!("redis-{number}.conf"))
    }

    fn settings(&self) -> String {
        let Self { port, password, .. } = self;
        // `set-proc-title no`: the title would overwrite the environment that marks our processes.
        let mut settings = format!(
            "bind 127.0.0.1\nport {port}\nrequirepass {password}\nsave \"\"\nappendonly no\n\
             daemonize no\nsupervised no\nset-proc-title no\nlogfile \"\"\n"
        );
        if let Some(Node { number, bus, layout: Layout { by_port, has_replicas } }) = self.node {
            let file = node_file(number);
            // A replica's copy of its master passes through a file, which no other node and no restart may take for its own.
            settings += &format!(
                "cluster-enabled yes\ncluster-config-file {file}\ncluster-port {bus}\nmasterauth {password}\n\
                 cluster-node-timeout {NODE_TIMEOUT_MS}\ncluster-replica-validity-factor 0\n\
                 repl-diskless-sync-delay 0\ndbfilename redis-{number}.rdb\nrdb-del-sync-files yes\n"
            );
            if !has_replicas {
                settings += "cluster-require-full-coverage no\n";
            }
            if by_port {
                settings += "cluster-preferred-endpoint-type unknown-endpoint\n";
            }
        }
        if let Some(Replication { number, replica_of }) = self.replication {
            settings += &format!(
                "masterauth {password}\nrepl-diskless-sync-delay 0\ndbfilename redis-{number}.rdb\nrdb-del-sync-files yes\n"
            );
            if let Some(master) = replica_of {
                settings += &format!("replicaof 127.0.0.1 {master}\n");
            }
        }
        settings
    }

    pub(crate) fn probe(&self) -> Probe {
        Probe::Redis { port: self.port, password: self.password.clone() }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://default:{}@127.0.0.1:{}", self.password, self.port)
    }
}

fn create_private_folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))?;
    std::fs::set_permissions(path, Permissions::from_mode(0o700))?;
    Ok(())
}

/// What a node knows of the others, so that a restart does not make it a stranger.
fn node_file(number: usize) -> String {
    format!("redis-{number}.nodes")
}
