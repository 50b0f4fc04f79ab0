//! The certificate authority of the aggregated API, which all replicas share in a Secret, and the leaf that each makes of it.
//!
//! The API server trusts it by the APIService's `caBundle`; replicas trust one another by it.

use std::collections::BTreeMap;

use jiff::{Span, Timestamp};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Api, Client};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use super::error::ViewError;
use crate::{
    api::view::{VIEW_SECRET, VIEW_SERVICE},
    effects::{
        api_server::post_params,
        certificates::{set_validity, years_after},
    },
};

const AUTHORITY_YEARS: i16 = 10;
/// An authority with less time left is renewed; the old one stays trusted beside it.
const RENEW_YEARS: i16 = 2;
const LEAF_DAYS: i64 = 90;
const BUNDLE: &str = "ca.crt";
const KEY: &str = "ca.key";
const UNTIL: &str = "ca.until";

/// The authority as the Secret holds it.
#[derive(Clone, PartialEq, Eq)]
pub struct Authority {
    /// PEM: the newest first, then older ones that are still trusted.
    pub bundle: String,
    key: String,
    until: Timestamp,
}

/// A certificate of this replica with its key.
pub(crate) struct Leaf {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

impl Authority {
    /// The one that is in the Secret; where there is none, or it ends, a new one is put there first.
    pub(crate) async fn of_secret(client: &Client, namespace: &str, now: Timestamp) -> Result<Self, ViewError> {
        let api = Api::<Secret>::namespaced(client.clone(), namespace);
        let failed = |source| ViewError::Secret { namespace: namespace.to_owned(), source };
        loop {
            let mut secret = api.get(VIEW_SECRET).await.map_err(failed)?;
            let known = read(secret.data.as_ref())
                .map_err(|why| ViewError::BadSecret { namespace: namespace.to_owned(), why })?;
            if let Some(known) =
                known.as_ref().filter(|known| years_after(now, RENEW_YEARS).is_ok_and(|end| known.until > end))
            {
                return Ok(known.clone());
            }
            let new = make(known.map(|known| known.bundle), now)?;
            let entries = [(BUNDLE, new.bundle.clone()), (KEY, new.key.clone()), (UNTIL, new.until.to_string())];
            secret.data = Some(entries.map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes()))).into());
            // With the resourceVersion: of two replicas that start together one writes it, the other reads it.
            match api.replace(VIEW_SECRET, &post_params(), &secret).await {
                Ok(_) => return Ok(new),
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }

    /// A certificate for the Service, good for serving and for asking other replicas.
    pub fn leaf(&self, namespace: &str, now: Timestamp) -> Result<Leaf, ViewError> {
        let issuer = Issuer::new(authority_params(now)?, KeyPair::from_pem(&self.key)?);
        let mut params = CertificateParams::new(vec![server_name(namespace)])?;
        params.distinguished_name.push(DnType::CommonName, VIEW_SERVICE);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, now, now + Span::new().hours(24 * LEAF_DAYS));
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &issuer)?;
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes());
        Ok(Leaf {
            chain: vec![certificate.der().clone()],
            key: key.map_err(|error| ViewError::Tls(error.to_string()))?,
        })
    }

    pub(crate) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, ViewError> {
        let all = CertificateDer::pem_slice_iter(self.bundle.as_bytes()).collect::<Result<_, _>>();
        all.map_err(|error| ViewError::Tls(error.to_string()))
    }
}

/// By which name the API server and other replicas verify a replica.
pub(crate) fn server_name(namespace: &str) -> String {
    format!("{VIEW_SERVICE}.{namespace}.svc")
}

fn read(data: Option<&BTreeMap<String, ByteString>>) -> Result<Option<Authority>, String> {
    let Some(data) = data.filter(|data| !data.is_empty()) else { return Ok(None) };
    let text = |key: &str| {
        let bytes = data.get(key).ok_or_else(|| format!("there is no {key}"))?;
        String::from_utf8(bytes.0.clone()).map_err(|_| format!("{key} is no text"))
    };
    let until = text(UNTIL)?.parse().map_err(|_| format!("{UNTIL} is no time"))?;
    Ok(Some(Authority { bundle: text(BUNDLE)?, key: text(KEY)?, until }))
}

fn make(old: Option<String>, now: Timestamp) -> Result<Authority, ViewError> {
    let key = KeyPair::generate()?;
    let newest = authority_params(now)?.self_signed(&key)?.pem();
    let bundle = format!("{newest}{}", old.unwrap_or_default());
    Ok(Authority { bundle, key: key.serialize_pem(), until: years_after(now, AUTHORITY_YEARS)? })
}

/// Only the name and the key identifier of an issuer go into what it signs, so the parameters of today serve an old key as well.
fn authority_params(now: Timestamp) -> Result<CertificateParams, ViewError> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "landfall-view authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    set_validity(&mut params, now, years_after(now, AUTHORITY_YEARS)?);
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renewed_authority_keeps_the_old_one_trusted() {
        let now = "2026-11-25T00:00:00Z".parse().unwrap();
        let first = make(None, now).unwrap();
        let second = make(Some(first.bundle.clone()), "2035-01-01T00:00:00Z".parse().unwrap()).unwrap();
        assert_eq!(second.certificates().unwrap().len(), 2);
        assert_eq!(second.certificates().unwrap()[1], first.certificates().unwrap()[0]);
        assert_eq!(second.leaf("landfall-system", now).unwrap().chain.len(), 1);
    }

    #[test]
    fn an_empty_secret_is_none_and_half_a_one_is_an_error() {
        assert!(read(None).unwrap().is_none());
        let half = BTreeMap::from([(BUNDLE.to_owned(), ByteString(b"x".to_vec()))]);
        assert!(read(Some(&half)).is_err());
    }
}
