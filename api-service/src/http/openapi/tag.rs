//! Groups of operations in the OpenAPI document.

use poem_openapi::Tags;

/// Groups of operations. The document lists them by their first operation.
#[derive(Tags)]
pub(crate) enum Tag {
    /// In development mode only: a token to try the other operations with.
    Development,
    /// Send messages and read them back.
    Messages,
    /// Say what arrived and what was read.
    Receipts,
    /// The inbox, and who is online.
    Conversations,
    /// What WebSocket clients need first.
    Sockets,
    /// For administrators' backends.
    Admin,
    /// For load balancers and operators.
    Health,
}
