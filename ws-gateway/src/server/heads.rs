//! Heads that cannot be read as HTTP. The HTTP library answers those by itself, with a status and nothing else; here its answer is
//! taken off the line, so that they get a problem body as every other refusal does.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A connection on which nothing is written before a request has been read.
pub(super) struct Line {
    pub(super) tcp: TcpStream,
    /// Whether a request has been read: from then on what is written is ours.
    asked: Arc<AtomicBool>,
    /// The status that the library would have answered.
    status: Option<u16>,
}

impl Line {
    /// `asked` is set when a request has been read.
    pub(super) fn new(tcp: TcpStream, asked: &Arc<AtomicBool>) -> Self {
        Self { tcp, asked: asked.clone(), status: None }
    }

    /// Why no request could be read, for whoever sent it: a status and words. `None` when the library had nothing to say.
    pub(super) fn refusal(&self) -> Option<(u16, &'static str)> {
        Some(match self.status? {
            414 => (414, "the request's target is too long"),
            431 => (431, "the request's head is larger than 16 KiB, or has more than 100 headers"),
            _ => (400, "the request's head is not HTTP/1.1"),
        })
    }

    /// Whether `bytes` are the library's own answer; notes it.
    fn takes_off(&mut self, bytes: &[u8]) -> bool {
        if self.asked.load(Ordering::Relaxed) {
            return false;
        }
        // "HTTP/1.1 431 …"
        let status = bytes.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        self.status = self.status.or(status);
        true
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(context, buffer)
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.takes_off(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.tcp).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = slices.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| slice);
        if self.takes_off(first) {
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        Pin::new(&mut self.tcp).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}
