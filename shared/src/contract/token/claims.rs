//! What the claims of a token say: whose it is, where it is good, and since and until when.
//!
//! A person is named by `sub` and `role`, or as SMART on FHIR names it, by `fhirUser`.

use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::error::TokenError;
use super::jwk::VerificationKeyId;
use super::principal::{Actor, Principal};
use crate::contract::ids::ParticipantId;
use crate::contract::participant::{Participant, ParticipantKind};
use crate::contract::revocation::MAX_JTI_BYTES;

/// How far `nbf` and `iat` may lie in the future, in seconds: the issuer's clock is not ours.
/// `exp` gets no such grace: a token ends when it says.
const CLOCK_SKEW_SECONDS: i64 = 30;
/// Longest `sub`, in bytes, when it is not a valid identifier (OpenID Connect Core, section 2).
const MAX_SUBJECT_BYTES: usize = 255;

const NO_REFERENCE: TokenError = TokenError::InvalidClaim(
    "fhirUser",
    "is not a reference to a Practitioner, PractitionerRole, Patient or RelatedPerson",
);
const CONTRADICTION: TokenError = TokenError::InvalidClaim("fhirUser", "contradicts `role` and `sub`");

/// Whether a token comes from the issuer, and is for the audience, that are configured.
pub(crate) fn check_issuer_and_audience(
    claims: &Map<String, Value>,
    issuer: Option<&str>,
    audience: Option<&str>,
) -> Result<(), TokenError> {
    if let Some(issuer) = issuer {
        match claims.get("iss") {
            None | Some(Value::Null) => return Err(TokenError::MissingClaim("iss".to_owned())),
            Some(Value::String(named)) if named == issuer => {}
            Some(Value::String(_)) => return Err(TokenError::InvalidClaim("iss", "is not the expected issuer")),
            Some(_) => return Err(TokenError::InvalidClaim("iss", "is not a string")),
        }
    }
    if let Some(audience) = audience {
        let is_it = |value: &Value| value.as_str() == Some(audience);
        let is_named = match claims.get("aud") {
            None | Some(Value::Null) => return Err(TokenError::MissingClaim("aud".to_owned())),
            Some(Value::Array(named)) if named.iter().all(Value::is_string) => named.iter().any(is_it),
            Some(named @ Value::String(_)) => is_it(named),
            Some(_) => return Err(TokenError::InvalidClaim("aud", "is not a string or an array of strings")),
        };
        if !is_named {
            return Err(TokenError::InvalidClaim("aud", "does not name this service"));
        }
    }
    Ok(())
}

/// Reads the claims of a token that `key` signed. A token ends `max_lifetime` seconds after `iat` at the latest, because
/// revocations are not kept for longer.
pub(crate) fn parse(
    claims: &Map<String, Value>,
    key: VerificationKeyId,
    now: i64,
    max_lifetime: i64,
) -> Result<Principal, TokenError> {
    let claim = |name: &'static str| claims.get(name).ok_or_else(|| TokenError::MissingClaim(name.to_owned()));
    for name in ["nbf", "iat"] {
        if let Some(value) = claims.get(name)
            && seconds(name, value)? > now + CLOCK_SKEW_SECONDS
        {
            return Err(TokenError::NotYetValid(name));
        }
    }
    let expires = seconds("exp", claim("exp")?)?;
    let issued_at = claims.get("iat").map(|value| seconds("iat", value)).transpose()?;
    let ends = issued_at.map_or(expires, |issued_at| expires.min(issued_at.saturating_add(max_lifetime)));
    // The library lets a token live through its last second; RFC 7519, section 4.1.4, ends it there ("on or after").
    if ends <= now {
        return Err(TokenError::Expired);
    }
    let time = |seconds| {
        OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| TokenError::InvalidClaim("exp", "is not a time"))
    };
    time(expires)?;
    let expires_at = time(ends)?;
    let (actor, subject) = actor(claims)?;
    let locations = claim("locations")?
        .as_array()
        .and_then(|values| values.iter().map(|value| value.as_str()?.parse().ok()).collect::<Option<Vec<_>>>())
        .ok_or(TokenError::InvalidClaim("locations", "is not an array of valid identifiers"))?;
    let jti = match claims.get("jti") {
        None | Some(Value::Null) => None,
        Some(value) => Some(token_id(value)?),
    };
    Ok(Principal { actor, locations, expires_at, subject, issued_at, jti, key })
}

/// A `jti` that a revocation can name: what can be kept in the database, and no more than that.
fn token_id(value: &Value) -> Result<String, TokenError> {
    let bad = |why| Err(TokenError::InvalidClaim("jti", why));
    match value.as_str() {
        None => bad("is not a string"),
        Some(jti) if !(1..=MAX_JTI_BYTES).contains(&jti.len()) => bad("does not have 1 to 256 bytes"),
        Some(jti) if jti.contains('\0') => bad("contains U+0000"),
        Some(jti) => Ok(jti.to_owned()),
    }
}

/// Who acts, and what a revocation by `sub` names.
fn actor(claims: &Map<String, Value>) -> Result<(Actor, ParticipantId), TokenError> {
    let subject = claims.get("sub").ok_or_else(|| TokenError::MissingClaim("sub".to_owned()))?;
    let id = subject.as_str().and_then(|text| text.parse::<ParticipantId>().ok());
    let id = id.ok_or(TokenError::InvalidClaim("sub", "is not a valid identifier"));
    let fhir_user = match claims.get("fhirUser") {
        None | Some(Value::Null) => None,
        Some(value) => Some(value.as_str().and_then(parse_fhir_reference).ok_or(NO_REFERENCE)?),
    };
    let role = claims.get("role").map(|role| role.as_str().unwrap_or_default());
    let kind = match (role, &fhir_user) {
        (Some("user"), _) => ParticipantKind::User,
        (Some("contact"), _) => ParticipantKind::Contact,
        (Some("service"), None) => {
            let name = id?;
            return Ok((Actor::Service { name: name.clone(), admin: flag(claims, "admin")? }, name));
        }
        (Some("service"), Some(_)) => return Err(CONTRADICTION),
        (Some(_), _) => return Err(TokenError::InvalidClaim("role", "is not `user`, `contact` or `service`")),
        (None, None) => {
            let _bad_subject = id?;
            return Err(TokenError::MissingClaim("role".to_owned()));
        }
        (None, Some(person)) => {
            let is_text = subject.as_str().is_some_and(|text| (1..=MAX_SUBJECT_BYTES).contains(&text.len()));
            // An issuer's own name for an account may be anything; then only the person can be named.
            let subject = if is_text { id.unwrap_or_else(|_| person.id.clone()) } else { id? };
            return Ok((Actor::Participant(person.clone()), subject));
        }
    };
    let id = id?;
    let person = Participant { kind, id: id.clone() };
    match &fhir_user {
        Some(other) if *other != person => Err(CONTRADICTION),
        _ => Ok((Actor::Participant(person), id)),
    }
}

/// The person that a FHIR reference names: `Practitioner/ID`, or the same at the end of a server's URL.
fn parse_fhir_reference(reference: &str) -> Option<Participant> {
    let (rest, id) = reference.rsplit_once('/')?;
    let resource = match rest.rsplit_once('/') {
        None => rest,
        Some((base, resource)) => {
            let place = base.strip_prefix("https://").or_else(|| base.strip_prefix("http://"))?;
            let is_place =
                !place.is_empty() && place.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#'));
            is_place.then_some(resource)?
        }
    };
    let kind = match resource {
        "Practitioner" | "PractitionerRole" => ParticipantKind::User,
        "Patient" | "RelatedPerson" => ParticipantKind::Contact,
        _ => return None,
    };
    Some(Participant { kind, id: id.parse().ok()? })
}

/// A claim that is true, or not there.
fn flag(claims: &Map<String, Value>, name: &'static str) -> Result<bool, TokenError> {
    match claims.get(name) {
        None | Some(Value::Null) => Ok(false),
        Some(value) => value.as_bool().ok_or(TokenError::InvalidClaim(name, "is not true or false")),
    }
}

/// A NumericDate (RFC 7519, section 2): whole seconds or with a fraction. Never rounded up: no token gains time.
fn seconds(name: &'static str, value: &Value) -> Result<i64, TokenError> {
    #[expect(clippy::cast_possible_truncation, reason = "the cast saturates, and rounding down is meant")]
    let fraction = || value.as_f64().map(|seconds| seconds.floor() as i64);
    value.as_i64().or_else(fraction).ok_or(TokenError::InvalidClaim(name, "is not a time"))
}

#[cfg(test)]
#[path = "tests/claims.rs"]
mod tests;
