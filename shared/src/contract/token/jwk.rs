//! Public keys of an issuer, as a JSON Web Key Set (RFC 7517) has them.
//!
//! A key verifies one algorithm and no other, so that nothing that was made for one can pass as another. Refuses what is no
//! public key, and what is too short to be one.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, VerificationAlgorithm,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, CommonParameters, Jwk, RSAKeyParameters};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

use super::error::TokenError;

/// Keys that are looked at; an issuer has two or three.
const MAX_KEYS: usize = 100;
/// What the library verifies with; shorter ones can be broken (RFC 7518, section 3.3).
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Names a key by all that it is: its name, its algorithm, its numbers. The same in every process.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct VerificationKeyId([u8; 32]);

impl VerificationKeyId {
    /// The shared secret. Its id is constant, so that it reveals nothing of the secret.
    pub const SECRET: Self = Self([0; 32]);

    fn from_parts(kid: Option<&str>, algorithm: Algorithm, material: &[&[u8]]) -> Self {
        let mut hash = Context::new(&SHA256);
        let name = format!("{algorithm:?}");
        let parts = [name.as_bytes(), kid.unwrap_or_default().as_bytes()];
        for part in parts.iter().chain(material) {
            // With its length: no two keys may look the same when their parts are put together.
            hash.update(&part.len().to_be_bytes());
            hash.update(part);
        }
        let mut id = Self::SECRET;
        id.0.copy_from_slice(hash.finish().as_ref());
        id
    }
}

impl fmt::Display for VerificationKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for VerificationKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for VerificationKeyId {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError::Malformed)?;
        bytes.try_into().map(Self).map_err(|_| TokenError::Malformed)
    }
}

/// A public key, and the one algorithm that it verifies.
pub(crate) struct VerificationKey {
    pub(crate) id: VerificationKeyId,
    kid: Option<String>,
    pub(crate) algorithm: Algorithm,
    pub(crate) key: DecodingKey,
}

/// Why a member of a key set cannot verify tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JwkError {
    #[error("is for something else")]
    UnsupportedKey,
    #[error("is a symmetric key, which a set that others may read cannot hold")]
    Symmetric,
    #[error("holds the private key")]
    Private,
    #[error("is an RSA key of less than 2048 bits, or more than 8192")]
    RsaLength,
    #[error("is not a valid key")]
    Malformed,
    #[error("has the `kid` and the algorithm of another one")]
    Duplicate,
}

/// Why there are no keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// It is something else.
    #[error("is not a JSON Web Key Set")]
    NotAKeySet,
    /// Nothing in it can verify a token.
    #[error("holds no key that can verify a token{0}")]
    NoUsableKey(String),
}

/// The keys of an issuer, as read once.
#[derive(Default)]
pub struct KeySet {
    keys: Vec<VerificationKey>,
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| (&key.kid, key.algorithm))).finish()
    }
}

impl KeySet {
    /// Parses a set. Members that cannot verify tokens are left out, with a warning when they should not be in the set at all.
    ///
    /// # Errors
    /// [`KeySetError`], when no key is left.
    pub fn parse(text: &[u8]) -> Result<Self, KeySetError> {
        let document: Value = serde_json::from_slice(text).map_err(|_| KeySetError::NotAKeySet)?;
        let members = document.get("keys").and_then(Value::as_array).ok_or(KeySetError::NotAKeySet)?;
        let (mut set, mut refusals) = (Self::default(), String::new());
        for (place, member) in members.iter().take(MAX_KEYS).enumerate() {
            let refused = match VerificationKey::parse(member) {
                Ok(key) if set.keys.iter().any(|other| other.has_same_name(&key)) => JwkError::Duplicate,
                Ok(key) => {
                    set.keys.push(key);
                    continue;
                }
                Err(refused) => refused,
            };
            refusals.push_str(&format!("; key {} {refused}", place + 1));
            if refused != JwkError::UnsupportedKey {
                tracing::warn!(place = place + 1, "a key of the JWKS is not used: it {refused}");
            }
        }
        if set.keys.is_empty() { Err(KeySetError::NoUsableKey(refusals)) } else { Ok(set) }
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether a key is still among them.
    #[must_use]
    pub fn contains(&self, id: VerificationKeyId) -> bool {
        self.keys.iter().any(|key| key.id == id)
    }

    /// Whether these are the same keys.
    pub(crate) fn equals(&self, other: &Self) -> bool {
        self.len() == other.len() && self.keys.iter().all(|key| other.contains(key.id))
    }

    /// The key that a token's header names.
    pub(crate) fn find(&self, algorithm: Algorithm, kid: Option<&str>) -> Result<&VerificationKey, TokenError> {
        let mut of_algorithm = self.keys.iter().filter(|key| key.algorithm == algorithm);
        match kid {
            Some(kid) => {
                let is_named = |key: &VerificationKey| key.kid.as_deref() == Some(kid);
                let is_known = self.is_empty() || self.keys.iter().any(is_named);
                let why = if is_known { TokenError::Algorithm } else { TokenError::UnknownKey };
                of_algorithm.find(|key| is_named(key)).ok_or(why)
            }
            None => match (of_algorithm.next(), of_algorithm.next()) {
                (Some(only), None) => Ok(only),
                (None, _) => Err(TokenError::Algorithm),
                (Some(_), Some(_)) => Err(TokenError::KeyNotNamed),
            },
        }
    }
}

impl VerificationKey {
    fn has_same_name(&self, other: &Self) -> bool {
        (&self.kid, self.algorithm) == (&other.kid, other.algorithm) && (self.kid.is_some() || self.id == other.id)
    }

    fn parse(member: &Value) -> Result<Self, JwkError> {
        let text = |name: &str| member.get(name).and_then(Value::as_str);
        // Not with the library's `Jwk`: one member of another type, of a key for something else, would make it an error, and it
        // drops `d`, which says that a private key has been published.
        let algorithm = algorithm(text("kty"), text("crv"), text("alg"));
        if text("kty") == Some("oct") {
            return Err(JwkError::Symmetric);
        }
        let algorithm = algorithm.filter(|_| is_for_verifying(member)).ok_or(JwkError::UnsupportedKey)?;
        if member.get("d").is_some() {
            return Err(JwkError::Private);
        }
        let kid = match member.get("kid") {
            None | Some(Value::Null) => None,
            Some(kid) => Some(kid.as_str().ok_or(JwkError::Malformed)?),
        };
        let (key, material) = match AlgorithmParameters::deserialize(member).map_err(|_| JwkError::Malformed)? {
            AlgorithmParameters::RSA(parameters) => rsa(&parameters)?,
            parameters => curve_point(algorithm, parameters)?,
        };
        let material: Vec<&[u8]> = material.iter().map(Vec::as_slice).collect();
        let id = VerificationKeyId::from_parts(kid, algorithm, &material);
        Ok(Self { id, kid: kid.map(str::to_owned), algorithm, key })
    }
}

/// The one algorithm of a key. An RSA key that does not say is one of RS256, which every issuer has to know
/// (RFC 7518, section 3.1, and OpenID Connect).
fn algorithm(kty: Option<&str>, crv: Option<&str>, alg: Option<&str>) -> Option<Algorithm> {
    Some(match (kty?, crv, alg) {
        ("RSA", _, None | Some("RS256")) => Algorithm::RS256,
        ("RSA", _, Some("RS384")) => Algorithm::RS384,
        ("RSA", _, Some("RS512")) => Algorithm::RS512,
        ("RSA", _, Some("PS256")) => Algorithm::PS256,
        ("RSA", _, Some("PS384")) => Algorithm::PS384,
        ("RSA", _, Some("PS512")) => Algorithm::PS512,
        ("EC", Some("P-256"), None | Some("ES256")) => Algorithm::ES256,
        ("EC", Some("P-384"), None | Some("ES384")) => Algorithm::ES384,
        ("OKP", Some("Ed25519"), None | Some("EdDSA" | "Ed25519")) => Algorithm::EdDSA,
        _ => return None,
    })
}

/// What `use` and `key_ops` say, if they say anything (RFC 7517, sections 4.2 and 4.3).
fn is_for_verifying(member: &Value) -> bool {
    let is_used_so = member.get("use").is_none_or(|usage| usage == "sig");
    let operations =
        member.get("key_ops").map(|operations| operations.as_array().map(Vec::as_slice).unwrap_or_default());
    is_used_so && operations.is_none_or(|operations| operations.iter().any(|operation| operation == "verify"))
}

type Material = (DecodingKey, Vec<Vec<u8>>);

/// A key on an elliptic curve. The library decodes it and checks nothing: neither lengths nor whether the point is on the curve.
fn curve_point(algorithm: Algorithm, parameters: AlgorithmParameters) -> Result<Material, JwkError> {
    let jwk = Jwk { common: CommonParameters::default(), algorithm: parameters };
    // What the library could not read is "other" parameters, of which it makes no key.
    let key = DecodingKey::from_jwk(&jwk).map_err(|_| JwkError::Malformed)?;
    let point = key.try_get_as_bytes().map_err(|_| JwkError::Malformed)?.to_vec();
    let (curve, length): (&'static dyn VerificationAlgorithm, _) = match (algorithm, &jwk.algorithm) {
        // A byte of `x` in `y` would be another text for the same point.
        (_, AlgorithmParameters::EllipticCurve(key)) if key.x.len() != key.y.len() => return Err(JwkError::Malformed),
        (Algorithm::ES256, AlgorithmParameters::EllipticCurve(_)) => (&ECDSA_P256_SHA256_FIXED, 65),
        (Algorithm::ES384, AlgorithmParameters::EllipticCurve(_)) => (&ECDSA_P384_SHA384_FIXED, 97),
        (Algorithm::EdDSA, AlgorithmParameters::OctetKeyPair(_)) => (&ED25519, 32),
        _ => return Err(JwkError::Malformed),
    };
    // With another length it could be a point in an envelope (SubjectPublicKeyInfo).
    if point.len() != length || ParsedPublicKey::new(curve, &point).is_err() {
        return Err(JwkError::Malformed);
    }
    if algorithm == Algorithm::EdDSA && is_of_small_order(&point) {
        return Err(JwkError::Malformed);
    }
    Ok((key, vec![point]))
}

/// The points of Ed25519 whose order divides 8, in every encoding, without the sign of `x`. For such a key any party can make a
/// signature that verifies. All zeros is one of them.
const SMALL_ORDER: [[u8; 32]; 7] = [
    [0; 32],
    ends_in([1, 0], 0, 0),
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
        0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
        0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
    ends_in([0xec, 0xff], 0xff, 0x7f),
    ends_in([0xed, 0xff], 0xff, 0x7f),
    ends_in([0xee, 0xff], 0xff, 0x7f),
];

const fn ends_in(first: [u8; 2], middle: u8, last: u8) -> [u8; 32] {
    let mut bytes = [middle; 32];
    bytes[0] = first[0];
    bytes[1] = first[1];
    bytes[31] = last;
    bytes
}

fn is_of_small_order(point: &[u8]) -> bool {
    let mut point = point.to_vec();
    if let Some(last) = point.last_mut() {
        *last &= 0x7f;
    }
    SMALL_ORDER.iter().any(|small| small[..] == point[..])
}

/// An RSA key. The library takes any length and any exponent, and keeps leading zeros, which would give one key two ids.
fn rsa(parameters: &RSAKeyParameters) -> Result<Material, JwkError> {
    let decode = |number: &str| URL_SAFE_NO_PAD.decode(number).map_err(|_| JwkError::Malformed);
    let (modulus, exponent) = (decode(&parameters.n)?, decode(&parameters.e)?);
    let (modulus, exponent) = (without_leading_zeros(&modulus), without_leading_zeros(&exponent));
    let bits = modulus.len() * 8 - modulus.first().map_or(0, |first| first.leading_zeros() as usize);
    if !RSA_BITS.contains(&bits) {
        return Err(JwkError::RsaLength);
    }
    let is_odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
    let is_exponent = (1..=4).contains(&exponent.len()) && exponent != [1] && is_odd(exponent);
    if !is_odd(modulus) || !is_exponent {
        return Err(JwkError::Malformed);
    }
    let key = DecodingKey::from_rsa_raw_components(modulus, exponent);
    Ok((key, vec![modulus.to_vec(), exponent.to_vec()]))
}

fn without_leading_zeros(number: &[u8]) -> &[u8] {
    &number[number.iter().take_while(|byte| **byte == 0).count()..]
}

#[cfg(test)]
#[path = "tests/jwk.rs"]
mod tests;
