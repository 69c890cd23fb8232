//! Keys of a test: made from their names, so that a list of names is a list of keys.

use std::path::{Path, PathBuf};

/// Files in which a system finds its keys, for tests that change them while it runs.
pub(crate) struct KeyFiles {
    folder: PathBuf,
}

/// Names of keys, the first one first.
pub(crate) struct Keys(String);

impl Keys {
    /// `NAME,NAME …`, or with a dash in front.
    pub(crate) fn new(names: &str) -> Self {
        let entry = |name: &str| if name == "-" { name.to_owned() } else { format!("{name}:{}", base64_of_key(name)) };
        Self(names.split(',').map(entry).collect::<Vec<_>>().join(","))
    }

    /// As a setting has them.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    /// The environment of a system with these master keys and a relay key of this name.
    pub(crate) fn env(&self, relay: &str) -> Vec<(String, String)> {
        vec![("CONTENT_KEYS".to_owned(), self.0.clone()), ("RELAY_KEYS".to_owned(), Self::new(relay).0)]
    }
}

/// 32 bytes in Base64, of a name of at most 3 characters.
fn base64_of_key(name: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |byte: u8| char::from(DIGITS[usize::from(byte) % 64]);
    // 42 digits of any value; the last one must end in two zero bits.
    let digits: String = name.bytes().cycle().take(42).map(digit).collect();
    format!("{digits}A=")
}

impl KeyFiles {
    pub(crate) fn new(content: &str, relay: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("e2e-keys-{}", uuid::Uuid::now_v7().simple()));
        std::fs::create_dir(&folder).unwrap();
        let files = Self { folder };
        files.write(content, relay);
        files
    }

    /// What services will find that start from now on.
    pub(crate) fn write(&self, content: &str, relay: &str) {
        std::fs::write(self.content(), Keys::new(content).text()).unwrap();
        std::fs::write(self.relay(), Keys::new(relay).text()).unwrap();
    }

    pub(crate) fn content(&self) -> PathBuf {
        self.folder.join("content")
    }

    fn relay(&self) -> PathBuf {
        self.folder.join("relay")
    }

    /// Services that are replaced while requests come must drain.
    pub(crate) fn env(&self) -> Vec<(String, String)> {
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        vec![
            ("CONTENT_KEYS_FILE".to_owned(), path(&self.content())),
            ("RELAY_KEYS_FILE".to_owned(), path(&self.relay())),
            ("DRAIN_SECONDS".to_owned(), "2".to_owned()),
        ]
    }
}

impl Drop for KeyFiles {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.folder);
    }
}
