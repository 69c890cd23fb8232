//! Which security headers browsers get with each response.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Sent with every response: no content sniffing, no frames, no referrer, no use by other sites. Pages have their own policy in
/// place of the last.
pub const SECURITY_HEADERS: [(&str, &str); 5] = [
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("x-frame-options", "DENY"),
    ("cross-origin-resource-policy", "same-origin"),
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
];

/// With every answer that came over TLS: a year without a request that does not.
pub const STRICT_TRANSPORT_SECURITY: &str = "max-age=31536000";

/// What names an inline script or style in a Content-Security-Policy (CSP 3, section 2.3.1).
#[must_use]
pub fn source_hash(text: &str) -> String {
    let hash = digest(&SHA256, text.as_bytes());
    format!("'sha256-{}'", STANDARD.encode(hash))
}
