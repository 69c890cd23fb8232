//! Lists of keys, as settings have them: `ID:BASE64,ID:BASE64 …`. The first seals, all of them open, so that one key can take
//! over from another while both are in use.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::kit::crypto::seal::KEY_BYTES;
use crate::kit::env::mode::{Mode, has_few_distinct_bytes};
use crate::kit::env::{Env, Setting};

/// Longest name of a key.
pub const MAX_KEY_ID_LENGTH: usize = 32;

/// In place of a first key: nothing is to be sealed.
const NO_SEALING_KEY: &str = "-";

/// The setting that both services have.
pub const RELAY_KEYS: Setting = Setting {
    name: "RELAY_KEYS",
    default: Some(""),
    help: "keys under which messages pass through Redis, the same for both services: id:base64 of 32 bytes, separated by \
           commas; the API service seals with the first, gateways open with any",
};
/// The same, elsewhere.
pub const RELAY_KEYS_FILE: Setting =
    Setting { name: "RELAY_KEYS_FILE", default: Some(""), help: "a file that holds what RELAY_KEYS would" };

/// The name of a key. It is no secret.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(Arc<str>);

/// The key itself; overwritten when it is dropped.
pub type KeyBytes = Zeroizing<[u8; KEY_BYTES]>;

/// Text that names no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no name of a key")]
pub struct InvalidKeyId;

/// What is wrong with a list of keys. Never says what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKeys {
    /// There is none.
    #[error("holds no key")]
    Empty,
    /// The nth entry is not of the form.
    #[error(
        "entry {0} is not id:base64, with an id of 1 to 32 characters from A-Z a-z 0-9 . _ - and 32 bytes behind it"
    )]
    Malformed(usize),
    /// The nth entry repeats another one's id or key.
    #[error("entry {0} has the id or the key of an earlier one")]
    Duplicate(usize),
    /// A file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(std::io::ErrorKind),
}

impl KeyId {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyId {
    type Err = InvalidKeyId;

    fn from_str(text: &str) -> Result<Self, InvalidKeyId> {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let good = (1..=MAX_KEY_ID_LENGTH).contains(&text.len()) && text != NO_SEALING_KEY && text.bytes().all(is_name);
        if good { Ok(Self(text.into())) } else { Err(InvalidKeyId) }
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Keys with their names, at least one.
#[derive(Clone)]
pub struct KeyRing {
    keys: Vec<(KeyId, KeyBytes)>,
    seals: bool,
}

impl KeyRing {
    /// The key that seals; none when the list begins with `-`.
    #[must_use]
    pub fn current(&self) -> Option<&KeyId> {
        self.keys.first().filter(|_| self.seals).map(|(id, _)| id)
    }

    /// All keys, the one that seals first.
    pub fn iter(&self) -> impl Iterator<Item = (&KeyId, &[u8; KEY_BYTES])> {
        self.keys.iter().map(|(id, key)| (id, &**key))
    }

    /// Whether some key is as good as guessed: all zeros, say.
    #[must_use]
    pub fn has_weak_key(&self) -> bool {
        self.iter().any(|(_, key)| has_few_distinct_bytes(key))
    }

    /// Whether some key is in both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.iter().any(|(_, key)| other.iter().any(|(_, other)| key == other))
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.keys.iter().map(|(id, _)| id.as_str())).finish()
    }
}

impl FromStr for KeyRing {
    type Err = InvalidKeys;

    fn from_str(text: &str) -> Result<Self, InvalidKeys> {
        let mut entries = text.split([',', ' ', '\t', '\r', '\n']).filter(|entry| !entry.is_empty()).peekable();
        let seals = entries.next_if_eq(&NO_SEALING_KEY).is_none();
        let keys = entries.zip(1..).map(|(entry, n)| parse_entry(entry).ok_or(InvalidKeys::Malformed(n)));
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        let (mut ids, mut known) = (HashSet::new(), HashSet::new());
        if let Some(twice) = keys.iter().position(|(id, key)| !(ids.insert(id) && known.insert(&**key))) {
            return Err(InvalidKeys::Duplicate(twice + 1));
        }
        if keys.is_empty() { Err(InvalidKeys::Empty) } else { Ok(Self { keys, seals }) }
    }
}

fn parse_entry(entry: &str) -> Option<(KeyId, KeyBytes)> {
    let (id, encoded) = entry.split_once(':')?;
    let decoded = Zeroizing::new(STANDARD.decode(encoded).ok()?);
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    if decoded.len() != KEY_BYTES {
        return None;
    }
    bytes.copy_from_slice(&decoded);
    Some((id.parse().ok()?, bytes))
}

/// The same list from a file that a setting names.
#[derive(Debug, Clone)]
pub struct KeyFile(pub KeyRing);

impl FromStr for KeyFile {
    type Err = InvalidKeys;

    fn from_str(path: &str) -> Result<Self, InvalidKeys> {
        let text = std::fs::read_to_string(path).map_err(|error| InvalidKeys::Unreadable(error.kind()))?;
        Zeroizing::new(text).parse().map(Self)
    }
}

/// Reads [`RELAY_KEYS`] or [`RELAY_KEYS_FILE`]. `None` when that is a mistake.
pub fn read_relay_keys(env: &mut Env) -> Option<Option<KeyRing>> {
    let listed = env.read_optional::<KeyRing>(&RELAY_KEYS);
    let filed = env.read_optional::<KeyFile>(&RELAY_KEYS_FILE);
    match (listed?, filed?) {
        (Some(_), Some(_)) => {
            env.add_error(&RELAY_KEYS_FILE, "cannot be set together with RELAY_KEYS");
            None
        }
        (listed, filed) => Some(listed.or(filed.map(|KeyFile(keys)| keys))),
    }
}

/// Notes a key that is as good as guessed, where real people's data are at stake.
pub fn reject_weak_keys(env: &mut Env, setting: &Setting, keys: Option<&KeyRing>, mode: Mode) {
    if mode == Mode::Production && keys.is_some_and(KeyRing::has_weak_key) {
        env.add_error(
            setting,
            "holds a key of few different bytes, and MODE is production: make it with `openssl rand`",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(id: &str, byte: u8) -> String {
        format!("{id}:{}", STANDARD.encode([byte; KEY_BYTES]))
    }

    #[test]
    fn first_key_seals_unless_dash() {
        for separator in [",", "\n", " , "] {
            let ring: KeyRing = [entry("new", 1), entry("old", 2)].join(separator).parse().unwrap();
            assert_eq!(ring.current().map(KeyId::as_str), Some("new"));
            let all: Vec<_> = ring.iter().map(|(id, key)| (id.as_str(), key[0])).collect();
            assert_eq!(all, [("new", 1), ("old", 2)]);
        }
        let ring: KeyRing = format!("-,{}\n", entry("old", 2)).parse().unwrap();
        assert_eq!((ring.current(), ring.iter().count()), (None, 1));
    }

    #[test]
    fn key_errors_name_the_position_only() {
        let twice_the_key = [entry("a", 1), entry("b", 1)].join(",");
        let twice_the_id = [entry("a", 1), entry("a", 2)].join(",");
        let short = format!("a:{}", STANDARD.encode([1; 31]));
        for (text, why) in [
            (String::new(), InvalidKeys::Empty),
            ("-".to_owned(), InvalidKeys::Empty),
            (twice_the_key, InvalidKeys::Duplicate(2)),
            (twice_the_id, InvalidKeys::Duplicate(2)),
            (short, InvalidKeys::Malformed(1)),
            (format!("{},hunter2", entry("a", 1)), InvalidKeys::Malformed(2)),
            (format!("{},-", entry("a", 1)), InvalidKeys::Malformed(2)),
            (entry("a b", 1), InvalidKeys::Malformed(1)),
            (entry(&"a".repeat(33), 1), InvalidKeys::Malformed(1)),
            (entry("", 1), InvalidKeys::Malformed(1)),
        ] {
            let refused = text.parse::<KeyRing>().unwrap_err();
            assert_eq!(refused, why, "{text}");
            assert!(!refused.to_string().contains("hunter2"));
        }
    }

    #[test]
    fn debug_output_shows_key_names_only() {
        let ring: KeyRing = entry("k1", 255).parse().unwrap();
        assert_eq!(format!("{ring:?}"), r#"{"k1"}"#);
    }

    #[test]
    fn shared_keys_are_detected() {
        let ring = |text: &str| text.parse::<KeyRing>().unwrap();
        assert!(ring(&entry("a", 1)).overlaps(&ring(&[entry("x", 2), entry("y", 1)].join(","))));
        assert!(!ring(&entry("a", 1)).overlaps(&ring(&entry("a", 2))));
    }

    #[test]
    fn keys_come_from_variable_or_file() {
        let path = std::env::temp_dir().join(format!("shared-keys-{}", std::process::id()));
        std::fs::write(&path, format!("{}\n", entry("filed", 1))).unwrap();
        let read = |listed: bool, filed: bool| {
            let path = path.to_str().unwrap().to_owned();
            let mut env = Env::from_fn(move |name| match name {
                "RELAY_KEYS" if listed => Some(entry("listed", 2)),
                "RELAY_KEYS_FILE" if filed => Some(path.clone()),
                _ => None,
            });
            let ring = read_relay_keys(&mut env);
            (ring.map(|ring| ring.map(|ring| ring.keys[0].0.to_string())), env.into_error().0.len())
        };
        assert_eq!(read(false, false), (Some(None), 0));
        assert_eq!(read(true, false), (Some(Some("listed".to_owned())), 0));
        assert_eq!(read(false, true), (Some(Some("filed".to_owned())), 0));
        assert_eq!(read(true, true), (None, 1));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(read(false, true), (None, 1));
    }

    proptest! {
        #[test]
        fn key_ring_parser_never_panics(text in "[-a-zA-Z0-9+/=:, \n]{0,120}") {
            let _ = text.parse::<KeyRing>();
        }
    }

    #[test]
    fn weak_keys_are_rejected_in_production() {
        let random: Vec<u8> = (0..32).map(|n: u8| n.wrapping_mul(151)).collect();
        let strong: KeyRing = format!("a:{}", STANDARD.encode(random)).parse().unwrap();
        let weak: KeyRing = entry("zero", 0).parse().unwrap();
        for (keys, mode, mistakes) in
            [(&weak, Mode::Production, 1), (&weak, Mode::Development, 0), (&strong, Mode::Production, 0)]
        {
            let mut env = Env::from_fn(|_| None);
            reject_weak_keys(&mut env, &RELAY_KEYS, Some(keys), mode);
            assert_eq!(env.into_error().0.len(), mistakes, "{keys:?} {mode}");
        }
    }
}
