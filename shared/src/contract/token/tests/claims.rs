use super::*;
use crate::contract::token::AuthorizationError;
use proptest::prelude::*;
use serde_json::json;

const NOW: i64 = 1_800_000_000;
const LIFE: i64 = 1_000;

fn good() -> Value {
    json!({"sub": "doc123", "role": "user", "locations": ["loc1"], "exp": NOW + 60})
}

fn verify(claims: &Value) -> Result<Principal, TokenError> {
    parse(claims.as_object().unwrap(), VerificationKeyId::SECRET, NOW, LIFE)
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = good();
    claims[name] = value;
    claims
}

fn without(mut claims: Value, name: &str) -> Value {
    claims.as_object_mut().unwrap().remove(name);
    claims
}

#[test]
fn valid_claims_name_participant_and_locations() {
    let principal = verify(&good()).unwrap();
    assert_eq!(principal.participant().unwrap().to_string(), "user:doc123");
    assert_eq!(principal.locations, ["loc1".parse().unwrap()]);
}

#[test]
fn missing_claims_are_named() {
    for name in ["sub", "role", "locations", "exp"] {
        assert_eq!(verify(&without(good(), name)), Err(TokenError::MissingClaim(name.to_owned())));
    }
}

#[test]
fn invalid_claims_are_named() {
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
        ("exp", json!("tomorrow")),
        ("jti", json!(1)),
        ("jti", json!("")),
        ("jti", json!("a\0b")),
        ("jti", json!("x".repeat(257))),
        ("jti", json!("é".repeat(129))),
    ] {
        let refused = verify(&with(name, value.clone()));
        assert!(matches!(&refused, Err(TokenError::InvalidClaim(n, _)) if *n == name), "{name} {value}: {refused:?}");
    }
}

#[test]
fn time_claims_are_checked() {
    assert_eq!(verify(&with("exp", json!(NOW - 1))), Err(TokenError::Expired));
    assert_eq!(verify(&with("exp", json!(NOW))), Err(TokenError::Expired));
    assert_eq!(verify(&with("nbf", json!(NOW + 3600))), Err(TokenError::NotYetValid("nbf")));
    assert_eq!(verify(&with("iat", json!(NOW + 3600))), Err(TokenError::NotYetValid("iat")));
    assert!(verify(&with("iat", json!(NOW + 5))).is_ok());
    assert!(verify(&with("nbf", json!(NOW - 5))).is_ok());
}

#[test]
fn token_lifetime_is_capped() {
    let ends = |claims: &Value| verify(claims).map(|principal| principal.expires_at.unix_timestamp());
    let mut claims = with("iat", json!(NOW - 500));
    claims["exp"] = json!(NOW + LIFE - 501);
    assert_eq!(ends(&claims), Ok(NOW + LIFE - 501));
    // Its life is counted from its beginning, and a far `exp` is no reason to refuse it while it is young.
    claims["exp"] = json!(4_102_444_800_i64);
    assert_eq!(ends(&claims), Ok(NOW + LIFE - 500));
    claims["iat"] = json!(NOW - LIFE);
    assert_eq!(ends(&claims), Err(TokenError::Expired));
    claims["iat"] = json!(-9e18);
    assert_eq!(ends(&claims), Err(TokenError::Expired));
    claims["iat"] = json!(NOW);
    claims["exp"] = json!(9e18);
    assert_eq!(ends(&claims), Err(TokenError::InvalidClaim("exp", "is not a time")));
    // Without `iat` nothing says when it began: `exp` alone counts, as in the README's example.
    claims.as_object_mut().unwrap().remove("iat");
    claims["exp"] = json!(4_102_444_800_i64);
    assert_eq!(ends(&claims), Ok(4_102_444_800));
}

#[test]
fn longest_revocable_jti_is_accepted() {
    let jti = "x".repeat(256);
    assert_eq!(verify(&with("jti", json!(jti))).unwrap().jti, Some(jti));
}

#[test]
fn only_services_can_be_administrators() {
    assert_eq!(verify(&with("admin", json!(true))).unwrap().check_admin(), Err(AuthorizationError::AdminRequired));
    let mut claims = with("admin", json!("yes"));
    claims["role"] = json!("service");
    assert!(matches!(verify(&claims), Err(TokenError::InvalidClaim("admin", _))));
}

fn fhir(reference: &Value) -> Result<Principal, TokenError> {
    verify(&without(with("fhirUser", reference.clone()), "role"))
}

#[test]
fn fhir_user_names_the_participant() {
    for (reference, person) in [
        ("Practitioner/doc7", "user:doc7"),
        ("PractitionerRole/a.b-C", "user:a.b-C"),
        ("Patient/pat7", "contact:pat7"),
        ("RelatedPerson/7", "contact:7"),
        ("https://ehr.example/fhir/r4/Patient/pat7", "contact:pat7"),
        ("http://127.0.0.1:8080/Practitioner/doc7", "user:doc7"),
    ] {
        let principal = fhir(&json!(reference)).unwrap();
        assert_eq!(principal.participant().unwrap().to_string(), person, "{reference}");
        assert_eq!(principal.subject.as_str(), "doc123");
    }
    let mut claims = without(with("fhirUser", json!("Practitioner/doc7")), "role");
    claims["sub"] = json!("auth0|507f1f77bcf86cd799439011");
    let principal = verify(&claims).unwrap();
    assert_eq!((principal.subject.as_str(), principal.participant().unwrap().id.as_str()), ("doc7", "doc7"));
    for bad in [json!(7), json!(""), json!("x".repeat(256)), json!(null)] {
        claims["sub"] = bad;
        assert!(matches!(verify(&claims), Err(TokenError::InvalidClaim("sub", _))), "{claims}");
    }
    assert!(matches!(verify(&without(claims, "sub")), Err(TokenError::MissingClaim(_))));
}

#[test]
fn invalid_fhir_references_are_rejected() {
    for reference in [
        json!("Person/1"),
        json!("Device/1"),
        json!("practitioner/1"),
        json!("Practitioner"),
        json!("Practitioner/"),
        json!("/Practitioner/1"),
        json!("Practitioner/1/_history/2"),
        json!("Practitioner/a b"),
        json!("Practitioner/1?x=y"),
        json!("Practitioner/1#x"),
        json!("ftp://ehr/Practitioner/1"),
        json!("https:///Practitioner/1"),
        json!("https://ehr/?x=/Practitioner/1"),
        json!("evil/Practitioner/1"),
        json!("urn:uuid:0199b1d2-7c1e-7b39-a1f0-3c5d7e9a1b2c"),
        json!(format!("Patient/{}", "x".repeat(65))),
        json!(["Practitioner/1"]),
        json!({"reference": "Practitioner/1"}),
        json!(""),
    ] {
        assert_eq!(fhir(&reference), Err(NO_REFERENCE), "{reference}");
    }
}

#[test]
fn role_must_agree_with_fhir_user() {
    assert!(verify(&with("fhirUser", json!("Practitioner/doc123"))).is_ok());
    assert!(verify(&with("fhirUser", json!(null))).is_ok());
    for reference in ["Patient/doc123", "Practitioner/doc7"] {
        assert_eq!(verify(&with("fhirUser", json!(reference))), Err(CONTRADICTION), "{reference}");
    }
    let mut service = with("fhirUser", json!("Practitioner/doc123"));
    service["role"] = json!("service");
    assert_eq!(verify(&service), Err(CONTRADICTION));
}

proptest! {
    #[test]
    fn fhir_reference_parser_never_panics(reference in "\\PC{0,60}", tail in "[A-Za-z/:.?#]{0,30}") {
        let _ = parse_fhir_reference(&reference);
        let _ = parse_fhir_reference(&format!("https://{tail}"));
        let _ = parse_fhir_reference(&format!("Patient/{reference}"));
    }
}
