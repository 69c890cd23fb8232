//! The load itself: thousands of sockets and one publisher on one thread, over bare epoll.
//!
//! `fleet` is the loop. `client` is one socket, which reads `frame`s and finds the `stamp` in each; `tally` is what came of
//! them. `publisher` writes events to Redis. `http` are the connections that send messages, `responder` shows what they could do,
//! `pace` is when a thing is due.

pub(crate) mod client;
pub(crate) mod fleet;
pub(crate) mod frame;
pub(crate) mod http;
pub(crate) mod pace;
pub(crate) mod publisher;
pub(crate) mod responder;
pub(crate) mod stamp;
pub(crate) mod tally;
