//! Where an issuer publishes its keys: a file, or an https URL. Bounded in size and time, and redirected nowhere.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use reqwest::header::{ACCEPT, CACHE_CONTROL};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};

use super::jwk::{KeySet, KeySetError};
use crate::kit::env::mode::Mode;
use crate::kit::net::tls::{self, CaError, CaFile};

/// Largest set.
const MAX_BYTES: usize = 256 * 1024;
/// For the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// For all of it.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A file that holds a set: read when the setting is, so that a bad file is a bad setting.
#[derive(Debug, Clone)]
pub struct JwksFile(PathBuf);

impl FromStr for JwksFile {
    type Err = JwksError;

    fn from_str(path: &str) -> Result<Self, JwksError> {
        KeySet::parse(&std::fs::read(path).map_err(JwksError::File)?)?;
        Ok(Self(path.into()))
    }
}

/// A URL that answers with a set. It holds no password, so it may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwksUrl(Url);

impl FromStr for JwksUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let url: Url = text.parse().map_err(|_| "is not a URL")?;
        match url.scheme() {
            "https" | "http" if !url.username().is_empty() || url.password().is_some() => Err("holds a password"),
            "https" | "http" => Ok(Self(url)),
            _ => Err("must begin with https://"),
        }
    }
}

impl fmt::Display for JwksUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl JwksUrl {
    /// Whether the server must prove its name.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Whether keys may be asked for there: without TLS only on this machine, or where nothing is at stake.
    pub(crate) fn is_safe(&self, mode: Mode) -> bool {
        self.is_tls() || self.is_loopback() || mode == Mode::Development
    }

    /// Whether it names this machine.
    fn is_loopback(&self) -> bool {
        match self.0.host() {
            Some(url::Host::Domain(name)) => name == "localhost",
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        }
    }
}

/// Where keys come from.
#[derive(Debug, Clone)]
pub enum Jwks {
    /// Looked at every second.
    File(JwksFile),
    /// Asked now and then.
    Url {
        /// Where.
        url: JwksUrl,
        /// CA bundle that verifies the issuer's server, in place of the system's CAs.
        ca: Option<CaFile>,
        /// How long an answer is good for; less when it says so itself.
        refresh: Duration,
    },
}

/// Why a set could not be read.
#[derive(Debug, thiserror::Error)]
pub enum JwksError {
    /// No such file, or not ours to read.
    #[error("cannot be read: {0}")]
    File(io::Error),
    /// The server did not answer in time.
    #[error("cannot be read: {}", chain(.0))]
    Http(reqwest::Error),
    /// An answer of another status than 200.
    #[error("answers with status {0}")]
    Status(u16),
    /// More than a set can be.
    #[error("is larger than 256 KiB")]
    TooLarge,
    /// It is no set, or has no key.
    #[error(transparent)]
    Set(#[from] KeySetError),
    /// There is no CA that could verify the server.
    #[error(transparent)]
    Authority(#[from] CaError),
}

impl From<reqwest::Error> for JwksError {
    fn from(error: reqwest::Error) -> Self {
        Self::Http(error.without_url())
    }
}

/// All that an error says: its own text is often that something went wrong.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// A set, and how long it is good for according to who gave it.
pub(crate) struct JwksDocument {
    pub(crate) text: Vec<u8>,
    pub(crate) max_age: Option<Duration>,
}

/// Reads sets.
pub(crate) enum JwksFetcher {
    File(PathBuf),
    Url(Client, Url),
}

impl JwksFetcher {
    pub(crate) fn new(jwks: &Jwks) -> Result<Self, JwksError> {
        Ok(match jwks {
            Jwks::File(JwksFile(path)) => Self::File(path.clone()),
            Jwks::Url { url, ca, .. } => {
                let mut client = Client::builder()
                    .redirect(Policy::none())
                    .connect_timeout(CONNECT_TIMEOUT)
                    .timeout(TIMEOUT)
                    .tls_backend_preconfigured(tls::client_config(ca.as_ref())?);
                // A proxy could read and change what is not encrypted, and would look for "this machine" on its own.
                if !url.is_tls() || url.is_loopback() {
                    client = client.no_proxy();
                }
                Self::Url(client.build()?, url.0.clone())
            }
        })
    }

    pub(crate) async fn fetch(&self) -> Result<JwksDocument, JwksError> {
        match self {
            Self::File(path) => {
                let text = tokio::fs::read(path).await.map_err(JwksError::File)?;
                Ok(JwksDocument { text, max_age: None })
            }
            Self::Url(client, url) => fetch(client, url.clone()).await,
        }
    }
}

async fn fetch(client: &Client, url: Url) -> Result<JwksDocument, JwksError> {
    let mut answer = client.get(url).header(ACCEPT, "application/jwk-set+json, application/json").send().await?;
    if answer.status().as_u16() != 200 {
        return Err(JwksError::Status(answer.status().as_u16()));
    }
    let max_age = answer.headers().get(CACHE_CONTROL).and_then(|value| max_age(value.to_str().ok()?));
    let mut text = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        text.extend_from_slice(&chunk);
        if text.len() > MAX_BYTES {
            return Err(JwksError::TooLarge);
        }
    }
    Ok(JwksDocument { text, max_age })
}

/// What `Cache-Control` says (RFC 9111, section 5.2.2.1).
fn max_age(value: &str) -> Option<Duration> {
    let seconds = value.split(',').find_map(|directive| directive.trim().strip_prefix("max-age="));
    seconds?.trim_matches('"').parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jwks_url_needs_tls_or_loopback() {
        let is_safe = |text: &str, mode| text.parse::<JwksUrl>().unwrap().is_safe(mode);
        for url in ["https://ehr.example/jwks", "http://localhost:1/jwks", "http://127.0.0.1/", "http://[::1]:8/"] {
            assert!(is_safe(url, Mode::Production), "{url}");
        }
        for url in
            ["http://ehr.example/jwks", "http://10.0.0.1/", "http://localhost.evil.example/", "http://127.1.evil/"]
        {
            assert!(!is_safe(url, Mode::Production), "{url}");
            assert!(is_safe(url, Mode::Development), "{url}");
        }
        for url in ["", "ehr.example", "file:///etc/passwd", "https://user:pass@ehr.example/", "https://user@ehr/"] {
            assert!(url.parse::<JwksUrl>().is_err(), "{url}");
        }
    }

    #[test]
    fn max_age_is_read_from_cache_control() {
        assert_eq!(max_age("public, max-age=600, must-revalidate"), Some(Duration::from_secs(600)));
        for value in ["", "no-store", "max-age", "max-age=soon", "s-maxage=5"] {
            assert_eq!(max_age(value), None, "{value}");
        }
    }
}
