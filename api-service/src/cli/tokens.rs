//! `token` and `revoke`.

use std::time::Duration;

use shared::contract::audit::{Action, AuditEntry};
use shared::contract::ids::{LocationId, ParticipantId};
use shared::contract::participant::ParticipantKind;
use shared::contract::revocation::Revocation;
use shared::contract::token;
use shared::kit::env::Env;
use time::OffsetDateTime;

use super::arguments::Role;
use super::error::CommandError;
use super::operator;
use crate::domain::revoke::{check, describe};
use crate::{config, store};

#[tokio::main]
pub(super) async fn revoke(revocation: &Revocation) -> Result<(), CommandError> {
    check(revocation)?;
    let (database, key, max_lifetime) = config::revoke(Env::from_process())?;
    let store = store::Store::new(&database, key)?;
    // The later clock counts, so that the revocation does not expire early.
    let now = OffsetDateTime::now_utc().max(store.clock().await?).unix_timestamp();
    let ends_at = revocation.ends_at(now, max_lifetime);
    let entry = describe(AuditEntry { outcome: 204, ..operator::entry(Action::Revoke) }, revocation);
    store.revoke(revocation, ends_at, &entry).await?;
    println!("revoked; running services reject it within a second");
    Ok(())
}

pub(super) fn print_token(
    sub: &ParticipantId,
    role: Role,
    locations: &[LocationId],
    ttl: u64,
) -> Result<(), CommandError> {
    let role = match role {
        Role::User => token::Role::Participant(ParticipantKind::User),
        Role::Contact => token::Role::Participant(ParticipantKind::Contact),
        Role::Service => token::Role::Service,
        Role::Admin => token::Role::Admin,
    };
    let secret = config::secret(Env::from_process())?;
    let longest = config::max_lifetime(Env::from_process())?;
    if i64::try_from(ttl).map_or(true, |ttl| ttl > longest) {
        eprintln!("api-service: services end this token after {longest} s already (JWT_MAX_LIFETIME_SECONDS)");
    }
    println!("{}", token::issue(&secret, sub, role, locations, Duration::from_secs(ttl))?);
    Ok(())
}
