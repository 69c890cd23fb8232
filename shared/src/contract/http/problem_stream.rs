//! Responses that the HTTP library sends by itself, to requests that it cannot parse, are replaced by problem bodies.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf, copy, sink};
use tokio::time::timeout;

use crate::contract::error_code::ProblemCode;
use crate::contract::http::problem::{self, REQUEST_ID_HEADER};

/// Timeout for the response to an unreadable request.
const FINAL_WRITE_TIMEOUT: Duration = Duration::from_millis(500);
/// How much unreadable input is discarded, and for how long.
const MAX_DISCARDED_BYTES: u64 = 1024 * 1024;
const LINGER_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection on which an HTTP server speaks whose own answers all have a request id. An answer without one is the
/// library's: a bare 400, 414 or 431.
#[derive(Debug)]
pub struct ProblemStream<T> {
    io: T,
    head_bytes: usize,
    /// No response is partly written.
    is_between_responses: bool,
    /// The replacement for the library's response, and how much of it is written.
    replacement: Option<(Vec<u8>, usize)>,
    library_status: Option<u16>,
}

impl<T> ProblemStream<T> {
    /// `head_bytes` is how large the head of a request may be.
    pub fn new(io: T, head_bytes: usize) -> Self {
        Self { io, head_bytes, is_between_responses: true, replacement: None, library_status: None }
    }

    /// The status of the library's own answer, if it gave one.
    pub fn library_status(&self) -> Option<u16> {
        self.library_status
    }

    /// The connection itself.
    pub fn into_inner(self) -> T {
        self.io
    }

    /// Notes the answer that takes the place of the library's, if these bytes begin one.
    fn start_replacement(&mut self, bytes: &[u8]) {
        if !self.is_between_responses || self.replacement.is_some() {
            return;
        }
        let Some(status) = parse_library_status(bytes) else { return };
        self.library_status = Some(status);
        self.replacement = Some((problem_response(status, self.head_bytes).into_bytes(), 0));
    }
}

impl<T: AsyncWrite + Unpin> ProblemStream<T> {
    /// Writes the replacement. Once it is out, `length` bytes of the library's answer count as written.
    fn poll_replacement(&mut self, cx: &mut Context<'_>, length: usize) -> Option<Poll<io::Result<usize>>> {
        let (bytes, written) = self.replacement.as_mut()?;
        while *written < bytes.len() {
            match Pin::new(&mut self.io).poll_write(cx, &bytes[*written..]) {
                Poll::Ready(Ok(0)) => return Some(Poll::Ready(Err(io::ErrorKind::WriteZero.into()))),
                Poll::Ready(Ok(more)) => *written += more,
                Poll::Ready(Err(error)) => return Some(Poll::Ready(Err(error))),
                Poll::Pending => return Some(Poll::Pending),
            }
        }
        self.replacement = None;
        self.is_between_responses = false;
        Some(Poll::Ready(Ok(length)))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> ProblemStream<T> {
    /// Closes a connection after unreadable input. Sends status 400 first, unless the library has answered.
    pub async fn close_unparsable(self) {
        let answer = self.library_status.is_none().then(|| problem_response(400, self.head_bytes));
        let io = self.close(answer).await;
        // Unread input must be drained, or the kernel resets the connection and the response is lost.
        let mut rest = io.take(MAX_DISCARDED_BYTES);
        let _gone = timeout(LINGER_TIMEOUT, copy(&mut rest, &mut sink())).await;
    }

    /// Closes a connection whose request did not arrive in time. Does not read the rest: a silent client must not keep a
    /// handshake permit.
    pub async fn close_timed_out(self) {
        let _io = self.close(Some(problem::request_timeout())).await;
    }

    async fn close(self, answer: Option<String>) -> T {
        let mut io = self.io;
        if let Some(answer) = answer {
            let _gone = timeout(FINAL_WRITE_TIMEOUT, io.write_all(answer.as_bytes())).await;
        }
        let _gone = timeout(FINAL_WRITE_TIMEOUT, io.shutdown()).await;
        io
    }
}

/// The status of an answer that is not of the server's own handlers.
fn parse_library_status(bytes: &[u8]) -> Option<u16> {
    let line = bytes.strip_prefix(b"HTTP/1.1 ")?;
    let status: u16 = std::str::from_utf8(line.get(..3)?).ok()?.parse().ok()?;
    let names_request =
        || bytes.windows(REQUEST_ID_HEADER.len()).any(|name| name.eq_ignore_ascii_case(REQUEST_ID_HEADER.as_bytes()));
    (matches!(status, 400 | 414 | 431) && !names_request()).then_some(status)
}

/// The whole answer to a request that cannot be read.
fn problem_response(status: u16, head_bytes: usize) -> String {
    let (code, detail) = match status {
        414 => (ProblemCode::UriTooLong, "The target of the request is too long. Shorten it.".to_owned()),
        431 => (
            ProblemCode::HeadTooLarge,
            format!(
                "The head of the request is larger than {head_bytes} bytes, or has more than 100 headers. \
                 Send fewer or shorter headers."
            ),
        ),
        _ => (ProblemCode::MalformedRequest, "The request is not valid HTTP/1.1. Correct the client.".to_owned()),
    };
    problem::raw_response(code, &detail)
}

impl<T: AsyncRead + Unpin> AsyncRead for ProblemStream<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for ProblemStream<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.start_replacement(buf);
        if let Some(replaced) = self.poll_replacement(cx, buf.len()) {
            return replaced;
        }
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, buf));
        self.is_between_responses = false;
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.io).poll_flush(cx));
        self.is_between_responses = self.replacement.is_none();
        Poll::Ready(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.start_replacement(bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| buf));
        if let Some(replaced) = self.poll_replacement(cx, bufs.iter().map(|buf| buf.len()).sum()) {
            return replaced;
        }
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, bufs));
        self.is_between_responses = false;
        Poll::Ready(written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BARE: &[u8] =
        b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

    async fn written(writes: &[&[u8]], flushes: bool) -> (String, Option<u16>) {
        // So small that everything is written in pieces.
        let (near, mut far) = tokio::io::duplex(16);
        let reading = tokio::spawn(async move {
            let mut text = String::new();
            far.read_to_string(&mut text).await.unwrap();
            text
        });
        let mut connection = ProblemStream::new(near, 1234);
        for bytes in writes {
            connection.write_all(bytes).await.unwrap();
            if flushes {
                connection.flush().await.unwrap();
            }
        }
        let refused = connection.library_status();
        drop(connection);
        (reading.await.unwrap(), refused)
    }

    #[tokio::test]
    async fn library_response_becomes_a_problem() {
        let ours = b"HTTP/1.1 400 Bad Request\r\nX-Request-Id: r1\r\ncontent-length: 0\r\n\r\n";
        let (text, refused) = written(&[ours, BARE], true).await;
        let replaced = text.strip_prefix(std::str::from_utf8(ours).unwrap()).unwrap();
        assert!(replaced.starts_with("HTTP/1.1 431 ") && replaced.contains("x-request-id: "), "{replaced}");
        let body: serde_json::Value = serde_json::from_str(replaced.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!((&body["status"], &body["title"]), (&431.into(), &"Request Header Fields Too Large".into()));
        assert_eq!(body["code"], "head_too_large");
        assert!(body["detail"].as_str().unwrap().contains("1234 bytes"), "{body}");
        assert_eq!(refused, Some(431));
    }

    #[tokio::test]
    async fn bytes_within_a_response_are_unchanged() {
        let begun = b"HTTP/1.1 200 OK\r\nx-request-id: r1\r\ncontent-length: 90\r\n\r\n";
        let (text, refused) = written(&[begun, BARE], false).await;
        assert!(text.ends_with(std::str::from_utf8(BARE).unwrap()));
        assert_eq!(refused, None);
    }

    #[tokio::test]
    async fn other_responses_are_unchanged() {
        for ours in [
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\nX-Request-ID: a\r\n\r\n",
            "HTTP",
            "",
        ] {
            assert_eq!(written(&[ours.as_bytes()], true).await, (ours.to_owned(), None));
        }
    }

    async fn ended(end: impl AsyncFnOnce(ProblemStream<tokio::io::DuplexStream>), says_before: &[u8]) -> String {
        let (near, mut far) = tokio::io::duplex(4096);
        let mut connection = ProblemStream::new(near, 1234);
        connection.write_all(says_before).await.unwrap();
        // It is read to its end, and not only to the answer.
        far.write_all(&[b'x'; 2000]).await.unwrap();
        far.shutdown().await.unwrap();
        end(connection).await;
        let mut text = String::new();
        far.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn unreadable_request_is_answered_once() {
        let code = |response: &str| {
            let body: serde_json::Value = serde_json::from_str(response.split_once("\r\n\r\n").unwrap().1).unwrap();
            body["code"].as_str().unwrap().to_owned()
        };
        let response = ended(ProblemStream::close_unparsable, b"").await;
        assert!(response.starts_with("HTTP/1.1 400 "), "{response}");
        assert_eq!(code(&response), "malformed_request");
        let response = ended(ProblemStream::close_unparsable, BARE).await;
        assert!(response.starts_with("HTTP/1.1 431 ") && response.matches("HTTP/1.1 4").count() == 1, "{response}");
        assert_eq!(code(&response), "head_too_large");
        let response = ended(ProblemStream::close_timed_out, b"").await;
        assert!(response.starts_with("HTTP/1.1 408 "), "{response}");
        assert_eq!(code(&response), "request_timeout");
    }

    #[test]
    fn every_response_of_the_library_has_a_code() {
        for (status, code) in [(400, "malformed_request"), (414, "uri_too_long"), (431, "head_too_large")] {
            let response = problem_response(status, 1234);
            assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{response}");
            assert!(response.contains(&format!("\"code\":\"{code}\"")), "{response}");
        }
    }
}
