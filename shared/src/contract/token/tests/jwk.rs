use super::*;
use crate::contract::token::testing::{Issuer, set};
use proptest::prelude::*;
use serde_json::json;

fn refused(member: &Value) -> JwkError {
    VerificationKey::parse(member).err().unwrap_or_else(|| panic!("{member} is used"))
}

fn changed(mut jwk: Value, name: &str, value: Value) -> Value {
    jwk[name] = value;
    jwk
}

#[test]
fn each_key_has_one_algorithm() {
    for algorithm in [Algorithm::RS256, Algorithm::PS512, Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA] {
        let jwk = Issuer::new(algorithm, "k1").jwk();
        let key = VerificationKey::parse(&jwk).unwrap();
        assert_eq!((key.algorithm, key.kid.as_deref()), (algorithm, Some("k1")));
        let mut silent = jwk.clone();
        silent.as_object_mut().unwrap().remove("alg");
        silent.as_object_mut().unwrap().remove("use");
        let default = if algorithm == Algorithm::PS512 { Algorithm::RS256 } else { algorithm };
        assert_eq!(VerificationKey::parse(&silent).unwrap().algorithm, default);
        assert_eq!(key.id, VerificationKey::parse(&jwk).unwrap().id);
        assert_ne!(key.id, VerificationKey::parse(&changed(jwk, "kid", json!("k2"))).unwrap().id);
    }
}

#[test]
fn unsupported_keys_are_left_out() {
    let rsa = Issuer::new(Algorithm::RS256, "k1").jwk();
    let ec = Issuer::new(Algorithm::ES256, "k1").jwk();
    for member in [
        changed(rsa.clone(), "use", json!("enc")),
        changed(rsa.clone(), "key_ops", json!(["encrypt"])),
        changed(rsa.clone(), "key_ops", json!([])),
        changed(rsa.clone(), "key_ops", json!("verify")),
        changed(rsa.clone(), "alg", json!("RSA-OAEP")),
        changed(rsa.clone(), "alg", json!("ES256")),
        changed(rsa.clone(), "alg", json!("HS256")),
        changed(rsa.clone(), "kty", json!("LMS")),
        changed(ec.clone(), "alg", json!("RS256")),
        changed(ec.clone(), "crv", json!("secp256k1")),
        changed(ec.clone(), "crv", json!("P-521")),
        changed(ec.clone(), "crv", json!("P-384")),
        changed(ec, "kty", json!(7)),
        json!({}),
        json!("key"),
        json!(null),
    ] {
        assert_eq!(refused(&member), JwkError::UnsupportedKey, "{member}");
    }
    assert!(VerificationKey::parse(&changed(rsa, "key_ops", json!(["sign", "verify"]))).is_ok());
}

#[test]
fn small_order_ed25519_key_is_rejected() {
    let jwk = Issuer::new(Algorithm::EdDSA, "k1").jwk();
    for point in SMALL_ORDER {
        for sign in [0, 0x80] {
            let mut point = point;
            point[31] |= sign;
            let member = changed(jwk.clone(), "x", json!(URL_SAFE_NO_PAD.encode(point)));
            assert_eq!(refused(&member), JwkError::Malformed, "{member}");
        }
    }
    assert_eq!(SMALL_ORDER[0], [0; 32]);
    assert!(VerificationKey::parse(&jwk).is_ok());
}

#[test]
fn unsafe_keys_are_rejected() {
    let rsa = Issuer::new(Algorithm::RS256, "k1").jwk();
    let ec = Issuer::new(Algorithm::ES256, "k1").jwk();
    let ed = Issuer::new(Algorithm::EdDSA, "k1").jwk();
    let secret = json!({"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTMyMzI", "alg": "HS256", "kid": "k1"});
    assert_eq!(refused(&secret), JwkError::Symmetric);
    assert_eq!(refused(&changed(secret, "alg", json!("RS256"))), JwkError::Symmetric);
    assert_eq!(refused(&changed(rsa.clone(), "d", json!("AQAB"))), JwkError::Private);
    let modulus = |bytes: usize, first: u8| {
        let mut modulus = vec![0xff_u8; bytes];
        modulus[0] = first;
        json!(URL_SAFE_NO_PAD.encode(modulus))
    };
    for short in
        [modulus(128, 0xff), modulus(256, 0x7f), modulus(257, 0), modulus(1025, 1), modulus(2000, 0), json!("")]
    {
        let expected = match VerificationKey::parse(&changed(rsa.clone(), "n", short.clone())) {
            // 2048 bits behind a leading zero.
            Ok(_) => short == modulus(257, 0),
            Err(refused) => refused == JwkError::RsaLength,
        };
        assert!(expected, "{short}");
    }
    let even = URL_SAFE_NO_PAD.encode([0xfe_u8; 256]);
    for bad in [
        changed(rsa.clone(), "n", json!(even)),
        changed(rsa.clone(), "n", json!("not base64!")),
        changed(rsa.clone(), "n", json!(7)),
        changed(rsa.clone(), "e", json!("AQ")),
        changed(rsa.clone(), "e", json!("Ag")),
        changed(rsa.clone(), "e", json!("")),
        changed(rsa, "kid", json!(7)),
        changed(ec.clone(), "x", json!("AAAA")),
        changed(ec.clone(), "y", ec["x"].clone()),
        changed(ec, "y", json!(null)),
        changed(ed, "x", json!("AAAA")),
    ] {
        assert_eq!(refused(&bad), JwkError::Malformed, "{bad}");
    }
}

#[test]
fn curve_point_has_one_encoding() {
    let ec = Issuer::new(Algorithm::ES256, "k1").jwk();
    let [x, y] = ["x", "y"].map(|name| URL_SAFE_NO_PAD.decode(ec[name].as_str().unwrap()).unwrap());
    let moved = [&x[31..], &y[..]].concat();
    let shifted = changed(ec, "x", json!(URL_SAFE_NO_PAD.encode(&x[..31])));
    assert_eq!(refused(&changed(shifted, "y", json!(URL_SAFE_NO_PAD.encode(moved)))), JwkError::Malformed);
    let ed = Issuer::new(Algorithm::EdDSA, "k1").jwk();
    let point = URL_SAFE_NO_PAD.decode(ed["x"].as_str().unwrap()).unwrap();
    // RFC 8410, section 4: the same point as a SubjectPublicKeyInfo.
    let header = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    let wrapped = URL_SAFE_NO_PAD.encode([&header[..], &point].concat());
    assert_eq!(refused(&changed(ed, "x", json!(wrapped))), JwkError::Malformed);
}

#[test]
fn set_without_usable_key_is_rejected() {
    let (rsa, ec) = (Issuer::new(Algorithm::RS256, "k1"), Issuer::new(Algorithm::ES256, "k2"));
    let text = json!({"keys": [rsa.jwk(), {"kty": "oct", "k": "x"}, ec.jwk(), rsa.jwk(), {"kty": "AKP"}]}).to_string();
    let keys = KeySet::parse(text.as_bytes()).unwrap();
    assert_eq!(keys.len(), 2);
    assert!(keys.equals(&KeySet::parse(set([&ec, &rsa]).as_bytes()).unwrap()));
    assert!(!keys.equals(&KeySet::parse(rsa.set().as_bytes()).unwrap()));
    for text in ["", "[]", "{}", "{\"keys\": {}}", "nonsense"] {
        assert_eq!(KeySet::parse(text.as_bytes()).unwrap_err(), KeySetError::NotAKeySet, "{text}");
    }
    let why = KeySet::parse(br#"{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}"#).unwrap_err().to_string();
    assert!(why.contains("symmetric") && !why.contains("c2VjcmV0"), "{why}");
}

#[test]
fn key_is_found_by_kid_and_algorithm() {
    let issuers = [(Algorithm::RS256, "a"), (Algorithm::RS256, "b"), (Algorithm::ES256, "c")];
    let issuers = issuers.map(|(algorithm, kid)| Issuer::new(algorithm, kid));
    let keys = KeySet::parse(set(&issuers).as_bytes()).unwrap();
    let find = |algorithm, kid| keys.find(algorithm, kid).map(|key| key.kid.clone().unwrap());
    assert_eq!(find(Algorithm::RS256, Some("b")), Ok("b".to_owned()));
    assert_eq!(find(Algorithm::ES256, None), Ok("c".to_owned()), "the only one of its algorithm");
    assert_eq!(find(Algorithm::RS256, None), Err(TokenError::KeyNotNamed));
    assert_eq!(find(Algorithm::EdDSA, None), Err(TokenError::Algorithm));
    assert_eq!(find(Algorithm::ES256, Some("a")), Err(TokenError::Algorithm));
    assert_eq!(find(Algorithm::PS256, Some("a")), Err(TokenError::Algorithm));
    assert_eq!(find(Algorithm::EdDSA, Some("d")), Err(TokenError::UnknownKey));
    let none = KeySet::default();
    assert_eq!(none.find(Algorithm::RS256, Some("a")).err(), Some(TokenError::Algorithm));
}

proptest! {
    #[test]
    fn key_set_parser_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "\\PC{0,80}") {
        let _ = KeySet::parse(&bytes);
        for name in ["kty", "crv", "alg", "use", "n", "e", "x", "y", "kid", "d"] {
            let mut jwk = json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"});
            jwk[name] = json!(text);
            let _ = KeySet::parse(json!({"keys": [jwk]}).to_string().as_bytes());
        }
    }
}
