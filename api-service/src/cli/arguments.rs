//! The arguments of the command line, and their help.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use shared::contract::audit::AuditActor;
use shared::contract::ids::{LocationId, ParticipantId};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// REST service of the EHR chat
#[derive(Parser)]
#[command(version, after_help = shared::kit::env::help(&crate::config::settings()))]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Subcommand)]
pub(super) enum Command {
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
    /// Revoke one token by its jti, all tokens of a sub issued before a time, or all tokens (needs DATABASE_URL)
    #[command(group = clap::ArgGroup::new("target").required(true))]
    Revoke {
        /// The token's `jti`
        #[arg(long, group = "target")]
        jti: Option<String>,
        /// The token's `exp`, if known, as in 2026-11-23T08:00:00Z: the revocation is forgotten then
        #[arg(long, requires = "jti", value_parser = parse_time)]
        expires_at: Option<OffsetDateTime>,
        /// Whose tokens
        #[arg(long, group = "target", requires = "issued_before")]
        sub: Option<ParticipantId>,
        /// Issued before this moment
        #[arg(long, requires = "sub", value_parser = parse_time)]
        issued_before: Option<OffsetDateTime>,
        /// All tokens, of services too, issued before this time: after a database was restored, which lacks later revocations.
        /// `now` includes those of this second, because tokens carry whole seconds
        #[arg(long, group = "target", value_parser = parse_time_or_now, value_name = "MOMENT|now")]
        all_issued_before: Option<OffsetDateTime>,
    },
    /// Manage content encryption keys (needs DATABASE_URL, CONTENT_KEYS and AUDIT_KEY)
    Keys {
        #[command(subcommand)]
        task: KeyTask,
    },
    /// Failed outbox rows: events that could not be published (needs DATABASE_URL, and AUDIT_KEY or JWT_SECRET)
    #[command(subcommand)]
    Outbox(OutboxCommand),
    /// Probe `/healthz` on ADMIN_ADDR, for container health checks
    #[command(alias = "alive")]
    Healthcheck,
    /// Verify or export the audit trail (needs DATABASE_URL and AUDIT_KEY)
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Print the OpenAPI document as YAML
    Openapi,
}

#[derive(Subcommand)]
pub(super) enum KeyTask {
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
pub(super) enum OutboxCommand {
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
pub(super) enum AuditCommand {
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
        #[arg(long, value_parser = parse_time)]
        from: Option<OffsetDateTime>,
        /// Before this moment
        #[arg(long, value_parser = parse_time)]
        to: Option<OffsetDateTime>,
    },
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Role {
    User,
    Contact,
    Service,
    /// A service that may revoke tokens
    Admin,
}

fn parse_time(text: &str) -> Result<OffsetDateTime, time::error::Parse> {
    OffsetDateTime::parse(text, &Rfc3339)
}

/// `now` is the end of the current second: no token that exists has a later `iat`.
fn parse_time_or_now(text: &str) -> Result<OffsetDateTime, time::error::Parse> {
    let now = OffsetDateTime::now_utc();
    if text == "now" { Ok(now.replace_nanosecond(0).unwrap_or(now) + Duration::from_secs(1)) } else { parse_time(text) }
}
