//! Types of messages, pages and requests. They know no SQL, HTTP or Redis, so every layer may use them.

mod blank;
pub mod deadline;
pub mod inbox;
pub mod mark;
pub mod message;
pub mod page;
pub mod request_origin;
pub mod send;
