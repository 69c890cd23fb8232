//! Tokens that an issuer has signed with keys of its own: RS256, ES256, EdDSA, chosen by `kid`, and SMART on FHIR's `fhirUser`.

use e2e::issuer::Issuer;
use e2e::{Socket, TestLocation, TestUser, token};
use jsonwebtoken::Algorithm;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{bad_handshakes, issuers, jwks, place, publish_also};

/// The same person with claims that an issuer has signed.
fn signed_by(person: &TestUser, issuer: &Issuer) -> TestUser {
    person.with_token(issuer.sign(&token::claims(&person.id, person.role.as_str(), &[&person.place.location])))
}

/// The person as each API service and gateway sees it, past the load balancer.
fn everywhere(person: &TestUser) -> Vec<TestUser> {
    let env = &person.place.env;
    env.api_urls.iter().zip(&env.gateway_ws_urls).map(|(api, gateway)| person.at(api, gateway)).collect()
}

#[tokio::test]
async fn tokens_of_each_algorithm_are_accepted() {
    for issuer in issuers() {
        let place = place();
        let (doctor, patient) = (signed_by(&place.user("doc"), issuer), signed_by(&place.contact("pat"), issuer));
        for doctor in everywhere(&doctor) {
            let mut socket = patient.open(&doctor).await;
            let sent = doctor.send_ok(&patient, "signed with a key of the issuer's").await;
            assert_eq!(socket.expect("message").await["message"], sent, "{:?}", issuer.algorithm);
            // Its times may be there already: the patient's client has proven the delivery.
            assert_eq!(doctor.messages(&patient).await.last().map(|kept| &kept["id"]), Some(&sent["id"]));
            let _marks = patient.mark("read", &[&sent["id"]]).await.expect_status(200);
            // A fresh token of the shared secret is as good: it is the same person.
            let fresh = place.contact("pat").token;
            socket.send(&json!({"type": "auth", "token": fresh}));
            socket.expect("authenticated").await;
        }
    }
}

#[tokio::test]
async fn fhir_user_maps_to_one_participant() {
    let place = place();
    let issuer = &issuers()[1];
    let smart = |reference: &str| {
        let claims = json!({
            "sub": "auth0|507f1f77bcf86cd799439011", "fhirUser": reference, "locations": [place.location],
            "exp": token::now() + 600, "scope": "openid fhirUser"
        });
        issuer.sign(&claims)
    };
    let doctor = place.user("doc").with_token(smart("https://ehr.example/fhir/r4/Practitioner/doc"));
    let patient = place.contact("pat").with_token(smart("Patient/pat"));
    let mut socket = patient.open(&doctor).await;
    let sent = doctor.send_ok(&patient, "smart").await;
    assert_eq!((&sent["sender_user_id"], &sent["receiver_contact_id"]), (&json!("doc"), &json!("pat")));
    assert_eq!(socket.expect("message").await["message"], sent);
    let other = place.user("doc").with_token(smart("Patient/doc"));
    let _problem = other.send(&other.message_to(&patient, "not me")).await.expect_problem(403);
    let device = place.user("doc").with_token(smart("Device/doc"));
    let problem = device.send(&device.message_to(&patient, "not me")).await.expect_problem(401);
    assert!(problem["detail"].as_str().unwrap().contains("fhirUser"), "{problem}");
}

/// Revokes as an administrator.
pub(crate) async fn revoke(place: &TestLocation, body: &Value) {
    let mut claims = token::claims("ehr-admin", "service", &[&place.location]);
    claims["admin"] = json!(true);
    let admin = place.service().with_token(place.sign(&claims));
    assert_eq!(place.ask(admin.request(Method::POST, "/admin/revocations").json(body)).await.status, 204);
}

#[tokio::test]
async fn fhir_user_is_revoked_by_either_name() {
    let place = place();
    for name in ["sub", "fhirUser"] {
        // Revocations are for good, and of all locations: no other test may use these names.
        let unique = |what: &str| format!("{what}-{}", uuid::Uuid::now_v7().simple());
        let (account, id) = (unique("account"), unique("doc"));
        let claims = json!({
            "sub": account, "fhirUser": format!("Practitioner/{id}"), "locations": [place.location],
            "iat": token::now() - 10, "exp": token::now() + 600
        });
        let doctor = place.user(&id).with_token(issuers()[2].sign(&claims));
        let patient = place.contact("pat");
        let mut socket = doctor.open(&patient).await;
        let named = if name == "sub" { &account } else { &id };
        revoke(&place, &json!({"sub": named, "issued_before": "2100-01-01T00:00:00Z"})).await;
        assert_eq!(socket.expect_close().await, 4401, "{name}");
        for doctor in everywhere(&doctor) {
            let query = doctor.with(&patient);
            while doctor.get(&format!("/chat/history?{query}")).await.status != 401 {}
        }
    }
}

#[tokio::test]
async fn removed_key_ends_its_tokens_and_sockets() {
    let place = place();
    let new = Issuer::new(Algorithm::ES256, &format!("new-{}", uuid::Uuid::now_v7().simple()));
    let (doctor, patient) = (signed_by(&place.user("doc"), &new), place.contact("pat"));
    let _problem = doctor.get(&format!("/chat/history?{}", doctor.with(&patient))).await.expect_problem(401);
    let published = publish_also(&new);
    let mut sockets: Vec<Socket> = Vec::new();
    for doctor in everywhere(&doctor) {
        // The first request that each of them gets: it has not been notified of the key.
        doctor.send_ok(&patient, "with the new key").await;
        sockets.push(doctor.open(&patient).await);
    }
    drop(published);
    for mut socket in sockets {
        assert_eq!(socket.expect_close().await, 4401);
    }
    for doctor in everywhere(&doctor) {
        let bearer = format!("Bearer {}", doctor.token);
        let path = format!("/chat/history?{}", doctor.with(&patient));
        // It looks once a second.
        while doctor.get(&path).await.status != 401 {}
        let problem = doctor.get(&path).await.expect_problem(401);
        assert!(problem["detail"].as_str().unwrap().contains("kid"), "{problem}");
        let gateway = doctor.place.ws_url.replace("ws://", "http://").replace("/ws", "");
        let headers = [("authorization", bearer.as_str())];
        let query = doctor.with(&patient);
        let _problem =
            bad_handshakes::handshake(&place.with_base_url(&gateway), &query, &headers).await.expect_problem(401);
    }
    // The others never noticed.
    assert!(jwks().path().exists());
    signed_by(&doctor, &issuers()[0]).send_ok(&patient, "with an old key").await;
}
