//! Issuers of tokens with keys of their own, and the file in which they publish them.

use std::path::{Path, PathBuf};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

/// Signs tokens with a private key of its own.
pub struct Issuer {
    /// What it signs with.
    pub algorithm: Algorithm,
    /// How its key is called.
    pub kid: String,
    key: EncodingKey,
}

impl Issuer {
    /// One with a new key for RS256, ES256 or EdDSA.
    #[must_use]
    pub fn new(algorithm: Algorithm, kid: &str) -> Self {
        let key = match algorithm {
            Algorithm::EdDSA => {
                EncodingKey::from_ed_der(Ed25519KeyPair::generate().unwrap().to_pkcs8v1().unwrap().as_ref())
            }
            Algorithm::ES256 => {
                let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
                EncodingKey::from_ec_der(pair.to_pkcs8v1().unwrap().as_ref())
            }
            _ => {
                let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
                let pkcs8 = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).unwrap();
                // Without the 26 bytes that PKCS#8 puts before the key of RFC 8017, appendix A.1.2.
                EncodingKey::from_rsa_der(&pkcs8.as_ref()[26..])
            }
        };
        Self { algorithm, kid: kid.to_owned(), key }
    }

    /// Signs claims under a header that names this key.
    #[must_use]
    pub fn sign(&self, claims: &Value) -> String {
        self.sign_under(&Header { kid: Some(self.kid.clone()), ..Header::new(self.algorithm) }, claims)
    }

    /// Signs claims under any header.
    #[must_use]
    pub fn sign_under(&self, header: &Header, claims: &Value) -> String {
        jsonwebtoken::encode(header, claims, &self.key).unwrap()
    }

    /// The public key, as it is published.
    #[must_use]
    pub fn jwk(&self) -> Value {
        let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&self.key, self.algorithm).unwrap()).unwrap();
        jwk["kid"] = json!(self.kid);
        jwk["use"] = json!("sig");
        jwk
    }
}

/// A file of public keys.
#[derive(Debug)]
pub struct Jwks(PathBuf);

impl Jwks {
    /// A file of these keys.
    #[must_use]
    pub fn publish(path: PathBuf, issuers: &[&Issuer]) -> Self {
        let jwks = Self(path);
        jwks.replace(issuers);
        jwks
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Publishes these keys in place of others, in one step.
    pub fn replace(&self, issuers: &[&Issuer]) {
        let set = json!({"keys": issuers.iter().map(|issuer| issuer.jwk()).collect::<Vec<_>>()});
        let next = self.0.with_extension("next");
        std::fs::write(&next, set.to_string()).unwrap();
        std::fs::rename(next, &self.0).unwrap();
    }
}
