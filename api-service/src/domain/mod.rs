//! The use cases, free of HTTP and SQL: each authorizes, validates, then asks the store or the writer.

pub mod error;
pub mod history;
pub mod inbox;
pub mod mark;
pub mod presence;
pub mod revoke;
pub mod send;
pub mod ticket;
