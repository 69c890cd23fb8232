//! The two databases that take turns, in one PostgreSQL: the full one, and one with the same conversations and hardly a message.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::load::{Service, binary};
use super::options::GrowthOptions;
use super::targets::Target;
use crate::backends::{Backends, ask_database};
use crate::load::sends::ManyConversations;
use crate::server::binaries;

/// Name of the database that is nearly empty.
pub(super) const EMPTY: &str = "nearly_empty";
/// Messages in a conversation whose newest page is read: more than a page has.
const LONG: u64 = 60;
/// How many of those conversations there are.
const LONG_CONVERSATIONS: usize = 1_000;
/// Messages in the longest conversation of the empty database, which are read at any depth.
const LONGEST: usize = 1_000;
/// For sends that prepare a database.
const TIMEOUT: Duration = Duration::from_secs(1_800);
const CONNECTIONS: usize = 64;

/// Both, and the conversations that are measured in both.
pub(super) struct Databases {
    pub(super) full: String,
    pub(super) empty: String,
    /// Conversations that sends are spread over. The first ones have a page of messages in either database.
    pub(super) targets: Vec<Target>,
    pub(super) long: usize,
    pub(super) messages: u64,
    pub(super) description: String,
}

impl Databases {
    /// Fills what is not filled yet.
    pub(super) fn prepare(backends: &Backends, options: &GrowthOptions) -> Result<Self> {
        let full = backends.database_url.clone();
        backends.migrate(&binary()?)?;
        if ask_database(&full, "select exists (select from conversations)")? == "f" {
            seed(&full, options)?;
        }
        let count = |what: &str| -> Result<u64> {
            Ok(ask_database(&full, &format!("select {what} from conversations"))?.parse()?)
        };
        let (messages, conversations) = (count("sum(last_seq)::bigint")?, count("count(*)")?);
        // Ids are hashes, so their order has nothing to do with places on the disk.
        let long = format!("(last_seq >= {LONG})");
        let rest = format!("order by {long} desc, id limit {}", options.targets);
        let by_length = Target::read(&full, &rest)?;
        let (mut targets, others): (Vec<_>, Vec<_>) = by_length.into_iter().partition(|target| target.last_seq >= LONG);
        let spare = targets.split_off(targets.len().min(LONG_CONVERSATIONS));
        let long = targets.len();
        ensure!(long > 0, "no conversation has {LONG} messages");
        targets.extend(spare.into_iter().chain(others));
        // One of an earlier run has other conversations.
        backends.drop_database(EMPTY)?;
        let empty = backends.database(EMPTY, &binary()?)?;
        fill_nearly_empty(backends, &empty, &targets, long)?;
        let size = |url| ask_database(url, "select pg_size_pretty(pg_database_size(current_database()))");
        let description = format!(
            "{messages} messages in {conversations} conversations ({}); the nearly empty database had {} messages in {} of them ({})",
            size(&full)?,
            ask_database(&empty, "select sum(last_seq)::bigint from conversations")?,
            targets.len(),
            size(&empty)?
        );
        Ok(Self { full, empty, targets, long, messages, description })
    }
}

fn seed(url: &str, options: &GrowthOptions) -> Result<()> {
    let mut seed = Command::new(binaries()?.join("seed"));
    seed.env("DATABASE_URL", url).args(["--messages", &options.messages.to_string()]);
    let status = seed.args(["--conversations", &options.conversations.to_string()]).status();
    ensure!(status.context("cannot start seed")?.success(), "the database was not filled");
    Ok(())
}

/// The service itself opens the conversations, with a message each.
fn fill_nearly_empty(backends: &Backends, url: &str, targets: &[Target], long: usize) -> Result<()> {
    let service = Service::start(backends, url)?;
    let mut places: Vec<usize> = (0..targets.len()).collect();
    places.extend((0..LONG as usize).flat_map(|_| 0..long));
    places.extend(std::iter::repeat_n(0, LONGEST));
    let expected = places.len() as u64;
    let templates = targets.iter().map(Target::send).collect::<Result<_>>()?;
    let mut connections = service.connect(CONNECTIONS, ManyConversations::listed(templates, places)?)?;
    let sent = connections.at_full_speed(TIMEOUT)?;
    ensure!(sent.answered == expected, "{} of {expected} messages were sent within the time", sent.answered);
    let rate = sent.answered as f64 / sent.elapsed.as_secs_f64();
    eprintln!("  growth: {expected} messages into the nearly empty database, {rate:.0} a second");
    ask_database(url, "vacuum (analyze)").map(drop)
}
