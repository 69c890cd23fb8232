//! The last words of a socket.

use std::io;
use std::time::Duration;

use shared::audit::{Action, Who};
use shared::receipt::Kind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::delivery_tracker::Last;
use super::{Connection, End, frames};
use crate::session::close_reason::Close;
use crate::session::protocol::{self, ClientFrame};
use crate::websocket::{self, Decoder, Frame};

/// From our close frame to the end of the connection, whatever the peer does.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// The same for a peer that reads slowly: what it has not read stands before our close frame, and without that it would not know that it
/// can resume. What waits for it is one round of writing, and its place is taken for so long.
const SLOW_CLOSE_TIMEOUT: Duration = Duration::from_secs(30);

/// What is read of a peer after our close frame; one that sends more is cut off. Whoever is closed may not keep a core busy until then.
const MOST_LAST_BYTES: usize = 1024 * 1024;

/// Ends a socket whose `end` has come. Nothing is queued for it any more from the first moment on.
pub(super) async fn say(connection: Connection, end: End) {
    let Connection { gateway, mut tcp, membership, view, principal, context, .. } = connection;
    let Connection { proofs, mut unsent, sent, incoming, _permit: permit, .. } = connection;
    drop(membership);
    gateway.everybody.leave(&view, principal.person());
    let code = match end {
        End::Ours(close) => close.code(),
        End::Peer(code) => code.unwrap_or(1005),
        End::Gone => 1006,
    };
    metrics::counter!("gateway_closed_total", "code" => label(end)).increment(1);
    let by_peer = matches!(end, End::Peer(_));
    let id = view.conversation().map(tracing::field::display);
    tracing::info!(request_id = &*context.request_id, conversation = id, code, by_peer, "socket closed");
    gateway.audit.report(view.entry(Action::SocketClose, code, Who::from(&principal.actor), &context));
    let limit = gateway.config.max_frame_bytes;
    unsent.drain(..sent);
    let mut proofs = proofs.farewell();
    last_frames(end, &mut proofs, &mut unsent);
    let report = |kind, ids| frames::report(&gateway, &view, (&principal, &context), kind, ids);
    let hear = |frame: &Frame<'_>| match frame {
        Frame::Pong(payload) => report(Kind::Delivered, proofs.pong(payload)),
        // Whoever may not be here any more has nothing to say either; what it has proven is proven.
        Frame::Text(text) if !is_sent_away(end) => {
            if let Ok(ClientFrame::Receipt(kind, ids)) = protocol::parse(text) {
                report(kind, ids);
            }
        }
        _ => {}
    };
    let patience = if end == End::Ours(Close::TooSlow) { SLOW_CLOSE_TIMEOUT } else { CLOSE_TIMEOUT };
    tokio::select! {
        _late = timeout(patience, goodbye(&mut tcp, end, &unsent, incoming, limit, hear)) => {}
        // A gateway that ends waits for nobody who is slow.
        () = async { gateway.shutdown.begun().await; sleep(CLOSE_TIMEOUT).await } => {}
    }
    gateway.sockets.decrement(1.0);
    drop(permit);
}

/// Ends a connection that was accepted only to be told why it cannot be a socket: a browser sees no other refusal.
pub(crate) async fn refuse(mut tcp: TcpStream, already_read: &[u8], close: Close, limit: usize) {
    let end = End::Ours(close);
    metrics::counter!("gateway_closed_total", "code" => label(end)).increment(1);
    let mut last = Vec::new();
    websocket::close(&mut last, Some(close.code()), close.reason());
    let _late =
        timeout(CLOSE_TIMEOUT, goodbye(&mut tcp, end, &last, Decoder::after(already_read), limit, |_| {})).await;
}

/// A Ping before our close frame lets the peer prove what has arrived: it answers in order, and the Ping first.
fn last_frames(end: End, proofs: &mut Last, out: &mut Vec<u8>) {
    match end {
        End::Ours(close) => {
            if is_heard(end)
                && let Some(payload) = proofs.ping()
            {
                websocket::ping(out, &payload);
            }
            websocket::close(out, Some(close.code()), close.reason());
        }
        End::Peer(code) => websocket::close(out, code, ""),
        End::Gone => {}
    }
}

/// Whether what the peer says after this end is of use. After a broken frame nothing more can be read as WebSocket.
fn is_heard(end: End) -> bool {
    matches!(end, End::Ours(close) if !matches!(close, Close::Protocol | Close::NotUtf8 | Close::TooLarge))
}

/// Whether the peer is closed because of what it is or does, and not for our sake.
fn is_sent_away(end: End) -> bool {
    matches!(end, End::Ours(Close::TokenEnded | Close::Forbidden | Close::TooManyFrames))
}

/// Closes in the way of RFC 6455, section 7: our frame, the peer's, then the connection.
async fn goodbye(
    tcp: &mut TcpStream,
    end: End,
    last: &[u8],
    mut incoming: Decoder,
    limit: usize,
    mut hear: impl FnMut(&Frame<'_>),
) -> io::Result<()> {
    if matches!(end, End::Gone) {
        return Ok(());
    }
    tcp.write_all(last).await?;
    let mut input = [0; 1024];
    let mut readable = is_heard(end);
    let mut left = MOST_LAST_BYTES;
    while readable && left > 0 {
        let read = tcp.read(&mut input).await?;
        left = left.saturating_sub(read);
        let heard = incoming.read(&mut input[..read], limit, |frame| match frame {
            Frame::Close(code) => Err(End::Peer(code)),
            frame => {
                hear(&frame);
                Ok(())
            }
        });
        readable = read > 0 && heard.is_ok();
    }
    // What the peer still sends is taken off the line, since unread bytes would turn the end into a reset and our close
    // frame would be lost with it.
    tcp.shutdown().await?;
    while left > 0 {
        match tcp.read(&mut input).await? {
            0 => break,
            read => left = left.saturating_sub(read),
        }
    }
    Ok(())
}

/// A label for metrics. A client may send thousands of codes, so its own are not told apart.
fn label(end: End) -> &'static str {
    match end {
        End::Ours(Close::GoingAway) => "1001",
        End::Ours(Close::Protocol) => "1002",
        End::Ours(Close::NotUtf8) => "1007",
        End::Ours(Close::TooManyFrames) => "1008",
        End::Ours(Close::TooLarge) => "1009",
        End::Ours(Close::TryAgain) => "1013",
        End::Ours(Close::TokenEnded) => "4401",
        End::Ours(Close::Forbidden) => "4403",
        End::Ours(Close::TooSlow) => "4408",
        End::Ours(Close::TooManySockets) => "4429",
        End::Peer(_) => "peer",
        End::Gone => "gone",
    }
}
