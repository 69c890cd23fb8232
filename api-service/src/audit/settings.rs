//! Settings of the audit key, for `serve` and for the commands that read or extend the trail.

use shared::contract::token::settings::{self, JWT_SECRET};
use shared::kit::env::mode::{MODE, Mode};
use shared::kit::env::{Env, Secret, Setting};

pub(crate) use crate::audit::key::AuditKey;

pub(crate) const AUDIT_KEY: Setting = Setting {
    name: "AUDIT_KEY",
    default: Some(""),
    help: "key of the audit trail's hashes, 32 bytes or more, known only to the API services; required, but in development, \
           where one is made of JWT_SECRET",
};
pub(crate) const AUDIT_PREVIOUS_KEYS: Setting = Setting {
    name: "AUDIT_PREVIOUS_KEYS",
    default: Some(""),
    help: "for `audit verify` and `audit export`: keys that were AUDIT_KEY earlier, separated by commas; derived:SECRET for \
           the key that was made of this JWT_SECRET while there was no AUDIT_KEY",
};
/// Prefix of an old key that was derived from this secret.
const DERIVED_PREFIX: &str = "derived:";

/// All keys of the trail; the current one first.
pub(crate) fn read_audit_keys(env: &mut Env) -> Option<Vec<AuditKey>> {
    let key = read_own_audit_key(env);
    let old = env
        .read_checked(&AUDIT_PREVIOUS_KEYS, |keys: &Secret| old_keys(keys).try_for_each(|(key, _)| check_length(&key)));
    let (key, old) = key.zip(old)?;
    let old = old_keys(&old).filter_map(|(key, is_derived)| match is_derived {
        true => AuditKey::derived(&key).ok(),
        false => Some(AuditKey::new(&key)),
    });
    Some([key].into_iter().chain(old).collect())
}

/// Each old key, and whether it must be derived.
fn old_keys(keys: &Secret) -> impl Iterator<Item = (Secret, bool)> {
    let keys = keys.expose().split(',').map(str::trim).filter(|key| !key.is_empty());
    keys.filter_map(|key| {
        let secret = key.strip_prefix(DERIVED_PREFIX);
        Some((secret.unwrap_or(key).parse().ok()?, secret.is_some()))
    })
}

/// For commands that need only the current key.
pub(crate) fn read_own_audit_key(env: &mut Env) -> Option<AuditKey> {
    let mode = env.read(&MODE)?;
    let jwt_secret = match env.read_optional::<Secret>(&AUDIT_KEY)? {
        None if mode == Mode::Development => Some(env.read_checked(&JWT_SECRET, check_length)?),
        _ => None,
    };
    read_audit_key(env, mode, jwt_secret.as_ref())
}

/// `AUDIT_KEY`. In development it may be derived from the token secret. Gateways know that secret, so one that is taken over
/// could forge rows.
pub(crate) fn read_audit_key(env: &mut Env, mode: Mode, jwt_secret: Option<&Secret>) -> Option<AuditKey> {
    let own = env.read_optional::<Secret>(&AUDIT_KEY)?;
    match (own, mode, jwt_secret) {
        (Some(_), ..) => env.read_checked(&AUDIT_KEY, check_length).as_ref().map(AuditKey::new),
        (None, Mode::Development, Some(secret)) => AuditKey::derived(secret).ok(),
        (None, Mode::Development, None) => {
            env.add_error(&AUDIT_KEY, "is required without JWT_SECRET");
            None
        }
        (None, Mode::Production, _) => {
            env.add_error(
                &AUDIT_KEY,
                "is required: 32 bytes or more that only the API services know (`openssl rand -hex 32`)",
            );
            None
        }
    }
}

/// Rejects a key that gateways know, that is published, or that can be guessed. Development is exempt.
pub(crate) fn check_audit_key(env: &mut Env, mode: Mode, jwt_secret: Option<&Secret>) {
    if !matches!(env.read_optional::<Secret>(&AUDIT_KEY), Some(Some(_))) {
        return;
    }
    let _checked: Option<Secret> = env.read_checked(&AUDIT_KEY, |key: &Secret| match mode {
        Mode::Production if Some(key) == jwt_secret => {
            Err("must not be JWT_SECRET, which gateways know, and MODE is production".to_owned())
        }
        // A short key was reported already.
        _ if check_length(key).is_err() => Ok(()),
        mode => mode.check_secret(key),
    });
}

fn check_length(key: &Secret) -> Result<(), String> {
    match key.expose().len() >= settings::MIN_SECRET_BYTES {
        true => Ok(()),
        false => Err(format!("must have {} bytes or more", settings::MIN_SECRET_BYTES)),
    }
}
