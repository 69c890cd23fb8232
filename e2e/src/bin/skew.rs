//! Old and new services together: `OLD=<commit> make skew`. `scripts/skew` builds the old ones.

use std::path::PathBuf;

use anyhow::{Context, Result};

#[tokio::main]
async fn main() -> Result<()> {
    let mut folders = std::env::args_os().skip(1).map(PathBuf::from);
    let usage = "usage: skew FOLDER-OF-OLD-PROGRAMS FOLDER-OF-NEW-PROGRAMS";
    let (old, new) = (folders.next().context(usage)?, folders.next().context(usage)?);
    e2e::skew::run(&old, &new).await?;
    println!("both versions work together");
    Ok(())
}
