//! Which web pages may call this system.
//!
//! Tokens, unlike cookies, are sent only by a page's own code. So the list of origins is a second lock: it keeps a foreign page
//! from using a token or ticket that it obtained.

use std::fmt;
use std::str::FromStr;

use crate::contract::http::origin::Origin;
use crate::contract::http::request::Site;
use crate::kit::env::mode::Mode;
use crate::kit::env::{Env, Setting};

/// The setting that both services have.
pub const ALLOWED_ORIGINS: Setting = Setting {
    name: "ALLOWED_ORIGINS",
    default: Some(""),
    help: "whose pages may ask, besides those of this system itself: origins, as https://ehr.example, separated by commas; in \
           development * for all, and pages of localhost, 127.0.0.1 and [::1] always may",
};

/// Whose pages may ask.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedOrigins {
    listed: Vec<Origin>,
    all: bool,
    /// Pages of this machine, on any port, may: those of a developer's own server. In development mode only.
    loopback: bool,
}

/// Text that is no list of origins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a list of origins like https://ehr.example:8443, separated by commas")]
pub struct InvalidOrigins;

impl FromStr for AllowedOrigins {
    type Err = InvalidOrigins;

    fn from_str(text: &str) -> Result<Self, InvalidOrigins> {
        let mut origins = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            match Origin::parse(part) {
                _ if part == "*" => origins.all = true,
                Some(origin) => origins.listed.push(origin),
                None => return Err(InvalidOrigins),
            }
        }
        Ok(origins)
    }
}

impl fmt::Display for AllowedOrigins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.all.then(|| "*".to_owned());
        f.write_str(&self.listed.iter().map(ToString::to_string).chain(all).collect::<Vec<_>>().join(","))
    }
}

impl AllowedOrigins {
    /// Reads the setting. `None` when something is wrong, which is noted.
    pub fn read(env: &mut Env, mode: Mode) -> Option<Self> {
        let mut origins: Self = env.read(&ALLOWED_ORIGINS)?;
        origins.loopback = mode == Mode::Development;
        if origins.all && mode == Mode::Production {
            env.add_error(&ALLOWED_ORIGINS, "cannot be * while MODE is production");
            return None;
        }
        Some(origins)
    }

    /// Whether only pages of this system itself may call it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.all && !self.loopback && self.listed.is_empty()
    }

    /// Whether pages of all origins may, which is worth a warning.
    #[must_use]
    pub fn allows_any(&self) -> bool {
        self.all
    }

    /// Whether an origin is on the list.
    #[must_use]
    pub fn contains(&self, origin: &str) -> bool {
        self.all || !self.is_empty() && Origin::parse(origin).is_some_and(|origin| self.lists(&origin))
    }

    fn lists(&self, origin: &Origin) -> bool {
        self.listed.contains(origin) || self.loopback && origin.is_loopback()
    }

    /// Whether a page of this origin may call the system at `site`: the origin is listed, or the page came from there. A page
    /// that came without TLS is foreign where the system uses TLS: an attacker on the path could have written it.
    #[must_use]
    pub fn allows(&self, origin: &str, site: &Site<'_>) -> bool {
        if self.all {
            return true;
        }
        let Some(origin) = Origin::parse(origin) else { return false };
        let is_own = site.host.is_some_and(|host| origin.is_at(host)) && (origin.is_https() || !site.is_tls);
        is_own || self.lists(&origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn origins(text: &str) -> AllowedOrigins {
        text.parse().unwrap()
    }

    fn asked_as(host: Option<&str>) -> Site<'_> {
        Site { host, is_tls: false }
    }

    #[test]
    fn empty_list_allows_only_own_pages() {
        let none = origins("");
        assert!(none.allows("http://localhost:8080", &asked_as(Some("localhost:8080"))));
        assert!(none.allows("https://chat.example", &asked_as(Some("Chat.Example"))));
        assert!(none.allows("https://chat.example", &asked_as(Some("chat.example:443"))));
        for (origin, host) in [
            ("http://evil.example", Some("localhost:8080")),
            ("http://localhost:8081", Some("localhost:8080")),
            ("http://localhost", Some("localhost:8080")),
            ("http://localhost:8080.evil.example", Some("localhost:8080")),
            ("http://evil.example/localhost:8080", Some("localhost:8080")),
            ("null", Some("null")),
            ("", Some("")),
            ("localhost:8080", Some("localhost:8080")),
            ("http://", Some("")),
            ("http://localhost:8080", None),
        ] {
            assert!(!none.allows(origin, &asked_as(host)), "{origin} {host:?}");
        }
    }

    #[test]
    fn plain_http_page_is_foreign_to_tls_site() {
        let asked = Site { host: Some("chat.example"), is_tls: true };
        assert!(origins("").allows("https://chat.example", &asked));
        assert!(!origins("").allows("http://chat.example", &asked));
        assert!(origins("http://chat.example").allows("http://chat.example", &asked));
    }

    #[test]
    fn only_listed_origins_are_allowed() {
        let list =
            origins("https://ehr.example:443, https://other.example:8443,capacitor://localhost,https://käse.example");
        for origin in [
            "https://ehr.example",
            "https://EHR.example",
            "https://ehr.example:443",
            "https://other.example:8443",
            "capacitor://localhost",
            "https://xn--kse-qla.example",
        ] {
            assert!(list.allows(origin, &asked_as(Some("chat.example"))) && list.contains(origin), "{origin}");
        }
        for origin in [
            "http://ehr.example",
            "https://ehr.example:444",
            "https://sub.ehr.example",
            "https://ehr.example.evil",
            "https://ehr.example/",
            "null",
        ] {
            assert!(!list.allows(origin, &asked_as(Some("chat.example"))) && !list.contains(origin), "{origin}");
        }
        assert!(origins("*").allows("https://anybody.example", &asked_as(None)));
    }

    #[test]
    fn invalid_origin_lists_are_rejected() {
        for bad in [
            "ehr.example",
            "https://",
            "https://ehr.example/",
            "https://*.ehr.example",
            "https://a b",
            "://x",
            "null",
            "https://a:99999",
        ] {
            assert_eq!(bad.parse::<AllowedOrigins>(), Err(InvalidOrigins), "{bad}");
        }
        assert_eq!(origins(" https://A.example:443 ,, * ").to_string(), "https://a.example,*");
    }

    fn read(setting: &'static str, mode: Mode) -> Result<AllowedOrigins, String> {
        let mut env = Env::from_fn(|_| Some(setting.to_owned()));
        AllowedOrigins::read(&mut env, mode).ok_or_else(|| env.into_error().to_string())
    }

    #[test]
    fn wildcard_is_rejected_in_production() {
        assert!(read("*", Mode::Development).unwrap().allows_any());
        assert!(read("*", Mode::Production).unwrap_err().contains("ALLOWED_ORIGINS"));
    }

    #[test]
    fn pages_of_this_machine_are_allowed_only_in_development() {
        let site = asked_as(Some("localhost:8080"));
        for setting in ["", "https://ehr.example"] {
            let (development, production) =
                (read(setting, Mode::Development).unwrap(), read(setting, Mode::Production).unwrap());
            for page in ["http://localhost:5173", "https://localhost", "http://127.0.0.1:3000", "http://[::1]:3000"] {
                assert!(development.allows(page, &site) && development.contains(page), "{page}");
                assert!(!production.allows(page, &site) && !production.contains(page), "{page}");
            }
            for page in ["http://evil.example", "http://localhost.evil.example", "http://192.168.0.7:5173", "null"] {
                assert!(!development.allows(page, &site) && !development.contains(page), "{page}");
            }
            assert!(!development.is_empty() && !development.allows_any());
            assert_eq!(production.is_empty(), setting.is_empty());
            assert_eq!(development.contains("https://ehr.example"), !setting.is_empty());
        }
        let listed = read("http://localhost:5173", Mode::Production).unwrap();
        assert!(listed.contains("http://localhost:5173") && !listed.contains("http://localhost:5174"));
    }

    proptest! {
        #[test]
        fn empty_list_allows_only_the_hosts_origin(origin in "(https?://)?\\PC{0,40}", host in "[a-z]{1,20}") {
            let is_own = ["http", "https"].iter().any(|scheme| Origin::parse(&origin) == Origin::parse(&format!("{scheme}://{host}")));
            prop_assert_eq!(origins("").allows(&origin, &asked_as(Some(&host))), is_own);
            let own = format!("https://{host}");
            prop_assert!(origins("").allows(&own, &asked_as(Some(&host))));
        }
    }
}
