//! A long audit trail: what sends and reads cost, each of which adds a row, and what the trail takes on disk.

use anyhow::Result;

use super::database::{Databases, EMPTY};
use super::load::{Figures, Service, alternating, ratios};
use super::options::GrowthOptions;
use super::targets::Target;
use crate::backends::{Backends, ask_database};
use crate::figures::short;
use crate::jobs::RunOptions;
use crate::load::requests::Requests;
use crate::load::sends::ManyConversations;
use crate::report::Table;

const SENDERS: usize = 64;
const READERS: usize = 16;
const DATABASE: &str = "with_audit_trail";
/// Rows of a chain: a busy process writes so many in a day.
const CHAIN: u64 = 1_000_000;
/// Rows of one statement, which bounds what PostgreSQL sorts and keeps.
const STATEMENT: u64 = 5_000_000;
/// One row in so many tells of a socket and has the id of its event.
const SOCKETS: u64 = 10;

/// The table.
pub(super) fn run(
    options: &RunOptions,
    growth: &GrowthOptions,
    backends: &Backends,
    databases: &Databases,
) -> Result<Table> {
    let url = backends.copy_database(DATABASE, EMPTY)?;
    seed(&url, growth.audit_rows)?;
    let [mut without, mut with]: [[Figures; 2]; 2] = Default::default();
    for round in 1..=options.rounds {
        let turns = [(&databases.empty, &mut without), (&url, &mut with)];
        for (url, figures) in alternating(round, turns) {
            turn(options, backends, databases, url, figures)?;
        }
        eprintln!("  growth, round {round}: audit trail");
    }
    let sizes = ask_database(
        &url,
        "select string_agg(format('`%s` %s', c.relname, round(pg_relation_size(c.oid) / n.rows, 1)), ', ' order by c.relname)
         from pg_class c, (select count(*)::numeric as rows from audit_log) n
         where c.relname in ('audit_log', 'audit_log_pkey', 'audit_log_by_event', 'audit_log_by_time')",
    )?;
    backends.drop_database(DATABASE)?;
    let columns = [
        "requests",
        "a second, short trail",
        "a second, long trail",
        "long to short",
        "CPU of all, µs",
        "of PostgreSQL",
    ];
    let mut table = Table::new("growth-audit", columns);
    for (kind, (without, with)) in ["sends", "history: newest page"].iter().zip(without.iter().zip(&with)) {
        let both = |value: fn(&Figures) -> &crate::figures::Samples| {
            let [a, b] = [without, with].map(|figures| value(figures).median().map_or_else(String::new, short));
            format!("{a}, {b}")
        };
        table.row([
            (*kind).to_owned(),
            without.per_second.show(short),
            with.per_second.show(short),
            ratios(&with.per_second, &without.per_second).show(|ratio| format!("{ratio:.2}×")),
            both(|figures| &figures.cpu),
            both(|figures| &figures.postgres_cpu),
        ]);
    }
    table.note(format!(
        "{} rows in chains of {CHAIN}; the short trail is that of the nearly empty database. The rows have the columns of a send, one in {SOCKETS} \
         those of a socket. Their hashes are random: `audit verify` would name them. Bytes a row: {sizes}.",
        growth.audit_rows
    ));
    Ok(table)
}

/// Loads the rows in the order of their keys, and makes the index of event ids afterwards. The heads have a key that no service
/// has, so no service continues these chains.
fn seed(url: &str, count: u64) -> Result<()> {
    let index = ask_database(url, "select pg_get_indexdef('audit_log_by_event'::regclass)")?;
    let first = ask_database(url, "select coalesce(max(id), 0) from audit_chains")?;
    ask_database(url, "drop index audit_log_by_event")?;
    let mut from = 0;
    while from < count {
        let to = count.min(from + STATEMENT);
        ask_database(url, &rows(&first, from, to - 1))?;
        eprintln!("  growth: {to} audit rows");
        from = to;
    }
    ask_database(
        url,
        &format!(
            "insert into audit_chains (id, key_id, opened_at, n, seal)
             select {first} + c, 'growth', now() - interval '1 year', least({CHAIN}, {count} - (c - 1) * {CHAIN}), sha256(c::text::bytea)
             from generate_series(1, ({count} + {CHAIN} - 1) / {CHAIN}) c;
             set maintenance_work_mem = '1GB';
             {index};
             vacuum (analyze, freeze) audit_log"
        ),
    )?;
    Ok(())
}

fn rows(first_chain: &str, from: u64, to: u64) -> String {
    format!(
        "insert into audit_log (chain, n, at, outcome, conversation_id, event_id, actor, action, acts_for, counterpart, location_id,
             message_ids, detail, request_id, source, mac, text_mac)
         select {first_chain} + 1 + g / {CHAIN}, 1 + g % {CHAIN}, timestamptz '2024-01-01 00:00:00+00' + g * interval '0.3 s',
             case when is_socket then 101 else 201 end, gen_random_uuid(), case when is_socket then gen_random_uuid() end,
             'user:doc-' || g % 3000, case when is_socket then 'connect' else 'send' end, null, 'contact:pat-' || g % 100000,
             'clinic-' || g % 50, case when not is_socket then array[gen_random_uuid()] end, null, gen_random_uuid()::text,
             '10.0.' || g % 200 || '.' || g % 250, sha256(g::text::bytea),
             case when not is_socket then substr(sha256(g::text::bytea), 1, 16) end
         from (select g, g % {SOCKETS} = 0 as is_socket from generate_series({from}::bigint, {to}::bigint) g) x"
    )
}

fn turn(
    options: &RunOptions,
    backends: &Backends,
    databases: &Databases,
    url: &str,
    [sends, reads]: &mut [Figures; 2],
) -> Result<()> {
    let service = Service::start(backends, url)?;
    backends.ask_postgres("checkpoint")?;
    let templates = databases.targets[..SENDERS].iter().map(Target::send).collect::<Result<_>>()?;
    let mut connections = service.connect(SENDERS, ManyConversations::at_random(templates)?)?;
    connections.at_full_speed(options.duration / 3)?;
    service.measure(&mut connections, options.duration, sends)?;
    let pages = databases.targets[..databases.long].iter().map(|target| target.history(None)).collect::<Result<_>>()?;
    let mut connections = service.connect(READERS, Requests::at_random(pages)?)?;
    connections.at_full_speed(options.duration / 3)?;
    service.measure(&mut connections, options.duration, reads).map(drop)
}
