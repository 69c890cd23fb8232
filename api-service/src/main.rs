//! The command line of the API service.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use api_service::audit::commands as audit_commands;
use api_service::domain::revoke::{check, describe};
use api_service::envelope::Vault;
use api_service::envelope::commands as keys;
use api_service::store::Filter;
use api_service::{Listeners, ServeError, config, http, metrics, outbox_commands, run, store};
use clap::{Parser, Subcommand, ValueEnum};
use shared::audit::{Action, AuditActor, AuditEntry};
use shared::env::{BadEnv, EX_USAGE, Env};
use shared::ids::{LocationId, ParticipantId};
use shared::participant::ParticipantKind;
use shared::revocation::{Revocation, whole_seconds};
use shared::shutdown::Shutdown;
use shared::{descriptors, net, telemetry, token};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A send makes and drops some hundred small values; the system's allocator takes a fifth of its time for that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// REST service of the EHR chat
#[derive(Parser)]
#[command(version, after_help = shared::env::help(config::SETTINGS))]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve requests until SIGTERM or SIGINT
    Serve,
    /// Bring the database's schema up to date (needs DATABASE_URL); many at once are safe, and services go on meanwhile
    Migrate {
        /// Only up to this version
        #[arg(long)]
        to: Option<u32>,
    },
    /// Print a token, signed with JWT_SECRET
    Token {
        /// Whose: the identifier of a user, contact or service
        #[arg(long)]
        sub: ParticipantId,
        /// What that is
        #[arg(long)]
        role: Role,
        /// Where it is good; may be repeated
        #[arg(long, required = true)]
        location: Vec<LocationId>,
        /// For how many seconds
        #[arg(long, default_value_t = 3600)]
        ttl: u64,
    },
    /// Revoke one token by its jti, all tokens of a sub issued before a moment, or everybody's (needs DATABASE_URL)
    #[command(group = clap::ArgGroup::new("target").required(true))]
    Revoke {
        /// The token's `jti`
        #[arg(long, group = "target")]
        jti: Option<String>,
        /// The token's `exp`, if known, as in 2026-11-23T08:00:00Z: the revocation is forgotten then
        #[arg(long, requires = "jti", value_parser = moment)]
        expires_at: Option<OffsetDateTime>,
        /// Whose tokens
        #[arg(long, group = "target", requires = "issued_before")]
        sub: Option<ParticipantId>,
        /// Issued before this moment
        #[arg(long, requires = "sub", value_parser = moment)]
        issued_before: Option<OffsetDateTime>,
        /// Everybody's tokens, of services too, issued before this moment: after a database was restored, which has forgotten
        /// later revocations. `now` includes those of this second, because tokens carry whole seconds
        #[arg(long, group = "target", value_parser = moment_or_now, value_name = "MOMENT|now")]
        all_issued_before: Option<OffsetDateTime>,
    },
    /// Look after the keys of content at rest (needs DATABASE_URL, CONTENT_KEYS and AUDIT_KEY)
    Keys {
        #[command(subcommand)]
        task: KeyTask,
    },
    /// Events that could not be published and were set aside (needs DATABASE_URL, and AUDIT_KEY or JWT_SECRET)
    #[command(subcommand)]
    Outbox(OutboxCommand),
    /// Ask the service on ADMIN_ADDR whether it lives; for container health checks
    Alive,
    /// Verify or export the audit trail (needs DATABASE_URL and AUDIT_KEY)
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Print the OpenAPI document as YAML
    Openapi,
}

#[derive(Subcommand)]
enum KeyTask {
    /// Wrap all data keys with the first master key, which every running service must hold: the others can go then
    Rewrap,
    /// Make new data keys for new messages; old messages stay readable
    Rotate {
        /// Of this location only
        #[arg(long)]
        location: Option<LocationId>,
    },
    /// Encrypt the messages that were written before encryption was switched on, and refuse text in the open from then on
    Encrypt {
        /// Where it is refused already: encrypt, as they are, the messages that were listed
        #[arg(long)]
        accept_plain: bool,
    },
    /// Open text in the open again, before encryption is switched off
    AllowPlain,
    /// Remove data keys that were retired more than a day ago and that no message names
    Purge,
}

#[derive(Subcommand)]
enum OutboxCommand {
    /// Print them, one a line: id, reason, times, location, conversation, kind, ids of messages; never content
    List,
    /// Publish them again, once their cause is mended: those of these ids, or all
    Retry {
        /// Ids, as `list` prints them
        #[arg(required_unless_present = "all")]
        ids: Vec<i64>,
        /// All of them
        #[arg(long, conflicts_with = "ids")]
        all: bool,
    },
}

#[derive(Subcommand)]
enum AuditCommand {
    /// Say whether any row was altered, removed, added or reordered, or any message is not what was sent; exits with 1 when
    /// one is. Encrypted messages are opened when CONTENT_KEYS is set
    Verify {
        /// Compare with where chains ended earlier: lines of --write-anchors, or of the service's log
        #[arg(long)]
        anchors: Option<PathBuf>,
        /// When nothing is wrong, add where the chains end now to a file; keep it out of the database's reach
        #[arg(long)]
        write_anchors: Option<PathBuf>,
        /// Begin with this chain: earlier ones are archived, and named when they are still here
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i64).range(1..))]
        from_chain: i64,
    },
    /// Print rows as FHIR R4 AuditEvents, one a line; that is a row of the trail itself
    Export {
        /// Only of this location
        #[arg(long)]
        location: Option<LocationId>,
        /// Only by, for, or with this one: user:ID, contact:ID, service:ID, operator:ID or anonymous
        #[arg(long)]
        participant: Option<AuditActor>,
        /// Not before this moment, as in 2026-11-23T08:00:00Z
        #[arg(long, value_parser = moment)]
        from: Option<OffsetDateTime>,
        /// Before this moment
        #[arg(long, value_parser = moment)]
        to: Option<OffsetDateTime>,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Role {
    User,
    Contact,
    Service,
    /// A service that may revoke tokens
    Admin,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Serve => serve(),
        Command::Migrate { to } => migrate(to),
        Command::Token { sub, role, location, ttl } => print_token(&sub, role, &location, ttl),
        Command::Revoke { jti, expires_at, sub, issued_before, all_issued_before } => {
            let revocation = match (jti, sub.zip(issued_before), all_issued_before) {
                (Some(jti), _, _) => Revocation::Token { jti, expires_at: expires_at.map(whole_seconds) },
                (_, Some((sub, at)), _) => Revocation::Subject { sub, issued_before: whole_seconds(at) },
                (_, _, at) => Revocation::Everyone { issued_before: at.map_or(i64::MIN, whole_seconds) },
            };
            revoke(&revocation)
        }
        Command::Keys { task } => look_after_keys(task),
        Command::Alive => alive(),
        Command::Audit(AuditCommand::Verify { anchors, write_anchors, from_chain }) => {
            match verify(anchors.as_deref(), write_anchors.as_deref(), from_chain) {
                Ok(true) => Ok(()),
                Ok(false) => return ExitCode::FAILURE,
                Err(error) => Err(error),
            }
        }
        Command::Audit(AuditCommand::Export { location, participant, from, to }) => {
            export(&Filter { location, participant, from, to })
        }
        Command::Outbox(OutboxCommand::List) => list_failed(),
        Command::Outbox(OutboxCommand::Retry { ids, all }) => retry_failed(if all { None } else { Some(&ids) }),
        Command::Openapi => {
            print!("{}", http::spec_yaml());
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            telemetry::say(&format!("api-service: {error}"));
            if error.is::<BadEnv>() { ExitCode::from(EX_USAGE as u8) } else { ExitCode::FAILURE }
        }
    }
}

#[tokio::main]
async fn serve() -> Result<(), ServeError> {
    let config = config::serve(Env::of_process())?;
    let _logs = telemetry::start_logs(config.log_format, &config.log_level)?;
    descriptors::raise_limit();
    let shutdown = Shutdown::on_signal()?;
    let metrics = telemetry::start_metrics(metrics::METRICS, &shutdown)?;
    let listen = |address| net::listen(address).map_err(|error| format!("cannot listen on {address}: {error}"));
    let listeners = Listeners { public: listen(config.listen)?, admin: listen(config.admin)? };
    tracing::info!(listen = %config.listen, admin = %config.admin, "api-service serves");
    run(config, listeners, Some(metrics), shutdown).await?;
    tracing::info!("api-service has stopped");
    Ok(())
}

#[tokio::main]
async fn migrate(last: Option<u32>) -> Result<(), ServeError> {
    let (database, service) = config::migrate(Env::of_process())?;
    let applied = store::migrate(&database, service.as_ref(), last, |line| eprintln!("{line}")).await?;
    match applied.as_slice() {
        [] => println!("the schema is up to date"),
        applied => println!("applied {}", applied.join(", ")),
    }
    Ok(())
}

fn alive() -> Result<(), ServeError> {
    Ok(shared::alive::probe(config::admin(Env::of_process())?)?)
}

fn moment(text: &str) -> Result<OffsetDateTime, time::error::Parse> {
    OffsetDateTime::parse(text, &Rfc3339)
}

/// `now` is the end of the second that has begun: no token that was issued until now has a later `iat`.
fn moment_or_now(text: &str) -> Result<OffsetDateTime, time::error::Parse> {
    let now = OffsetDateTime::now_utc();
    if text == "now" { Ok(now.replace_nanosecond(0).unwrap_or(now) + Duration::from_secs(1)) } else { moment(text) }
}

#[tokio::main]
async fn revoke(revocation: &Revocation) -> Result<(), ServeError> {
    check(revocation)?;
    let (database, key, max_lifetime) = config::revoke(Env::of_process())?;
    let store = store::Store::new(&database, key)?;
    // Whichever clock is ahead: a revocation must not end early.
    let now = OffsetDateTime::now_utc().max(store.clock().await?).unix_timestamp();
    let ends_at = revocation.ends_at(now, max_lifetime);
    let entry = describe(AuditEntry::new(audit_commands::operator(), Action::Revoke, 204), revocation);
    store.revoke(revocation, ends_at, &entry).await?;
    println!("revoked; running services refuse it within a second");
    Ok(())
}

#[tokio::main]
async fn look_after_keys(task: KeyTask) -> Result<(), ServeError> {
    let (database, audit_key, ring) = config::keys(Env::of_process())?;
    let store = store::Store::new(&database, audit_key)?.with_vault(Some(Arc::new(Vault::new(&ring)?)));
    match task {
        KeyTask::Rewrap => keys::rewrap(&store).await?,
        KeyTask::Rotate { location } => keys::rotate(&store, location.as_ref()).await?,
        KeyTask::Encrypt { accept_plain } => keys::encrypt(&store, accept_plain).await?,
        KeyTask::AllowPlain => keys::allow_plain(&store).await?,
        KeyTask::Purge => keys::purge(&store).await?,
    }
    Ok(())
}

/// Whether nothing is wrong.
#[tokio::main]
async fn verify(anchors: Option<&Path>, write_anchors: Option<&Path>, first: i64) -> Result<bool, ServeError> {
    let (database, keys, ring) = config::verify(Env::of_process())?;
    let vault = ring.as_ref().map(Vault::new).transpose()?;
    let means = audit_commands::Means { keys: &keys, vault: vault.as_ref(), first, anchors };
    let verified = audit_commands::verify(&database, &means, |finding| println!("{finding}")).await?;
    let (report, wrong) = (&verified.report, verified.wrong());
    println!("{} rows in {} chains, {wrong} wrong", report.rows, report.chains);
    match &verified.messages {
        Some(messages) => {
            println!("{} messages compared", messages.compared);
            if messages.unopened > 0 {
                println!("{} of them are encrypted and were not opened: CONTENT_KEYS is not set", messages.unopened);
            }
            if messages.older > 0 {
                println!("{} messages are older than the chains that were verified", messages.older);
            }
        }
        None => println!("there are no messages here to compare"),
    }
    let is_right = wrong == 0;
    if let Some(path) = write_anchors.filter(|_| is_right) {
        audit_commands::keep_anchors(&verified, path)?;
    }
    Ok(is_right)
}

#[tokio::main]
async fn export(filter: &Filter) -> Result<(), ServeError> {
    let (database, keys) = config::export(Env::of_process())?;
    let tell = |refused: &dyn std::fmt::Display| eprintln!("{refused}");
    let exported = audit_commands::export(&database, &keys, filter, std::io::stdout().lock(), tell).await?;
    eprintln!("{} events", exported.events);
    match exported.refused {
        0 => Ok(()),
        refused => Err(format!("{refused} rows do not verify and were left out; run `audit verify`").into()),
    }
}

#[tokio::main]
async fn list_failed() -> Result<(), ServeError> {
    let (database, key) = config::audited(Env::of_process())?;
    let count = outbox_commands::list(&store::Store::new(&database, key)?, std::io::stdout().lock()).await?;
    eprintln!("{count} rows");
    Ok(())
}

#[tokio::main]
async fn retry_failed(ids: Option<&[i64]>) -> Result<(), ServeError> {
    let (database, key) = config::audited(Env::of_process())?;
    let count = outbox_commands::retry(&store::Store::new(&database, key)?, ids).await?;
    println!("{count} rows wait to be published; a row that still cannot be rebuilt is set aside again");
    Ok(())
}

fn print_token(sub: &ParticipantId, role: Role, locations: &[LocationId], ttl: u64) -> Result<(), ServeError> {
    let role = match role {
        Role::User => token::Role::Participant(ParticipantKind::User),
        Role::Contact => token::Role::Participant(ParticipantKind::Contact),
        Role::Service => token::Role::Service,
        Role::Admin => token::Role::Admin,
    };
    let secret = config::secret(Env::of_process())?;
    let longest = config::max_lifetime(Env::of_process())?;
    if i64::try_from(ttl).map_or(true, |ttl| ttl > longest) {
        eprintln!("api-service: services end this token after {longest} s already (JWT_MAX_LIFETIME_SECONDS)");
    }
    println!("{}", token::issue(&secret, sub, role, locations, Duration::from_secs(ttl))?);
    Ok(())
}
