//! Who takes part, and where: pairs of a doctor and a patient with good tokens.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use shared::env::Secret;
use shared::participant::Kind;
use shared::token::{Role, issue};
use stack::StackEnv;

const LOCATION: &str = "bench";

/// The system that is measured. Clones share its connections.
#[derive(Clone)]
pub(crate) struct Target {
    base_url: String,
    ws_url: String,
    secret: Secret,
    pub(crate) http: reqwest::Client,
}

/// A doctor and a patient.
#[derive(Clone)]
pub(crate) struct Pair {
    doctor: String,
    patient: String,
    pub(crate) doctor_token: String,
    pub(crate) patient_token: String,
}

impl Target {
    pub(crate) fn of(env: &StackEnv) -> Result<Self> {
        Ok(Self {
            base_url: env.base_url.clone(),
            ws_url: env.ws_url.clone(),
            secret: env.jwt_secret.parse()?,
            http: reqwest::Client::builder().tcp_nodelay(true).build()?,
        })
    }

    /// A pair that has a conversation of its own.
    pub(crate) fn pair(&self, number: usize) -> Result<Pair> {
        let (doctor, patient) = (format!("doc{number}"), format!("pat{number}"));
        let token = |who: &str, kind| -> Result<String> {
            let lifetime = Duration::from_secs(3_600);
            Ok(issue(&self.secret, &who.parse()?, Role::Person(kind), &[LOCATION.parse()?], lifetime)?)
        };
        let (doctor_token, patient_token) = (token(&doctor, Kind::User)?, token(&patient, Kind::Contact)?);
        Ok(Pair { doctor, patient, doctor_token, patient_token })
    }

    /// Sends from doctor to patient and waits for the 201.
    pub(crate) async fn send(&self, pair: &Pair, content: &str) -> Result<()> {
        let body: Value = json!({
            "location_id": LOCATION, "sender_user_id": pair.doctor,
            "receiver_contact_id": pair.patient, "content": content
        });
        let url = format!("{}/chat/send", self.base_url);
        let answer = self.http.post(url).bearer_auth(&pair.doctor_token).json(&body).send().await?;
        anyhow::ensure!(answer.status() == 201, "a send was answered with {}", answer.status());
        // Read to the end, or the connection cannot be used again.
        answer.bytes().await.context("the answer to a send broke off")?;
        Ok(())
    }

    /// Where the patient's socket connects.
    pub(crate) fn socket_url(&self, pair: &Pair) -> String {
        format!("{}?location_id={LOCATION}&user_id={}&contact_id={}", self.ws_url, pair.doctor, pair.patient)
    }
}
