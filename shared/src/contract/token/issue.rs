//! Signs tokens with the shared secret: what `api-service token` prints. All other tokens are signed by an issuer.

use std::time::Duration;

use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;
use time::OffsetDateTime;

use crate::contract::ids::{LocationId, ParticipantId};
use crate::contract::participant::ParticipantKind;
use crate::kit::env::Secret;

/// What a token says its bearer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A person of this kind.
    Participant(ParticipantKind),
    /// A trusted backend.
    Service,
    /// A trusted backend that may revoke tokens.
    Admin,
}

/// Signs a token.
///
/// # Errors
/// When the crypto backend fails.
pub fn issue(
    secret: &Secret,
    subject: &ParticipantId,
    role: Role,
    locations: &[LocationId],
    lifetime: Duration,
) -> Result<String, jsonwebtoken::errors::Error> {
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let mut claims = json!({
        "sub": subject,
        "role": if let Role::Participant(kind) = role { kind.as_str() } else { "service" },
        "locations": locations,
        "iat": now,
        "exp": now.saturating_add_unsigned(lifetime.as_secs()),
        "jti": uuid::Uuid::now_v7(),
    });
    if role == Role::Admin {
        claims["admin"] = json!(true);
    }
    jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(secret.expose().as_bytes()))
}
