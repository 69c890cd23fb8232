//! The tables: printed, and written to docs/performance/README.md between the markers of their job, so that a job that runs alone
//! replaces its own table and no other.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// One job's result.
#[derive(Debug)]
pub(crate) struct Table {
    /// The name in the markers.
    pub(crate) job: &'static str,
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
    /// What else is to be known: losses, the generator's ceiling.
    pub(crate) notes: Vec<String>,
}

impl Table {
    pub(crate) fn new<const N: usize>(job: &'static str, columns: [&str; N]) -> Self {
        Self { job, columns: columns.map(str::to_owned).into(), rows: Vec::new(), notes: Vec::new() }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// As Markdown.
    pub(crate) fn markdown(&self) -> String {
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|column| {
                let cells = self.rows.iter().map(|row| row[column].chars().count());
                cells.chain([self.columns[column].chars().count(), 3]).max().unwrap_or_default()
            })
            .collect();
        let line = |cells: &[String]| {
            let cells: Vec<String> = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
        let mut text = line(&self.columns) + &line(&rule);
        self.rows.iter().for_each(|row| text += &line(row));
        for note in &self.notes {
            let _ = write!(text, "\n{note}\n");
        }
        text
    }
}

/// Puts a text between `<!-- bench:NAME -->` and `<!-- /bench:NAME -->` in a file; at its end, when the markers are not there.
pub(crate) fn write(file: &Path, name: &str, text: &str) -> Result<()> {
    let old = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    fs::write(file, replace(&old, name, text)).with_context(|| format!("cannot write {}", file.display()))
}

fn replace(old: &str, name: &str, text: &str) -> String {
    let (open, close) = (format!("<!-- bench:{name} -->"), format!("<!-- /bench:{name} -->"));
    let place = old.find(&open).and_then(|start| {
        let start = start + open.len();
        old[start..].find(&close).map(|end| (start, start + end))
    });
    match place {
        Some((start, end)) => format!("{}\n{}\n{}", &old[..start], text.trim_end(), &old[end..]),
        None => format!("{}\n\n{open}\n{}\n{close}\n", old.trim_end(), text.trim_end()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn job_replaces_only_its_own_table() {
        let old = "# A\n<!-- bench:a -->\nold\n<!-- /bench:a -->\n<!-- bench:b -->\nb\n<!-- /bench:b -->\n";
        let new = replace(old, "a", "new\n");
        assert_eq!(new, "# A\n<!-- bench:a -->\nnew\n<!-- /bench:a -->\n<!-- bench:b -->\nb\n<!-- /bench:b -->\n");
        assert_eq!(replace(&new, "a", "new"), new);
        assert!(replace(&new, "c", "c").ends_with("<!-- bench:c -->\nc\n<!-- /bench:c -->\n"));
    }

    #[test]
    fn table_renders_as_markdown() {
        let mut table = Table::new("x", ["server", "rate"]);
        table.row(["ours".into(), "1".into()]);
        table.note("Nothing was lost.");
        assert_eq!(table.markdown(), "| server | rate |\n| ------ | ---- |\n| ours   | 1    |\n\nNothing was lost.\n");
    }
}
