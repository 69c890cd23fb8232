//! What years of use cost: over HTTP, on a database with millions of messages in turns with a nearly empty one; then with a
//! million revoked tokens, with a long audit trail, and while the outbox is behind.

mod audit_trail;
mod backlog;
mod database;
mod load;
mod options;
mod revocations;
mod targets;
mod volume;

use anyhow::{Context, Result};

use crate::backends::Backends;
use crate::jobs::RunOptions;
use crate::report::Table;
use database::Databases;
pub(crate) use options::GrowthOptions;
use options::Part;

/// The tables that are wanted.
pub(crate) fn run(options: &RunOptions, growth: &GrowthOptions) -> Result<Vec<Table>> {
    let folder = growth.data_dir.clone().unwrap_or_else(std::env::temp_dir);
    let existing = folder.ancestors().find(|folder| folder.is_dir()).context("no folder for the database")?;
    let growth = growth.fitting(existing)?;
    let mut backends = Backends::start_in(growth.data_dir.clone())?;
    let databases = Databases::prepare(&backends, &growth)?;
    let mut tables = Vec::new();
    if growth.wants(Part::Volume) {
        tables.push(volume::run(options, &growth, &mut backends, &databases)?);
    }
    if growth.wants(Part::Revocations) {
        tables.push(revocations::run(options, &growth, &backends, &databases)?);
    }
    if growth.wants(Part::Audit) {
        tables.push(audit_trail::run(options, &growth, &backends, &databases)?);
    }
    if growth.wants(Part::Backlog) {
        tables.push(backlog::run(options, &growth, &backends, &databases)?);
    }
    backends.stop()?;
    Ok(tables)
}
