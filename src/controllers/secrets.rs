//! Secrets as reconciles and background tasks read them: fresh each time, and only those that are labelled for the use. Nothing is kept, and
//! nothing of a Secret is logged.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Api, Client};

use crate::{
    effects::secret::SecretText,
    plan::secret_use::{self, Purpose, SecretUse},
};

/// Cheap to clone.
#[derive(Clone)]
pub struct SecretReader {
    client: Client,
}

impl SecretReader {
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// One key of a Secret that is labelled for this use.
    pub async fn secret(&self, name: &str, key: &str, wanted: &SecretUse<'_>) -> Result<SecretText, NoSecret> {
        let secret = self.labelled_secret(name, wanted).await?;
        let none = || NoSecret::KeyMissing { name: name.to_owned(), key: key.to_owned() };
        text(name, key, secret.data.unwrap_or_default().remove(key).ok_or_else(none)?)
    }

    /// A Secret that is labelled for this use.
    pub(crate) async fn labelled(&self, name: &str, wanted: &SecretUse<'_>) -> Result<LabelledSecret, NoSecret> {
        let secret = self.labelled_secret(name, wanted).await?;
        Ok(LabelledSecret(secret.data.unwrap_or_default()))
    }

    /// Those of these keys that a Secret has, if it is labelled for git and annotated with this host.
    pub(crate) async fn git_secret(
        &self,
        namespace: &str,
        project: &str,
        name: &str,
        host: &str,
        keys: &[&str],
    ) -> Result<BTreeMap<String, SecretText>, NoSecret> {
        let secret = self.labelled_secret(name, &SecretUse { namespace, purpose: Purpose::Git, user: project }).await?;
        let annotations = secret.metadata.annotations.unwrap_or_default();
        if let Some(message) = secret_use::refused_host(name, &annotations, namespace, host) {
            return Err(NoSecret::NotForThis { message });
        }
        let mut data = secret.data.unwrap_or_default();
        let found = keys.iter().filter_map(|key| Some((*key, data.remove(*key)?)));
        found.map(|(key, bytes)| Ok((key.to_owned(), text(name, key, bytes)?))).collect()
    }

    async fn labelled_secret(&self, name: &str, wanted: &SecretUse<'_>) -> Result<Secret, NoSecret> {
        let namespace = wanted.namespace;
        let secret = match Api::<Secret>::namespaced(self.client.clone(), namespace).get_opt(name).await {
            Ok(Some(secret)) => secret,
            Ok(None) => return Err(NoSecret::NotFound { name: name.to_owned() }),
            Err(kube::Error::Api(status)) if status.code == 403 => {
                return Err(NoSecret::Forbidden { namespace: namespace.to_owned(), name: name.to_owned() });
            }
            Err(error) => return Err(NoSecret::Api(error)),
        };
        let none = BTreeMap::new();
        match secret_use::refused(name, secret.metadata.labels.as_ref().unwrap_or(&none), wanted) {
            Some(message) => Err(NoSecret::NotForThis { message }),
            None => Ok(secret),
        }
    }
}

/// The data of a Secret that may be used. It shows nothing.
pub(crate) struct LabelledSecret(BTreeMap<String, ByteString>);

impl LabelledSecret {
    /// For whoever hands it over to where it is needed, and to nobody else.
    pub(crate) fn bytes(&self, key: &str) -> Option<&[u8]> {
        self.0.get(key).map(|bytes| bytes.0.as_slice())
    }

    /// The same as text. `name`: the Secret's.
    pub(crate) fn text(&self, name: &str, key: &str) -> Result<Option<SecretText>, NoSecret> {
        self.0.get(key).map(|bytes| text(name, key, bytes.clone())).transpose()
    }
}

fn text(name: &str, key: &str, bytes: ByteString) -> Result<SecretText, NoSecret> {
    let text = String::from_utf8(bytes.0);
    text.map(SecretText::new).map_err(|_| NoSecret::Invalid { name: name.to_owned(), key: key.to_owned() })
}

/// Why a Secret can't be used. Each of it may be mended by a person, and is looked at again.
#[derive(Debug, thiserror::Error)]
pub enum NoSecret {
    #[error("the Secret {name} does not exist in this namespace; create it")]
    NotFound { name: String },
    #[error("the Secret {name} has no key {key:?}; add it")]
    KeyMissing { name: String, key: String },
    #[error("the key {key:?} of the Secret {name} is not text; replace it")]
    Invalid { name: String, key: String },
    #[error("landfall may not read the Secret {name}; allow it with: kubectl apply -n {namespace} -k manifests/tenant")]
    Forbidden { namespace: String, name: String },
    #[error("{message}")]
    NotForThis { message: String },
    #[error("the API server: {}", super::error::api_message(.0))]
    Api(kube::Error),
}
