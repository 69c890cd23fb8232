//! Why a token is refused: what is wrong with it, never what the key is.

use jsonwebtoken::errors::ErrorKind;

use crate::contract::error_code::ProblemCode;
use crate::contract::http::problem::Problem;

/// Why a token is refused. The text is for its bearer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// None came.
    #[error("The request has no token. Send `Authorization: Bearer <JWT>`.")]
    Missing,
    /// Not `header.payload.signature` with a readable header and payload.
    #[error("The token is not a well-formed JWT, or names an unknown algorithm. Send it as it was issued.")]
    Malformed,
    /// `alg` is not among the configured ones, or not that of the key it names.
    #[error("The algorithm of the token is not accepted. Sign with one that this server accepts.")]
    Algorithm,
    /// `crit` names an extension that this service does not implement (RFC 7515, section 4.1.11).
    #[error("The header `crit` of the token is not supported. Sign without it.")]
    UnsupportedCrit,
    /// `kid` names a key that is not, or no longer, the issuer's.
    #[error("The token names a key (`kid`) that is not known. Get a new token.")]
    UnknownKey,
    /// There is no `kid`, and more than one key of this algorithm.
    #[error("The header `kid` of the token is missing, and there are several keys. Name the key.")]
    KeyNotNamed,
    /// The signature was made with another key, or over something else.
    #[error("The signature of the token does not match. Compare the keys of the issuer and this server.")]
    Signature,
    /// `exp` has passed.
    #[error("The token has expired. Get a new one.")]
    Expired,
    /// An administrator took it back.
    #[error("The token was revoked. Sign in again.")]
    Revoked,
    /// `nbf` or `iat` lies ahead.
    #[error("The token is not valid yet: its claim `{0}` lies in the future. Compare the clocks.")]
    NotYetValid(&'static str),
    /// A required claim is not there.
    #[error("The claim `{0}` of the token is missing.")]
    MissingClaim(String),
    /// A claim is there and means nothing.
    #[error("The claim `{0}` of the token {1}.")]
    InvalidClaim(&'static str, &'static str),
}

/// The value of `WWW-Authenticate` for a request without a token.
const CHALLENGE: &str = "Bearer realm=\"ehr-chat\"";

impl TokenError {
    /// Its code, in a problem and on a socket.
    #[must_use]
    pub fn code(&self) -> ProblemCode {
        match self {
            Self::Missing => ProblemCode::TokenMissing,
            Self::Malformed => ProblemCode::TokenMalformed,
            Self::Algorithm | Self::UnsupportedCrit => ProblemCode::TokenUnsupported,
            Self::UnknownKey | Self::KeyNotNamed => ProblemCode::TokenKeyUnknown,
            Self::Signature => ProblemCode::TokenSignatureInvalid,
            Self::Expired => ProblemCode::TokenExpired,
            Self::Revoked => ProblemCode::TokenRevoked,
            Self::NotYetValid(_) => ProblemCode::TokenNotYetValid,
            Self::MissingClaim(_) => ProblemCode::TokenClaimMissing,
            Self::InvalidClaim(..) => ProblemCode::TokenClaimInvalid,
        }
    }

    /// The value of `WWW-Authenticate` (RFC 6750, section 3): a request without a token gets no error code.
    #[must_use]
    pub fn challenge(&self) -> String {
        match self {
            Self::Missing => CHALLENGE.to_owned(),
            // A quoted string. Texts of this type hold no backslash, but a claim's name may come from the library.
            refused => format!(
                "{CHALLENGE}, error=\"invalid_token\", error_description=\"{}\"",
                refused.to_string().replace(['"', '\\'], "'")
            ),
        }
    }
}

impl From<&TokenError> for Problem {
    fn from(error: &TokenError) -> Self {
        Self::new(error.code(), error.to_string())
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
            "Bearer realm=\"ehr-chat\", error=\"invalid_token\", error_description=\"The token has expired. Get a new one.\""
        );
    }
}
