//! Answers are packed (gzip) for whoever asks, on the paths where that gives nothing away.
//!
//! The length of a packed body tells whether two of its texts are alike. So nothing is packed in which a secret stands beside
//! what somebody else can choose (BREACH): no token, no ticket, and no inbox, where a patient's words stand beside another's.
//! Everybody in a conversation knows all of its page.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression as Level;
use flate2::write::GzEncoder;
use poem::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, ETAG, VARY};
use poem::http::{HeaderMap, HeaderValue, StatusCode};
use poem::{Request, Response};
use tokio::task::spawn_blocking;

/// Below this, packing costs more than it saves.
const MIN_BYTES: usize = 1024;
/// What takes longer than about a millisecond must not hold up others.
const BLOCKING_MIN_BYTES: usize = 64 * 1024;

/// Whether answers on a path may be packed.
fn is_compressible(path: &str) -> bool {
    const EXACT: [&str; 9] = [
        "/",
        "/docs",
        "/openapi.json",
        "/openapi.yaml",
        "/favicon.ico",
        "/chat/history",
        "/chat/presence",
        "/chat/read",
        "/chat/delivered",
    ];
    EXACT.contains(&path) || path.starts_with("/sdk/") || path.starts_with("/console/")
}

/// What is done with the answer to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    /// Its path is none of those that are packed.
    Ineligible,
    /// It could be, and the caller has not asked for it.
    Identity,
    /// It is, when it is large enough.
    Gzip,
}

impl Compression {
    /// For the answer to this request.
    pub(crate) fn from_request(request: &Request) -> Self {
        match is_compressible(request.uri().path()) {
            false => Self::Ineligible,
            true if accepts_gzip(request.headers()) => Self::Gzip,
            true => Self::Identity,
        }
    }

    /// Packs the answer, if that is to be done.
    pub(crate) async fn apply(self, mut response: Response) -> Response {
        if self == Self::Ineligible {
            return response;
        }
        // Also where it is not packed: a cache must not give this answer to those who would get the other one.
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

/// What a packed answer's tag has behind the plain one's: the bytes differ, so the tags must (RFC 9110, section 8.8.3).
const GZIP_ETAG_SUFFIX: &str = "-gzip\"";

fn gzip_etag(tag: &HeaderValue) -> Option<HeaderValue> {
    let plain = tag.to_str().ok()?.strip_suffix('"')?;
    HeaderValue::from_str(&format!("{plain}{GZIP_ETAG_SUFFIX}")).ok()
}

/// The tag of the same content, not packed.
pub(crate) fn identity_etag(tag: &str) -> String {
    match tag.strip_suffix(GZIP_ETAG_SUFFIX) {
        Some(plain) => format!("{plain}\""),
        None => tag.to_owned(),
    }
}

/// Whether the caller takes gzip (RFC 9110, section 12.5.3).
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
    async fn large_answers_are_packed_for_whoever_asks() {
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
    async fn where_a_secret_stands_beside_anothers_words_nothing_is_packed() {
        for path in
            ["/chat/ws-ticket", "/dev/token", "/chat/conversations", "/chat/send", "/admin/revocations", "/healthz"]
        {
            let answer = answer(path, "gzip", &"x".repeat(BLOCKING_MIN_BYTES)).await;
            assert!(!answer.headers().contains_key(CONTENT_ENCODING) && !answer.headers().contains_key(VARY), "{path}");
        }
    }

    #[test]
    fn weights_are_heard() {
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
    fn a_tag_says_whether_the_content_is_packed() {
        assert_eq!(identity_etag("\"a-gzip\""), "\"a\"");
        assert_eq!(identity_etag("\"a\""), "\"a\"");
    }
}
