//! The use cases, free of HTTP and SQL: each authorizes, validates, then asks the store or the writer.

mod blank;
pub mod deadline;
pub mod error;
pub mod history;
pub mod inbox;
pub mod mark;
pub mod message;
pub mod origin;
pub mod page;
pub mod presence;
pub mod revoke;
pub mod send;
pub mod ticket;
