//! Tokens: good ones, and every kind of bad one.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use time::OffsetDateTime;

/// Now, in seconds since 1970.
#[must_use]
pub fn now() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}

/// The claims of a good token that lives for an hour.
#[must_use]
pub fn claims(sub: &str, role: &str, locations: &[&str]) -> Value {
    json!({"sub": sub, "role": role, "locations": locations, "iat": now(), "exp": now() + 3600})
}

/// Claims with one of them changed.
#[must_use]
pub fn with(mut claims: Value, name: &str, value: Value) -> Value {
    claims[name] = value;
    claims
}

/// Claims without one of them.
#[must_use]
pub fn without(mut claims: Value, name: &str) -> Value {
    claims.as_object_mut().expect("claims are an object").remove(name);
    claims
}

/// A token of any claims.
#[must_use]
pub fn sign(secret: &str, claims: &Value) -> String {
    sign_as(Algorithm::HS256, secret, claims)
}

/// A token of any claims, signed with another algorithm.
#[must_use]
pub fn sign_as(algorithm: Algorithm, secret: &str, claims: &Value) -> String {
    jsonwebtoken::encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

/// The same claims under `{"alg":"none","typ":"JWT"}`, unsigned.
#[must_use]
pub fn unsigned(good: &str) -> String {
    format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{}.", good.split('.').nth(1).expect("a JWT has three parts"))
}

/// The header and signature of one token around the claims of another.
#[must_use]
pub fn forged(good: &str, claims_of: &str) -> String {
    let mut parts: Vec<&str> = good.split('.').collect();
    parts[1] = claims_of.split('.').nth(1).expect("a JWT has three parts");
    parts.join(".")
}
