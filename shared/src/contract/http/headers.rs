//! Requests whose headers contradict themselves: another server on the path could read them differently (RFC 9110, section 5.3;
//! RFC 9112, section 3.2). Both services reject them first.

use std::fmt;

use crate::contract::error_code::ProblemCode;
use crate::contract::http::problem::Problem;
use crate::contract::http::request::is_host;

/// Headers that one request has once at most, and whose second line would name another caller, target, or meaning.
const SINGLETON_HEADERS: [&str; 9] = [
    "access-control-request-method",
    "authorization",
    "content-length",
    "content-type",
    "host",
    "origin",
    "sec-websocket-key",
    "sec-websocket-version",
    "x-request-id",
];

/// What is wrong with a head, for its sender (400).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderError {
    /// A header that may be there once is there twice.
    Repeated(&'static str),
    /// HTTP/1.1 wants to know which host is asked.
    MissingHost,
    /// The text is no host.
    InvalidHost,
    /// The target names another host.
    HostMismatch,
}

impl HeaderError {
    /// Its code.
    #[must_use]
    pub fn code(self) -> ProblemCode {
        match self {
            Self::Repeated(_) => ProblemCode::RepeatedHeader,
            Self::MissingHost | Self::InvalidHost | Self::HostMismatch => ProblemCode::InvalidHost,
        }
    }
}

impl From<HeaderError> for Problem {
    fn from(error: HeaderError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repeated(name) => write!(f, "The header `{name}` is given more than once. Send it once."),
            Self::MissingHost => f.write_str("The header `host` is missing."),
            Self::InvalidHost => f.write_str("The header `host` is not a host."),
            Self::HostMismatch => f.write_str("The header `host` and the target name different hosts."),
        }
    }
}

impl std::error::Error for HeaderError {}

/// The first of the headers that may be there once and is not, if `count` counts the lines of a name.
pub fn check_not_repeated(count: impl Fn(&str) -> usize) -> Result<(), HeaderError> {
    SINGLETON_HEADERS.into_iter().find(|name| count(name) > 1).map_or(Ok(()), |name| Err(HeaderError::Repeated(name)))
}

/// Checks which host is asked: `host` is the header's bytes, `authority` what a target in absolute form names, and
/// `is_required` whether the version of HTTP asks for the header.
///
/// # Errors
/// [`HeaderError`]
pub fn check_host(host: Option<&[u8]>, authority: Option<&str>, is_required: bool) -> Result<(), HeaderError> {
    let Some(host) = host else {
        return if is_required { Err(HeaderError::MissingHost) } else { Ok(()) };
    };
    let host = std::str::from_utf8(host).ok().filter(|host| is_host(host)).ok_or(HeaderError::InvalidHost)?;
    match authority {
        Some(authority) if !authority.eq_ignore_ascii_case(host) => Err(HeaderError::HostMismatch),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_singleton_header_is_rejected() {
        for name in SINGLETON_HEADERS {
            let refused = check_not_repeated(|asked| if asked == name { 2 } else { 1 });
            assert_eq!(refused, Err(HeaderError::Repeated(name)));
        }
        assert_eq!(check_not_repeated(|_| 1), Ok(()));
    }

    #[test]
    fn missing_or_invalid_host_is_rejected() {
        assert_eq!(check_host(None, None, true), Err(HeaderError::MissingHost));
        assert_eq!(check_host(None, None, false), Ok(()));
        for good in ["localhost:8080", "[::1]:8080", "Chat.Example", "10.0.0.1"] {
            assert_eq!(check_host(Some(good.as_bytes()), None, true), Ok(()), "{good}");
        }
        for bad in [&b""[..], b"a b", b"a/b", b"user@a", b"a,b", b"\xff", b"a?b"] {
            assert_eq!(check_host(Some(bad), None, false), Err(HeaderError::InvalidHost), "{bad:?}");
        }
    }

    #[test]
    fn target_with_another_host_is_rejected() {
        assert_eq!(check_host(Some(b"a.example"), Some("A.example"), true), Ok(()));
        assert_eq!(check_host(Some(b"a.example"), Some("b.example"), true), Err(HeaderError::HostMismatch));
    }
}
