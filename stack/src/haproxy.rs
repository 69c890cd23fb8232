//! HAProxy in front: the deployable `deploy/haproxy.cfg` with this system's servers put in.
//! Refuses to know more of that file than its marks, so that what runs here is what is deployed.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signal::Signal;

use crate::data_dir::DataDir;
use crate::program::{self, Program, SECRET_VARIABLES};

const TEMPLATE: &str = include_str!("../../deploy/haproxy.cfg");

/// Descriptors that HAProxy needs beside two for every connection.
const SPARE_DESCRIPTORS: u64 = 500;
/// More connections than this are a matter for a deployment of its own.
const MAX_CONNECTIONS: u64 = 200_000;

/// A proxy that is ready to be started.
#[derive(Debug)]
pub(crate) struct HaProxy {
    binary: PathBuf,
    config: PathBuf,
    log: PathBuf,
    listen: String,
}

impl HaProxy {
    /// Writes the configuration and has HAProxy check it.
    pub(crate) async fn prepare(data: &DataDir, listen: &[SocketAddr], apis: &[u16], gateways: &[u16]) -> Result<Self> {
        let proxy = Self {
            binary: program::find("haproxy").context("haproxy is not installed; scripts/install does it")?,
            config: data.join("haproxy.cfg"),
            log: data.log("haproxy"),
            listen: listen.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        };
        let text = put_servers(&put_servers(TEMPLATE, "apis", "api", apis)?, "gateways", "gateway", gateways)?;
        std::fs::write(&proxy.config, text).context("cannot write haproxy.cfg")?;
        proxy.program("haproxy check").args(["-c", "-q"]).complete().await?;
        Ok(proxy)
    }

    /// The proxy, in the foreground.
    pub(crate) fn server(&self) -> Program {
        self.program("haproxy").args(["-db"])
    }

    fn program(&self, name: &str) -> Program {
        let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(8));
        let mut program = Program::new(name, self.binary.clone(), self.log.clone())
            .args(["-f"])
            .args([&self.config])
            .env("LISTEN", self.listen.clone())
            .env("MAXCONN", connections(hard_descriptor_limit()).to_string())
            .env("THREADS", threads.to_string());
        program.removed_env = [&SECRET_VARIABLES[..], &["REDIS_URL", "GATEWAY_REDIS_URL"]].concat();
        program
    }

    /// Ends it at once; `request_stop` with [`SOFT_STOP`] first lets the open connections finish.
    pub(crate) const HARD_STOP: Signal = Signal::SIGTERM;
}

/// HAProxy's signal for: accept no more, end with the last connection.
pub(crate) const SOFT_STOP: Signal = Signal::SIGUSR1;

fn hard_descriptor_limit() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(_, hard)| hard)
}

/// How many connections fit; HAProxy refuses to start when it is promised more.
fn connections(descriptors: u64) -> u64 {
    (descriptors.saturating_sub(SPARE_DESCRIPTORS) / 2).clamp(100, MAX_CONNECTIONS)
}

/// Replaces the example servers between the marks of a backend.
fn put_servers(template: &str, backend: &str, name: &str, ports: &[u16]) -> Result<String> {
    let (start, end) = (format!("    # servers {backend}\n"), "    # end servers\n");
    let cut = || {
        let (before, rest) = template.split_once(&start)?;
        let (_, after) = rest.split_once(end)?;
        Some((before, after))
    };
    let (before, after) =
        cut().with_context(|| format!("deploy/haproxy.cfg has no marks for the servers of {backend}"))?;
    let servers: String = ports
        .iter()
        .enumerate()
        .map(|(index, port)| format!("    server {name}{} 127.0.0.1:{port} check\n", index + 1))
        .collect();
    Ok([before, &servers, after].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_example_servers_are_replaced() {
        let text = put_servers(TEMPLATE, "apis", "api", &[1001, 1002]).unwrap();
        let text = put_servers(&text, "gateways", "gateway", &[2001]).unwrap();
        let servers: Vec<&str> = text.lines().filter(|line| line.trim_start().starts_with("server ")).collect();
        assert_eq!(
            servers,
            [
                "    server api1 127.0.0.1:1001 check",
                "    server api2 127.0.0.1:1002 check",
                "    server gateway1 127.0.0.1:2001 check"
            ]
        );
        let kept =
            |text: &str| text.lines().filter(|line| !line.contains("server")).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(kept(&text), kept(TEMPLATE));
    }

    #[test]
    fn template_without_marks_is_rejected() {
        assert!(put_servers("backend apis\n", "apis", "api", &[1]).is_err());
    }

    #[test]
    fn connections_follow_descriptor_limit() {
        assert_eq!(connections(20_000), 9_750);
        assert_eq!(connections(0), 100);
        assert_eq!(connections(u64::MAX), MAX_CONNECTIONS);
    }
}
