//! The closing handshake (RFC 6455, section 7).

use std::io;
use std::time::Duration;

use shared::contract::audit::{Action, AuditActor};
use shared::contract::receipt::ReceiptKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::receipts::report_receipts;
use super::{Disconnect, Session};
use crate::session::protocol::{self, ClientFrame};
use crate::socket::CloseReason;
use crate::websocket::{self, Engine, Frame};

/// From our close frame to the end of the connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// The same for a client that reads slowly. Our close frame is behind data that the client has not read, and without
/// it the client would not know that it can resume. At most one write batch and one socket permit are held for this
/// long.
const SLOW_CLOSE_TIMEOUT: Duration = Duration::from_secs(30);

/// The connection ended without a close frame (RFC 6455, section 7.4.1).
pub(super) const ABNORMAL_CLOSURE: u16 = 1006;
/// The client's close frame had no code.
const NO_STATUS_RECEIVED: u16 = 1005;

/// Bytes read after our close frame. A client that sends more is disconnected, so that a closed socket cannot keep a
/// core busy.
const MAX_FINAL_READ_BYTES: usize = 1024 * 1024;

/// Closes a session. It leaves its room first, so that no event is queued any more.
pub(super) async fn close(session: Session, end: Disconnect) {
    let Session { app, mut tcp, membership, topic, principal, context, .. } = session;
    let Session { delivery_tracker, mut unsent, sent, mut engine, _permit: permit, .. } = session;
    drop(membership);
    app.presence.socket_closed(&topic, principal.participant());
    let code = match end {
        Disconnect::Local(close) => close.code(),
        Disconnect::Remote(code) => code.unwrap_or(NO_STATUS_RECEIVED),
        Disconnect::Lost => ABNORMAL_CLOSURE,
    };
    metrics::counter!("ehr_chat_gateway_sockets_closed_total", "code" => label(end)).increment(1);
    let by_peer = matches!(end, Disconnect::Remote(_));
    let id = topic.conversation_id().map(tracing::field::display);
    tracing::info!(request_id = &*context.request_id, conversation = id, code, by_peer, "socket closed");
    app.audit.enqueue(topic.entry(Action::SocketClose, code, AuditActor::from(&principal.actor), &context));
    let limit = app.config.session.max_frame_bytes;
    unsent.drain(..sent);
    let mut delivery_tracker = delivery_tracker.into_closing();
    if reads_until_close(end)
        && let Some(payload) = delivery_tracker.ping()
    {
        // The client answers in order, so its Pong acknowledges the last deliveries.
        websocket::ping(&mut unsent, &payload);
    }
    append_close(end, &mut engine, limit, &mut unsent);
    let report = |kind, ids| report_receipts(&app, &topic, (&principal, &context), kind, ids);
    let on_frame = |frame: &Frame<'_>| match frame {
        Frame::Pong(payload) => report(ReceiptKind::Delivered, delivery_tracker.on_pong(payload)),
        // A client that violated a rule may send no more receipts. Acknowledged deliveries still count.
        Frame::Text(text) if !is_client_fault(end) => {
            if let Ok(ClientFrame::Receipt(kind, ids)) = protocol::parse(text) {
                report(kind, ids);
            }
        }
        _ => {}
    };
    let close_timeout = match end {
        Disconnect::Local(CloseReason::TooSlow | CloseReason::Silent) => SLOW_CLOSE_TIMEOUT,
        _ => CLOSE_TIMEOUT,
    };
    tokio::select! {
        _late = timeout(close_timeout, closing_handshake(&mut tcp, end, (&unsent, &[]), engine, limit, on_frame)) => {}
        // A shutdown does not wait for a slow client.
        () = async { app.shutdown.wait_for_begin().await; sleep(CLOSE_TIMEOUT).await } => {}
    }
    app.open_sockets.decrement(1.0);
    drop(permit);
}

/// Closes a connection that was accepted only to send a close code. A browser cannot read the status of a failed
/// handshake.
pub(crate) async fn reject(mut tcp: TcpStream, already_read: &[u8], close: CloseReason, limit: usize) {
    let end = Disconnect::Local(close);
    metrics::counter!("ehr_chat_gateway_sockets_closed_total", "code" => label(end)).increment(1);
    let mut final_bytes = Vec::new();
    let mut engine = Engine::default();
    append_close(end, &mut engine, limit, &mut final_bytes);
    let handshake = closing_handshake(&mut tcp, end, (&final_bytes, already_read), engine, limit, |_| {});
    let _late = timeout(CLOSE_TIMEOUT, handshake).await;
}

/// Our close frame, or the reply to the client's.
fn append_close(end: Disconnect, engine: &mut Engine, limit: usize, out: &mut Vec<u8>) {
    match end {
        Disconnect::Local(close) => engine.close(Some(close.code()), close.reason().as_str(), limit, out),
        Disconnect::Remote(code) => engine.close(code, "", limit, out),
        Disconnect::Lost => {}
    }
}

/// Whether to read frames until the client's close frame. After a protocol error the stream cannot be decoded.
fn reads_until_close(end: Disconnect) -> bool {
    match end {
        Disconnect::Local(CloseReason::Protocol | CloseReason::NotUtf8 | CloseReason::TooLarge) => false,
        Disconnect::Local(_) => true,
        Disconnect::Remote(_) | Disconnect::Lost => false,
    }
}

/// Whether the client caused the close.
fn is_client_fault(end: Disconnect) -> bool {
    matches!(end, Disconnect::Local(close) if close.is_end_of_token() || close == CloseReason::TooManyFrames)
}

/// Sends our frames, reads until the client's close frame, then closes the connection. `early_bytes` precede what is
/// read here.
async fn closing_handshake(
    tcp: &mut TcpStream,
    end: Disconnect,
    (final_bytes, early_bytes): (&[u8], &[u8]),
    mut engine: Engine,
    limit: usize,
    mut on_frame: impl FnMut(&Frame<'_>),
) -> io::Result<()> {
    if matches!(end, Disconnect::Lost) {
        return Ok(());
    }
    tcp.write_all(final_bytes).await?;
    let mut read_frames = |bytes: &[u8]| {
        let read = engine.read(bytes, limit, |frame| match frame {
            Frame::Close(code) => Err(Disconnect::Remote(code)),
            frame => {
                on_frame(&frame);
                Ok(())
            }
        });
        read.is_ok()
    };
    let mut input = [0; 1024];
    let mut readable = reads_until_close(end) && read_frames(early_bytes);
    let mut left = MAX_FINAL_READ_BYTES;
    while readable && left > 0 {
        let read = tcp.read(&mut input).await?;
        left = left.saturating_sub(read);
        readable = read > 0 && read_frames(&input[..read]);
    }
    // Unread bytes would turn the close into a TCP reset, and our close frame would be lost.
    tcp.shutdown().await?;
    while left > 0 {
        match tcp.read(&mut input).await? {
            0 => break,
            read => left = left.saturating_sub(read),
        }
    }
    Ok(())
}

/// A metric label. Clients may send thousands of codes, so theirs share one label.
fn label(end: Disconnect) -> &'static str {
    match end {
        Disconnect::Local(close) => close.label(),
        Disconnect::Remote(_) => "peer",
        Disconnect::Lost => "gone",
    }
}
