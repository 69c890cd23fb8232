//! What the OpenAPI document is made of: schemas, groups of operations, and its form. `pages::spec` writes it.

pub(crate) mod document;
pub(crate) mod scalar;
pub(crate) mod schema;
pub(crate) mod tag;
