//! TLS to PostgreSQL, in libpq's words: `sslmode` and `sslrootcert`.
//!
//! | `sslmode` | encrypted | certificate |
//! |---|---|---|
//! | `disable` | no | – |
//! | `prefer` (the default) | if the server can | not looked at |
//! | `require` | yes | not looked at |
//! | `verify-ca` | yes | signed by an authority that is trusted |
//! | `verify-full` | yes | and made out to the host of the address |
//!
//! Trusted are the authorities of the file `sslrootcert`, or of the system where none is named.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use serde::Deserialize;
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::{Result, SqlError};

/// How far a connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protection {
    /// Never encrypted.
    Disable,
    /// Encrypted if the server can; against those who only listen.
    Prefer,
    /// Encrypted; against those who only listen.
    Require,
    /// Encrypted, with a server that a trusted authority vouches for.
    VerifyCa,
    /// Encrypted, with the very server that the address names.
    VerifyFull,
}

impl Protection {
    /// What the driver is told.
    pub fn ssl_mode(self) -> SslMode {
        match self {
            Self::Disable => SslMode::Disable,
            Self::Prefer => SslMode::Prefer,
            Self::Require | Self::VerifyCa | Self::VerifyFull => SslMode::Require,
        }
    }

    fn verifies(self) -> bool {
        matches!(self, Self::VerifyCa | Self::VerifyFull)
    }
}

/// Makes TLS sessions of one connection.
#[derive(Clone)]
pub struct Tls(MakeRustlsConnect);

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// # Errors
    /// If the file with the authorities cannot be read, has none, or would not be used.
    pub fn new(protection: Protection, authorities: Option<&Path>) -> Result<Self> {
        if let (Some(file), false) = (authorities, protection.verifies()) {
            let file = file.display();
            return Err(SqlError::invalid(format!(
                "sslrootcert ({file}) is looked at only with sslmode verify-ca or verify-full; name one of them"
            )));
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = if protection.verifies() {
            let failed = |error: &dyn std::fmt::Display| SqlError::invalid(format!("sslrootcert: {error}"));
            let roots = Arc::new(roots(authorities)?);
            let chain = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
            let chain = chain.map_err(|error| failed(&error))?;
            match protection {
                Protection::VerifyFull => chain,
                _ => Arc::new(Lenient { provider: Arc::clone(&provider), chain: Some(chain) }),
            }
        } else {
            Arc::new(Lenient { provider: Arc::clone(&provider), chain: None })
        };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| SqlError::invalid(format!("TLS: {error}")))?
            // Dangerous only in name: what each verifier lets through is in the table above.
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        Ok(Self(MakeRustlsConnect::new(config)))
    }

    pub(super) fn connector(&self) -> MakeRustlsConnect {
        self.0.clone()
    }
}

fn roots(file: Option<&Path>) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let Some(file) = file else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let none = "this system trusts no authority; name the file of the one that signed with sslrootcert";
        return if roots.is_empty() { Err(SqlError::invalid(none)) } else { Ok(roots) };
    };
    let failed = |error: &dyn std::fmt::Display| SqlError::invalid(format!("sslrootcert {}: {error}", file.display()));
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| failed(&error))? {
        let certificate = certificate.map_err(|error| failed(&error))?;
        roots.add(certificate).map_err(|error| failed(&error))?;
    }
    if roots.is_empty() { Err(failed(&"it holds no certificate (PEM)")) } else { Ok(roots) }
}

/// Looks at less than the whole certificate: that an authority of `chain` signed it, whatever its name, or not at all.
#[derive(Debug)]
struct Lenient {
    provider: Arc<CryptoProvider>,
    chain: Option<Arc<WebPkiServerVerifier>>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        // The name is looked at last, when everything else about the certificate was right.
        match chain.verify_server_cert(certificate, between, name, ocsp, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
