//! The command line: which jobs, on which options, and who is measured.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use clap::{Parser, ValueEnum};

use crate::api_targets::ApiTarget;
use crate::gateway_targets::GatewayTarget;
use crate::jobs::RunOptions;
use crate::jobs::growth::GrowthOptions;
use crate::server::baselines;

/// Measures the chat and its baselines side by side
#[derive(Debug, Parser)]
pub(crate) struct Arguments {
    /// What to measure; everything but growth when not given
    pub(crate) jobs: Vec<Job>,
    /// How often every peer has its turn; tables show medians
    #[arg(long, default_value_t = 3)]
    pub(crate) rounds: usize,
    /// Seconds of one measurement
    #[arg(long, default_value_t = 3)]
    pub(crate) seconds: u64,
    /// Who is measured: `ours` and names of bench/baselines, comma-separated [default: all that are installed]
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Another build of ws-gateway, measured in turn with this one; relay, idle and handshake
    #[arg(long)]
    other_gateway: Option<PathBuf>,
    /// Another build of api-service, measured in turn with this one; write
    #[arg(long)]
    other_api: Option<PathBuf>,
    /// Sockets, in place of what relay, idle and storm have by themselves
    #[arg(long)]
    pub(crate) sockets: Option<usize>,
    /// With --sockets: idle sockets spread over so many gateways
    #[arg(long, requires = "sockets")]
    pub(crate) gateways: Option<usize>,
    /// A Markdown file in which the tables are put in their places; they are printed too
    #[arg(long)]
    pub(crate) report: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) growth: GrowthOptions,
    #[arg(long, hide = true)]
    pub(crate) address: Option<SocketAddr>,
    #[arg(long, hide = true, default_value_t = 0)]
    pub(crate) first: usize,
}

/// What can be measured; the hidden ones are processes of the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Job {
    /// Redis event → sockets, in pairs and as a broadcast
    Relay,
    /// What a silent socket costs
    Idle,
    /// How fast sockets open
    Handshake,
    /// POST → row on disk → event in Redis
    Write,
    /// POST → frame at the receiver, through HAProxy
    E2e,
    /// A gateway dies, and all its sockets resume at another
    Storm,
    /// The same work with more instances
    Scaling,
    /// Requests to a database with millions of messages, beside an empty one
    Growth,
    #[value(hide = true)]
    Respond,
    #[value(hide = true)]
    Hold,
}

impl Job {
    /// As it is written on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

impl Arguments {
    /// The jobs, in their order. Growth takes an hour and much of the disk, so it runs only by name.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = Job> {
        let all = Job::value_variants().iter().copied();
        all.filter(|job| self.jobs.contains(job) || (self.jobs.is_empty() && *job != Job::Growth))
    }

    /// Options of every job.
    pub(crate) fn options(&self) -> Result<RunOptions> {
        ensure!(self.rounds > 0 && self.seconds > 0, "at least one round of one second");
        let installed = installed()?;
        let wants = |name: &str| self.only.is_empty() || self.only.iter().any(|only| only == name);
        for only in &self.only {
            let is_known = only == "ours" || installed.iter().any(|(name, _)| name == only);
            ensure!(is_known, "{only} is not installed: bench/baselines/install");
        }
        let mut relays: Vec<_> = wants("ours").then_some(GatewayTarget::Ours).into_iter().collect();
        let mut writers: Vec<_> = wants("ours").then_some(ApiTarget::Ours).into_iter().collect();
        relays.extend(self.other_gateway.clone().map(GatewayTarget::OtherBuild));
        writers.extend(self.other_api.clone().map(ApiTarget::OtherBuild));
        writers.extend(wants("ours").then_some(ApiTarget::OursNoSubscribers));
        writers.extend(wants("ours").then_some(ApiTarget::OursFirstMessages));
        writers.extend(wants("ours").then_some(ApiTarget::OursEncrypted));
        writers.extend(wants("ours").then_some(ApiTarget::OursBehindHaproxy));
        for (name, kind) in installed.into_iter().filter(|(name, _)| wants(name)) {
            match kind.as_str() {
                "relay" if name != "nchan-publisher" => relays.push(GatewayTarget::Baseline(name)),
                "write" => writers.push(ApiTarget::Baseline(name)),
                _ => {}
            }
        }
        Ok(RunOptions {
            rounds: self.rounds,
            duration: Duration::from_secs(self.seconds),
            relays,
            writers,
            sockets: self.sockets,
        })
    }
}

/// Name and kind of every baseline that can run here. The others are named, with what they lack.
fn installed() -> Result<Vec<(String, String)>> {
    let output = Command::new(baselines()?.join("run")).arg("--list").output()?;
    let mut installed = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        match line.split('\t').collect::<Vec<_>>()[..] {
            [name, kind, "ok"] => installed.push((name.to_owned(), kind.to_owned())),
            [name, _, missing] => eprintln!("without {name}: {missing}"),
            _ => bail!("bench/baselines/run --list says {line:?}"),
        }
    }
    Ok(installed)
}
