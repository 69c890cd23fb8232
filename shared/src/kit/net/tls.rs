//! TLS to Redis and PostgreSQL: whose word counts that a server is the one it says it is. Nothing here skips the
//! question: a server that cannot prove its name is not spoken to.

use std::error::Error;
use std::io;
use std::str::FromStr;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// Certificates of authorities, from a PEM file whose path is parsed: read once, so that a bad file is a bad setting.
#[derive(Debug, Clone)]
pub struct CaFile(Arc<RootCertStore>);

/// Why no CA can be used.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// What it holds is something else.
    #[error("holds no certificate in PEM form")]
    Empty,
    /// This machine has no list of authorities, as in a bare container.
    #[error("this system trusts no certificate authority: install ca-certificates, or name a file of your own")]
    NoSystemCas,
}

impl FromStr for CaFile {
    type Err = CaError;

    fn from_str(path: &str) -> Result<Self, CaError> {
        let text = std::fs::read(path).map_err(CaError::Unreadable)?;
        let certificates = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
        Ok(Self(Arc::new(root_store(certificates.map_err(|_| CaError::Empty)?).ok_or(CaError::Empty)?)))
    }
}

/// `None` when none of them is usable.
fn root_store(certificates: Vec<CertificateDer<'static>>) -> Option<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(certificates);
    (usable > 0).then_some(roots)
}

/// Client configuration: TLS 1.2 or newer, to servers that `ca` verifies, or the system's CAs without it.
///
/// # Errors
/// [`CaError::NoSystemCas`]
pub fn client_config(ca: Option<&CaFile>) -> Result<ClientConfig, CaError> {
    let roots = match ca {
        Some(CaFile(roots)) => roots.clone(),
        // One that cannot be read is no reason to refuse the others.
        None => Arc::new(root_store(rustls_native_certs::load_native_certs().certs).ok_or(CaError::NoSystemCas)?),
    };
    // Named here: the library would look for a default of the process, and panic without one.
    let versions =
        ClientConfig::builder_with_provider(Arc::new(default_provider())).with_safe_default_protocol_versions();
    // The provider that is compiled in knows both versions.
    let builder = versions.map_err(|_| CaError::NoSystemCas)?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Whether an error means that TLS itself failed, a certificate that does not prove the name above all.
#[must_use]
pub fn is_tls_error(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        // An I/O error is not the source of itself: what it wraps must be asked for.
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if error.is::<rustls::Error>() || wrapped.is_some_and(|inner| inner.is::<rustls::Error>()) {
            return true;
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, text: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("shared-tls-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn pem_file_is_read_with_the_setting() {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["ca".to_owned()]).unwrap().self_signed(&key).unwrap();
        let path = file("good.pem", &certificate.pem());
        let ca: CaFile = path.to_str().unwrap().parse().unwrap();
        assert_eq!(ca.0.len(), 1);
        assert!(client_config(Some(&ca)).is_ok());
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn file_without_certificate_is_rejected() {
        assert!(matches!("/nonexistent.pem".parse::<CaFile>(), Err(CaError::Unreadable(_))));
        let path = file("empty.pem", "nothing of the kind");
        assert!(matches!(path.to_str().unwrap().parse::<CaFile>(), Err(CaError::Empty)));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn wrapped_tls_error_is_recognised() {
        let refused = io::Error::other(rustls::Error::General("no".to_owned()));
        assert!(is_tls_error(&refused));
        assert!(!is_tls_error(&io::Error::other("reset")));
    }
}
