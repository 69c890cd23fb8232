//! Revokes tokens before they expire.

use shared::contract::audit::{Action, AuditEntry};
use shared::contract::error_code::ProblemCode;
use shared::contract::revocation::{MAX_JTI_BYTES, Revocation};

use super::error::DomainError;
use crate::model::request_origin::RequestOrigin;
use crate::revocation::RevocationService;

/// Revokes as the principal of `origin`. On return this instance rejects the tokens. Other instances and the gateways
/// [follow](RevocationService::wait_for_propagation).
///
/// # Errors
/// [`DomainError`]; nothing was revoked.
pub async fn revoke(
    origin: &RequestOrigin,
    revocations: &RevocationService,
    revocation: Revocation,
) -> Result<(), DomainError> {
    origin.principal.check_admin()?;
    check(&revocation)?;
    let entry = describe(origin.entry(Action::Revoke, 204), &revocation);
    Ok(revocations.revoke(revocation, &entry).await?)
}

/// Adds to an audit entry what was revoked.
#[must_use]
pub fn describe(entry: AuditEntry, revocation: &Revocation) -> AuditEntry {
    let detail = match revocation {
        Revocation::Token { jti, .. } => format!("jti {jti}"),
        Revocation::Subject { sub, issued_before } => format!("sub {sub}, issued before {issued_before}"),
        Revocation::Everyone { issued_before } => format!("everyone, issued before {issued_before}"),
    };
    AuditEntry { detail: Some(detail), ..entry }
}

/// Checks whether a revocation can be stored.
///
/// # Errors
/// [`DomainError::Input`]
pub fn check(revocation: &Revocation) -> Result<(), DomainError> {
    let Revocation::Token { jti, .. } = revocation else { return Ok(()) };
    let (code, detail) = if jti.is_empty() {
        (ProblemCode::OutOfRange, "The `jti` is empty.")
    } else if jti.len() > MAX_JTI_BYTES {
        (ProblemCode::OutOfRange, "The `jti` is longer than 256 bytes.")
    } else if jti.contains('\0') {
        (ProblemCode::InvalidValue, "The `jti` contains U+0000.")
    } else {
        return Ok(());
    };
    Err(DomainError::Input(code, "/jti", detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jti_must_be_storable() {
        let token = |jti: &str| Revocation::Token { jti: jti.to_owned(), expires_at: None };
        assert!(check(&token("t1")).is_ok());
        for bad in ["", "a\0", &"x".repeat(257)] {
            assert!(check(&token(bad)).is_err());
        }
    }
}
