//! What `make bench` runs: measures the system, and the baselines beside it, on one machine in one run.
//!
//! `jobs` are what is measured, `load` is the load. `api_targets` and `gateway_targets` are the measured servers. `backends` are
//! the PostgreSQL and Redis that all share, `redis` a client of the latter. `server` is a process under measurement, `process` is
//! what the kernel counts of it. `participants` have tokens and messages, and `stamp` marks a message with its time. `figures` are
//! medians and percentiles, `report` the tables, `machine` what they were measured on.

mod api_targets;
mod backends;
mod cli;
mod figures;
mod gateway_targets;
mod jobs;
mod load;
mod machine;
mod participants;
mod process;
mod redis;
mod report;
mod server;
mod stamp;

use anyhow::{Context, Result};
use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use backends::Backends;
use cli::{Arguments, Job};
use jobs::{RunOptions, e2e, growth, handshake, idle, idle_many, relay, scaling, storm, write};
use report::Table;

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    match arguments.jobs.as_slice() {
        [Job::Respond] => load::responder::serve(arguments.address.context("--address is missing")?),
        [Job::Hold] => {
            let address = arguments.address.context("--address is missing")?;
            idle_many::hold(address, arguments.first, arguments.sockets.context("--sockets is missing")?)
        }
        _ => measure(&arguments),
    }
}

fn measure(arguments: &Arguments) -> Result<()> {
    let options = arguments.options()?;
    let backends = Backends::start()?;
    let machine = machine::describe(arguments.rounds, arguments.seconds);
    for job in arguments.wanted() {
        let job_name = job.name();
        eprintln!("{job_name}");
        for table in tables(job, arguments, &options, &backends).with_context(|| format!("{job_name} failed"))? {
            let text = format!("{machine}\n\n{}", table.markdown());
            println!("\n## {}\n\n{text}", table.job);
            if let Some(file) = &arguments.report {
                report::write(file, table.job, &text)?;
            }
        }
    }
    backends.stop()
}

fn tables(job: Job, arguments: &Arguments, options: &RunOptions, backends: &Backends) -> Result<Vec<Table>> {
    match job {
        Job::Relay => relay::run(options, backends),
        Job::Idle => match (arguments.sockets, arguments.gateways) {
            (Some(sockets), Some(gateways)) => idle_many::run(sockets, gateways, backends),
            _ => idle::run(options, backends),
        },
        Job::Handshake => handshake::run(options, backends),
        Job::Write => write::run(options, backends),
        Job::E2e => e2e::run(options),
        Job::Storm => storm::run(options),
        Job::Scaling => scaling::run(options, backends),
        Job::Growth => growth::run(options, &arguments.growth),
        Job::Respond | Job::Hold => Ok(Vec::new()),
    }
}
