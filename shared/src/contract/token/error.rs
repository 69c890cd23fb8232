//! Why a token is refused: what is wrong with it, never what the key is.

use jsonwebtoken::errors::ErrorKind;

/// Why a token is refused. The text is for its bearer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// None came.
    #[error("no token: send `Authorization: Bearer <JWT>`")]
    Missing,
    /// Not `header.payload.signature` with a readable header and payload.
    #[error("token is not a well-formed JWT, or names an unknown algorithm")]
    Malformed,
    /// `alg` is not among the configured ones, or not that of the key it names.
    #[error("algorithm is not accepted")]
    Algorithm,
    /// `crit` names an extension that this service does not implement (RFC 7515, section 4.1.11).
    #[error("header `crit` is not supported")]
    UnsupportedCrit,
    /// `kid` names a key that is not, or no longer, the issuer's.
    #[error("token names a key (`kid`) that is not known")]
    UnknownKey,
    /// There is no `kid`, and more than one key of this algorithm.
    #[error("header `kid` is missing, and there are several keys")]
    KeyNotNamed,
    /// The signature was made with another key, or over something else.
    #[error("signature does not match")]
    Signature,
    /// `exp` has passed.
    #[error("token has expired")]
    Expired,
    /// An administrator took it back.
    #[error("token has been revoked")]
    Revoked,
    /// `nbf` or `iat` lies ahead.
    #[error("token is not valid yet (claim `{0}`)")]
    NotYetValid(&'static str),
    /// A required claim is not there.
    #[error("claim `{0}` is missing")]
    MissingClaim(String),
    /// A claim is there and means nothing.
    #[error("claim `{0}` {1}")]
    InvalidClaim(&'static str, &'static str),
}

impl TokenError {
    /// The value of `WWW-Authenticate` (RFC 6750, section 3): a request without a token gets no error code.
    #[must_use]
    pub fn challenge(&self) -> String {
        match self {
            Self::Missing => "Bearer realm=\"ehr-chat\"".to_owned(),
            // A quoted string. Texts of this type hold no backslash, but a claim's name may come from the library.
            refused => format!(
                "Bearer realm=\"ehr-chat\", error=\"invalid_token\", error_description=\"{}\"",
                refused.to_string().replace(['"', '\\'], "'")
            ),
        }
    }
}

impl From<ErrorKind> for TokenError {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::ExpiredSignature => Self::Expired,
            ErrorKind::InvalidSignature => Self::Signature,
            ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => Self::Algorithm,
            ErrorKind::InvalidIssuer => Self::InvalidClaim("iss", "is not the expected issuer"),
            ErrorKind::InvalidAudience => Self::InvalidClaim("aud", "does not name this service"),
            ErrorKind::MissingRequiredClaim(claim) => Self::MissingClaim(claim),
            ErrorKind::InvalidClaimFormat(claim) if claim == "exp" => Self::InvalidClaim("exp", "is not a time"),
            _ => Self::Malformed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenge_names_the_error_unless_token_is_missing() {
        assert_eq!(TokenError::Missing.challenge(), "Bearer realm=\"ehr-chat\"");
        assert_eq!(
            TokenError::Expired.challenge(),
            "Bearer realm=\"ehr-chat\", error=\"invalid_token\", error_description=\"token has expired\""
        );
    }
}
