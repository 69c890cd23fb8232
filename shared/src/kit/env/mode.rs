//! What a service runs for, and which secrets are good enough for that.

use std::fmt;
use std::str::FromStr;

use crate::kit::env::{Secret, Setting};

/// The setting that both services have.
pub const MODE: Setting = Setting {
    name: "MODE",
    default: Some("production"),
    help: "production, or development, which takes secrets made for development or known from examples, http in JWKS_URL, \
           and * in ALLOWED_ORIGINS",
};

/// Prefix of every secret that is generated for development, so that production rejects it.
pub const DEVELOPMENT_PREFIX: &str = "development-";

/// Secrets from manuals, examples and tests, which are public.
const WELL_KNOWN_SECRETS: [&str; 8] = [
    "0123456789abcdef0123456789abcdef",
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "a-string-secret-at-least-256-bits-long",
    "a-valid-string-secret-that-is-at-least-512-bits-long-which-is-very-long",
    "your-256-bit-secret-your-256-bit-secret",
    "changemechangemechangemechangeme",
    "change-me-change-me-change-me-change-me",
    "supersecretsupersecretsupersecret",
];

/// What a service runs for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// With data of real patients.
    #[default]
    Production,
    /// Without data of real patients.
    Development,
}

/// Text that names no mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be production or development")]
pub struct InvalidMode;

impl FromStr for Mode {
    type Err = InvalidMode;

    fn from_str(text: &str) -> Result<Self, InvalidMode> {
        match text {
            "production" => Ok(Self::Production),
            "development" => Ok(Self::Development),
            _ => Err(InvalidMode),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Production => "production",
            Self::Development => "development",
        })
    }
}

impl Mode {
    /// Whether a secret may be used.
    ///
    /// # Errors
    /// What is wrong with it, without showing it.
    pub fn check_secret(self, secret: &Secret) -> Result<(), String> {
        let text = secret.expose().trim().to_ascii_lowercase();
        let why = match self {
            Self::Development => return Ok(()),
            Self::Production if text.starts_with(DEVELOPMENT_PREFIX) => "was made for development",
            Self::Production if WELL_KNOWN_SECRETS.contains(&text.as_str()) => "is known from examples",
            Self::Production if has_few_distinct_bytes(text.as_bytes()) => "has few different characters",
            Self::Production => return Ok(()),
        };
        Err(format!("{why}, and MODE is production"))
    }
}

/// 32 random bytes have about 30 distinct values, and 32 random hexadecimal digits 14. A secret with fewer than this was typed.
const MIN_DISTINCT_BYTES: usize = 8;

/// Whether a key or a secret is as good as guessed: all zeros, or a few characters again and again.
#[must_use]
pub fn has_few_distinct_bytes(key: &[u8]) -> bool {
    let mut seen = [false; 256];
    key.iter().for_each(|byte| seen[usize::from(*byte)] = true);
    seen.iter().filter(|seen| **seen).count() < MIN_DISTINCT_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(mode: Mode, secret: &str) -> Result<(), String> {
        mode.check_secret(&secret.parse().unwrap_or_else(|never| match never {}))
    }

    #[test]
    fn public_secrets_are_rejected_in_production() {
        let made = format!("{DEVELOPMENT_PREFIX}5d1c9e0fb2a84c7790d3");
        for secret in
            [made.as_str(), &made.to_uppercase(), &format!(" {made}"), WELL_KNOWN_SECRETS[0], WELL_KNOWN_SECRETS[2]]
        {
            let why = check(Mode::Production, secret).unwrap_err();
            assert!(why.contains("production") && !why.contains(secret.trim()), "{why}");
            assert_eq!(check(Mode::Development, secret), Ok(()));
        }
        assert_eq!(check(Mode::Production, "5d1c9e0fb2a84c7790d36b1f8e2a4c09"), Ok(()));
    }

    #[test]
    fn repetitive_secrets_are_rejected_in_production() {
        for secret in ["x".repeat(64), "abc".repeat(20), "0".repeat(32), "passwordpasswordpasswordpassword".to_owned()]
        {
            let why = check(Mode::Production, &secret).unwrap_err();
            assert!(why.contains("few different characters") && !why.contains(&secret), "{why}");
            assert_eq!(check(Mode::Development, &secret), Ok(()));
        }
        assert!(has_few_distinct_bytes(&[0; 32]) && !has_few_distinct_bytes(&[1, 2, 3, 4, 5, 6, 7, 8]));
    }

    #[test]
    fn only_two_modes_are_accepted() {
        for mode in [Mode::Production, Mode::Development] {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        for text in ["", "Production", "prod", "test"] {
            assert_eq!(text.parse::<Mode>(), Err(InvalidMode), "{text}");
        }
        assert_eq!(Mode::default(), Mode::Production);
    }
}
