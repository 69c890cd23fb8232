//! Which endpoint serves a path of the public port.

use std::future::ready;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use poem::endpoint::BoxEndpoint;
use poem::http::Method;
use poem::{Endpoint, EndpointExt, IntoEndpoint, Request, Response, Route};

use super::cors;
use super::endpoints::messages;
use super::pages::{assets, docs_page, spec};
use super::path_table::PathTable;
use crate::state::AppState;

/// Routes requests that passed the middleware.
pub(crate) struct Router {
    routes: BoxEndpoint<'static, Response>,
    pub(crate) paths: PathTable,
    pub(crate) state: Arc<AppState>,
}

impl Router {
    /// All routes of the public port.
    pub(crate) fn new(state: Arc<AppState>) -> Self {
        let is_development = state.dev_signing_key.is_some();
        let paths = spec::paths(is_development);
        let service = Arc::new(match is_development {
            true => spec::development_service().into_endpoint(),
            false => spec::service().into_endpoint(),
        });
        // Registered path by path: nested at the root, the API would shadow the console at `/`.
        let operations = spec::operation_paths(is_development).into_iter();
        let routes = operations.fold(Route::new(), |routes, path| routes.at(path, service.clone()));
        let routes = assets::endpoints().fold(routes, |routes, (path, file)| routes.at(path, file));
        let routes = routes
            .at("/", docs_page::console(is_development))
            .at("/docs", docs_page::swagger_ui(is_development))
            .at("/openapi.json", docs_page::openapi_json(is_development))
            .at("/openapi.yaml", docs_page::openapi_yaml(is_development))
            .at("/asyncapi.yaml", docs_page::asyncapi_yaml());
        Self { routes: routes.boxed(), paths, state }
    }

    /// Calls the endpoint of a request. Boxed, so that callers move only a pointer.
    pub(crate) fn call<'a>(&'a self, mut request: Request) -> BoxFuture<'a, poem::Result<Response>> {
        if let Some(answer) = cors::options(&request, &self.paths, &self.state) {
            return Box::pin(ready(answer));
        }
        if let Err(refused) = self.prepare_query(&mut request) {
            return Box::pin(ready(Err(refused)));
        }
        request.extensions_mut().insert(self.state.clone());
        // HTTP omits the body of HEAD but keeps its length; poem's own HEAD support does not know the length.
        if request.method() == Method::HEAD {
            request.set_method(Method::GET);
        }
        // Most requests are sends, and poem's route lookup would cost more than most of the work of a send.
        match (request.method(), request.uri().path()) {
            (&Method::POST, messages::SEND_PATH) => Box::pin(messages::send(request)),
            _ => Box::pin(self.routes.call(request)),
        }
    }

    /// Checks the query now, or after authentication where a token is needed: other callers must learn nothing about it.
    fn prepare_query(&self, request: &mut Request) -> poem::Result<()> {
        if request.uri().query().is_none() {
            return Ok(());
        }
        let path = self.paths.get(request.uri().path());
        match path.and_then(|path| path.parameters(request.method())) {
            None => Ok(()),
            Some((parameters, false)) => parameters.check(request),
            Some((parameters, true)) => {
                let parameters = parameters.clone();
                request.extensions_mut().insert(parameters);
                Ok(())
            }
        }
    }
}
