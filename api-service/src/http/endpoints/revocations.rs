//! Revoking tokens.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{ApiResponse, OpenApi};
use shared::contract::error_code::ProblemCode;
use shared::contract::http::problem::InputError;
use shared::contract::revocation::{Revocation, whole_seconds};

use crate::domain::revoke;
use crate::http::auth::AdminCaller;
use crate::http::body::{FieldReader, FromFields, JsonBody, id, text, time};
use crate::http::error::ApiError;
use crate::http::openapi::schema;
use crate::http::openapi::tag::Tag;
use crate::state::AppState;

pub(crate) struct Admin;

/// It is revoked.
#[derive(ApiResponse)]
enum RevokeResponse {
    /// Every instance that is in touch with its database or Redis refuses the tokens from now on, others as soon as they are
    /// again. Live sockets of the tokens are closed (4401) within a second.
    #[oai(status = 204)]
    Done,
}

#[OpenApi]
impl Admin {
    /// Revoke tokens
    ///
    /// One token by its `jti`, or all tokens of a `sub` that were issued before a given time. Only for `service` tokens with
    /// `"admin": true`. Cannot be undone. A revocation is forgotten when the last token that it names has ended:
    /// `JWT_MAX_LIFETIME_SECONDS` after it was made or, with `sub`, after `issued_before`; with `jti` and `expires_at` then.
    #[oai(path = "/admin/revocations", method = "post", operation_id = "revokeTokens", tag = "Tag::Admin")]
    async fn revoke(
        &self,
        AdminCaller(caller): AdminCaller,
        state: Data<&Arc<AppState>>,
        body: JsonBody<RevocationBody, schema::Revocation>,
    ) -> Result<RevokeResponse, ApiError> {
        let RevocationBody(revocation) = body.0;
        revoke::revoke(&caller.origin, &state.revocation, revocation).await?;
        caller.audit.mark_recorded();
        state.revocation.wait_for_propagation().await;
        Ok(RevokeResponse::Done)
    }
}

struct RevocationBody(Revocation);

impl FromFields for RevocationBody {
    fn from_fields(fields: &mut FieldReader) -> Option<Self> {
        let jti = fields.optional("jti", text)?;
        let sub = fields.optional("sub", id)?;
        let issued_before = fields.optional("issued_before", time)?.map(whole_seconds);
        let expires_at = fields.optional("expires_at", time)?.map(whole_seconds);
        match (jti, sub, issued_before, expires_at) {
            (Some(jti), None, None, expires_at) => Some(Self(Revocation::Token { jti, expires_at })),
            (None, Some(sub), Some(issued_before), None) => Some(Self(Revocation::Subject { sub, issued_before })),
            (jti, sub, issued_before, _) => {
                let is_incomplete = jti.is_none() && (sub.is_none() || issued_before.is_none());
                let code = if is_incomplete { ProblemCode::MissingField } else { ProblemCode::ConflictingFields };
                let detail = "Give `jti`, alone or with `expires_at`, or give `sub` and `issued_before`.";
                fields.reject_with(InputError::new(code, "", detail));
                None
            }
        }
    }
}
