//! Every route and frame of the published documents, attacked by everyone who has no business there. What `openapi.json`
//! and `asyncapi.yaml` publish and no test here covers fails: a new endpoint cannot be forgotten.

mod endpoints;
mod frames;

use std::time::Instant;

use e2e::{TestLocation, TestUser, WAIT_TIMEOUT, secret_text, token};
use reqwest::Method;
use serde_json::{Value, json};

use crate::bad_handshakes::handshake;
use crate::place;

/// One private conversation.
struct World {
    place: TestLocation,
    doctor: TestUser,
    patient: TestUser,
    /// What the doctor has sent, and the patient has not seen yet.
    message: Value,
}

impl World {
    async fn new() -> Self {
        let place = place();
        let (doctor, patient) = (place.user("doc"), place.contact("pat"));
        let mut body = doctor.message_to(&patient, &secret_text());
        body["client_message_id"] = json!(uuid::Uuid::now_v7());
        let message = doctor.send(&body).await.expect_status(201);
        Self { place, doctor, patient, message }
    }

    fn admin(&self) -> TestUser {
        let claims =
            token::with(token::claims("ehr-backend", "service", &[&self.place.location]), "admin", json!(true));
        self.place.service().with_token(self.place.sign(&claims))
    }

    /// Good tokens of people who are no part of the conversation.
    fn strangers(&self) -> Vec<(&'static str, TestUser)> {
        let (here, elsewhere) = (&self.place, self.place.other_location());
        let nowhere = here.sign(&token::claims("doc", "user", &[]));
        vec![
            ("a colleague", here.user("other")),
            ("another patient", here.contact("other")),
            ("a contact with the doctor's identifier", here.contact("doc")),
            ("a user with the patient's identifier", here.user("pat")),
            ("the doctor, of another location", elsewhere.user("doc")),
            ("the patient, of another location", elsewhere.contact("pat")),
            ("a service of another location", elsewhere.service()),
            ("the doctor, of no location", here.user("doc").with_token(nowhere)),
        ]
    }

    /// Invalid tokens: each is rejected on every route.
    async fn bad_tokens(&self) -> Vec<(&'static str, String)> {
        let good = |sub: &str| token::claims(sub, "user", &[&self.place.location]);
        let (jti, fired) = (uuid::Uuid::now_v7().to_string(), format!("fired-{}", uuid::Uuid::now_v7().simple()));
        let taken_back = self.place.sign(&token::with(good("doc"), "jti", json!(jti)));
        let of_the_fired = self.place.sign(&token::with(good(&fired), "iat", json!(token::now() - 10)));
        for revocation in [json!({"jti": jti}), json!({"sub": fired, "issued_before": "2100-01-01T00:00:00Z"})] {
            self.revoke(&revocation).await;
        }
        for token in [&taken_back, &of_the_fired] {
            self.until_refused_everywhere(token).await;
        }
        let now = token::now();
        vec![
            ("expired", self.place.sign(&token::with(good("doc"), "exp", json!(now - 1)))),
            ("of the future", self.place.sign(&token::with(good("doc"), "nbf", json!(now + 600)))),
            ("of a foreign issuer", token::sign("another secret of at least thirty-two bytes", &good("doc"))),
            ("unsigned", token::unsigned(&self.doctor.token)),
            ("with claims of another", token::forged(&self.doctor.token, &self.place.service().token)),
            ("without locations", self.place.sign(&token::without(good("doc"), "locations"))),
            ("revoked by its id", taken_back),
            ("revoked by its subject", of_the_fired),
        ]
    }

    async fn revoke(&self, revocation: &Value) {
        let asked = self.admin().request(Method::POST, "/admin/revocations").json(revocation);
        assert_eq!(self.place.ask(asked).await.status, 204);
    }

    /// An instance may learn late: asks until none accepts the token.
    async fn until_refused_everywhere(&self, token: &str) {
        let revoked_at = Instant::now();
        while let Some(url) = self.lets_in(token).await {
            assert!(revoked_at.elapsed() < WAIT_TIMEOUT, "{url} still lets a revoked token in");
        }
    }

    /// Asks each instance once: the first that takes the token.
    async fn lets_in(&self, token: &str) -> Option<&str> {
        let bearer = format!("Bearer {token}");
        let path = format!("/chat/conversations?location_id={}", self.place.location);
        for url in &self.place.env.api_urls {
            let at = self.place.with_base_url(url);
            if at.ask(at.request(Method::GET, &path).header("authorization", &bearer)).await.status != 401 {
                return Some(url);
            }
        }
        for url in &self.place.env.gateway_ws_urls {
            let at = self.place.with_base_url(&url.replace("ws://", "http://").replace("/ws", ""));
            let query = self.doctor.with(&self.patient);
            if handshake(&at, &query, &[("authorization", &bearer)]).await.status != 401 {
                return Some(url);
            }
        }
        None
    }

    /// The attempts have added, marked and shown nothing.
    async fn assert_untouched(&self) {
        assert_eq!(self.doctor.messages(&self.patient).await, std::slice::from_ref(&self.message));
        let inbox = self.patient.inbox("").await;
        assert_eq!(inbox["conversations"][0]["unread_count"], 1, "{inbox}");
    }

    fn assert_tells_nothing(&self, what: &str, text: &str) {
        for secret in [&self.message["content"], &self.message["id"], &self.message["conversation_id"]] {
            // What the attacker itself has named may be named again.
            let named = what.contains("mark") && *secret == self.message["id"];
            assert!(named || !text.contains(secret.as_str().unwrap()), "{what}: {text}");
        }
    }
}

/// Of several, since an instance that briefly gets no CPU may learn of one later.
#[tokio::test]
async fn revocation_holds_everywhere_when_answered() {
    let world = World::new().await;
    let mut late = Vec::new();
    for _ in 0..8 {
        let jti = uuid::Uuid::now_v7().to_string();
        let claims = token::with(token::claims("doc", "user", &[&world.place.location]), "jti", json!(jti));
        let taken_back = world.place.sign(&claims);
        assert!(world.lets_in(&taken_back).await.is_some());
        world.revoke(&json!({"jti": jti})).await;
        late.extend(world.lets_in(&taken_back).await);
        world.until_refused_everywhere(&taken_back).await;
    }
    assert!(late.len() < 4, "{late:?}");
}
