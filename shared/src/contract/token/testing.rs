//! An issuer for tests: signs with a key of its own, and publishes its public half.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair,
};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use time::OffsetDateTime;

pub(crate) struct Issuer {
    pub(crate) algorithm: Algorithm,
    pub(crate) kid: String,
    key: EncodingKey,
}

impl Issuer {
    pub(crate) fn new(algorithm: Algorithm, kid: &str) -> Self {
        let key = match algorithm {
            Algorithm::EdDSA => {
                EncodingKey::from_ed_der(Ed25519KeyPair::generate().unwrap().to_pkcs8v1().unwrap().as_ref())
            }
            Algorithm::ES256 => ec(&ECDSA_P256_SHA256_FIXED_SIGNING),
            Algorithm::ES384 => ec(&ECDSA_P384_SHA384_FIXED_SIGNING),
            _ => rsa(),
        };
        Self { algorithm, kid: kid.to_owned(), key }
    }

    /// Signs claims under a header that names this key.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        self.sign_under(&Header { kid: Some(self.kid.clone()), ..Header::new(self.algorithm) }, claims)
    }

    pub(crate) fn sign_under(&self, header: &Header, claims: &Value) -> String {
        jsonwebtoken::encode(header, claims, &self.key).unwrap()
    }

    /// The public key, as it is published.
    pub(crate) fn jwk(&self) -> Value {
        let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&self.key, self.algorithm).unwrap()).unwrap();
        jwk["kid"] = json!(self.kid);
        jwk["use"] = json!("sig");
        jwk
    }

    /// A set of this key alone.
    pub(crate) fn set(&self) -> String {
        set([self])
    }
}

/// A set of some issuers' keys.
pub(crate) fn set<'a>(issuers: impl IntoIterator<Item = &'a Issuer>) -> String {
    json!({"keys": issuers.into_iter().map(Issuer::jwk).collect::<Vec<_>>()}).to_string()
}

/// The claims of a good token.
pub(crate) fn claims() -> Value {
    let now = OffsetDateTime::now_utc().unix_timestamp();
    json!({"sub": "doc123", "role": "user", "locations": ["loc1"], "iat": now, "exp": now + 60})
}

fn ec(algorithm: &'static EcdsaSigningAlgorithm) -> EncodingKey {
    EncodingKey::from_ec_der(EcdsaKeyPair::generate(algorithm).unwrap().to_pkcs8v1().unwrap().as_ref())
}

fn rsa() -> EncodingKey {
    let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let pkcs8 = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).unwrap();
    // Without the 26 bytes that PKCS#8 puts before the key of RFC 8017, appendix A.1.2.
    EncodingKey::from_rsa_der(&pkcs8.as_ref()[26..])
}
