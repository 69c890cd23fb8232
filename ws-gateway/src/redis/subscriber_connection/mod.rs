//! A connection to one server, for subscriptions only.
//!
//! Through the client library an event would cost more than all else that the gateway does with it. The library also
//! hides the confirmations of subscriptions.
//!
//! The connection has two halves: [`SubscriberWriter`] sends commands, [`SubscriberReader`] receives pushes and
//! replies. After a failure neither is used again, and no command is repeated.

mod connect;
mod error;
mod reader;
mod reply_queue;
mod writer;

use tokio::io::{AsyncRead, AsyncWrite};

pub(super) use connect::{ConnectOptions, connect};
pub(crate) use error::ConnectionError;
pub(crate) use reader::{Push, SubscriberReader};
pub(crate) use reply_queue::BarrierReply;
pub(crate) use writer::{SubscriberWriter, command};

/// TCP, or TLS over it.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}
