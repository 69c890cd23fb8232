//! HTTP: handlers, the types of requests and answers, authentication, problem bodies, documentation.

mod assets;
mod auth;
mod body;
mod browsers;
mod conversations;
mod demonstration;
mod docs;
mod health;
mod inline;
mod messages;
mod params;
mod presence;
mod problems;
mod receipts;
mod refusal;
mod revocations;
mod schema;
mod spec;
mod tag;
mod tickets;
mod trail;

use std::sync::Arc;

use metrics_exporter_prometheus::PrometheusHandle;
use poem::endpoint::BoxEndpoint;
use poem::middleware::AddData;
use poem::{Endpoint, EndpointExt, IntoEndpoint, Response, Route};

pub use spec::{json as spec_json, yaml as spec_yaml};

use crate::meters;
use crate::state::State;

/// Everything that the public port serves.
pub fn public(state: Arc<State>) -> BoxEndpoint<'static, Response> {
    let methods = spec::methods();
    let service = Arc::new(spec::service().into_endpoint());
    let (preflighted, browsed) = ((methods.clone(), state.clone()), state.clone());
    // Path by path: nested at the root, it would take `/` from the console.
    let operations = methods.keys().filter(|path| !spec::pages().any(|page| page == path.as_str()));
    let routes = operations.fold(Route::new(), |routes, path| routes.at(path, service.clone()));
    let routes = assets::endpoints().fold(routes, |routes, (path, file)| routes.at(path, file));
    let routes = match &state.demonstration {
        Some(key) => {
            let key = demonstration::Key(key.clone());
            routes.at("/dev/token", poem::post(demonstration::issue).data(key))
        }
        None => routes,
    };
    routes
        .at("/", docs::console(state.demonstration.is_some()))
        .at("/docs", docs::swagger_ui())
        .at("/openapi.json", docs::openapi_json())
        .at("/openapi.yaml", docs::openapi_yaml())
        .with(AddData::new(state.clone()))
        .around(move |endpoint, request| {
            let (methods, state) = (preflighted.0.clone(), preflighted.1.clone());
            async move { browsers::preflight(endpoint, request, &methods, &state.origins).await }
        })
        .around(move |endpoint, request| {
            let (methods, state) = (methods.clone(), state.clone());
            async move { problems::answer(endpoint, request, &methods, &state).await }
        })
        .around(move |endpoint, request| {
            let state = browsed.clone();
            async move { browsers::dress(endpoint, request, &state).await }
        })
        .boxed()
}

/// Everything that the admin port serves.
pub fn admin(state: Arc<State>, metrics: Option<PrometheusHandle>) -> impl Endpoint {
    let looked_at = state.clone();
    Route::new()
        .at("/healthz", poem::get(health::alive))
        .at("/readyz", poem::get(health::ready))
        .at(
            "/metrics",
            poem::get(poem::endpoint::make(move |_| {
                let (metrics, state) = (metrics.clone(), looked_at.clone());
                async move {
                    meters::look(&state).await;
                    metrics.as_ref().map(PrometheusHandle::render).unwrap_or_default()
                }
            })),
        )
        .with(AddData::new(state))
}
