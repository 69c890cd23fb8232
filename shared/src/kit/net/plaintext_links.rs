//! Links to PostgreSQL and Redis without TLS. Production refuses them, unless the operator declares that their network is private.
//!
//! A link within this machine crosses no network: a Unix socket, a loopback address, `localhost`.

use std::net::IpAddr;
use std::str::FromStr;

use crate::kit::env::mode::{MODE, Mode};
use crate::kit::env::{Env, Setting};

/// The setting of both services, and of every command that connects.
pub const PLAINTEXT_LINKS: Setting = Setting::new(
    "PLAINTEXT_LINKS",
    Some(""),
    "private-network: production may reach PostgreSQL and Redis without TLS, because only trusted machines share their network",
);

/// The only value of [`PLAINTEXT_LINKS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PrivateNetwork;

impl FromStr for PrivateNetwork {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "private-network" { Ok(Self) } else { Err("must be private-network, or not set") }
    }
}

/// Whether links to other machines may lack TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlaintextLinks {
    /// Development, whose data is of no real patient; or bad settings, which are errors of their own.
    Ignored,
    /// Production on a private network.
    Permitted,
    /// Production.
    Refused,
}

impl PlaintextLinks {
    /// Reads `MODE` and `PLAINTEXT_LINKS`.
    pub fn read(env: &mut Env) -> Self {
        let mode: Option<Mode> = env.read(&MODE);
        let network = env.read_optional::<PrivateNetwork>(&PLAINTEXT_LINKS);
        match (mode, network) {
            (Some(Mode::Production), Some(None)) => Self::Refused,
            (Some(Mode::Production), Some(Some(PrivateNetwork))) => Self::Permitted,
            _ => Self::Ignored,
        }
    }

    /// Call this for a link that leads to another machine without TLS. `remedy` says how it gets TLS.
    pub fn report(self, env: &mut Env, link: &Setting, remedy: &str) {
        match self {
            Self::Ignored => {}
            Self::Permitted => env.add_warning(format!(
                "{} leads to another machine without TLS, and PLAINTEXT_LINKS permits it: only trusted machines may share that network",
                link.name
            )),
            Self::Refused => env.add_error(
                link,
                &format!(
                    "leads to another machine without TLS, and MODE is production: {remedy}, or set \
                     PLAINTEXT_LINKS=private-network if only trusted machines share that network"
                ),
            ),
        }
    }
}

/// Whether a host is this machine: a loopback address, or the name that RFC 6761 reserves for it.
#[must_use]
pub fn is_this_machine(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match address.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: Setting = Setting::new("LINK_URL", None, "where it leads");

    fn reported(mode: &'static str, network: &'static str) -> (Vec<String>, Vec<String>) {
        let mut env = Env::from_fn(move |name| match name {
            "MODE" => Some(mode.to_owned()),
            "PLAINTEXT_LINKS" => Some(network.to_owned()),
            _ => None,
        });
        PlaintextLinks::read(&mut env).report(&mut env, &LINK, "use TLS");
        (env.warnings().to_vec(), env.into_error().0)
    }

    #[test]
    fn production_refuses_plaintext_and_names_the_remedy() {
        for mode in ["", "production"] {
            let (warnings, errors) = reported(mode, "");
            assert!(warnings.is_empty() && errors.len() == 1, "{errors:?}");
            for part in ["LINK_URL: ", "MODE is production", "use TLS", "PLAINTEXT_LINKS=private-network"] {
                assert!(errors[0].contains(part), "{part}: {errors:?}");
            }
        }
    }

    #[test]
    fn private_network_is_a_warning_and_development_is_silent() {
        let (warnings, errors) = reported("production", "private-network");
        assert!(errors.is_empty() && warnings.len() == 1 && warnings[0].starts_with("LINK_URL "), "{warnings:?}");
        for network in ["", "private-network"] {
            assert_eq!(reported("development", network), (vec![], vec![]));
        }
    }

    #[test]
    fn bad_values_are_reported_once() {
        let (_, errors) = reported("production", "yes");
        assert!(errors.len() == 1 && errors[0].starts_with("PLAINTEXT_LINKS: must be private-network"), "{errors:?}");
        let mut env = Env::from_fn(|name| (name == "MODE").then(|| "staging".to_owned()));
        PlaintextLinks::read(&mut env);
        PlaintextLinks::read(&mut env);
        assert_eq!(env.into_error().0.len(), 1);
    }

    #[test]
    fn only_loopback_is_this_machine() {
        for host in ["localhost", "LocalHost", "127.0.0.1", "127.9.8.7", "::1", "[::1]", "::ffff:127.0.0.1"] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in ["", "10.0.0.1", "0.0.0.0", "::", "::2", "localhost.evil.example", "127.0.0.1.nip.io", "redis"] {
            assert!(!is_this_machine(host), "{host}");
        }
    }
}
