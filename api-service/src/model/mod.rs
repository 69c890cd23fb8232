//! What messages, pages and requests are: types without SQL, HTTP or Redis, which every layer may use.

mod blank;
pub mod deadline;
pub mod inbox;
pub mod mark;
pub mod message;
pub mod origin;
pub mod page;
