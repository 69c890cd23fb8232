//! A million revoked tokens: how long services take to start, what they hold, and what sends cost.

use anyhow::{Context, Result};

use super::database::{Databases, EMPTY};
use super::load::{Figures, Service, alternating, ratios};
use super::options::GrowthOptions;
use super::targets::Target;
use crate::backends::{Backends, ask_database};
use crate::figures::{Samples, short};
use crate::jobs::RunOptions;
use crate::load::sends::ManyConversations;
use crate::redis::RedisClient;
use crate::report::Table;
use crate::server::{Server, binaries};

const CONNECTIONS: usize = 64;
const DATABASE: &str = "with_revocations";
/// One in so many revokes all tokens of a subject, the others one token each.
const SUBJECTS: u64 = 10;

#[derive(Default)]
struct Services {
    sends: Figures,
    api_ready: Samples,
    gateway_ready: Samples,
    api_mib: Samples,
    gateway_mib: Samples,
    redis_mib: Samples,
}

/// The table.
pub(super) fn run(
    options: &RunOptions,
    growth: &GrowthOptions,
    backends: &Backends,
    databases: &Databases,
) -> Result<Table> {
    let revoked = backends.copy_database(DATABASE, EMPTY)?;
    ask_database(&revoked, &seed(growth.revocations))?;
    let [mut without, mut with] = [Services::default(), Services::default()];
    for round in 1..=options.rounds {
        let turns = [(&databases.empty, &mut without), (&revoked, &mut with)];
        for (url, services) in alternating(round, turns) {
            turn(options, backends, databases, url, services)?;
        }
        eprintln!("  growth, round {round}: revocations");
    }
    backends.drop_database(DATABASE)?;
    let mut table = Table::new("growth-revocations", ["what", "none", "with revocations", "ratio"]);
    let mut row = |what: &str, value: fn(&Services) -> &Samples| {
        let ratio = ratios(value(&with), value(&without)).show(|ratio| format!("{ratio:.2}×"));
        table.row([what.to_owned(), value(&without).show(short), value(&with).show(short), ratio]);
    };
    row("sends a second", |services| &services.sends.per_second);
    row("p99, ms", |services| &services.sends.p99);
    row("CPU of all, µs a send", |services| &services.sends.cpu);
    row("API service: s until it is ready", |services| &services.api_ready);
    row("gateway: s until it is ready", |services| &services.gateway_ready);
    row("API service: MiB of memory", |services| &services.api_mib);
    row("gateway: MiB of memory", |services| &services.gateway_mib);
    row("Redis: MiB in use", |services| &services.redis_mib);
    table.note(format!(
        "{} revocations, one in {SUBJECTS} of a subject and the others of one token; {CONNECTIONS} connections send into as many conversations. \
         Each service starts once a turn; the API service copies all to an empty Redis, from which the gateway reads.",
        growth.revocations
    ));
    Ok(table)
}

/// As the service inserts them.
fn seed(count: u64) -> String {
    format!(
        "insert into revocations (jti, sub, issued_before, expires_at)
         select case when n % {SUBJECTS} > 0 then gen_random_uuid()::text end, case when n % {SUBJECTS} = 0 then 'left-' || n end,
             case when n % {SUBJECTS} = 0 then extract(epoch from now())::bigint - n end, now() + interval '30 days'
         from generate_series(1, {count}) n;
         vacuum (analyze) revocations"
    )
}

fn turn(
    options: &RunOptions,
    backends: &Backends,
    databases: &Databases,
    url: &str,
    services: &mut Services,
) -> Result<()> {
    let service = Service::start(backends, url)?;
    services.api_ready.push(service.server.ready_after.as_secs_f64());
    let gateway = Server::of_ours_alone(&binaries()?.join("ws-gateway"), backends, &[])?;
    services.gateway_ready.push(gateway.ready_after.as_secs_f64());
    let templates = databases.targets[..CONNECTIONS].iter().map(Target::send).collect::<Result<_>>()?;
    let mut connections = service.connect(CONNECTIONS, ManyConversations::at_random(templates)?)?;
    connections.at_full_speed(options.duration / 3)?;
    service.measure(&mut connections, options.duration, &mut services.sends)?;
    services.api_mib.push(service.server.resident_kib()? as f64 / 1_024.0);
    services.gateway_mib.push(gateway.resident_kib()? as f64 / 1_024.0);
    services.redis_mib.push(redis_bytes(backends)? / f64::from(1 << 20));
    Ok(())
}

fn redis_bytes(backends: &Backends) -> Result<f64> {
    let mut redis = RedisClient::open(&backends.redis)?;
    // A script, since the client reads answers of one line.
    let info = "return string.match(redis.call('INFO', 'memory'), 'used_memory:(%d+)')";
    redis.ask(&["EVAL", info, "0"])?.parse().context("Redis does not say how much memory it uses")
}
