use super::*;
use crate::contract::revocation::Revocation;
use crate::contract::token::jwk::KeySet;
use crate::contract::token::testing::{Issuer, claims, set};
use jsonwebtoken::{EncodingKey, Header};
use proptest::prelude::*;
use serde_json::json;
use std::sync::LazyLock;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// One for each kind of key. Made once: an RSA key takes its time.
static ISSUERS: LazyLock<[Issuer; 3]> = LazyLock::new(|| {
    [(Algorithm::RS256, "rsa"), (Algorithm::ES256, "ec"), (Algorithm::EdDSA, "ed")].map(|(a, kid)| Issuer::new(a, kid))
});

fn keyring() -> Arc<KeySetCache> {
    let set = KeySet::parse(set(&*ISSUERS).as_bytes()).unwrap();
    Arc::new(KeySetCache::new(Some(&SECRET.parse().unwrap()), set))
}

fn verifier() -> Verifier {
    Verifier::new(&TokenConfig::default(), keyring())
}

fn hs(header: &Header, claims: &Value, secret: &[u8]) -> String {
    jsonwebtoken::encode(header, claims, &EncodingKey::from_secret(secret)).unwrap()
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

#[test]
fn each_algorithm_is_verified_with_its_key() {
    let verifier = verifier();
    for issuer in &*ISSUERS {
        let principal = verifier.verify(&issuer.sign(&claims())).unwrap();
        assert_eq!(principal.participant().unwrap().to_string(), "user:doc123");
        assert_ne!(principal.key, VerificationKeyId::SECRET);
        // Without `kid`, since each is the only one of its algorithm.
        assert!(verifier.verify(&issuer.sign_under(&Header::new(issuer.algorithm), &claims())).is_ok());
    }
    assert_eq!(
        verifier.verify(&hs(&Header::default(), &claims(), SECRET.as_bytes())).unwrap().key,
        VerificationKeyId::SECRET
    );
}

#[test]
fn issued_tokens_are_accepted() {
    use crate::contract::participant::ParticipantKind;
    use crate::contract::token::{Actor, AuthorizationError, Role, issue};
    let locations = ["loc1".parse().unwrap(), "loc2".parse().unwrap()];
    let secret: Secret = SECRET.parse().unwrap();
    let issue = |role| {
        let token =
            issue(&secret, &"x".parse().unwrap(), role, &locations, std::time::Duration::from_secs(60)).unwrap();
        Verifier::from_secret(&secret).verify(&token).unwrap()
    };
    assert_eq!(issue(Role::Participant(ParticipantKind::Contact)).participant().unwrap().to_string(), "contact:x");
    assert_eq!(issue(Role::Service).actor, Actor::Service { name: "x".parse().unwrap(), admin: false });
    assert_eq!(issue(Role::Service).locations, locations);
    assert_eq!(issue(Role::Service).check_admin(), Err(AuthorizationError::AdminRequired));
    assert_eq!(issue(Role::Admin).check_admin(), Ok(()));
}

#[test]
fn public_key_is_not_accepted_as_secret() {
    let verifier = verifier();
    for issuer in &*ISSUERS {
        let jwk = issuer.jwk();
        let numbers: Vec<Vec<u8>> =
            ["n", "x", "y"].iter().filter_map(|name| URL_SAFE_NO_PAD.decode(jwk[*name].as_str()?).ok()).collect();
        let mut secrets = numbers.clone();
        secrets.extend([
            jwk.to_string().into_bytes(),
            issuer.set().into_bytes(),
            [&[4], numbers.concat().as_slice()].concat(),
        ]);
        for name in ["n", "x"] {
            secrets.extend(jwk[name].as_str().map(|text| text.as_bytes().to_vec()));
        }
        for secret in secrets {
            for kid in [None, Some(issuer.kid.clone())] {
                let header = Header { kid, ..Header::default() };
                assert_eq!(verifier.verify(&hs(&header, &claims(), &secret)), Err(TokenError::Signature));
            }
        }
    }
    // Nor is the secret a key, where only the issuer's count.
    let issuers_only = Arc::new(KeySetCache::new(None, KeySet::parse(ISSUERS[0].set().as_bytes()).unwrap()));
    let verifier = Verifier::new(&TokenConfig::default(), issuers_only);
    let token = hs(&Header { kid: Some("rsa".to_owned()), ..Header::default() }, &claims(), SECRET.as_bytes());
    assert_eq!(verifier.verify(&token), Err(TokenError::Algorithm));
}

#[test]
fn public_key_pem_is_not_accepted_as_secret() {
    let verifier = verifier();
    // SubjectPublicKeyInfo, as a certificate or an `openssl` command shows it, and the same as text.
    let rsa = ISSUERS[0].jwk();
    let number = |name: &str| URL_SAFE_NO_PAD.decode(rsa[name].as_str().unwrap()).unwrap();
    let key = aws_lc_rs::rsa::PublicKeyComponents { n: number("n"), e: number("e") };
    let key: aws_lc_rs::rsa::PublicEncryptingKey = key.try_into().unwrap();
    let der = aws_lc_rs::encoding::AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(&key).unwrap();
    let base64 = base64::engine::general_purpose::STANDARD.encode(der.as_ref());
    let lines: Vec<&str> = base64.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"));
    for secret in [pem.as_bytes(), pem.trim_end().as_bytes(), der.as_ref()] {
        let header = Header { kid: Some("rsa".to_owned()), ..Header::default() };
        assert_eq!(verifier.verify(&hs(&header, &claims(), secret)), Err(TokenError::Signature));
    }
}

#[test]
fn header_keys_and_key_urls_are_ignored() {
    let verifier = verifier();
    let (rsa, stranger) = (&ISSUERS[0], Issuer::new(Algorithm::RS256, "rsa"));
    assert_eq!(verifier.verify(&stranger.sign(&claims())), Err(TokenError::Signature));
    let named = |kid: &str| Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::RS256) };
    assert_eq!(verifier.verify(&rsa.sign_under(&named("gone"), &claims())), Err(TokenError::UnknownKey));
    assert_eq!(verifier.verify(&rsa.sign_under(&named(""), &claims())), Err(TokenError::UnknownKey));
    assert_eq!(verifier.verify(&rsa.sign_under(&named("ec"), &claims())), Err(TokenError::Algorithm));
    // The same key, another padding.
    let pss = Header { kid: Some("rsa".to_owned()), ..Header::new(Algorithm::PS256) };
    assert_eq!(verifier.verify(&rsa.sign_under(&pss, &claims())), Err(TokenError::Algorithm));
    // A key in the token, or an address of one, is ignored.
    let signed = stranger.sign(&claims());
    let own =
        json!({"alg": "RS256", "kid": "rsa", "jwk": stranger.jwk(), "jku": "https://evil.example/jwks", "x5u": "x"});
    let forged = format!("{}.{}", part(&own), signed.split_once('.').unwrap().1);
    assert_eq!(verifier.verify(&forged), Err(TokenError::Signature));
    let critical = Header { crit: Some(vec!["b64".to_owned()]), ..named("rsa") };
    assert_eq!(verifier.verify(&rsa.sign_under(&critical, &claims())), Err(TokenError::UnsupportedCrit));
    let critical = Header { crit: Some(vec![]), ..Header::default() };
    assert_eq!(verifier.verify(&hs(&critical, &claims(), SECRET.as_bytes())), Err(TokenError::UnsupportedCrit));
}

#[test]
fn other_algorithms_are_rejected() {
    let verifier = verifier();
    assert_eq!(
        verifier.verify(&hs(&Header::default(), &claims(), b"another secret of thirty-two byte")),
        Err(TokenError::Signature)
    );
    for algorithm in [Algorithm::HS384, Algorithm::HS512] {
        let token = hs(&Header::new(algorithm), &claims(), SECRET.as_bytes());
        assert_eq!(verifier.verify(&token), Err(TokenError::Algorithm));
    }
    for none in ["none", "None", "NONE", "nOnE", "", "HS256 "] {
        for signature in ["", "AAAA"] {
            let token = format!("{}.{}.{signature}", part(&json!({"alg": none, "typ": "JWT"})), part(&claims()));
            assert_eq!(verifier.verify(&token), Err(TokenError::Malformed), "{none}");
        }
    }
    for text in ["", "a", "a.b.c", "..", "a.b.c.d", &"x".repeat(MAX_TOKEN_BYTES + 1)] {
        assert_eq!(verifier.verify(text), Err(TokenError::Malformed), "{text}");
    }
    let mut large = claims();
    large["note"] = json!("x".repeat(MAX_TOKEN_BYTES));
    assert_eq!(verifier.verify(&ISSUERS[0].sign(&large)), Err(TokenError::Malformed), "however good it is");
}

#[test]
fn claims_are_checked_for_every_algorithm() {
    let verifier = verifier();
    let now = OffsetDateTime::now_utc().unix_timestamp();
    for issuer in &*ISSUERS {
        for (name, value, refused) in [
            ("exp", json!(now), TokenError::Expired),
            ("nbf", json!(now + 600), TokenError::NotYetValid("nbf")),
            ("iat", json!(now + 600), TokenError::NotYetValid("iat")),
            ("role", json!("root"), TokenError::InvalidClaim("role", "is not `user`, `contact` or `service`")),
        ] {
            let mut claims = claims();
            claims[name] = value;
            assert_eq!(verifier.verify(&issuer.sign(&claims)), Err(refused));
        }
        for name in ["sub", "role", "locations", "exp"] {
            let mut claims = claims();
            claims.as_object_mut().unwrap().remove(name);
            assert_eq!(verifier.verify(&issuer.sign(&claims)), Err(TokenError::MissingClaim(name.to_owned())));
        }
    }
}

#[test]
fn claim_of_wrong_type_is_named() {
    let verifier = verifier();
    let wrong = [json!("tomorrow"), json!(true), json!([1]), json!({"at": 1}), json!("4000000000")];
    for (name, values) in [
        ("exp", &wrong[..]),
        ("nbf", &wrong),
        ("iat", &wrong),
        ("sub", &[json!(7), json!([]), json!(null)]),
        ("role", &[json!(7), json!(["user"]), json!(null)]),
        ("locations", &[json!(7), json!("loc1"), json!(null)]),
        ("jti", &[json!(7), json!(["t1"])]),
        ("fhirUser", &[json!(7), json!(["Practitioner/doc123"])]),
    ] {
        for value in values {
            let mut claims = claims();
            claims[name] = value.clone();
            let refused = verifier.verify(&ISSUERS[1].sign(&claims));
            assert!(
                matches!(&refused, Err(TokenError::InvalidClaim(n, _)) if *n == name),
                "{name} {value}: {refused:?}"
            );
        }
    }
}

#[test]
fn configured_issuer_and_audience_are_required() {
    let rules = TokenConfig { issuer: Some("ehr".into()), audience: Some("chat".into()), ..TokenConfig::default() };
    let verifier = Verifier::new(&rules, keyring());
    for issuer in &*ISSUERS {
        let verify = |iss: Option<Value>, aud: Option<Value>| {
            let mut claims = claims();
            for (name, value) in [("iss", iss), ("aud", aud)] {
                if let Some(value) = value {
                    claims[name] = value;
                }
            }
            verifier.verify(&issuer.sign(&claims))
        };
        let (ehr, chat) = (Some(json!("ehr")), Some(json!("chat")));
        assert!(verify(ehr.clone(), chat.clone()).is_ok());
        assert!(verify(ehr.clone(), Some(json!(["other", "chat"]))).is_ok());
        assert_eq!(verify(None, chat.clone()), Err(TokenError::MissingClaim("iss".into())));
        assert_eq!(verify(ehr.clone(), None), Err(TokenError::MissingClaim("aud".into())));
        for bad in [json!("x"), json!(7), json!(null), json!({"ehr": 1}), json!(["other"]), json!([])] {
            assert!(verify(Some(bad.clone()), chat.clone()).is_err(), "iss {bad}");
            assert!(verify(ehr.clone(), Some(bad.clone())).is_err(), "aud {bad}");
        }
        // A wrong type is not called a missing claim.
        for bad in [json!(7), json!(["ehr"]), json!({"ehr": 1}), json!(true)] {
            assert_eq!(verify(Some(bad), chat.clone()), Err(TokenError::InvalidClaim("iss", "is not a string")));
        }
        for bad in [json!(7), json!([7]), json!(["chat", 7]), json!({"chat": 1}), json!(true)] {
            let refused = verify(ehr.clone(), Some(bad));
            assert_eq!(refused, Err(TokenError::InvalidClaim("aud", "is not a string or an array of strings")));
        }
    }
}

#[test]
fn revoked_token_is_rejected() {
    let revocations = Arc::new(RevocationSet::default());
    let verifier = verifier().with_revocations(revocations.clone());
    let mut claims = claims();
    claims["jti"] = json!("t1");
    let token = ISSUERS[1].sign(&claims);
    assert!(verifier.verify(&token).is_ok());
    revocations.add([Revocation::Token { jti: "t1".into(), expires_at: None }.entry(i64::MAX)]);
    assert_eq!(verifier.verify(&token), Err(TokenError::Revoked));
}

#[test]
fn any_changed_byte_invalidates_the_token() {
    let verifier = verifier();
    for issuer in &*ISSUERS {
        let token = issuer.sign(&claims());
        for place in 0..token.len() {
            for change in [1, 2, 3, 0x20] {
                let mut bytes = token.clone().into_bytes();
                bytes[place] ^= change;
                let changed = String::from_utf8(bytes).unwrap();
                assert!(verifier.verify(&changed).is_err(), "{:?}, byte {place}", issuer.algorithm);
            }
        }
        for cut in 0..token.len() {
            assert!(verifier.verify(&token[..cut]).is_err(), "{:?}, cut at {cut}", issuer.algorithm);
        }
    }
}

proptest! {
    #[test]
    fn verifier_never_panics(text in "\\PC{0,200}", header in "\\PC{0,60}", kid in "\\PC{0,20}", bytes in any::<[u8; 40]>()) {
        static VERIFIER: LazyLock<Verifier> = LazyLock::new(verifier);
        prop_assert!(VERIFIER.verify(&text).is_err());
        let body = URL_SAFE_NO_PAD.encode(bytes);
        let verify = |token: String| VERIFIER.verify(&token);
        let nonsense = format!("{}.{body}.{body}", URL_SAFE_NO_PAD.encode(&header));
        prop_assert!(verify(nonsense).is_err());
        for algorithm in ["HS256", "RS256", "ES256", "EdDSA", "PS512", "none"] {
            let header = part(&json!({"alg": algorithm, "kid": kid}));
            for token in [format!("{header}.{}.{body}", part(&claims())), format!("{header}.{body}.{body}")] {
                prop_assert!(verify(token).is_err());
            }
        }
    }

    #[test]
    fn random_byte_change_invalidates_the_token(which in 0..3_usize, place in any::<prop::sample::Index>(), byte in any::<u8>()) {
        static TOKENS: LazyLock<(Verifier, Vec<String>)> =
            LazyLock::new(|| (verifier(), ISSUERS.iter().map(|issuer| issuer.sign(&claims())).collect()));
        let (verifier, tokens) = &*TOKENS;
        let mut bytes = tokens[which].clone().into_bytes();
        let place = place.index(bytes.len());
        prop_assume!(bytes[place] != byte);
        bytes[place] = byte;
        if let Ok(changed) = String::from_utf8(bytes) {
            prop_assert!(verifier.verify(&changed).is_err());
        }
    }
}
