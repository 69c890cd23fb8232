//! Origins of web pages: scheme, host and port, compared as RFC 6454 (section 5) compares them.

use std::fmt;

use url::Url;

/// Where a page came from. Two are equal when a browser calls them the same origin: letters, default ports, and the
/// spelling of addresses and international names make no difference. A dot at the end of a host does, as in browsers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    scheme: String,
    host: String,
    /// `None` is the scheme's own.
    port: Option<u16>,
}

impl Origin {
    /// Reads `scheme://host[:port]`, with nothing behind it. The scheme may be that of an app. `None` for all else, `null`
    /// among it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, place) = text.split_once("://")?;
        let is_place = |c: char| !c.is_ascii() || c.is_ascii_alphanumeric() || "-._:[]".contains(c);
        // The parser of URLs would leave out tabs, decode escapes, and take a path.
        if !is_scheme(scheme) || place.ends_with(':') || !place.chars().all(is_place) {
            return None;
        }
        let url = Url::parse(text).ok().filter(|url| url.scheme() != "file")?;
        let host = url.host_str().filter(|host| !host.is_empty())?;
        Some(Self { scheme: url.scheme().to_owned(), host: host.to_ascii_lowercase(), port: url.port() })
    }

    /// Whether the origin is at this host. A missing port is the default port of the origin's scheme, because the proxy that
    /// ends TLS may not forward the scheme.
    #[must_use]
    pub fn is_at(&self, host: &str) -> bool {
        self.is_web() && Self::parse(&format!("{}://{host}", self.scheme)).as_ref() == Some(self)
    }

    /// Whether a page came over TLS.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.scheme == "https"
    }

    /// Whether a page came from this machine: `localhost`, `127.0.0.1` or `[::1]`, on any port.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.is_web() && matches!(self.host.as_str(), "localhost" | "127.0.0.1" | "[::1]")
    }

    fn is_web(&self) -> bool {
        self.is_https() || self.scheme == "http"
    }
}

/// In its one spelling.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// RFC 3986, section 3.1.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn origin(text: &str) -> Origin {
        Origin::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn spellings_of_one_origin_are_equal() {
        for (one, other) in [
            ("https://ehr.example", "HTTPS://EHR.Example"),
            ("https://ehr.example", "https://ehr.example:443"),
            ("http://ehr.example:80", "http://ehr.example"),
            ("https://ehr.example:08443", "https://ehr.example:8443"),
            ("http://[::1]:8080", "http://[0:0:0:0:0:0:0:1]:8080"),
            ("http://[2001:DB8::A]", "http://[2001:db8:0::a]:80"),
            ("https://käse.example", "https://xn--kse-qla.example"),
            ("https://KÄSE.example", "https://XN--KSE-qla.example"),
            ("capacitor://localhost", "Capacitor://LocalHost"),
            ("https://ehr.example.", "https://EHR.example.:443"),
        ] {
            assert_eq!(origin(one), origin(other), "{one} {other}");
            assert_eq!(origin(one).to_string(), origin(other).to_string());
            assert_eq!(origin(&origin(one).to_string()), origin(one));
        }
    }

    #[test]
    fn different_origins_are_not_equal() {
        for (one, other) in [
            ("https://ehr.example", "http://ehr.example"),
            ("https://ehr.example", "https://ehr.example:80"),
            ("http://ehr.example:443", "https://ehr.example"),
            ("https://ehr.example", "https://ehr.example."),
            ("https://ehr.example", "https://sub.ehr.example"),
            ("http://127.0.0.1", "http://localhost"),
            ("http://[::1]", "http://[::2]"),
            ("https://kase.example", "https://käse.example"),
            ("capacitor://localhost", "ionic://localhost"),
            ("capacitor://localhost", "capacitor://localhost:80"),
        ] {
            assert_ne!(origin(one), origin(other), "{one} {other}");
        }
    }

    #[test]
    fn invalid_origins_are_rejected() {
        for bad in [
            "",
            "null",
            "ehr.example",
            "https:",
            "https:ehr.example",
            "https:/ehr.example",
            "https://",
            "https://ehr.example/",
            "https://ehr.example?",
            "https://ehr.example#x",
            "https://ehr.example\\x",
            "https://user@ehr.example",
            "https://ehr.example:",
            "https://ehr.example:99999",
            "https://ehr.example:x",
            "https://e%68r.example",
            "https://ehr\t.example",
            " https://ehr.example",
            "https://ehr.example ",
            "https://*.ehr.example",
            "https://[::1",
            "https://::1",
            "https://1.2.3.4.5",
            "1https://ehr.example",
            "file://ehr.example",
            "https://a.example,https://b.example",
        ] {
            assert_eq!(Origin::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn origin_matches_its_host_in_any_spelling() {
        for (page, host) in [
            ("http://localhost:8080", "localhost:8080"),
            ("https://chat.example", "Chat.Example"),
            ("https://chat.example", "chat.example:443"),
            ("http://chat.example", "chat.example:80"),
            ("http://chat.example:443", "chat.example:443"),
            ("http://[::1]:8080", "[0:0::1]:8080"),
            ("https://xn--kse-qla.example", "xn--kse-qla.EXAMPLE"),
            ("https://chat.example.", "chat.example."),
        ] {
            assert!(origin(page).is_at(host), "{page} {host}");
        }
        for (page, host) in [
            ("https://chat.example", "chat.example:80"),
            ("http://chat.example", "chat.example:443"),
            ("https://chat.example", "chat.example.evil"),
            ("https://chat.example", "evil.example"),
            ("https://chat.example", ""),
            ("https://chat.example", "chat.example/x"),
            ("https://chat.example", "user@chat.example"),
            ("capacitor://chat.example", "chat.example"),
        ] {
            assert!(!origin(page).is_at(host), "{page} {host}");
        }
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for page in [
            "http://localhost",
            "http://localhost:5173",
            "https://LocalHost:8443",
            "http://127.0.0.1:3000",
            "https://127.0.0.1",
            "http://[::1]:3000",
            "http://[0:0::1]",
        ] {
            assert!(origin(page).is_loopback(), "{page}");
        }
        for page in [
            "http://localhost.evil.example:5173",
            "http://localhost.",
            "http://app.localhost:5173",
            "http://notlocalhost",
            "http://127.0.0.1.evil.example",
            "http://127.0.0.2",
            "http://10.0.0.1:5173",
            "http://[::2]",
            "http://[::ffff:127.0.0.1]",
            "capacitor://localhost",
        ] {
            assert!(!origin(page).is_loopback(), "{page}");
        }
    }

    proptest! {
        #[test]
        fn parsed_origin_has_one_spelling(text in "\\PC{0,40}", place in "[a-z0-9.:\\[\\]-]{0,20}") {
            for text in [text, format!("https://{place}")] {
                if let Some(origin) = Origin::parse(&text) {
                    prop_assert_eq!(Origin::parse(&origin.to_string()), Some(origin));
                }
            }
        }
    }
}
