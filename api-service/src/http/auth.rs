//! Authentication: the verified caller, which is the first argument of every handler that needs one.

use std::sync::Arc;

use poem::http::Method;
use poem::http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use poem::{IntoResponse, Request, Response};
use poem_openapi::registry::{MetaSecurityScheme, Registry};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use shared::contract::error_code::ProblemCode;
use shared::contract::http::problem::Problem;
use shared::contract::http::request::RequestContext;
use shared::contract::token::cache::TokenCache;
use shared::contract::token::{AuthorizationError, Principal, TokenError, bearer};

use crate::http::audit::AuditContext;
use crate::http::error::{ProblemBody, internal_error, problem_error, too_many_requests};
use crate::http::path_table::Parameters;
use crate::limits::response_budget::BudgetError;
use crate::model::request_origin::RequestOrigin;
use crate::state::AppState;

/// A verified token, and the request that carried it.
pub(crate) struct Caller {
    pub(crate) origin: RequestOrigin,
    pub(crate) audit: AuditContext,
}

const SCHEME: &str = "token";
const ADMIN_SCHEME: &str = "adminToken";

/// A [`Caller`] that may revoke tokens. The role is checked before query and body, so other callers learn nothing about either.
pub(crate) struct AdminCaller(pub(crate) Caller);

/// A [`Caller`] that is a user or a contact, and so may mark messages.
pub(crate) struct ParticipantCaller(pub(crate) Caller);

macro_rules! restricted_caller {
    ($name:ident, $check:expr, $scheme:expr, $description:expr) => {
        impl<'a> ApiExtractor<'a> for $name {
            const TYPES: &'static [ApiExtractorType] = Caller::TYPES;

            type ParamType = ();
            type ParamRawType = ();

            fn register(registry: &mut Registry) {
                registry.create_security_scheme($scheme, bearer_scheme($description));
            }

            fn security_schemes() -> Vec<&'static str> {
                vec![$scheme]
            }

            async fn from_request(
                request: &'a Request,
                _body: &mut poem::RequestBody,
                _options: ExtractParamOptions<()>,
            ) -> poem::Result<Self> {
                let caller = Caller::authenticate(request).await?;
                let check: fn(&Principal) -> Result<(), AuthorizationError> = $check;
                check(&caller.origin.principal).map_err(forbidden)?;
                check_parameters(request)?;
                Ok(Self(caller))
            }
        }
    };
}

restricted_caller!(AdminCaller, Principal::check_admin, ADMIN_SCHEME, ADMIN_TOKEN);
restricted_caller!(
    ParticipantCaller,
    |principal| principal.participant().map(drop).ok_or(AuthorizationError::ParticipantRequired),
    SCHEME,
    TOKEN
);

const TOKEN: &str = "A JWT with `sub`, `role` (`user`, `contact` or `service`), `locations` and `exp`; SMART on FHIR's \
                     `fhirUser` can stand for `role`. HS256, or RS256, ES256 or EdDSA with a key of the configured JWKS. \
                     `make token SUB=doc123 ROLE=user LOCATION=loc1` prints one for development.";
const ADMIN_TOKEN: &str = "Such a JWT with the `role` `service` and `\"admin\": true`. \
                           `make token SUB=backend ROLE=admin LOCATION=loc1` prints one for development.";

fn bearer_scheme(description: &'static str) -> MetaSecurityScheme {
    MetaSecurityScheme {
        ty: "http",
        description: Some(description),
        name: None,
        key_in: None,
        scheme: Some("bearer"),
        bearer_format: Some("JWT"),
        flows: None,
        openid_connect_url: None,
    }
}

impl<'a> ApiExtractor<'a> for Caller {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        registry.create_security_scheme(SCHEME, bearer_scheme(TOKEN));
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![SCHEME]
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut poem::RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let caller = Self::authenticate(request).await?;
        check_parameters(request)?;
        Ok(caller)
    }
}

impl Caller {
    /// Verifies the token and applies the caller's rate limit. Does not check the query.
    pub(crate) async fn authenticate(request: &Request) -> poem::Result<Self> {
        let state: &Arc<AppState> = request.data().ok_or_else(|| problem_error(internal_error()))?;
        if !state.revocation.is_loaded() || !state.database.was_ready() {
            let detail = "The service is starting: its database is not ready. Try again in a second.";
            return Err(problem_error(Problem::new(ProblemCode::Starting, detail)));
        }
        let (Some(context), Some(audit)) = (request.data::<RequestContext>(), request.data::<AuditContext>()) else {
            return Err(problem_error(internal_error()));
        };
        let principal =
            verify_token(request, &state.tokens).await.map_err(|error| unauthorized(request, state, &error))?;
        audit.set_principal(&principal);
        state
            .rate_limits
            .check_caller(&principal)
            .map_err(|wait| poem::Error::from_response(too_many_requests(wait, "requests of this caller")))?;
        if request.method() == Method::GET {
            state
                .response_budget
                .check(&principal.actor)
                .map_err(|error| poem::Error::from_response(budget_error_response(error)))?;
        }
        let origin = RequestOrigin { principal, request: context.clone(), deadline: audit.deadline() };
        Ok(Self { origin, audit: audit.clone() })
    }
}

/// Checks the query of an authenticated request.
pub(crate) fn check_parameters(request: &Request) -> poem::Result<()> {
    request.data::<Parameters>().map_or(Ok(()), |parameters| parameters.check(request))
}

/// 403: the token is valid but does not permit this.
pub(crate) fn forbidden(error: AuthorizationError) -> poem::Error {
    problem_error(error.into())
}

/// Counts a request to an unknown route: against the caller's limit when its token is valid, else against its address. Returns
/// the 429 response when the limit is exceeded.
pub(crate) async fn count_unrouted(request: &Request, state: &AppState) -> Option<Response> {
    match verify_token(request, &state.tokens).await {
        Ok(principal) => {
            request.data::<AuditContext>()?.set_principal(&principal);
            state
                .rate_limits
                .check_caller(&principal)
                .err()
                .map(|wait| too_many_requests(wait, "requests of this caller"))
        }
        Err(error) => count_failed_auth(request, state, &error),
    }
}

/// The response to a caller whose earlier responses are still unread.
pub(crate) fn budget_error_response(error: BudgetError) -> Response {
    match error {
        BudgetError::Caller => {
            let detail = "Too many responses to this caller are not read yet. Read them, then try again.";
            let problem = Problem::new(ProblemCode::ResponsesUnread, detail);
            ProblemBody::from(problem).with_header(RETRY_AFTER, "1").into_response()
        }
        BudgetError::Process => {
            let detail = "Too many responses are not read yet. Try again in a second.";
            let problem = Problem::new(ProblemCode::Overloaded, detail);
            ProblemBody::from(problem).into_response()
        }
    }
}

fn unauthorized(request: &Request, state: &AppState, error: &TokenError) -> poem::Error {
    if let Some(too_many) = count_failed_auth(request, state, error) {
        return poem::Error::from_response(too_many);
    }
    let body = ProblemBody::from(Problem::from(error));
    poem::Error::from_response(body.with_header(WWW_AUTHENTICATE, error.challenge()).into_response())
}

/// Counts a request without a valid token against its address. Returns the 429 response when the limit is exceeded.
fn count_failed_auth(request: &Request, state: &AppState, error: &TokenError) -> Option<Response> {
    let RequestContext { address, .. } = request.data()?;
    // A missing token is no attempt to guess one, so it has its own limit.
    let (checked, what) = match error {
        TokenError::Missing => {
            (state.rate_limits.record_missing_token(*address), "requests without a token from this address")
        }
        _ => (state.rate_limits.record_failure(*address), "refused tokens from this address"),
    };
    checked.err().map(|wait| too_many_requests(wait, what))
}

async fn verify_token(request: &Request, tokens: &TokenCache) -> Result<Arc<Principal>, TokenError> {
    tokens.check(token(request)?).await
}

/// The bearer token of a request.
pub(crate) fn token(request: &Request) -> Result<&str, TokenError> {
    let header = request.headers().get(AUTHORIZATION).map(|value| value.to_str().map_err(|_| TokenError::Malformed));
    bearer(header.transpose()?)
}
