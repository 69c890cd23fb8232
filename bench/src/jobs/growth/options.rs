//! How large the database is, and which parts are measured.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};

/// Disk that one of each takes while it is loaded: its row, its index entries and what sorting them needs.
const BYTES_PER_MESSAGE: u64 = 900;
const BYTES_PER_AUDIT_ROW: u64 = 400;
/// Share of the free disk that may be used.
const PERCENT_OF_FREE_DISK: u64 = 80;

/// Options of `growth` alone.
#[derive(Debug, Clone, Args)]
pub(crate) struct GrowthOptions {
    /// growth: messages in the full database; fewer when the disk is too small
    #[arg(long, env = "MESSAGES", default_value_t = 50_000_000)]
    pub(crate) messages: u64,
    /// growth: conversations that they belong to
    #[arg(long, env = "CONVERSATIONS", default_value_t = 1_000_000)]
    pub(crate) conversations: u64,
    /// growth: conversations that sends are spread over
    #[arg(long, default_value_t = 100_000)]
    pub(crate) targets: usize,
    /// growth: rows of the audit trail; fewer when the disk is too small
    #[arg(long, env = "AUDIT_ROWS", default_value_t = 100_000_000)]
    pub(crate) audit_rows: u64,
    /// growth: revoked tokens
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) revocations: u64,
    /// growth: events that wait in the outbox
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) backlog: u64,
    /// growth: PostgreSQL's memory, comma-separated, each in its turn
    #[arg(long, value_delimiter = ',', default_value = "128MB,2GB")]
    pub(crate) shared_buffers: Vec<String>,
    /// growth: what is measured, comma-separated [default: all]
    #[arg(long, value_delimiter = ',')]
    parts: Vec<Part>,
    /// growth: a folder that keeps the full database for the next run [default: a temporary one]
    #[arg(long)]
    pub(crate) data_dir: Option<PathBuf>,
}

/// One table of `growth`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Sends, reads and marks beside an empty database
    Volume,
    /// A million revoked tokens
    Revocations,
    /// A long audit trail
    Audit,
    /// An outbox that has fallen behind
    Backlog,
}

impl GrowthOptions {
    pub(crate) fn wants(&self, part: Part) -> bool {
        self.parts.is_empty() || self.parts.contains(&part)
    }

    /// With no more than the disk of `folder` holds.
    pub(crate) fn fitting(&self, folder: &Path) -> Result<Self> {
        let disk = nix::sys::statvfs::statvfs(folder).context("cannot ask for the free disk")?;
        self.within(disk.blocks_available() * disk.fragment_size() / 100 * PERCENT_OF_FREE_DISK)
    }

    /// With no more than so many bytes hold. Messages and audit rows are reduced alike.
    fn within(&self, room: u64) -> Result<Self> {
        let mut fitting = self.clone();
        let for_audit = if self.wants(Part::Audit) { self.audit_rows * BYTES_PER_AUDIT_ROW } else { 0 };
        // A kept database has taken its room already.
        let is_filled = self.data_dir.as_ref().is_some_and(|folder| folder.join("postgres").exists());
        let for_messages = if is_filled { 0 } else { self.messages * BYTES_PER_MESSAGE };
        let wanted = for_messages + for_audit;
        if wanted > room {
            let fit = |count: u64| u64::try_from(u128::from(count) * u128::from(room) / u128::from(wanted));
            fitting.audit_rows = fit(self.audit_rows)?;
            if !is_filled {
                fitting.messages = fit(self.messages)?;
                fitting.conversations = fitting.conversations.min(fitting.messages / 10);
            }
            eprintln!("  growth: the disk holds {} messages and {} audit rows", fitting.messages, fitting.audit_rows);
        }
        ensure!(fitting.conversations >= 1_000, "growth needs 1000 conversations with ten messages each");
        fitting.targets = fitting.targets.min(usize::try_from(fitting.conversations)?);
        Ok(fitting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn options() -> GrowthOptions {
        GrowthOptions {
            messages: 50_000_000,
            conversations: 1_000_000,
            targets: 100_000,
            audit_rows: 100_000_000,
            revocations: 1,
            backlog: 1,
            shared_buffers: Vec::new(),
            parts: Vec::new(),
            data_dir: None,
        }
    }

    #[test]
    fn large_disk_changes_nothing() {
        let fitting = options().within(200 * GIB).unwrap();
        assert_eq!((fitting.messages, fitting.audit_rows, fitting.targets), (50_000_000, 100_000_000, 100_000));
    }

    #[test]
    fn small_disk_takes_fewer_rows() {
        let fitting = options().within(GIB).unwrap();
        assert!(fitting.messages * BYTES_PER_MESSAGE + fitting.audit_rows * BYTES_PER_AUDIT_ROW <= GIB);
        assert!(fitting.messages > 600_000 && fitting.audit_rows > 1_200_000, "{fitting:?}");
        assert_eq!(fitting.targets as u64, fitting.conversations, "no more than there are");
        assert!(options().within(GIB / 1_000).is_err());
    }

    #[test]
    fn kept_database_needs_no_room() {
        let folder = std::env::temp_dir().join(format!("bench-growth-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("postgres")).unwrap();
        let kept = GrowthOptions { data_dir: Some(folder.clone()), ..options() };
        let fitting = kept.within(40 * GIB).unwrap();
        std::fs::remove_dir_all(folder).unwrap();
        assert_eq!((fitting.messages, fitting.audit_rows), (50_000_000, 100_000_000));
    }

    #[test]
    fn audit_rows_count_only_when_they_are_wanted() {
        let only_volume = GrowthOptions { parts: vec![Part::Volume], ..options() };
        assert_eq!(only_volume.within(50 * GIB).unwrap().messages, 50_000_000);
    }
}
