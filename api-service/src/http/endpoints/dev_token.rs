//! Tokens for demonstrations in development mode. The route exists only there, because it issues a token for any participant.

use std::sync::Arc;
use std::time::Duration;

use poem::web::Data;
use poem_openapi::{ApiResponse, OpenApi};
use serde::Serialize;
use shared::contract::error_code::ProblemCode;
use shared::contract::ids::{LocationId, ParticipantId};
use shared::contract::participant::ParticipantKind;
use shared::contract::token::{self, Role};
use shared::kit::env::Secret;

use crate::http::body::{FieldReader, FromFields, JsonBody, RawJson, id, text};
use crate::http::error::{ProblemBody, internal_error};
use crate::http::openapi::schema;
use crate::http::openapi::tag::Tag;
use crate::state::AppState;

/// The operations of development mode.
pub(crate) struct Development;

/// Path of the route.
pub(crate) const PATH: &str = "/dev/token";

/// Largest body of the route.
pub(crate) const MAX_BODY_BYTES: usize = 4096;
const TOKEN_TTL: Duration = Duration::from_secs(3600);

struct DevTokenRequest {
    sub: ParticipantId,
    kind: ParticipantKind,
    location: LocationId,
}

impl FromFields for DevTokenRequest {
    fn from_fields(fields: &mut FieldReader) -> Option<Self> {
        let (sub, role) = (fields.required("sub", id), fields.required("role", text));
        let location = fields.required("location_id", id);
        // The console signs in users and contacts; it needs no service token.
        let kind = match role?.as_str() {
            "user" => Some(ParticipantKind::User),
            "contact" => Some(ParticipantKind::Contact),
            _ => {
                fields.reject("role", ProblemCode::InvalidValue, "must be `user` or `contact`");
                None
            }
        };
        Some(Self { sub: sub?, kind: kind?, location: location? })
    }
}

/// A token, as the route answers it.
#[derive(Serialize)]
struct DevToken {
    token: String,
    expires_in: u64,
}

/// A token, or why there is none.
#[derive(ApiResponse)]
#[expect(dead_code, reason = "the body and the middleware make the other answers; here they are documented")]
enum DevTokenResponse {
    /// A token of this participant, for an hour.
    #[oai(status = 200)]
    Ok(RawJson<schema::DevToken>),
    /// The body is not JSON, or the query cannot be parsed.
    #[oai(status = 400)]
    BadRequest(ProblemBody),
    /// Well-formed, but invalid: `errors` says what and where.
    #[oai(status = 422)]
    Invalid(ProblemBody),
    /// Too many requests: try again after `Retry-After` seconds.
    #[oai(status = 429)]
    TooMany(ProblemBody),
    /// A mistake of the server's. Its log has the cause under the `request_id`.
    #[oai(status = 500)]
    Internal(ProblemBody),
}

#[OpenApi]
impl Development {
    /// Get a demonstration token
    ///
    /// A token of a user or a contact in one location, for an hour. Any caller gets it, so only development mode has this
    /// operation. A production system trusts the tokens of its issuer.
    #[oai(path = "/dev/token", method = "post", operation_id = "issueDevToken", tag = "Tag::Development")]
    async fn issue(
        &self,
        state: Data<&Arc<AppState>>,
        body: JsonBody<DevTokenRequest, schema::DevTokenRequest, MAX_BODY_BYTES>,
    ) -> DevTokenResponse {
        match state.dev_signing_key.as_deref().and_then(|key| body.0.sign(key)) {
            Some(token) => DevTokenResponse::Ok(token),
            None => DevTokenResponse::Internal(internal_error().into()),
        }
    }
}

impl DevTokenRequest {
    fn sign(&self, key: &Secret) -> Option<RawJson<schema::DevToken>> {
        let locations = std::slice::from_ref(&self.location);
        let token = token::issue(key, &self.sub, Role::Participant(self.kind), locations, TOKEN_TTL).ok()?;
        RawJson::encode(&DevToken { token, expires_in: TOKEN_TTL.as_secs() }).ok()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use shared::contract::token::Verifier;

    use super::*;
    use crate::http::body::parse;

    fn secret() -> Secret {
        "development-0123456789abcdef0123456789abcdef".parse().unwrap()
    }

    #[test]
    fn dev_token_has_user_or_contact_role_only() {
        let read = |role: &str| {
            let body = json!({"sub": "doc123", "role": role, "location_id": "loc1"}).to_string();
            parse::<DevTokenRequest>(body.as_bytes())
        };
        for (role, expected) in [("user", "user:doc123"), ("contact", "contact:doc123")] {
            let answer = read(role).unwrap().sign(&secret()).unwrap().into_string();
            let body: Value = serde_json::from_str(&answer).unwrap();
            let principal = Verifier::from_secret(&secret()).verify(body["token"].as_str().unwrap()).unwrap();
            assert_eq!(principal.participant().map(ToString::to_string).as_deref(), Some(expected));
            assert_eq!(body["expires_in"], 3600);
        }
        for role in ["service", "admin", ""] {
            assert_eq!(read(role).map(drop).unwrap_err().status, 422, "{role}");
        }
    }
}
