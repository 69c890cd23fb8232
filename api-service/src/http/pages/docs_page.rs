//! Pages for people: Swagger UI, the two API documents and the console. They load nothing from other hosts.

use std::sync::Arc;

use bytes::Bytes;
use poem::endpoint::make_sync;
use poem::http::header::CONTENT_SECURITY_POLICY;
use poem::{Endpoint, Response};
use shared::contract::http::request::is_host;
use shared::contract::http::security_headers::source_hash;

use super::spec;
use crate::http::cors;
use crate::http::pages::assets::CONSOLE_PAGE;
use crate::state::AppState;

/// The meta tag that names the mode of the console's page.
const IN_PRODUCTION: &str = r#"name="chat-mode" content="production""#;
const IN_DEVELOPMENT: &str = r#"name="chat-mode" content="development""#;

/// Swagger UI as one self-contained page.
pub(crate) fn swagger_ui(is_development: bool) -> impl Endpoint {
    // Without this, browsers would request a missing icon.
    let html = spec::swagger_ui(is_development).replacen("<head>", "<head><link rel=\"icon\" href=\"data:,\">", 1);
    // Swagger UI creates style elements at run time.
    page(html, StylePolicy::UnsafeInline)
}

/// The console. In development mode demo users can sign in.
pub(crate) fn console(development: bool) -> impl Endpoint {
    let mode = if development { IN_DEVELOPMENT } else { IN_PRODUCTION };
    page(CONSOLE_PAGE.replace(IN_PRODUCTION, mode), StylePolicy::Hashed)
}

/// The OpenAPI document as JSON.
pub(crate) fn openapi_json(is_development: bool) -> impl Endpoint {
    document(spec::json(is_development), "application/json")
}

/// The OpenAPI document as YAML.
pub(crate) fn openapi_yaml(is_development: bool) -> impl Endpoint {
    document(spec::yaml(is_development), "application/yaml")
}

/// The AsyncAPI document: the WebSocket.
pub(crate) fn asyncapi_yaml() -> impl Endpoint {
    document(ASYNCAPI.to_owned(), "application/yaml")
}

const ASYNCAPI: &str = include_str!("../../../../asyncapi.yaml");

/// A constant document, shared by all responses.
fn document(content: String, content_type: &'static str) -> impl Endpoint {
    let content = Bytes::from(content);
    poem::get(make_sync(move |_| Response::builder().content_type(content_type).body(content.clone())))
}

/// Which inline styles a page may use.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StylePolicy {
    /// Only those that the page contains, by hash.
    Hashed,
    UnsafeInline,
}

/// A page with its content security policy: its own inline scripts, and files and connections of this host.
fn page(html: String, styles: StylePolicy) -> impl Endpoint {
    let (scripts, own_styles) = (inline_hashes(&html, "script"), inline_hashes(&html, "style"));
    let styles = if styles == StylePolicy::UnsafeInline { " 'unsafe-inline'".to_owned() } else { own_styles };
    let html = Bytes::from(html);
    poem::get(make_sync(move |request| {
        let state = request.data::<Arc<AppState>>();
        let host = state.and_then(|state| cors::site(&request, state).host);
        Response::builder()
            .content_type("text/html; charset=utf-8")
            .header(CONTENT_SECURITY_POLICY, content_security_policy(&scripts, &styles, host))
            .body(html.clone())
    }))
}

/// No request may go to another host. WebSockets are allowed by the host name of the request, because in some browsers `'self'`
/// covers only http.
fn content_security_policy(scripts: &str, styles: &str, host: Option<&str>) -> String {
    let sockets = match host.filter(|host| is_host(host)) {
        Some(host) => format!(" ws://{host} wss://{host}"),
        None => String::new(),
    };
    format!(
        "default-src 'none'; script-src 'self'{scripts}; style-src 'self'{styles}; img-src 'self' data:; \
         font-src 'self'; connect-src 'self'{sockets}; manifest-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    )
}

/// The hashes of a page's inline elements of this kind, as CSP sources.
fn inline_hashes(html: &str, element: &str) -> String {
    let (mut rest, mut hashes) = (html, Vec::new());
    // Scripts and styles may contain any text up to their end tag, so both are skipped whole.
    while let Some((kind, start)) = ["script", "style"]
        .into_iter()
        .filter_map(|kind| Some((kind, rest.find(&format!("<{kind}"))?)))
        .min_by_key(|(_, start)| *start)
    {
        let Some((tag, inside)) = rest[start..].split_once('>') else { break };
        let Some((content, behind)) = inside.split_once(&format!("</{kind}>")) else { break };
        if kind == element && !tag.contains(" src=") {
            hashes.push(source_hash(content));
        }
        rest = behind;
    }
    // Each hash has a leading space, so that no hash leaves no gap.
    hashes.iter().map(|hash| format!(" {hash}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inline_elements_are_listed_by_hash() {
        let html = "<style a>b{}</style><script src=\"x.js\"></script><script>let s = '<style>';</script>\
                    <p><script type=module>1</script>";
        assert_eq!(inline_hashes(html, "style"), format!(" {}", source_hash("b{}")));
        assert_eq!(
            inline_hashes(html, "script"),
            format!(" {} {}", source_hash("let s = '<style>';"), source_hash("1"))
        );
        // The example of the CSP specification.
        assert_eq!(source_hash("alert('Hello, world.');"), "'sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng='");
    }

    #[test]
    fn console_has_no_inline_code_and_names_its_mode() {
        assert_eq!(
            (inline_hashes(CONSOLE_PAGE, "script"), inline_hashes(CONSOLE_PAGE, "style")),
            (String::new(), String::new())
        );
        assert!(
            !CONSOLE_PAGE.contains(" style=") && !CONSOLE_PAGE.contains(" on"),
            "no attribute that the policy forbids"
        );
        assert_eq!(CONSOLE_PAGE.matches(IN_PRODUCTION).count(), 1);
    }

    #[test]
    fn page_policy_allows_own_scripts_and_own_host() {
        let policy = content_security_policy(" 'sha256-x'", "", Some("chat.example:8443"));
        assert!(policy.starts_with("default-src 'none'; script-src 'self' 'sha256-x'; "), "{policy}");
        assert!(policy.contains("connect-src 'self' ws://chat.example:8443 wss://chat.example:8443;"), "{policy}");
        let scripts = policy.split(';').find(|directive| directive.contains("script-src")).unwrap();
        assert!(!scripts.contains("unsafe"), "{policy}");
    }

    #[test]
    fn malformed_host_does_not_enter_policy() {
        for host in ["evil.example; script-src *", "a b", "*", "", "a,b", "a/b"] {
            assert!(content_security_policy("", "", Some(host)).contains("connect-src 'self';"), "{host}");
        }
    }
}
