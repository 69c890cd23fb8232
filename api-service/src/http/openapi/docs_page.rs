//! What people read: Swagger UI, the OpenAPI document, and the page to try the chat with. Works without internet.

use std::sync::Arc;

use bytes::Bytes;
use poem::endpoint::make_sync;
use poem::http::header::CONTENT_SECURITY_POLICY;
use poem::{Endpoint, Response};
use shared::browser::{is_host, source_hash};

use super::spec;
use crate::http::cors;
use crate::state::AppState;

const CONSOLE: &str = include_str!("../../../../clients/console/index.html");
/// How the console's page says that nobody's tokens are to be had here; in development mode it says the other thing.
const IN_PRODUCTION: &str = r#"name="chat-mode" content="production""#;
const IN_DEVELOPMENT: &str = r#"name="chat-mode" content="development""#;

/// Swagger UI, with everything it needs in the page.
pub(crate) fn swagger_ui() -> impl Endpoint {
    // Browsers would ask for an icon that is not there.
    let html = spec::swagger_ui().replacen("<head>", "<head><link rel=\"icon\" href=\"data:,\">", 1);
    // It makes style elements of its own as it goes.
    page(html, StylePolicy::UnsafeInline)
}

/// The console; in development mode people of the demonstration can sign in.
pub(crate) fn console(development: bool) -> impl Endpoint {
    let mode = if development { IN_DEVELOPMENT } else { IN_PRODUCTION };
    page(CONSOLE.replace(IN_PRODUCTION, mode), StylePolicy::Hashed)
}

/// The OpenAPI document for programs.
pub(crate) fn openapi_json() -> impl Endpoint {
    document(spec::json(), "application/json")
}

/// The OpenAPI document for people.
pub(crate) fn openapi_yaml() -> impl Endpoint {
    document(spec::yaml(), "application/yaml")
}

/// Something that does not change while the service runs: made once, shared by all answers.
fn document(content: String, content_type: &'static str) -> impl Endpoint {
    let content = Bytes::from(content);
    poem::get(make_sync(move |_| Response::builder().content_type(content_type).body(content.clone())))
}

/// Which styles a page may have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StylePolicy {
    /// Those that stand in it, and files from here.
    Hashed,
    UnsafeInline,
}

/// The same for a page, with what it may do: run the scripts that stand in it and files from here, and talk to here.
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

/// Nothing may be loaded from, or sent to, another host. Sockets are named by the host that the page was asked from: to some
/// browsers `'self'` is http only.
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

/// The hashes of a page's inline elements of this kind, in the form in which a policy names them.
fn inline_hashes(html: &str, element: &str) -> String {
    let (mut rest, mut hashes) = (html, Vec::new());
    // Scripts and styles hold any text up to their own end, so both are skipped whole.
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
    // Each with a space in front: there may be none.
    hashes.iter().map(|hash| format!(" {hash}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inline_scripts_and_styles_are_named_by_their_hashes() {
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
    fn the_console_has_nothing_inline_and_says_in_which_mode_it_is() {
        assert_eq!((inline_hashes(CONSOLE, "script"), inline_hashes(CONSOLE, "style")), (String::new(), String::new()));
        assert!(!CONSOLE.contains(" style=") && !CONSOLE.contains(" on"), "no attribute that the policy forbids");
        assert_eq!(CONSOLE.matches(IN_PRODUCTION).count(), 1);
    }

    #[test]
    fn a_page_runs_its_own_scripts_and_talks_to_its_own_host() {
        let policy = content_security_policy(" 'sha256-x'", "", Some("chat.example:8443"));
        assert!(policy.starts_with("default-src 'none'; script-src 'self' 'sha256-x'; "), "{policy}");
        assert!(policy.contains("connect-src 'self' ws://chat.example:8443 wss://chat.example:8443;"), "{policy}");
        let scripts = policy.split(';').find(|directive| directive.contains("script-src")).unwrap();
        assert!(!scripts.contains("unsafe"), "{policy}");
    }

    #[test]
    fn no_host_writes_into_the_policy() {
        for host in ["evil.example; script-src *", "a b", "*", "", "a,b", "a/b"] {
            assert!(content_security_policy("", "", Some(host)).contains("connect-src 'self';"), "{host}");
        }
    }
}
