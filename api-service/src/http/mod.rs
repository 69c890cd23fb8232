//! HTTP: the server, the layers around every request, the endpoints and their OpenAPI document.
//!
//! - [`server`]: accepts connections and bounds what each may cost
//! - [`middleware`]: the public port, and what surrounds every request of it; [`router`] finds the endpoint
//! - [`auth`], [`authorization`]: the caller, and what the caller may do
//! - [`endpoints`]: one file per resource
//! - [`pages`]: the OpenAPI document, the pages that show it, the files of the console and the SDK
//! - [`openapi`]: schemas and groups of operations; [`path_table`]: what each path accepts

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
mod pages;
mod params;
mod path_table;
mod router;
pub(crate) mod server;

pub use endpoints::admin_port::admin;
pub use middleware::public;
pub use pages::spec::yaml as spec_yaml;
