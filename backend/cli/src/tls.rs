//! TLS to an agent: by the public authorities, by one's own, or by the fingerprint of one certificate.
//!
//! An agent's generated certificate is signed by nobody. Its fingerprint is printed where the agent
//! starts; the client trusts that certificate and no other. A refused certificate is named by its
//! fingerprint, so that the two can be compared.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use sha2::{Digest as _, Sha256};

/// SHA-256 of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Reads `sha256:` and 64 hexadecimal digits; colons between the digits are allowed.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let digits: String =
            text.strip_prefix("sha256:").unwrap_or(text).chars().filter(|letter| *letter != ':').collect();
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes)
            .with_context(|| format!("read the fingerprint {text:?}: `sha256:` and 64 hexadecimal digits"))?;
        Ok(Self(bytes))
    }

    fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(certificate).into())
    }

    fn show(self) -> String {
        format!("sha256:{}", hex::encode(self.0))
    }
}

/// How to know the agent. Without fingerprint and authority, the public authorities decide.
pub(crate) fn configuration(fingerprint: Option<&str>, ca_file: Option<&Path>) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let trust = if let Some(text) = fingerprint {
        Trust::Pinned(Fingerprint::parse(text)?)
    } else {
        let roots = Arc::new(roots(ca_file)?);
        let inner = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .build()
            .context("set up the certificate authorities")?;
        Trust::Authorities(inner)
    };
    let verifier = Verifier { trust, provider: Arc::clone(&provider) };
    let mut configuration = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("set up TLS")?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    configuration.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(configuration)
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore> {
    let Some(path) = ca_file else {
        return Ok(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() });
    };
    let mut roots = RootCertStore::empty();
    let certificates =
        CertificateDer::pem_file_iter(path).with_context(|| format!("read {}", path.display()))?;
    for certificate in certificates {
        let certificate = certificate.with_context(|| format!("read {}", path.display()))?;
        roots.add(certificate).with_context(|| format!("use a certificate of {}", path.display()))?;
    }
    if roots.is_empty() {
        bail!("{} has no certificate", path.display());
    }
    Ok(roots)
}

#[derive(Debug)]
enum Trust {
    Pinned(Fingerprint),
    Authorities(Arc<WebPkiServerVerifier>),
}

#[derive(Debug)]
struct Verifier {
    trust: Trust,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let found = Fingerprint::of(certificate);
        match &self.trust {
            Trust::Pinned(wanted) if *wanted == found => Ok(ServerCertVerified::assertion()),
            Trust::Pinned(wanted) => Err(Error::General(format!(
                "the agent's certificate has the fingerprint {}, not {}",
                found.show(),
                wanted.show()
            ))),
            Trust::Authorities(inner) => {
                inner.verify_server_cert(certificate, intermediates, name, ocsp, now).map_err(|error| {
                    Error::General(format!(
                        "{error}; the certificate's fingerprint is {}: if the agent shows the same when it \
                         starts, give it as --fingerprint",
                        found.show()
                    ))
                })
            }
        }
    }

    // Whoever shows the pinned certificate must also have its key, so signatures are always checked.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verify(verifier: &Verifier, certificate: &[u8]) -> Result<ServerCertVerified, Error> {
        let name = ServerName::try_from("localhost").expect("a name");
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_hours(500_000));
        verifier.verify_server_cert(&CertificateDer::from(certificate), &[], &name, &[], now)
    }

    fn verifier(trust: Trust) -> Verifier {
        Verifier { trust, provider: Arc::new(rustls::crypto::ring::default_provider()) }
    }

    #[test]
    fn a_pinned_certificate_is_trusted_and_no_other() {
        let pinned = verifier(Trust::Pinned(Fingerprint::of(&CertificateDer::from(&b"mine"[..]))));
        assert!(verify(&pinned, b"mine").is_ok());
        let refused = verify(&pinned, b"theirs").expect_err("another certificate").to_string();
        assert!(
            refused.contains(&Fingerprint::of(&CertificateDer::from(&b"theirs"[..])).show()),
            "{refused}"
        );
    }

    #[test]
    fn a_refused_certificate_is_named_by_its_fingerprint() {
        let roots = Arc::new(roots(None).expect("the public authorities"));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let inner = WebPkiServerVerifier::builder_with_provider(roots, provider).build().expect("a verifier");
        let refused = verify(&verifier(Trust::Authorities(inner)), b"junk").expect_err("junk").to_string();
        assert!(refused.contains("sha256:") && refused.contains("--fingerprint"), "{refused}");
    }

    #[test]
    fn a_fingerprint_is_read_with_and_without_colons() {
        let plain = Fingerprint([0xab; 32]);
        assert_eq!(Fingerprint::parse(&plain.show()).expect("plain"), plain);
        assert_eq!(Fingerprint::parse(&["AB"; 32].join(":")).expect("as openssl prints it"), plain);
        assert!(Fingerprint::parse("sha256:abcd").is_err());
        assert!(Fingerprint::parse(&"zz".repeat(32)).is_err());
    }

    #[test]
    fn a_ca_file_without_a_certificate_is_refused_by_name() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("ca.pem");
        std::fs::write(&path, "no certificate\n").expect("write");
        assert!(format!("{:#}", configuration(None, Some(&path)).expect_err("refused")).contains("ca.pem"));
    }
}
