//! HTTP: the server, the layers around every request, the endpoints and their OpenAPI document.
//!
//! - [`server`]: accepts connections and bounds what each may cost
//! - [`middleware`]: the public port, and what surrounds every request of it; [`router`] finds the endpoint
//! - [`auth`], [`authorization`]: the caller, and what the caller may do
//! - [`endpoints`]: one file per resource
//! - [`openapi`]: the document, its schemas, and what each path accepts

mod assets;
mod audit;
mod auth;
mod authorization;
mod body;
mod compression;
mod cors;
pub(crate) mod endpoints;
mod error;
mod middleware;
mod openapi;
mod params;
mod router;
pub(crate) mod server;

pub use endpoints::admin_port::admin;
pub use middleware::public;
pub use openapi::spec::{json as spec_json, yaml as spec_yaml};
