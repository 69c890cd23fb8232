//! What the service says about itself: the OpenAPI document, the pages that show it, and the files of the console and the SDK.

pub(crate) mod assets;
pub(crate) mod docs_page;
pub(crate) mod spec;
