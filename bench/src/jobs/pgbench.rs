//! The database alone, by PostgreSQL's own load generator: what is left when HTTP, tokens and Redis cost nothing.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::backends::{Backends, postgres_program};
use crate::figures::Samples;
use crate::server::{baselines, binaries};

/// One script of bench/baselines/pgbench, and how it is run.
pub(crate) struct Script {
    file: &'static str,
    what: &'static str,
    connections: u32,
    messages: f64,
    /// Messages a second.
    pub(crate) rate: Samples,
}

/// All of them.
pub(crate) fn scripts() -> Vec<Script> {
    let script =
        |file, what, connections, messages| Script { file, what, connections, messages, rate: Samples::default() };
    vec![
        script("single", "one insert", 64, 1.0),
        script("cte", "sequence and insert in one statement", 64, 1.0),
        script("sequenced", "begin, sequence, insert, commit", 64, 1.0),
        script("batch-50", "batches of 50", 1, 50.0),
        script("batch-50", "batches of 50", 8, 50.0),
        script("ours-50", "our statements without the audit trail, batches of 50", 1, 50.0),
        script("ours-50-audit", "our statements, batches of 50", 1, 50.0),
    ]
}

impl Script {
    /// As it is called in a table.
    pub(crate) fn name(&self) -> String {
        format!("pgbench: {}, {} connections", self.what, self.connections).replace(" 1 connections", " 1 connection")
    }

    /// One turn, in a database where no service is at work: ours would publish what the script leaves in the outbox.
    pub(crate) fn run(&mut self, backends: &Backends, duration: Duration) -> Result<()> {
        let is_ours = self.file.starts_with("ours");
        if is_ours {
            backends.migrate(&binaries()?.join("api-service"))?;
        }
        let folder = baselines()?.join("pgbench");
        let setup = folder.join(if is_ours { "setup-ours.sql" } else { "setup.sql" });
        let mut psql = postgres_program("psql")?;
        let made =
            psql.args(["-Xq", "-v", "ON_ERROR_STOP=1", "-d", &backends.database_url, "-f"]).arg(setup).output()?;
        ensure!(made.status.success(), "psql: {}", String::from_utf8_lossy(&made.stderr).trim());

        let (connections, seconds) = (self.connections.to_string(), duration.as_secs().to_string());
        let mut pgbench = postgres_program("pgbench")?;
        pgbench.args(["-n", "-M", "prepared", "-j", "1", "-c", &connections, "-T", &seconds, "-f"]);
        let output = pgbench.arg(folder.join(self.file).with_extension("sql")).arg(&backends.database_url).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let rate = text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse::<f64>().ok());
        let rate = rate.with_context(|| format!("pgbench: {text}{}", String::from_utf8_lossy(&output.stderr)))?;
        self.rate.push(rate * self.messages);
        Ok(())
    }
}

/// Takes away what the scripts have left in our tables.
pub(crate) fn clean_up(backends: &Backends) -> Result<()> {
    backends.ask_postgres("TRUNCATE messages, conversations, outbox").map(drop)
}
