//! Whose certificates are believed: the system's roots, or those of a Secret's `ca.crt` and no other. One TLS stack: rustls over ring.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Trust(pub(super) Arc<ClientConfig>);

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trust")
    }
}

/// Believes what these PEM certificates signed, and nothing else.
pub(super) fn trust(pem: &[u8]) -> Result<Trust, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|_| "is no PEM".to_owned())?;
        roots.add(certificate).map_err(|error| format!("has a certificate that can't be used ({error})"))?;
    }
    if roots.is_empty() {
        return Err("has no certificate (-----BEGIN CERTIFICATE-----)".to_owned());
    }
    client(roots)
}

/// The roots of this machine, read once.
pub(super) fn system() -> Result<Trust, String> {
    static SYSTEM: OnceLock<Result<Trust, String>> = OnceLock::new();
    let read = || {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        let (added, _) = roots.add_parsable_certificates(found.certs);
        match added {
            0 => {
                Err("this machine has no root certificates; install ca-certificates, or put ca.crt into the Secret"
                    .into())
            }
            _ => client(roots),
        }
    };
    SYSTEM.get_or_init(read).clone()
}

fn client(roots: RootCertStore) -> Result<Trust, String> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    let mut config = config.with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Trust(Arc::new(config)))
}
