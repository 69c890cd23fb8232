//! What the OpenAPI document is made of: schemas and groups of operations. `pages::spec` writes it.

pub(crate) mod schema;
pub(crate) mod tag;
