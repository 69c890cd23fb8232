//! Sends, pages and marks on a full database, in turns with a nearly empty one.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::RngExt;
use shared::contract::participant::ParticipantKind;

use super::database::Databases;
use super::load::{Figures, Service, alternating, ratios};
use super::options::GrowthOptions;
use super::targets::{Target, busiest_users, inbox, text_field};
use crate::backends::{Backends, ask_database};
use crate::figures::short;
use crate::jobs::RunOptions;
use crate::load::requests::{Requests, answer, put};
use crate::load::sends::ManyConversations;
use crate::participants::Side;
use crate::report::Table;

/// Connections that send.
const SENDERS: usize = 64;
/// Conversations that are hot: they write again and again.
const HOT: usize = 64;
/// Connections that read or mark.
const READERS: usize = 16;
/// Users whose inboxes are read, those with most conversations.
const INBOXES: usize = 20;
/// Pages of an inbox that are read.
const INBOX_PAGES: usize = 10;
/// Positions in the longest conversation.
const DEPTHS: usize = 2_000;
/// Messages that may be marked in a turn.
const MARKS: usize = 60_000;
const WARM_UP: Duration = Duration::from_secs(1);
/// Sends over all conversations last so many times as long as the other measurements: they change most pages.
const LONGER: u32 = 3;
/// Of the rate on the nearly empty database.
const TARGET_RATIO: f64 = 0.9;

/// What is measured, in this order.
const KINDS: [&str; 7] = [
    "sends into 64 conversations",
    "sends into all conversations",
    "history: newest page",
    "history: a page at any depth of the longest conversation",
    "inbox: first page",
    "inbox: a page at any depth",
    "marks: one message read",
];

/// Both databases.
#[derive(Default)]
struct Sides {
    empty: [Figures; KINDS.len()],
    full: [Figures; KINDS.len()],
}

/// The table.
pub(super) fn run(
    options: &RunOptions,
    growth: &GrowthOptions,
    backends: &mut Backends,
    databases: &Databases,
) -> Result<Table> {
    let mut all: Vec<(&String, Sides)> = growth.shared_buffers.iter().map(|size| (size, Sides::default())).collect();
    for round in 1..=options.rounds {
        for (shared_buffers, sides) in &mut all {
            backends.restart_postgres(shared_buffers)?;
            let turns = [(&databases.empty, &mut sides.empty), (&databases.full, &mut sides.full)];
            for (url, figures) in alternating(round, turns) {
                turn(options.duration, backends, databases, url, figures)?;
            }
            let ratio = ratios(&sides.full[1].per_second, &sides.empty[1].per_second);
            eprintln!("  growth, round {round}, {shared_buffers}: sends × {:.2}", ratio.last().unwrap_or(f64::NAN));
        }
    }
    Ok(table(&all, databases))
}

fn table(all: &[(&String, Sides)], databases: &Databases) -> Table {
    let mut table = Table::new(
        "growth-volume",
        [
            "requests",
            "shared_buffers",
            "a second, nearly empty",
            "a second, full",
            "full to empty",
            "by CPU",
            "p50, ms: empty, full",
            "p99, ms: empty, full",
            "CPU of all, µs: empty, full",
            "of PostgreSQL",
            "WAL bytes: empty, full",
        ],
    );
    let times = |ratio: f64| format!("{ratio:.2}×");
    let mut missed = Vec::new();
    for (place, kind) in KINDS.iter().enumerate() {
        for (shared_buffers, Sides { empty, full }) in all {
            let (empty, full) = (&empty[place], &full[place]);
            let ratio = ratios(&full.per_second, &empty.per_second);
            let both = |value: fn(&Figures) -> &crate::figures::Samples| {
                let show = |figures| value(figures).median().map_or_else(|| "–".to_owned(), short);
                format!("{}, {}", show(empty), show(full))
            };
            if ratio.median().is_none_or(|ratio| ratio < TARGET_RATIO) {
                missed.push(format!("{kind} at {shared_buffers}"));
            }
            table.row([
                (*kind).to_owned(),
                (*shared_buffers).clone(),
                empty.per_second.show(short),
                full.per_second.show(short),
                ratio.show(times),
                ratios(&empty.cpu, &full.cpu).show(times),
                both(|figures| &figures.p50),
                both(|figures| &figures.p99),
                both(|figures| &figures.cpu),
                both(|figures| &figures.postgres_cpu),
                both(|figures| &figures.wal_bytes),
            ]);
        }
    }
    table.note(format!("Full: {}.", databases.description));
    table.note(format!(
        "{SENDERS} connections send, {READERS} read or mark, as fast as answers come; no gateway runs, so no conversation has an event log. Every \
         send has a `client_message_id` in the order of time. Pages have 50 rows. A checkpoint precedes each turn. \"By CPU\" is the rate that the CPU time of all processes would allow."
    ));
    table.note(match missed.is_empty() {
        true => format!("Target {TARGET_RATIO}: met by all."),
        false => format!("Target {TARGET_RATIO}: missed by {}.", missed.join("; ")),
    });
    table
}

/// All measurements on one database.
fn turn(
    duration: Duration,
    backends: &Backends,
    databases: &Databases,
    url: &str,
    figures: &mut [Figures; KINDS.len()],
) -> Result<()> {
    let service = Service::start(backends, url)?;
    let [hot, spread, newest, deep, inbox, deep_inbox, marks] = figures;
    backends.ask_postgres("checkpoint")?;
    for (targets, duration, figures) in
        [(&databases.targets[..HOT], duration, hot), (&databases.targets[..], duration * LONGER, spread)]
    {
        let templates = targets.iter().map(Target::send).collect::<Result<_>>()?;
        let mut connections = service.connect(SENDERS, ManyConversations::at_random(templates)?)?;
        connections.at_full_speed(WARM_UP)?;
        service.measure(&mut connections, duration, figures)?;
    }
    let read = |requests: Vec<Vec<u8>>, field: &str, figures: &mut Figures| -> Result<()> {
        let page = answer(service.server.address, requests.last().context("nothing to read")?)?;
        let rows = page.matches(&format!("\"{field}\":")).count();
        ensure!(rows == 50, "a page has {rows} rows of 50");
        let mut connections = service.connect(READERS, Requests::at_random(requests)?)?;
        connections.at_full_speed(WARM_UP)?;
        service.measure(&mut connections, duration, figures).map(drop)
    };
    let long = &databases.targets[..databases.long];
    read(long.iter().map(|target| target.history(None)).collect::<Result<_>>()?, "seq", newest)?;
    read(any_depth(url)?, "seq", deep)?;
    let users = busiest_users(&databases.targets, INBOXES);
    let InboxPages { first, further } = inboxes(&service, &users)?;
    read(first, "unread_count", inbox)?;
    read(further, "unread_count", deep_inbox)?;
    mark(&service, url, duration, marks)
}

/// Pages of the longest conversation.
fn any_depth(url: &str) -> Result<Vec<Vec<u8>>> {
    let longest = Target::read(url, "order by last_seq desc limit 1")?.into_iter().next().context("no conversation")?;
    let mut random = rand::rng();
    (0..DEPTHS).map(|_| longest.history(Some(random.random_range(51..=longest.last_seq)))).collect()
}

/// Requests for whole pages of inboxes.
#[derive(Default)]
struct InboxPages {
    first: Vec<Vec<u8>>,
    /// Those behind the first one.
    further: Vec<Vec<u8>>,
}

fn inboxes(service: &Service<'_>, users: &[Side<'_>]) -> Result<InboxPages> {
    let mut all = InboxPages::default();
    for user in users {
        let mut request = inbox(user, None)?;
        let mut page = answer(service.server.address, &request)?;
        let mut pages = vec![request];
        while pages.len() < INBOX_PAGES
            && let Some(cursor) = text_field(&page, "next_cursor")?.map(str::to_owned)
        {
            request = inbox(user, Some(&cursor))?;
            page = answer(service.server.address, &request)?;
            pages.push(request);
        }
        // The last page may be short.
        pages.pop();
        let mut pages = pages.into_iter();
        all.first.extend(pages.next());
        all.further.extend(pages);
    }
    ensure!(!all.further.is_empty(), "no inbox has three pages; at least 100,000 conversations are needed");
    Ok(all)
}

/// Contacts mark the newest message of their conversations, which earlier sends of this turn left unread.
fn mark(service: &Service<'_>, url: &str, duration: Duration, figures: &mut Figures) -> Result<()> {
    let unread = format!(
        "set enable_hashjoin = off; set enable_mergejoin = off;
         select m.id, c.location_id, c.contact_id
         from conversations c join messages m on m.conversation_id = c.id and m.seq = c.last_seq
         where c.last_activity_at > now() - interval '1 hour' and c.contact_id is not null
             and m.read_at is null and m.receiver_contact_id is not null
         limit {MARKS}"
    );
    let rows = ask_database(url, &unread)?;
    let (mut ids, mut requests) = (Vec::new(), Vec::new());
    for row in rows.lines() {
        let [id, location, contact] = row.split('|').collect::<Vec<_>>()[..] else { continue };
        let contact = Side { location, kind: ParticipantKind::Contact, name: contact };
        requests.push(put("/chat/read", &format!(r#"{{"message_ids":["{id}"]}}"#), &contact)?);
        ids.push(id);
    }
    ensure!(!ids.is_empty(), "there is nothing to mark");
    let mut connections = service.connect(READERS, Requests::once(requests))?;
    service.measure(&mut connections, duration, figures)?;
    let marked = &ids[..connections.source.sent()];
    let read =
        format!("select count(*) from messages where id = any('{{{}}}') and read_at is not null", marked.join(","));
    let read: usize = ask_database(url, &read)?.parse()?;
    ensure!(read == marked.len(), "{read} of {} messages were marked", marked.len());
    Ok(())
}
