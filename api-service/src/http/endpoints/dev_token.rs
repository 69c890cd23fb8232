//! Tokens for the console in development mode. The route exists only there, because it issues a token for any participant.

use std::sync::Arc;
use std::time::Duration;

use poem::web::Data;
use poem::{Body, IntoResponse, Request, Response, handler};
use serde_json::json;
use shared::contract::error_code::ProblemCode;
use shared::contract::ids::{LocationId, ParticipantId};
use shared::contract::participant::ParticipantKind;
use shared::contract::token::{self, Role};
use shared::kit::env::Secret;

use crate::http::body::{self, FieldReader, FromFields, id, text};
use crate::http::error::{internal_error, problem_error};

/// Path of the route.
pub(crate) const PATH: &str = "/dev/token";

const MAX_BODY_BYTES: usize = 4096;
const TOKEN_TTL: Duration = Duration::from_secs(3600);

/// The key that signs them.
#[derive(Clone)]
pub(crate) struct DevSigningKey(pub(crate) Arc<Secret>);

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

/// Issues a token for `{"sub", "role", "location_id"}`.
#[handler]
pub(crate) async fn issue(request: &Request, body: Body, key: Data<&DevSigningKey>) -> poem::Result<Response> {
    let wanted: DevTokenRequest = body::read(request, body, MAX_BODY_BYTES).await?;
    let token = token::issue(&key.0.0, &wanted.sub, Role::Participant(wanted.kind), &[wanted.location], TOKEN_TTL)
        .map_err(|_| problem_error(internal_error()))?;
    let answer = json!({"token": token, "expires_in": TOKEN_TTL.as_secs()});
    Ok(Response::builder().content_type("application/json").body(answer.to_string()).into_response())
}

#[cfg(test)]
mod tests {
    use poem::{Endpoint, EndpointExt, Route};
    use serde_json::Value;
    use shared::contract::token::Verifier;

    use super::*;

    fn secret() -> Secret {
        "development-0123456789abcdef0123456789abcdef".parse().unwrap()
    }

    #[tokio::test]
    async fn dev_token_has_user_or_contact_role_only() {
        let routes = Route::new().at("/dev/token", poem::post(issue)).data(DevSigningKey(Arc::new(secret())));
        let ask = async |role: &str| {
            let body = json!({"sub": "doc123", "role": role, "location_id": "loc1"}).to_string();
            let request = Request::builder().method(poem::http::Method::POST).uri_str("/dev/token");
            let request = request.content_type("application/json").body(body);
            routes.get_response(request).await
        };
        for (role, expected) in [("user", "user:doc123"), ("contact", "contact:doc123")] {
            let answer = ask(role).await;
            assert_eq!(answer.status(), 200);
            let body: Value = answer.into_body().into_json().await.unwrap();
            let principal = Verifier::from_secret(&secret()).verify(body["token"].as_str().unwrap()).unwrap();
            assert_eq!(principal.participant().map(ToString::to_string).as_deref(), Some(expected));
            assert_eq!(body["expires_in"], 3600);
        }
        for role in ["service", "admin", ""] {
            assert_eq!(ask(role).await.status(), 422, "{role}");
        }
    }
}
