//! Groups of operations in the OpenAPI document.

use poem_openapi::Tags;

/// Groups of operations.
#[derive(Tags)]
pub(crate) enum Tag {
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
