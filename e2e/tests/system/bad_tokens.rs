//! Every bad token is a 401 that says what is wrong with it, at every door.

use e2e::issuer::Issuer;
use e2e::{TestUser, token};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::{issuers, place};

/// Tokens that no route accepts, and how the code of the answer begins.
fn bad_tokens(doctor: &TestUser) -> Vec<(String, &'static str)> {
    let place = &doctor.place;
    let good = token::claims("doc", "user", &[&place.location]);
    let signed = |claims: Value| place.sign(&claims);
    let now = token::now();
    let service = place.sign(&token::claims("doc", "service", &[&place.location]));
    let secret = &place.env.jwt_secret;
    let mut tokens = vec![
        (String::new(), "token_missing"),
        ("nonsense".to_owned(), "token_malformed"),
        ("a.b.c".to_owned(), "token_malformed"),
        (format!("{}.", doctor.token), "token_malformed"),
        ("x".repeat(9_000), "token_malformed"),
        (token::unsigned(&doctor.token), "token_malformed"),
        (token::forged(&doctor.token, &service), "token_signature_invalid"),
        (token::sign("another secret of at least thirty-two bytes", &good), "token_signature_invalid"),
        (format!("{}A", doctor.token), "token_"),
        (token::sign_as(Algorithm::HS512, secret, &good), "token_unsupported"),
        (token::sign_as(Algorithm::HS384, secret, &good), "token_unsupported"),
        (signed(token::with(good.clone(), "exp", json!(now - 1))), "token_expired"),
        (signed(token::with(good.clone(), "exp", json!("tomorrow"))), "token_claim_invalid"),
        // Too old for its revocation to be remembered, however far its end.
        (signed(token::with(good.clone(), "iat", json!(now - 401 * 86_400))), "token_expired"),
        (signed(token::with(good.clone(), "jti", json!("x".repeat(257)))), "token_claim_invalid"),
        (signed(token::with(good.clone(), "jti", json!(""))), "token_claim_invalid"),
        (signed(token::with(good.clone(), "nbf", json!(now + 600))), "token_not_yet_valid"),
        (signed(token::with(good.clone(), "iat", json!(now + 600))), "token_not_yet_valid"),
        (signed(token::with(good.clone(), "sub", json!("not an id"))), "token_claim_invalid"),
        (signed(token::with(good.clone(), "sub", json!(123))), "token_claim_invalid"),
        (signed(token::with(good.clone(), "role", json!("admin"))), "token_claim_invalid"),
        (signed(token::with(good.clone(), "role", json!(["user"]))), "token_claim_invalid"),
        (signed(token::with(good.clone(), "locations", json!(place.location))), "token_claim_invalid"),
        (signed(token::with(good.clone(), "locations", json!([1]))), "token_claim_invalid"),
        (signed(token::with(good.clone(), "locations", json!(["*", "a b"]))), "token_claim_invalid"),
    ];
    tokens.extend(bad_tokens_of_issuers(&good));
    for claim in ["sub", "role", "locations", "exp"] {
        tokens.push((signed(token::without(good.clone(), claim)), "token_claim_missing"));
    }
    tokens
}

/// The same under the issuers' keys, or what claims to be.
fn bad_tokens_of_issuers(good: &Value) -> Vec<(String, &'static str)> {
    let [rsa, ec, ed, _] = issuers();
    let now = token::now();
    let confused = |issuer: &Issuer, secret: &[u8]| {
        let header = Header { kid: Some(issuer.kid.clone()), ..Header::default() };
        jsonwebtoken::encode(&header, good, &EncodingKey::from_secret(secret)).unwrap()
    };
    let header = |kid: Option<&str>| Header { kid: kid.map(str::to_owned), ..Header::new(Algorithm::RS256) };
    let stranger = Issuer::new(Algorithm::RS256, &rsa.kid);
    let mut tokens = vec![
        // A public key is no secret.
        (confused(rsa, rsa.jwk()["n"].as_str().unwrap().as_bytes()), "token_signature_invalid"),
        (confused(ec, ec.jwk().to_string().as_bytes()), "token_signature_invalid"),
        (confused(ed, ed.jwk()["x"].as_str().unwrap().as_bytes()), "token_signature_invalid"),
        (stranger.sign(good), "token_signature_invalid"),
        (token::unsigned(&rsa.sign(good)), "token_malformed"),
        (
            token::forged(&rsa.sign(good), &rsa.sign(&token::with(good.clone(), "sub", json!("other")))),
            "token_signature_invalid",
        ),
        (rsa.sign_under(&header(Some("gone")), good), "token_key_unknown"),
        (rsa.sign_under(&header(Some("ec")), good), "token_unsupported"),
        (rsa.sign_under(&header(None), good), "token_key_unknown"),
        (
            rsa.sign_under(&Header { crit: Some(vec!["exp".to_owned()]), ..header(Some("rsa")) }, good),
            "token_unsupported",
        ),
        (rsa.sign(&token::with(good.clone(), "padding", json!("x".repeat(8_192)))), "token_malformed"),
        (rsa.sign(&token::with(good.clone(), "fhirUser", json!("Patient/doc"))), "token_claim_invalid"),
        (ec.sign(&token::with(good.clone(), "fhirUser", json!("Practitioner/other"))), "token_claim_invalid"),
        (
            ed.sign(&token::without(token::with(good.clone(), "fhirUser", json!("TestUser/doc")), "role")),
            "token_claim_invalid",
        ),
    ];
    for issuer in [rsa, ec, ed] {
        tokens.push((issuer.sign(&token::with(good.clone(), "exp", json!(now - 1))), "token_expired"));
        tokens.push((issuer.sign(&token::with(good.clone(), "nbf", json!(now + 600))), "token_not_yet_valid"));
        tokens.push((issuer.sign(&token::without(good.clone(), "locations")), "token_claim_missing"));
    }
    tokens
}

#[tokio::test]
async fn bad_tokens_get_401_on_every_route() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let body = doctor.message_to(&patient, &e2e::secret_text());
    for (bad, code) in bad_tokens(&doctor) {
        let bearer = doctor.with_token(&bad);
        let answers = [
            bearer.send(&body).await,
            bearer.get(&format!("/chat/history?{}", doctor.with(&patient))).await,
            bearer.get(&format!("/chat/conversations?location_id={}", place.location)).await,
            bearer.put("/chat/read", &json!({"message_ids": [uuid::Uuid::now_v7()]})).await,
            bearer.put("/chat/delivered", &json!({"message_ids": [uuid::Uuid::now_v7()]})).await,
            place.ask(bearer.request(reqwest::Method::POST, "/chat/ws-ticket")).await,
        ];
        for answer in answers {
            let problem = answer.expect_problem(401);
            assert!(problem["code"].as_str().unwrap().starts_with(code), "{code}: {problem}");
            assert!(!answer.text.contains(&place.env.jwt_secret), "{answer:?}");
            assert!(answer.header("www-authenticate").unwrap().starts_with("Bearer "), "{answer:?}");
        }
    }
    assert_eq!(doctor.messages(&patient).await, [] as [Value; 0]);
}

#[tokio::test]
async fn request_without_token_gets_401() {
    let place = place();
    let doctor = place.user("doc");
    let path = format!("/chat/conversations?location_id={}", place.location);
    for header in [None, Some("Basic ZG9jOnNlY3JldA=="), Some("Bearer"), Some(""), Some(doctor.token.as_str())] {
        let mut request = place.request(reqwest::Method::GET, &path);
        if let Some(value) = header {
            request = request.header("authorization", value);
        }
        let answer = place.ask(request).await;
        let _problem = answer.expect_problem(401);
        assert!(!answer.header("www-authenticate").unwrap().contains("error="), "RFC 6750, section 3.1: {answer:?}");
    }
    // A token in the query is no token: it would end up in logs.
    let query = format!("{path}&access_token={}&token={}", doctor.token, doctor.token);
    let _problem = place.get(&query).await.expect_problem(401);
}

#[tokio::test]
async fn token_is_checked_before_body_and_query() {
    let place = place();
    let stranger = place.user("doc").with_token("nonsense");
    let _problem = stranger.send(&json!({"content": 1})).await.expect_problem(401);
    let _problem = stranger.get("/chat/history?limit=abc").await.expect_problem(401);
    let _problem = stranger.put("/chat/read", &json!([])).await.expect_problem(401);
}

#[tokio::test]
async fn rights_are_checked_before_body() {
    let place = place();
    for body in [json!({}), json!([]), json!({"jti": ""}), json!({"nonsense": 1}), json!("x")] {
        for person in [place.user("doc"), place.contact("pat"), place.service()] {
            let asked = person.request(reqwest::Method::POST, "/admin/revocations").json(&body);
            let _problem = place.ask(asked).await.expect_problem(403);
        }
        for route in ["/chat/read", "/chat/delivered"] {
            let _problem = place.service().put(route, &body).await.expect_problem(403);
        }
    }
    let garbled = place.user("doc").request(reqwest::Method::POST, "/admin/revocations").body("{");
    let _problem = place.ask(garbled).await.expect_problem(403);
}

#[tokio::test]
async fn token_is_valid_only_in_its_locations() {
    let place = place();
    let (second, third) = (place.other_location(), place.other_location());
    let claims = token::claims("doc", "user", &[&place.location, &second.location]);
    let both = place.sign(&claims);
    for place in [&place, &second] {
        place.user("doc").with_token(&both).send_ok(&place.contact("pat"), "hello").await;
    }
    let doctor = third.user("doc").with_token(&both);
    let _problem = doctor.send(&doctor.message_to(&third.contact("pat"), "hello")).await.expect_problem(403);
    let nowhere = place.user("doc").with_token(place.sign(&token::claims("doc", "user", &[])));
    let _problem = nowhere.send(&nowhere.message_to(&place.contact("pat"), "hello")).await.expect_problem(403);
}

#[tokio::test]
async fn bad_tokens_are_rejected_by_handshake() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    for (bad, code) in bad_tokens(&doctor) {
        let header = format!("Bearer {bad}");
        let answer =
            crate::bad_handshakes::handshake(&place, &doctor.with(&patient), &[("authorization", &header)]).await;
        let problem = answer.expect_problem(401);
        assert!(problem["code"].as_str().unwrap().starts_with(code), "{code}: {problem}");
        let protocols = format!("chat.v1, bearer.{bad}");
        let headers = [("sec-websocket-protocol", protocols.as_str())];
        let _problem =
            crate::bad_handshakes::handshake(&place, &doctor.with(&patient), &headers).await.expect_problem(401);
    }
}
