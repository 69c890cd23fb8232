//! An authority of this test's own, and what it signs.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// PEM files in a folder that goes with the value.
pub(crate) struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    /// A certificate for `localhost` and nothing else, its key, the authority that signed it, and one that did not.
    pub(crate) fn make() -> Self {
        let folder = std::env::temp_dir().join(format!("e2e-tls-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let made = Self { folder };
        let (authority, pem) = authority("An authority for tests");
        fs::write(made.authority(), pem).unwrap();
        fs::write(made.stranger(), self::authority("Another authority for tests").1).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        fs::write(made.certificate(), params.signed_by(&key, &authority).unwrap().pem()).unwrap();
        fs::write(made.key(), key.serialize_pem()).unwrap();
        let mut past = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        (past.not_before, past.not_after) = (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2021, 1, 1));
        fs::write(made.expired(), past.signed_by(&key, &authority).unwrap().pem()).unwrap();
        made
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn certificate(&self) -> String {
        self.file("server.pem")
    }

    pub(crate) fn key(&self) -> String {
        self.file("server.key")
    }

    pub(crate) fn authority(&self) -> String {
        self.file("authority.pem")
    }

    /// The certificate of a past year, for the same name and key.
    pub(crate) fn expired(&self) -> String {
        self.file("expired.pem")
    }

    /// An authority that has signed nothing.
    pub(crate) fn stranger(&self) -> String {
        self.file("stranger.pem")
    }

    fn file(&self, name: &str) -> String {
        self.folder.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.folder);
    }
}

fn authority(name: &str) -> (Issuer<'static, KeyPair>, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![]).unwrap();
    // Not the name of what it signs: OpenSSL would take that for a certificate that has signed itself.
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = params.self_signed(&key).unwrap().pem();
    (Issuer::new(params, key), pem)
}
