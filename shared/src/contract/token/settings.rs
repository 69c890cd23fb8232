//! The settings of tokens, which both services have, and what must hold between them.

use super::TokenConfig;
use super::jwks_fetcher::{Jwks, JwksFile, JwksUrl};
use crate::kit::env::mode::Mode;
use crate::kit::env::{Env, Secret, Setting};
use crate::kit::net::tls::CaFile;

/// Shortest HS256 secret, in bytes: as long as the hash (RFC 7518, section 3.2).
pub const MIN_SECRET_BYTES: usize = 32;

/// Key of HS256.
pub const JWT_SECRET: Setting = Setting {
    name: "JWT_SECRET",
    default: Some(""),
    help: "key of HS256 tokens, 32 bytes or more; required without JWKS_FILE and JWKS_URL",
};
/// Keys of an issuer, in a file.
pub const JWKS_FILE: Setting = Setting {
    name: "JWKS_FILE",
    default: Some(""),
    help: "JSON Web Key Set with the public keys of RS256, ES256 or EdDSA tokens; read again when it changes",
};
/// Keys of an issuer, at a URL.
pub const JWKS_URL: Setting =
    Setting { name: "JWKS_URL", default: Some(""), help: "the same from an issuer: https, or http on this machine" };
/// CA bundle that verifies the issuer's server.
pub const JWKS_CA_FILE: Setting = Setting {
    name: "JWKS_CA_FILE",
    default: Some(""),
    help: "CA bundle (PEM) that verifies JWKS_URL, instead of the system's",
};
/// How often the issuer is asked.
pub const JWKS_REFRESH_SECONDS: Setting = Setting {
    name: "JWKS_REFRESH_SECONDS",
    default: Some("300"),
    help: "5 to 86400: how often JWKS_URL is asked for new keys, at least",
};
/// Who must have issued a token.
pub const JWT_ISSUER: Setting =
    Setting { name: "JWT_ISSUER", default: Some(""), help: "the `iss` that tokens must have" };
/// For whom it must be.
pub const JWT_AUDIENCE: Setting =
    Setting { name: "JWT_AUDIENCE", default: Some(""), help: "the `aud` that tokens must name" };

/// How long a token may live.
pub const JWT_MAX_LIFETIME_SECONDS: Setting = Setting {
    name: "JWT_MAX_LIFETIME_SECONDS",
    default: Some("34560000"),
    help: "60 to 3153600000: a token ends this long after its `iat` at the latest, even if its `exp` is later. A revocation is \
           remembered for so long",
};

/// Reads how long a token may live.
pub fn read_max_lifetime(env: &mut Env) -> Option<i64> {
    env.read_number(&JWT_MAX_LIFETIME_SECONDS, 60..=3_153_600_000)
}

/// Reads all of them. `None` when something is wrong, which is noted.
pub fn read(env: &mut Env, mode: Mode) -> Option<TokenConfig> {
    let secret = read_secret(env, |secret| mode.check_secret(secret));
    let jwks = read_jwks(env, mode);
    let issuer = env.read_optional(&JWT_ISSUER);
    let audience = env.read_optional(&JWT_AUDIENCE);
    let max_lifetime = read_max_lifetime(env);
    if let (Some(None), Some(None)) = (&secret, &jwks) {
        env.add_error(&JWT_SECRET, "is required, or else JWKS_FILE or JWKS_URL");
        return None;
    }
    let (issuer, audience, max_lifetime) = (issuer?, audience?, max_lifetime?);
    Some(TokenConfig { secret: secret?, jwks: jwks?, issuer, audience, max_lifetime })
}

/// Reads the secret alone, if there is one: long enough, and `check` says what else must hold.
pub fn read_secret(env: &mut Env, check: impl Fn(&Secret) -> Result<(), String>) -> Option<Option<Secret>> {
    match env.read_optional::<Secret>(&JWT_SECRET)? {
        None => Some(None),
        Some(_) => {
            env.read_checked(&JWT_SECRET, |secret: &Secret| long_enough(secret).and_then(|()| check(secret))).map(Some)
        }
    }
}

fn long_enough(secret: &Secret) -> Result<(), String> {
    match secret.expose().len() >= MIN_SECRET_BYTES {
        true => Ok(()),
        false => Err(format!("must have {MIN_SECRET_BYTES} bytes or more")),
    }
}

fn read_jwks(env: &mut Env, mode: Mode) -> Option<Option<Jwks>> {
    let file = env.read_optional::<JwksFile>(&JWKS_FILE);
    let url = env.read_optional::<JwksUrl>(&JWKS_URL);
    let ca = env.read_optional::<CaFile>(&JWKS_CA_FILE);
    let refresh = env.read_seconds(&JWKS_REFRESH_SECONDS, 5..=86_400);
    let (file, url, ca, refresh) = (file?, url?, ca?, refresh?);
    let is_tls = url.as_ref().is_some_and(JwksUrl::is_tls);
    let (setting, why) = match &url {
        Some(_) if file.is_some() => (&JWKS_URL, "cannot be set together with JWKS_FILE"),
        Some(url) if !url.is_safe(mode) => (&JWKS_URL, "must begin with https://"),
        _ if ca.is_some() && !is_tls => (&JWKS_CA_FILE, "is of no use while JWKS_URL does not begin with https"),
        _ => return Some(url.map(|url| Jwks::Url { url, ca, refresh }).or(file.map(Jwks::File))),
    };
    env.add_error(setting, why);
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::token::testing::Issuer;
    use jsonwebtoken::Algorithm;

    const SECRET: &str = "5d1c9e0fb2a84c7790d36b1f8e2a4c09";

    fn read_tokens(variables: &[(&str, &str)], mode: Mode) -> Result<TokenConfig, String> {
        let variables: Vec<_> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut env = Env::from_fn(move |name| variables.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone()));
        let rules = read(&mut env, mode);
        let mistakes = env.into_error();
        assert_eq!(rules.is_none(), !mistakes.0.is_empty(), "{mistakes:?}");
        rules.ok_or_else(|| mistakes.to_string())
    }

    #[test]
    fn a_verification_key_is_required() {
        assert!(read_tokens(&[], Mode::Production).unwrap_err().contains("JWT_SECRET: is required"));
        assert!(read_tokens(&[("JWT_SECRET", SECRET)], Mode::Production).unwrap().secret.is_some());
        let by_url = read_tokens(&[("JWKS_URL", "https://ehr.example/jwks")], Mode::Production).unwrap();
        assert!(by_url.secret.is_none() && matches!(by_url.jwks, Some(Jwks::Url { .. })));
    }

    #[test]
    fn weak_secrets_are_rejected_without_their_value() {
        for (secret, mode) in
            [("short", Mode::Development), ("development-0123456789abcdef0123456789", Mode::Production)]
        {
            let why = read_tokens(&[("JWT_SECRET", secret)], mode).unwrap_err();
            assert!(why.contains("JWT_SECRET") && !why.contains(secret), "{why}");
        }
        assert!(read_tokens(&[("JWT_SECRET", "development-0123456789abcdef0123456789")], Mode::Development).is_ok());
    }

    #[test]
    fn invalid_jwks_file_is_rejected() {
        let path = std::env::temp_dir().join(format!("shared-jwks-{}", std::process::id()));
        let file = path.to_str().unwrap();
        assert!(
            read_tokens(&[("JWKS_FILE", "/nonexistent")], Mode::Production)
                .unwrap_err()
                .contains("JWKS_FILE: cannot be read")
        );
        for (text, why) in [("{}", "is not a JSON Web Key Set"), ("{\"keys\": []}", "holds no key")] {
            std::fs::write(&path, text).unwrap();
            assert!(
                read_tokens(&[("JWKS_FILE", file), ("JWT_SECRET", SECRET)], Mode::Production)
                    .unwrap_err()
                    .contains(why)
            );
        }
        std::fs::write(&path, Issuer::new(Algorithm::ES256, "k1").set()).unwrap();
        let rules = read_tokens(&[("JWKS_FILE", file)], Mode::Production).unwrap();
        assert!(matches!(rules.jwks, Some(Jwks::File(_))));
        let both =
            read_tokens(&[("JWKS_FILE", file), ("JWKS_URL", "https://ehr.example/")], Mode::Production).unwrap_err();
        assert!(both.contains("JWKS_URL: cannot be set together"), "{both}");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn max_token_lifetime_is_bounded() {
        let with =
            |seconds| read_tokens(&[("JWT_SECRET", SECRET), ("JWT_MAX_LIFETIME_SECONDS", seconds)], Mode::Production);
        assert_eq!(with("").unwrap().max_lifetime, crate::contract::token::DEFAULT_MAX_LIFETIME_SECONDS);
        assert_eq!(with("3600").unwrap().max_lifetime, 3600);
        for bad in ["59", "3153600001", "-1", "1h"] {
            assert!(with(bad).unwrap_err().contains("JWT_MAX_LIFETIME_SECONDS"), "{bad}");
        }
    }

    #[test]
    fn plain_http_jwks_url_is_for_development_only() {
        let url = [("JWKS_URL", "http://ehr.example/jwks")];
        assert!(read_tokens(&url, Mode::Production).unwrap_err().contains("JWKS_URL: must begin with https://"));
        assert!(read_tokens(&url, Mode::Development).is_ok());
        let ca = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        assert!(read_tokens(&[url[0], ("JWKS_CA_FILE", ca)], Mode::Development).unwrap_err().contains("JWKS_CA_FILE"));
        assert!(
            read_tokens(&[url[0], ("JWKS_REFRESH_SECONDS", "1")], Mode::Development).unwrap_err().contains("between 5")
        );
    }
}
