//! JWT → [`Principal`], and what a principal may do.
//!
//! What it says of a refused token is written for the caller: what is wrong with it, never what the key is.

use std::sync::Arc;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use crate::env::Secret;
use crate::ids::{LocationId, PersonId};
use crate::participant::{Conversation, Kind, Participant};
use crate::revocation::Revocations;

/// Shortest HS256 secret, in bytes: as long as the hash (RFC 7518, section 3.2).
pub const MIN_SECRET_BYTES: usize = 32;
/// Longest token, in bytes. Longer ones are refused unread.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;
/// How far `nbf` and `iat` may lie in the future, in seconds: the issuer's clock is not ours.
/// `exp` gets no such grace: a token ends when it says.
const CLOCK_SKEW_SECONDS: i64 = 30;

/// Which tokens are good.
#[derive(Debug, Clone)]
pub struct TokenRules {
    /// Key of HS256.
    pub secret: Secret,
    /// The required `iss`, if any.
    pub issuer: Option<String>,
    /// The required `aud`, if any.
    pub audience: Option<String>,
}

/// Who acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// A person, as itself.
    Person(Participant),
    /// A trusted backend, for any person in its locations.
    Service {
        /// Its `sub`.
        name: PersonId,
        /// Whether its claim `admin` is true: it may revoke tokens.
        admin: bool,
    },
}

/// A verified token: who acts, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Who.
    pub actor: Actor,
    /// Where.
    pub locations: Vec<LocationId>,
    /// Until when.
    pub expires_at: OffsetDateTime,
    /// Its `sub`, whatever the role.
    pub subject: PersonId,
    /// Its `iat`, in seconds since 1970.
    pub issued_at: Option<i64>,
    /// Its `jti`.
    pub jti: Option<String>,
}

/// Why a token is refused. The text is for its bearer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// None came.
    #[error("no token: send `Authorization: Bearer <JWT>`")]
    Missing,
    /// Not `header.payload.signature` with a readable header and payload.
    #[error("token is not a well-formed JWT, or names an unknown algorithm")]
    Malformed,
    /// `alg` is not among the configured ones.
    #[error("algorithm is not accepted")]
    Algorithm,
    /// The signature was made with another key, or over something else.
    #[error("signature does not match")]
    Signature,
    /// `exp` has passed.
    #[error("token has expired")]
    Expired,
    /// An administrator took it back.
    #[error("token has been revoked")]
    Revoked,
    /// `nbf` or `iat` lies ahead.
    #[error("token is not valid yet (claim `{0}`)")]
    NotYet(&'static str),
    /// A required claim is not there.
    #[error("claim `{0}` is missing")]
    MissingClaim(String),
    /// A claim is there and means nothing.
    #[error("claim `{0}` {1}")]
    BadClaim(&'static str, &'static str),
}

impl TokenError {
    /// The value of `WWW-Authenticate` (RFC 6750, section 3): a request without a token gets no error code.
    #[must_use]
    pub fn challenge(&self) -> String {
        match self {
            Self::Missing => "Bearer realm=\"ehr-chat\"".to_owned(),
            // A quoted string; no text of ours holds a backslash, but a claim's name may come from the library.
            refused => format!(
                "Bearer realm=\"ehr-chat\", error=\"invalid_token\", error_description=\"{}\"",
                refused.to_string().replace(['"', '\\'], "'")
            ),
        }
    }
}

/// A good token that does not reach this far. The text is for its bearer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// The location is not among the token's.
    #[error("the token is not good for this location")]
    Location,
    /// A person may act only as itself.
    #[error("the token does not allow to act as this participant")]
    Participant,
    /// A person may look only into its own conversations.
    #[error("the token's participant is not part of this conversation")]
    Conversation,
    /// What only an administrator can do.
    #[error("only a service token with `admin` can do this")]
    NotAdmin,
    /// What only a receiver can do.
    #[error("only the receiver's own token can do this")]
    NotAPerson,
}

/// Verifies tokens.
pub struct Verifier {
    key: DecodingKey,
    validation: Validation,
    revocations: Arc<Revocations>,
}

impl Verifier {
    /// A verifier of these rules.
    #[must_use]
    pub fn new(rules: &TokenRules) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = 0;
        validation.validate_exp = true;
        validation.validate_aud = rules.audience.is_some();
        // Without this, a token that lacks a claim passes the check of its value.
        let mut required = vec!["exp"];
        if let Some(issuer) = &rules.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        if let Some(audience) = &rules.audience {
            validation.set_audience(&[audience]);
            required.push("aud");
        }
        validation.set_required_spec_claims(&required);
        let key = DecodingKey::from_secret(rules.secret.expose().as_bytes());
        Self { key, validation, revocations: Arc::default() }
    }

    /// The same, refusing what is revoked.
    #[must_use]
    pub fn with_revocations(self, revocations: Arc<Revocations>) -> Self {
        Self { revocations, ..self }
    }

    /// Verifies a token at this moment.
    ///
    /// # Errors
    /// [`TokenError`], for the bearer to read.
    pub fn verify(&self, token: &str) -> Result<Principal, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Malformed);
        }
        let claims = jsonwebtoken::decode::<Map<String, Value>>(token, &self.key, &self.validation)
            .map_err(|error| refusal(error.into_kind()))?
            .claims;
        let principal = principal(&claims, OffsetDateTime::now_utc().unix_timestamp())?;
        self.check_not_revoked(&principal)?;
        Ok(principal)
    }

    /// Whether a token that was verified before has neither ended nor been revoked since.
    ///
    /// # Errors
    /// [`TokenError`], for the bearer to read.
    pub fn check_still_good(&self, principal: &Principal, now: OffsetDateTime) -> Result<(), TokenError> {
        if principal.expires_at <= now {
            return Err(TokenError::Expired);
        }
        self.check_not_revoked(principal)
    }

    fn check_not_revoked(&self, principal: &Principal) -> Result<(), TokenError> {
        if self.revocations.covers(principal) { Err(TokenError::Revoked) } else { Ok(()) }
    }
}

/// The token of an `Authorization` header (RFC 6750, section 2.1; the scheme's case does not matter).
///
/// # Errors
/// [`TokenError::Missing`] for another scheme or none.
pub fn bearer(header: Option<&str>) -> Result<&str, TokenError> {
    let (scheme, token) = header.and_then(|value| value.trim().split_once(' ')).ok_or(TokenError::Missing)?;
    match scheme.eq_ignore_ascii_case("bearer") {
        true => Ok(token.trim_start()),
        false => Err(TokenError::Missing),
    }
}

/// What a token says its bearer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A person of this kind.
    Person(Kind),
    /// A trusted backend.
    Service,
    /// A trusted backend that may revoke tokens.
    Admin,
}

/// Signs a token: what `api-service token` prints.
///
/// # Errors
/// When the crypto backend fails.
pub fn issue(
    secret: &Secret,
    subject: &PersonId,
    role: Role,
    locations: &[LocationId],
    lifetime: std::time::Duration,
) -> Result<String, jsonwebtoken::errors::Error> {
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let mut claims = json!({
        "sub": subject,
        "role": if let Role::Person(kind) = role { kind.as_str() } else { "service" },
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

fn refusal(kind: ErrorKind) -> TokenError {
    match kind {
        ErrorKind::ExpiredSignature => TokenError::Expired,
        ErrorKind::InvalidSignature => TokenError::Signature,
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => TokenError::Algorithm,
        ErrorKind::InvalidIssuer => TokenError::BadClaim("iss", "is not the expected issuer"),
        ErrorKind::InvalidAudience => TokenError::BadClaim("aud", "does not name this service"),
        ErrorKind::MissingRequiredClaim(claim) => TokenError::MissingClaim(claim),
        ErrorKind::InvalidClaimFormat(claim) if claim == "exp" => TokenError::BadClaim("exp", "is not a time"),
        _ => TokenError::Malformed,
    }
}

fn principal(claims: &Map<String, Value>, now: i64) -> Result<Principal, TokenError> {
    let claim = |name: &'static str| claims.get(name).ok_or_else(|| TokenError::MissingClaim(name.to_owned()));
    for name in ["nbf", "iat"] {
        if let Some(value) = claims.get(name)
            && seconds(name, value)? > now + CLOCK_SKEW_SECONDS
        {
            return Err(TokenError::NotYet(name));
        }
    }
    let expires = seconds("exp", claim("exp")?)?;
    // The library lets a token live through its last second; RFC 7519, section 4.1.4, ends it there ("on or after").
    if expires <= now {
        return Err(TokenError::Expired);
    }
    let expires_at =
        OffsetDateTime::from_unix_timestamp(expires).map_err(|_| TokenError::BadClaim("exp", "is not a time"))?;
    let subject: PersonId = claim("sub")?
        .as_str()
        .and_then(|text| text.parse().ok())
        .ok_or(TokenError::BadClaim("sub", "is not a valid identifier"))?;
    let actor = match claim("role")?.as_str() {
        Some("user") => Actor::Person(Participant::user(subject.clone())),
        Some("contact") => Actor::Person(Participant::contact(subject.clone())),
        Some("service") => Actor::Service { name: subject.clone(), admin: flag(claims, "admin")? },
        _ => return Err(TokenError::BadClaim("role", "is not `user`, `contact` or `service`")),
    };
    let locations = claim("locations")?
        .as_array()
        .and_then(|values| values.iter().map(|value| value.as_str()?.parse().ok()).collect::<Option<Vec<_>>>())
        .ok_or(TokenError::BadClaim("locations", "is not an array of valid identifiers"))?;
    let jti = match claims.get("jti") {
        None | Some(Value::Null) => None,
        Some(Value::String(jti)) => Some(jti.clone()),
        Some(_) => return Err(TokenError::BadClaim("jti", "is not a string")),
    };
    let issued_at = claims.get("iat").map(|value| seconds("iat", value)).transpose()?;
    Ok(Principal { actor, locations, expires_at, subject, issued_at, jti })
}

/// A claim that is true, or not there.
fn flag(claims: &Map<String, Value>, name: &'static str) -> Result<bool, TokenError> {
    match claims.get(name) {
        None | Some(Value::Null) => Ok(false),
        Some(value) => value.as_bool().ok_or(TokenError::BadClaim(name, "is not true or false")),
    }
}

/// A NumericDate (RFC 7519, section 2): whole seconds or with a fraction. Never rounded up: no token gains time.
fn seconds(name: &'static str, value: &Value) -> Result<i64, TokenError> {
    #[expect(clippy::cast_possible_truncation, reason = "the cast saturates, and rounding down is meant")]
    let fraction = || value.as_f64().map(|seconds| seconds.floor() as i64);
    value.as_i64().or_else(fraction).ok_or(TokenError::BadClaim(name, "is not a time"))
}

impl Principal {
    /// The person, when it is one.
    #[must_use]
    pub fn person(&self) -> Option<&Participant> {
        match &self.actor {
            Actor::Person(person) => Some(person),
            Actor::Service { .. } => None,
        }
    }

    /// Whether the bearer may revoke tokens.
    ///
    /// # Errors
    /// [`Forbidden::NotAdmin`]
    pub fn check_admin(&self) -> Result<(), Forbidden> {
        match self.actor {
            Actor::Service { admin: true, .. } => Ok(()),
            _ => Err(Forbidden::NotAdmin),
        }
    }

    /// Whether the token is good in `location`.
    ///
    /// # Errors
    /// [`Forbidden::Location`]
    pub fn check_location(&self, location: &LocationId) -> Result<(), Forbidden> {
        self.locations.contains(location).then_some(()).ok_or(Forbidden::Location)
    }

    /// Whether the bearer may speak as `who` in `location`.
    ///
    /// # Errors
    /// [`Forbidden`]
    pub fn check_acts_as(&self, location: &LocationId, who: &Participant) -> Result<(), Forbidden> {
        self.check_location(location)?;
        match self.person() {
            Some(person) if person != who => Err(Forbidden::Participant),
            _ => Ok(()),
        }
    }

    /// Whether the bearer may look into `conversation`.
    ///
    /// # Errors
    /// [`Forbidden`]
    pub fn check_sees(&self, conversation: &Conversation) -> Result<(), Forbidden> {
        self.check_location(conversation.location())?;
        match self.person() {
            Some(person) if !conversation.has(person) => Err(Forbidden::Conversation),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn rules() -> TokenRules {
        TokenRules { secret: SECRET.parse().unwrap(), issuer: None, audience: None }
    }

    fn good() -> Value {
        let now = OffsetDateTime::now_utc().unix_timestamp();
        json!({"sub": "doc123", "role": "user", "locations": ["loc1"], "exp": now + 60})
    }

    fn sign(header: &Header, claims: &Value, secret: &str) -> String {
        jsonwebtoken::encode(header, claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
    }

    fn verify(claims: &Value) -> Result<Principal, TokenError> {
        Verifier::new(&rules()).verify(&sign(&Header::default(), claims, SECRET))
    }

    fn with(name: &str, value: Value) -> Value {
        let mut claims = good();
        claims[name] = value;
        claims
    }

    fn without(name: &str) -> Value {
        let mut claims = good();
        claims.as_object_mut().unwrap().remove(name);
        claims
    }

    #[test]
    fn a_good_token_names_person_and_locations() {
        let principal = verify(&good()).unwrap();
        assert_eq!(principal.person().unwrap().to_string(), "user:doc123");
        assert_eq!(principal.locations, ["loc1".parse().unwrap()]);
    }

    #[test]
    fn what_is_issued_is_accepted() {
        let locations = ["loc1".parse().unwrap(), "loc2".parse().unwrap()];
        let issue = |role| {
            let lifetime = std::time::Duration::from_secs(60);
            let token = issue(&SECRET.parse().unwrap(), &"x".parse().unwrap(), role, &locations, lifetime).unwrap();
            Verifier::new(&rules()).verify(&token).unwrap()
        };
        assert_eq!(issue(Role::Person(Kind::Contact)).person().unwrap().to_string(), "contact:x");
        assert_eq!(issue(Role::Service).actor, Actor::Service { name: "x".parse().unwrap(), admin: false });
        assert_eq!(issue(Role::Service).locations, locations);
        assert_eq!(issue(Role::Service).check_admin(), Err(Forbidden::NotAdmin));
        assert_eq!(issue(Role::Admin).check_admin(), Ok(()));
    }

    #[test]
    fn each_missing_claim_is_named() {
        for name in ["sub", "role", "locations", "exp"] {
            assert_eq!(verify(&without(name)), Err(TokenError::MissingClaim(name.to_owned())));
        }
    }

    #[test]
    fn each_bad_claim_is_named() {
        for (name, value) in [
            ("sub", json!("a b")),
            ("sub", json!(7)),
            ("role", json!("admin")),
            ("role", json!(null)),
            ("locations", json!("loc1")),
            ("locations", json!(["loc 1"])),
            ("locations", json!([1])),
            ("nbf", json!("soon")),
            ("iat", json!([])),
        ] {
            let refused = verify(&with(name, value.clone()));
            assert!(matches!(&refused, Err(TokenError::BadClaim(n, _)) if *n == name), "{name} {value}: {refused:?}");
        }
        assert!(verify(&with("exp", json!("tomorrow"))).is_err());
    }

    #[test]
    fn times_are_honoured() {
        let now = OffsetDateTime::now_utc().unix_timestamp();
        assert_eq!(verify(&with("exp", json!(now - 1))), Err(TokenError::Expired));
        assert_eq!(verify(&with("exp", json!(now))), Err(TokenError::Expired));
        assert_eq!(verify(&with("nbf", json!(now + 3600))), Err(TokenError::NotYet("nbf")));
        assert_eq!(verify(&with("iat", json!(now + 3600))), Err(TokenError::NotYet("iat")));
        assert!(verify(&with("iat", json!(now + 5))).is_ok());
        assert!(verify(&with("nbf", json!(now - 5))).is_ok());
    }

    #[test]
    fn other_keys_and_algorithms_are_refused() {
        let verifier = Verifier::new(&rules());
        let forged = sign(&Header::default(), &good(), "another secret of thirty-two byte");
        assert_eq!(verifier.verify(&forged), Err(TokenError::Signature));
        let hs512 = sign(&Header::new(Algorithm::HS512), &good(), SECRET);
        assert_eq!(verifier.verify(&hs512), Err(TokenError::Algorithm));
        // {"alg":"none"} and the claims of `good`, unsigned.
        let claims = sign(&Header::default(), &good(), SECRET);
        let none = format!("eyJhbGciOiJub25lIn0.{}.", claims.split('.').nth(1).unwrap());
        assert_eq!(verifier.verify(&none), Err(TokenError::Malformed));
        for text in ["", "a", "a.b.c", "..", &"x".repeat(MAX_TOKEN_BYTES + 1)] {
            assert_eq!(verifier.verify(text), Err(TokenError::Malformed), "{text}");
        }
    }

    #[test]
    fn issuer_and_audience_are_required_when_configured() {
        let rules = TokenRules { issuer: Some("ehr".into()), audience: Some("chat".into()), ..rules() };
        let verifier = Verifier::new(&rules);
        let verify = |iss: Option<&str>, aud: Option<&str>| {
            let mut claims = good();
            if let Some(iss) = iss {
                claims["iss"] = json!(iss);
            }
            if let Some(aud) = aud {
                claims["aud"] = json!(aud);
            }
            verifier.verify(&sign(&Header::default(), &claims, SECRET))
        };
        assert!(verify(Some("ehr"), Some("chat")).is_ok());
        assert_eq!(verify(None, Some("chat")), Err(TokenError::MissingClaim("iss".into())));
        assert_eq!(verify(Some("ehr"), None), Err(TokenError::MissingClaim("aud".into())));
        assert!(matches!(verify(Some("x"), Some("chat")), Err(TokenError::BadClaim("iss", _))));
        assert!(matches!(verify(Some("ehr"), Some("x")), Err(TokenError::BadClaim("aud", _))));
    }

    #[test]
    fn a_revoked_token_is_refused_though_its_signature_is_good() {
        let revocations = Arc::new(Revocations::default());
        let verifier = Verifier::new(&rules()).with_revocations(revocations.clone());
        let token = sign(&Header::default(), &with("jti", json!("t1")), SECRET);
        assert!(verifier.verify(&token).is_ok());
        revocations.add([crate::revocation::Revocation::Token { jti: "t1".into() }]);
        assert_eq!(verifier.verify(&token), Err(TokenError::Revoked));
    }

    #[test]
    fn only_a_service_can_be_an_administrator() {
        assert_eq!(verify(&with("admin", json!(true))).unwrap().check_admin(), Err(Forbidden::NotAdmin));
        let mut claims = with("admin", json!("yes"));
        claims["role"] = json!("service");
        assert!(matches!(verify(&claims), Err(TokenError::BadClaim("admin", _))));
    }

    #[test]
    fn the_challenge_says_what_is_wrong_and_nothing_when_no_token_came() {
        assert_eq!(TokenError::Missing.challenge(), "Bearer realm=\"ehr-chat\"");
        assert_eq!(
            TokenError::Expired.challenge(),
            "Bearer realm=\"ehr-chat\", error=\"invalid_token\", error_description=\"token has expired\""
        );
    }

    #[test]
    fn bearer_is_taken_from_the_header() {
        assert_eq!(bearer(Some("Bearer abc")), Ok("abc"));
        assert_eq!(bearer(Some("bearer  abc")), Ok("abc"));
        for header in [None, Some(""), Some("Bearer"), Some("Basic abc")] {
            assert_eq!(bearer(header), Err(TokenError::Missing));
        }
    }

    #[test]
    fn a_person_acts_as_itself_in_its_locations_and_conversations() {
        let principal = verify(&good()).unwrap();
        let (here, there): (LocationId, LocationId) = ("loc1".parse().unwrap(), "loc2".parse().unwrap());
        let me = Participant::user("doc123".parse().unwrap());
        let patient = Participant::contact("pat456".parse().unwrap());
        // A patient who happens to have the same identifier is somebody else.
        let namesake = Participant::contact("doc123".parse().unwrap());
        assert_eq!(principal.check_acts_as(&here, &me), Ok(()));
        assert_eq!(principal.check_acts_as(&there, &me), Err(Forbidden::Location));
        assert_eq!(principal.check_acts_as(&here, &patient), Err(Forbidden::Participant));
        assert_eq!(principal.check_acts_as(&here, &namesake), Err(Forbidden::Participant));

        let conversation = |location: &LocationId, a: &Participant, b: &Participant| {
            Conversation::new(location.clone(), a.clone(), b.clone()).unwrap()
        };
        let other = Participant::user("doc9".parse().unwrap());
        assert_eq!(principal.check_sees(&conversation(&here, &me, &patient)), Ok(()));
        assert_eq!(principal.check_sees(&conversation(&there, &me, &patient)), Err(Forbidden::Location));
        assert_eq!(principal.check_sees(&conversation(&here, &other, &patient)), Err(Forbidden::Conversation));
        assert_eq!(principal.check_sees(&conversation(&here, &other, &namesake)), Err(Forbidden::Conversation));
    }

    #[test]
    fn a_service_acts_for_anybody_but_only_in_its_locations() {
        let principal = verify(&with("role", json!("service"))).unwrap();
        let who = Participant::contact("pat456".parse().unwrap());
        assert_eq!(principal.check_acts_as(&"loc1".parse().unwrap(), &who), Ok(()));
        assert_eq!(principal.check_acts_as(&"loc2".parse().unwrap(), &who), Err(Forbidden::Location));
        assert_eq!(principal.person(), None);
    }
}
