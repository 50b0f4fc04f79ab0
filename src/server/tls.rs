//! The one TLS configuration of the aggregated API: which clients may connect, and as what. A client without a certificate is refused.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, ServerConnection,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{
    authority::{Authority, server_name},
    error::ViewError,
    front_proxy::FrontProxy,
};
use crate::{api::view::VIEW_SERVICE, effects::clock};

/// What a connection is made of, both ways.
#[derive(Clone)]
pub(crate) struct Tls {
    pub server: Arc<ServerConfig>,
    /// For other replicas.
    pub client: Arc<ClientConfig>,
    /// The name by which they are verified.
    pub name: ServerName<'static>,
    pub front_proxy: FrontProxy,
    by_front_proxy: Arc<dyn ClientCertVerifier>,
    by_replica: Arc<dyn ClientCertVerifier>,
}

/// Whom a client certificate makes of a caller. Both speak for users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    ApiServer,
    Replica,
}

impl Tls {
    pub fn new(
        front_proxy: FrontProxy,
        authority: &Authority,
        namespace: &str,
        now: Timestamp,
    ) -> Result<Self, ViewError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let ours = authority.certificates()?;
        let theirs = front_proxy.authority.clone();
        let by_front_proxy = verifier(&provider, theirs.iter())?;
        let by_replica = verifier(&provider, ours.iter())?;
        let by_either = verifier(&provider, theirs.iter().chain(&ours))?;
        let leaf = authority.leaf(namespace, now)?;
        let failed = |error: rustls::Error| ViewError::Tls(error.to_string());
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(failed)?
            .with_client_cert_verifier(by_either)
            .with_single_cert(leaf.chain.clone(), leaf.key.clone_key())
            .map_err(failed)?;
        // A connection for each reader, so that a slow one delays no other.
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(failed)?
            .with_root_certificates(roots(ours.iter())?)
            .with_client_auth_cert(leaf.chain, leaf.key)
            .map_err(failed)?;
        let name = ServerName::try_from(server_name(namespace)).map_err(|error| ViewError::Tls(error.to_string()))?;
        Ok(Self { server: Arc::new(server), client: Arc::new(client), name, front_proxy, by_front_proxy, by_replica })
    }

    /// Who is at the other end; `None` for one who may not speak for users.
    pub(crate) fn caller(&self, connection: &ServerConnection) -> Option<Caller> {
        let (leaf, more) = connection.peer_certificates()?.split_first()?;
        self.caller_with(leaf, more)
    }

    fn caller_with(&self, leaf: &CertificateDer<'_>, more: &[CertificateDer<'_>]) -> Option<Caller> {
        let name = common_name(leaf);
        // Either authority signed it, or the handshake would have failed. Which one decides what the name means.
        let now = Duration::from_secs(u64::try_from(clock::now().as_second()).unwrap_or_default());
        let now = UnixTime::since_unix_epoch(now);
        if self.by_front_proxy.verify_client_cert(leaf, more, now).is_ok() {
            return self.front_proxy.allows(name.as_deref()).then_some(Caller::ApiServer);
        }
        let replica = self.by_replica.verify_client_cert(leaf, more, now).is_ok();
        (replica && name.as_deref() == Some(VIEW_SERVICE)).then_some(Caller::Replica)
    }
}

fn common_name(leaf: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
    let name = certificate.subject().iter_common_name().next()?;
    Some(name.as_str().ok()?.to_owned())
}

fn roots<'a>(certificates: impl Iterator<Item = &'a CertificateDer<'static>>) -> Result<Arc<RootCertStore>, ViewError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate.clone()).map_err(|error| ViewError::Tls(error.to_string()))?;
    }
    Ok(Arc::new(roots))
}

fn verifier<'a>(
    provider: &Arc<CryptoProvider>,
    certificates: impl Iterator<Item = &'a CertificateDer<'static>>,
) -> Result<Arc<dyn ClientCertVerifier>, ViewError> {
    let built = WebPkiClientVerifier::builder_with_provider(roots(certificates)?, provider.clone()).build();
    built.map_err(|error| ViewError::Tls(error.to_string()))
}
