//! The certificate of the API: one's own, or a self-signed one that is made once.
//!
//! A generated identity is one PEM file (key and certificate) in the state directory, mode 0600,
//! written whole or not at all. Clients pin the SHA-256 fingerprint of the certificate, which the
//! agent prints at its start; so the identity is kept for as long as the file is.

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};

use crate::config::{Config, TlsMode};

/// What the API proves itself with.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) config: Arc<ServerConfig>,
    /// SHA-256 of the server's own certificate in DER: 64 hexadecimal characters.
    pub(crate) fingerprint: String,
}

/// The API has no certificate to show.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("read {} as PEM", path.display())]
    Pem { path: PathBuf, source: rustls::pki_types::pem::Error },
    #[error("{} holds no certificate", path.display())]
    NoCertificate { path: PathBuf },
    #[error("generate a self-signed certificate")]
    Generate { source: rcgen::Error },
    #[error("keep the generated certificate in {}", path.display())]
    Keep { path: PathBuf, source: std::io::Error },
    #[error("use the certificate of {}", path.display())]
    Use { path: PathBuf, source: rustls::Error },
}

/// The identity that the configuration asks for; `None` with plain HTTP.
pub(crate) fn load(config: &Config) -> Result<Option<Identity>, TlsError> {
    match config.tls.mode {
        TlsMode::Off => Ok(None),
        TlsMode::Files => read(&config.tls.certificate, &config.tls.key).map(Some),
        TlsMode::Generate => {
            let path = config.state_dir.join("tls").join("identity.pem");
            if !path.exists() {
                generate(&path, names(config))?;
            }
            read(&path, &path).map(Some)
        }
    }
}

fn names(config: &Config) -> Vec<String> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    let listen: IpAddr = config.listen.ip();
    if !listen.is_unspecified() {
        names.push(listen.to_string());
    }
    names.push(crate::host::name());
    names.extend(config.tls.names.iter().cloned());
    names.extend(config.access.allowed_hosts.iter().cloned());
    names.sort_unstable();
    names.dedup();
    names
}

fn read(certificate: &Path, key: &Path) -> Result<Identity, TlsError> {
    let pem = |path: &Path, source| TlsError::Pem { path: path.to_owned(), source };
    let certificates = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|source| pem(certificate, source))?;
    let own = certificates.first().ok_or_else(|| TlsError::NoCertificate { path: certificate.to_owned() })?;
    let fingerprint = hex::encode(Sha256::digest(own));
    let key = PrivateKeyDer::from_pem_file(key).map_err(|source| pem(key, source))?;
    let refuse = |source| TlsError::Use { path: certificate.to_owned(), source };
    // The provider is named, not taken from the process: another crate may bring its own.
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(refuse)?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .map_err(refuse)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Identity { config: Arc::new(config), fingerprint })
}

fn generate(path: &Path, names: Vec<String>) -> Result<(), TlsError> {
    let failed = |source| TlsError::Generate { source };
    let key = KeyPair::generate().map_err(failed)?;
    let mut params = CertificateParams::new(names).map_err(failed)?;
    params.distinguished_name.push(DnType::CommonName, "wharfd");
    let certificate = params.self_signed(&key).map_err(failed)?;
    keep(path, &[key.serialize_pem(), certificate.pem()].concat())
        .map_err(|source| TlsError::Keep { path: path.to_owned(), source })
}

fn keep(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(dir) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    let new = path.with_extension("new");
    // A leftover of a crash in mid-write is not an identity yet.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::Tls;

    fn config(dir: &Path, mode: TlsMode) -> Config {
        Config { state_dir: dir.to_owned(), tls: Tls { mode, ..Tls::default() }, ..Config::default() }
    }

    #[test]
    fn a_generated_identity_is_made_once_and_only_root_may_read_it() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let config = config(dir.path(), TlsMode::Generate);
        let first = load(&config).expect("generated").expect("an identity");
        let again = load(&config).expect("read again").expect("an identity");
        assert_eq!(first.fingerprint, again.fingerprint);
        assert_eq!(first.fingerprint.len(), 64);
        let mode = fs::metadata(dir.path().join("tls/identity.pem")).expect("kept").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn ones_own_files_are_used_and_a_file_without_a_certificate_is_refused() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let pem = dir.path().join("own.pem");
        generate(&pem, vec!["wharf.example".to_owned()]).expect("generated");
        let mut config = config(dir.path(), TlsMode::Files);
        config.tls.certificate.clone_from(&pem);
        config.tls.key.clone_from(&pem);
        assert!(load(&config).expect("good files").is_some());
        fs::write(&pem, "nothing").expect("written");
        assert!(load(&config).is_err());
    }
}
