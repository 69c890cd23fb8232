//! Gzip for responses, on the paths where compression leaks nothing.
//!
//! The length of a compressed body shows whether two of its texts are equal (BREACH). So no response is compressed that holds a
//! secret beside text chosen by others: tokens, tickets, and the inbox, which holds texts of several conversations. In a history
//! every reader already knows the whole page.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression as Level;
use flate2::write::GzEncoder;
use poem::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, ETAG, VARY};
use poem::http::{HeaderMap, HeaderValue, StatusCode};
use poem::{Request, Response};
use tokio::task::spawn_blocking;

/// Smaller bodies are not compressed: it would not pay.
const MIN_BYTES: usize = 1024;
/// Bodies from this size on take about a millisecond, so they are compressed on a blocking thread.
const BLOCKING_MIN_BYTES: usize = 64 * 1024;

/// Whether responses of a path may be compressed.
fn is_compressible(path: &str) -> bool {
    const EXACT: [&str; 10] = [
        "/",
        "/docs",
        "/openapi.json",
        "/openapi.yaml",
        "/asyncapi.yaml",
        "/favicon.ico",
        "/chat/history",
        "/chat/presence",
        "/chat/read",
        "/chat/delivered",
    ];
    EXACT.contains(&path) || path.starts_with("/sdk/") || path.starts_with("/console/")
}

/// How the response to a request is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    /// The path is not compressible.
    Ineligible,
    /// The path is compressible, but the client did not ask for gzip.
    Identity,
    /// Compressed, if the body is large enough.
    Gzip,
}

impl Compression {
    /// Chooses by path and `Accept-Encoding`.
    pub(crate) fn from_request(request: &Request) -> Self {
        match is_compressible(request.uri().path()) {
            false => Self::Ineligible,
            true if accepts_gzip(request.headers()) => Self::Gzip,
            true => Self::Identity,
        }
    }

    /// Compresses the response where chosen.
    pub(crate) async fn apply(self, mut response: Response) -> Response {
        if self == Self::Ineligible {
            return response;
        }
        // Set on uncompressed responses too, so that caches keep the two apart.
        response.headers_mut().append(VARY, HeaderValue::from_static("accept-encoding"));
        if self == Self::Identity || response.status() != StatusCode::OK {
            return response;
        }
        let Ok(body) = response.take_body().into_bytes().await else {
            response.set_status(StatusCode::INTERNAL_SERVER_ERROR);
            return response;
        };
        let compressed = match body.len() {
            0..MIN_BYTES => None,
            MIN_BYTES..BLOCKING_MIN_BYTES => gzip(&body),
            _ => {
                let body = body.clone();
                spawn_blocking(move || gzip(&body)).await.ok().flatten()
            }
        };
        let Some(compressed) = compressed else {
            response.set_body(body);
            return response;
        };
        let headers = response.headers_mut();
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        if let Some(tag) = headers.get(ETAG).and_then(gzip_etag) {
            headers.insert(ETAG, tag);
        }
        response.set_body(compressed);
        response
    }
}

fn gzip(body: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 3), Level::fast());
    encoder.write_all(body).ok()?;
    encoder.finish().ok().map(Bytes::from)
}

/// Suffix of a compressed response's ETag: other bytes need another tag (RFC 9110, section 8.8.3).
const GZIP_ETAG_SUFFIX: &str = "-gzip\"";

fn gzip_etag(tag: &HeaderValue) -> Option<HeaderValue> {
    let plain = tag.to_str().ok()?.strip_suffix('"')?;
    HeaderValue::from_str(&format!("{plain}{GZIP_ETAG_SUFFIX}")).ok()
}

/// The ETag of the same content without compression.
pub(crate) fn identity_etag(tag: &str) -> String {
    match tag.strip_suffix(GZIP_ETAG_SUFFIX) {
        Some(plain) => format!("{plain}\""),
        None => tag.to_owned(),
    }
}

/// Whether the client accepts gzip (RFC 9110, section 12.5.3).
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(ACCEPT_ENCODING).into_iter().filter_map(|line| line.to_str().ok());
    let mut accepts_any = false;
    for item in lines.flat_map(|line| line.split(',')) {
        let (name, parameters) = item.split_once(';').unwrap_or((item, ""));
        let weight = parameters.split_once('=').map(|(_, weight)| weight.trim().parse::<f32>());
        let is_accepted = match weight {
            None => true,
            Some(weight) => weight.is_ok_and(|weight| weight > 0.0),
        };
        match name.trim() {
            name if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") => return is_accepted,
            "*" => accepts_any = is_accepted,
            _ => {}
        }
    }
    accepts_any
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use std::io::Read;

    fn request(path: &str, accepted: &str) -> Request {
        Request::builder().uri_str(path).header(ACCEPT_ENCODING, accepted).finish()
    }

    async fn answer(path: &str, accepted: &str, body: &str) -> Response {
        let response = Response::builder().header(ETAG, "\"a\"").body(body.to_owned());
        Compression::from_request(&request(path, accepted)).apply(response).await
    }

    #[tokio::test]
    async fn large_responses_are_gzipped_on_request() {
        for bytes in [MIN_BYTES, BLOCKING_MIN_BYTES] {
            let body = "x".repeat(bytes);
            let compressed = answer("/chat/history", "br, gzip", &body).await;
            assert_eq!(compressed.headers()[CONTENT_ENCODING], "gzip");
            assert_eq!(
                (&compressed.headers()[VARY], &compressed.headers()[ETAG]),
                (&"accept-encoding".parse().unwrap(), &"\"a-gzip\"".parse().unwrap())
            );
            let compressed = compressed.into_body().into_bytes().await.unwrap();
            let mut text = String::new();
            GzDecoder::new(&compressed[..]).read_to_string(&mut text).unwrap();
            assert!(compressed.len() < bytes / 10 && text == body);
            let plain = answer("/chat/history", "br", &body).await;
            assert!(!plain.headers().contains_key(CONTENT_ENCODING) && plain.headers()[VARY] == "accept-encoding");
            assert_eq!(plain.into_body().into_string().await.unwrap(), body);
        }
        let small = answer("/chat/history", "gzip", &"x".repeat(MIN_BYTES - 1)).await;
        assert!(!small.headers().contains_key(CONTENT_ENCODING) && small.headers()[ETAG] == "\"a\"");
    }

    #[tokio::test]
    async fn responses_with_secrets_are_never_compressed() {
        for path in
            ["/chat/ws-ticket", "/dev/token", "/chat/conversations", "/chat/send", "/admin/revocations", "/healthz"]
        {
            let answer = answer(path, "gzip", &"x".repeat(BLOCKING_MIN_BYTES)).await;
            assert!(!answer.headers().contains_key(CONTENT_ENCODING) && !answer.headers().contains_key(VARY), "{path}");
        }
    }

    #[test]
    fn accept_encoding_weights_are_honoured() {
        for (accepted, expected) in [
            ("gzip", true),
            ("GZIP;q=0.1", true),
            ("br, deflate ,x-gzip", true),
            ("*", true),
            ("*;q=0, gzip", true),
            ("gzip;q=0", false),
            ("gzip; q=0.000, *", false),
            ("*;q=0", false),
            ("identity", false),
            ("gzip;q=x", false),
            ("", false),
        ] {
            assert_eq!(accepts_gzip(request("/", accepted).headers()), expected, "{accepted}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }

    #[test]
    fn etag_differs_when_compressed() {
        assert_eq!(identity_etag("\"a-gzip\""), "\"a\"");
        assert_eq!(identity_etag("\"a\""), "\"a\"");
    }
}
