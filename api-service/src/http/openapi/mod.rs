//! The OpenAPI document, and what is derived from it: the page that shows it, and what each path accepts.

pub(crate) mod docs_page;
pub(crate) mod path_table;
pub(crate) mod schema;
pub(crate) mod spec;
pub(crate) mod tag;
