//! What `make seed` runs: fills an empty, migrated database with years of messages, as fast as PostgreSQL takes them.
//!
//! `shape` says who wrote how much to whom and `text` what; `rows` makes it rows, `copy` sends them, `catalog` takes indexes
//! and foreign keys away meanwhile, and `check` counts again what was loaded.

mod catalog;
mod check;
mod copy;
mod rows;
mod shape;
mod text;

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use tokio_postgres::{Client, NoTls};

use shape::Shape;

/// Fills an empty, migrated database with messages
#[derive(Parser)]
struct Arguments {
    /// Messages to load
    #[arg(long, env = "MESSAGES", default_value_t = 50_000_000)]
    messages: u32,
    /// Conversations that they belong to
    #[arg(long, env = "CONVERSATIONS", default_value_t = 1_000_000)]
    conversations: u32,
    /// Where to load them
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: String,
    /// Load with indexes and foreign keys in place: slower, and what the indexes of a database that grew look like
    #[arg(long)]
    keep_indexes: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let (mut client, connection) =
        tokio_postgres::connect(&arguments.database_url, NoTls).await.context("cannot connect to DATABASE_URL")?;
    tokio::spawn(connection);
    for table in catalog::TABLES {
        let row = client.query_one(&format!("select exists (select from {table})"), &[]).await;
        let has_rows: bool = row.context("the database is not migrated")?.try_get(0)?;
        ensure!(!has_rows, "{table} is not empty; only an empty database is filled");
    }
    let start = Instant::now();
    let step = |what: &str| println!("{:7.1} s  {what}", start.elapsed().as_secs_f64());

    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros())?;
    let shape = Shape::new(arguments.messages, arguments.conversations, now)?;
    step("made up who writes to whom");
    let before = catalog::fingerprint(&client).await?;
    load(&mut client, &shape, arguments.keep_indexes, &step).await?;
    client.batch_execute("vacuum (analyze, freeze) conversations, messages").await?;
    step("vacuumed");
    ensure!(catalog::fingerprint(&client).await? == before, "the schema is not what it was before");
    check::consistency(&client, &shape).await?;
    step("the schema is as it was; counters and seq agree with the messages");
    check::sizes(&client, arguments.messages).await
}

/// Loads everything in one transaction: other sessions see an empty database or a full one, and rows of a table that was
/// truncated in the same transaction can be written frozen.
async fn load(client: &mut Client, shape: &Shape, keep_indexes: bool, step: &impl Fn(&str)) -> Result<()> {
    let transaction = client.transaction().await?;
    transaction
        .batch_execute("truncate conversations, messages, outbox; set local maintenance_work_mem = '1GB'")
        .await?;
    let removed = if keep_indexes { Vec::new() } else { catalog::take_away(&transaction).await? };
    copy::conversations(&transaction, shape).await?;
    step("conversations are loaded");
    copy::messages(&transaction, shape).await?;
    step("messages are loaded");
    for part in removed {
        transaction.batch_execute(&part.definition).await?;
        step(&part.name);
    }
    transaction.commit().await?;
    Ok(())
}
