//! The load itself: thousands of sockets and one publisher on one thread, over bare epoll.
//!
//! `socket_pool` is the loop. `client` is one socket, which reads `frame`s and finds the stamp in each; `delivery_counts` is the
//! result. `publisher` writes events to Redis. `http` holds the connections that send requests, `sends` and `requests` are what they send.
//! `responder` shows what they could do, and `rate` decides when an event is due.

pub(crate) mod client;
pub(crate) mod delivery_counts;
pub(crate) mod frame;
pub(crate) mod http;
pub(crate) mod publisher;
pub(crate) mod rate;
pub(crate) mod requests;
pub(crate) mod responder;
pub(crate) mod sends;
pub(crate) mod socket_pool;
