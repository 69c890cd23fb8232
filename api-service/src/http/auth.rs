//! Who asks: the first argument of every handler that needs to know.

use std::sync::Arc;

use poem::http::Method;
use poem::http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use poem::{IntoResponse, Request, Response};
use poem_openapi::registry::{MetaSecurityScheme, Registry};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use shared::problem::Problem;
use shared::request::RequestContext;
use shared::token::{Forbidden, Principal, TokenError, bearer};
use shared::verified::VerifiedTokens;

use crate::domain::error::Refused;
use crate::http::audit::Trail;
use crate::http::error::{ProblemBody, problem, problem_error, too_many};
use crate::http::openapi::path_table::Parameters;
use crate::http::server::response_budget::Full;
use crate::model::origin::Origin;
use crate::state::State;

/// A verified token, and the request that it came with.
pub(crate) struct Caller {
    pub(crate) origin: Origin,
    pub(crate) trail: Trail,
}

const SCHEME: &str = "token";

/// A [`Caller`] who may revoke tokens. Nobody else learns what is wrong with the query or the body: that comes later.
pub(crate) struct Administrator(pub(crate) Caller);

/// A [`Caller`] who may mark messages: a user or a contact.
pub(crate) struct Receiver(pub(crate) Caller);

macro_rules! caller_who {
    ($who:ident, $check:expr) => {
        impl<'a> ApiExtractor<'a> for $who {
            const TYPES: &'static [ApiExtractorType] = Caller::TYPES;

            type ParamType = ();
            type ParamRawType = ();

            fn register(registry: &mut Registry) {
                Caller::register(registry);
            }

            fn security_schemes() -> Vec<&'static str> {
                Caller::security_schemes()
            }

            async fn from_request(
                request: &'a Request,
                _body: &mut poem::RequestBody,
                _options: ExtractParamOptions<()>,
            ) -> poem::Result<Self> {
                let caller = Caller::identify(request).await?;
                let check: fn(&Principal) -> Result<(), Forbidden> = $check;
                check(&caller.origin.principal).map_err(forbidden)?;
                check_parameters(request)?;
                Ok(Self(caller))
            }
        }
    };
}

caller_who!(Administrator, Principal::check_admin);
caller_who!(Receiver, |principal| principal.person().map(drop).ok_or(Forbidden::NotAPerson));

impl<'a> ApiExtractor<'a> for Caller {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        registry.create_security_scheme(
            SCHEME,
            MetaSecurityScheme {
                ty: "http",
                description: Some(
                    "A JWT with `sub`, `role` (`user`, `contact` or `service`), `locations` and `exp`; SMART on FHIR's \
                     `fhirUser` can stand for `role`. HS256, or RS256, ES256 or EdDSA with a key of the configured JWKS. \
                     `make token SUB=doc123 ROLE=user LOCATION=loc1` prints one for development.",
                ),
                name: None,
                key_in: None,
                scheme: Some("bearer"),
                bearer_format: Some("JWT"),
                flows: None,
                openid_connect_url: None,
            },
        );
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![SCHEME]
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut poem::RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let caller = Self::identify(request).await?;
        check_parameters(request)?;
        Ok(caller)
    }
}

impl Caller {
    /// Who asks, whatever the query says.
    pub(crate) async fn identify(request: &Request) -> poem::Result<Self> {
        let state: &Arc<State> = request.data().ok_or_else(|| problem_error(Problem::new(500, "no state")))?;
        if !state.revoker.is_loaded() || !state.database.was_ready() {
            return Err(problem_error(Problem::new(503, "the service has not started yet: its database is not ready")));
        }
        let (Some(context), Some(trail)) = (request.data::<RequestContext>(), request.data::<Trail>()) else {
            return Err(problem_error(Problem::new(500, "no context")));
        };
        let principal =
            authenticate(request, &state.tokens).await.map_err(|refused| unauthorized(request, state, &refused))?;
        trail.is_by(&principal);
        state
            .limits
            .caller(&principal)
            .map_err(|wait| poem::Error::from_response(too_many(wait, "requests of yours")))?;
        if request.method() == Method::GET {
            state.unsent.check(&principal.actor).map_err(|full| poem::Error::from_response(unread(full)))?;
        }
        let origin = Origin { principal, request: context.clone(), deadline: trail.deadline() };
        Ok(Self { origin, trail: trail.clone() })
    }
}

/// Checks the query of a request whose bearer is known.
pub(crate) fn check_parameters(request: &Request) -> poem::Result<()> {
    request.data::<Parameters>().map_or(Ok(()), |parameters| parameters.check(request))
}

/// The refusal of somebody whose token is good, but not for this.
pub(crate) fn forbidden(why: Forbidden) -> poem::Error {
    problem_error(problem(Refused::Forbidden(why)))
}

/// Counts a request that nothing answers: for the bearer of a good token as one of its requests, otherwise for its address.
/// The refusal, when it was one too many.
pub(crate) async fn count_unserved(request: &Request, state: &State) -> Option<Response> {
    match authenticate(request, &state.tokens).await {
        Ok(principal) => {
            request.data::<Trail>()?.is_by(&principal);
            state.limits.caller(&principal).err().map(|wait| too_many(wait, "requests of yours"))
        }
        Err(refused) => refused_too_often(request, state, &refused),
    }
}

/// A refusal while answers wait to be read.
pub(crate) fn unread(full: Full) -> Response {
    match full {
        Full::Caller => {
            let problem = Problem::new(429, "too many answers to you are not read yet: read them first");
            ProblemBody::from(problem).with_header(RETRY_AFTER, "1").into_response()
        }
        Full::Process => {
            let problem = Problem::new(503, "too many answers are not read yet: try again");
            ProblemBody::from(problem).into_response()
        }
    }
}

fn unauthorized(request: &Request, state: &State, refused: &TokenError) -> poem::Error {
    if let Some(too_many) = refused_too_often(request, state, refused) {
        return poem::Error::from_response(too_many);
    }
    let body = ProblemBody::from(Problem::new(401, refused.to_string()));
    poem::Error::from_response(body.with_header(WWW_AUTHENTICATE, refused.challenge()).into_response())
}

/// Counts a request without a good token for its address. The refusal, when it was one too many.
fn refused_too_often(request: &Request, state: &State, refused: &TokenError) -> Option<Response> {
    let RequestContext { address, .. } = request.data()?;
    // To have none at all is no attempt to guess one.
    let (taken, of) = match refused {
        TokenError::Missing => (state.limits.no_token(*address), "requests without a token from your address"),
        _ => (state.limits.failure(*address), "refused tokens from your address"),
    };
    taken.err().map(|wait| too_many(wait, of))
}

async fn authenticate(request: &Request, tokens: &VerifiedTokens) -> Result<Arc<Principal>, TokenError> {
    tokens.check(token(request)?).await
}

/// The token that came with a request.
pub(crate) fn token(request: &Request) -> Result<&str, TokenError> {
    let header = request.headers().get(AUTHORIZATION).map(|value| value.to_str().map_err(|_| TokenError::Malformed));
    bearer(header.transpose()?)
}
