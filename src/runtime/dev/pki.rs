//! The certificates of the control plane: three authorities that last, and leaves that are new at every start.
//!
//! Every start issues every leaf again, so nothing near its end survives a restart. All keys lie in one folder of mode 0700.

use std::{fs, path::PathBuf};

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

use super::{error::DevError, files};
use crate::effects::certificates::{set_validity, years_after};

const AUTHORITY_YEARS: i16 = 10;
const LEAF_YEARS: i16 = 1;

/// The folder of keys, and the time by which certificates are dated.
#[derive(Debug, Clone)]
pub(crate) struct Pki {
    folder: PathBuf,
    now: Timestamp,
}

/// Signs certificates.
pub struct Authority {
    /// PEM.
    pub certificate: String,
    issuer: Issuer<'static, KeyPair>,
    now: Timestamp,
}

/// A certificate and its key, both PEM.
pub(crate) struct Leaf {
    pub certificate: String,
    pub key: Key,
}

/// A private key in PEM; doesn't show itself.
pub struct Key(String);

impl Key {
    pub fn pem(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl Pki {
    pub fn open(folder: PathBuf, now: Timestamp) -> Result<Self, DevError> {
        files::private_folder(&folder)?;
        Ok(Self { folder, now })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The authority of that name; made again where it is missing or would not outlive the leaves that it signs now.
    pub fn authority(&self, name: &str) -> Result<Authority, DevError> {
        let params = authority_params(name, self.now)?;
        let paths = ["crt", "key", "until"].map(|ending| self.path(&format!("{name}.{ending}")));
        let [certificate, key, until] = paths.clone().map(|path| fs::read_to_string(path).ok());
        let stays = until
            .and_then(|until| until.trim().parse::<Timestamp>().ok())
            .is_some_and(|until| years_after(self.now, LEAF_YEARS).is_ok_and(|leaf| until > leaf));
        if let (Some(certificate), Some(key), true) = (certificate, key, stays) {
            // Only the name and the key identifier of an issuer go into what it signs, so the parameters of today serve an old key as well.
            let key = KeyPair::from_pem(&key).map_err(failed(name))?;
            return Ok(Authority { certificate, issuer: Issuer::new(params, key), now: self.now });
        }
        let key = KeyPair::generate().map_err(failed(name))?;
        let certificate = params.self_signed(&key).map_err(failed(name))?.pem();
        let [certificate_path, key_path, until_path] = paths;
        files::write_private(&key_path, &key.serialize_pem())?;
        files::write_private(&certificate_path, &certificate)?;
        files::write_private(&until_path, &years_after(self.now, AUTHORITY_YEARS)?.to_string())?;
        Ok(Authority { certificate, issuer: Issuer::new(params, key), now: self.now })
    }

    /// Writes `<name>.crt` and `<name>.key`.
    pub fn keep(&self, name: &str, leaf: &Leaf) -> Result<(), DevError> {
        files::write_private(&self.path(&format!("{name}.crt")), &leaf.certificate)?;
        files::write_private(&self.path(&format!("{name}.key")), leaf.key.pem())
    }

    /// The key pair that signs the tokens of service accounts, as `<name>.key` and `<name>.pub`. It stays: tokens must outlive a restart.
    pub(crate) fn key_pair(&self, name: &str) -> Result<(), DevError> {
        let (private, public) = (self.path(&format!("{name}.key")), self.path(&format!("{name}.pub")));
        if private.exists() && public.exists() {
            return Ok(());
        }
        let key = KeyPair::generate().map_err(failed(name))?;
        files::write_private(&private, &key.serialize_pem())?;
        files::write_private(&public, &key.public_key_pem())
    }
}

impl Authority {
    /// A client, as Kubernetes reads it: the common name is the user, the organisation is a group of his.
    pub fn client(&self, user: &str, group: Option<&str>) -> Result<Leaf, DevError> {
        self.leaf(user, group, &[], &[ExtendedKeyUsagePurpose::ClientAuth])
    }

    /// A server by DNS names and addresses.
    pub fn server(&self, name: &str, hosts: &[&str]) -> Result<Leaf, DevError> {
        self.leaf(name, None, hosts, &[ExtendedKeyUsagePurpose::ServerAuth])
    }

    /// A server that is also a client of its like: etcd among its peers.
    pub(crate) fn peer(&self, name: &str, hosts: &[&str]) -> Result<Leaf, DevError> {
        self.leaf(name, None, hosts, &[ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth])
    }

    fn leaf(
        &self,
        name: &str,
        group: Option<&str>,
        hosts: &[&str],
        usages: &[ExtendedKeyUsagePurpose],
    ) -> Result<Leaf, DevError> {
        let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(hosts).map_err(failed(name))?;
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usages.to_vec();
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, self.now, years_after(self.now, LEAF_YEARS)?);
        let key = KeyPair::generate().map_err(failed(name))?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed(name))?.pem();
        Ok(Leaf { certificate, key: Key(key.serialize_pem()) })
    }
}

fn authority_params(name: &str, now: Timestamp) -> Result<CertificateParams, DevError> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, format!("landfall-dev {name}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    set_validity(&mut params, now, years_after(now, AUTHORITY_YEARS)?);
    Ok(params)
}

fn failed(name: &str) -> impl Fn(rcgen::Error) -> DevError {
    move |source| DevError::Certificate { name: name.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_stays_as_long_as_it_outlives_what_it_signs_and_is_made_anew_before_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let at = |now: &str| {
            let pki = Pki::open(folder.path().join("pki"), now.parse().unwrap()).unwrap();
            pki.authority("cluster-ca").unwrap().certificate
        };
        let first = at("2026-11-24T00:00:00Z");
        assert_eq!(at("2030-01-01T00:00:00Z"), first);
        assert_eq!(at("2035-11-20T00:00:00Z"), first);
        assert_ne!(at("2035-11-25T00:00:00Z"), first, "a leaf of one year would outlive it");
    }

    #[test]
    fn a_key_does_not_show_itself() {
        let folder = tempfile::tempdir().unwrap();
        let pki = Pki::open(folder.path().join("pki"), "2026-11-24T00:00:00Z".parse().unwrap()).unwrap();
        let leaf = pki.authority("ca").unwrap().client("someone", None).unwrap();
        assert_eq!(format!("{:?}", leaf.key), "***");
    }
}
