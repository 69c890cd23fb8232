//! The use cases. Each authorizes and validates, then calls the modules below. They know no HTTP and no SQL.

mod audited_read;
pub mod error;
pub mod history;
pub mod inbox;
pub mod mark;
pub mod presence;
pub mod revoke;
pub mod send;
pub mod ticket;
