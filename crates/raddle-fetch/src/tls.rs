//! TLS: whom to trust, who we are, and what goes wrong.
//!
//! The system's authorities are read when the first `https` URL comes, once a process.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::options::{ClientOptions, Verify};

/// Makes the configuration that a client's connections share.
///
/// # Errors
/// What is wrong with a file of certificates, and with which.
pub(crate) fn configuration(options: &ClientOptions) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(ring::default_provider());
    let versions = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?;
    let trusting = match &options.verify {
        Verify::System => versions.with_root_certificates(system_roots()?),
        Verify::File(path) => versions.with_root_certificates(roots_of(path)?),
        Verify::Nothing => versions.dangerous().with_custom_certificate_verifier(Arc::new(TrustsAnyone(provider))),
    };
    let mut config = match &options.certificate {
        None => trusting.with_no_client_auth(),
        Some(own) => trusting
            .with_client_auth_cert(certificates(&own.certificate)?, private_key(&own.key)?)
            .map_err(|error| format!("cert={:?} does not fit its key: {error}", own.certificate))?,
    };
    config.alpn_protocols =
        if options.http2 { vec![b"h2".to_vec(), b"http/1.1".to_vec()] } else { vec![b"http/1.1".to_vec()] };
    Ok(Arc::new(config))
}

fn system_roots() -> Result<Arc<RootCertStore>, String> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if let Some(known) = ROOTS.get() {
        return Ok(Arc::clone(known));
    }
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    // One certificate that cannot be read must not take the others away.
    let (added, _) = store.add_parsable_certificates(found.certs);
    if added == 0 {
        return Err(
            "the system has no certificate authorities: install them (on Debian ca-certificates), or name a file \
                    with verify="
                .into(),
        );
    }
    Ok(Arc::clone(ROOTS.get_or_init(|| Arc::new(store))))
}

fn roots_of(path: &Path) -> Result<Arc<RootCertStore>, String> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(path)? {
        store.add(certificate).map_err(|error| format!("verify={path:?} holds a certificate that is none: {error}"))?;
    }
    Ok(Arc::new(store))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    match all {
        Ok(list) if list.is_empty() => Err(format!("{path:?} holds no certificate in PEM")),
        Ok(list) => Ok(list),
        Err(error) => Err(format!("the certificates in {path:?} cannot be read: {error}")),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| format!("the private key in {path:?} cannot be read: {error}"))
}

/// Takes any certificate, but only from who has its key.
#[derive(Debug)]
struct TrustsAnyone(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustsAnyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
