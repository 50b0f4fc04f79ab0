//! Secrets as reconciles and background tasks read them: anew each time, and only those that are labelled for the use. Nothing is kept, and
//! nothing of a Secret is logged.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Api, Client};

use crate::{
    api::{USE_LABEL, verbs::GIT_HOST},
    effects::secret::SecretText,
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

    /// One key of a Secret that is labelled for this use (`git`, `ssh`, …).
    pub async fn secret(&self, namespace: &str, name: &str, usage: &str, key: &str) -> Result<SecretText, NoSecret> {
        let secret = self.labelled_secret(namespace, name, usage).await?;
        let none = || NoSecret::KeyMissing { name: name.to_owned(), key: key.to_owned() };
        text(name, key, secret.data.unwrap_or_default().remove(key).ok_or_else(none)?)
    }

    /// Those of these keys that a Secret has, if it is labelled for git and annotated with this host.
    pub async fn git_secret(
        &self,
        namespace: &str,
        name: &str,
        host: &str,
        keys: &[&str],
    ) -> Result<BTreeMap<String, SecretText>, NoSecret> {
        let secret = self.labelled_secret(namespace, name, "git").await?;
        let annotated = secret.metadata.annotations.as_ref().and_then(|all| all.get(GIT_HOST));
        if annotated.is_none_or(|annotated| !annotated.trim().eq_ignore_ascii_case(host)) {
            return Err(NoSecret::NotForThisHost { name: name.to_owned(), host: host.to_owned() });
        }
        let mut data = secret.data.unwrap_or_default();
        let found = keys.iter().filter_map(|key| Some((*key, data.remove(*key)?)));
        found.map(|(key, bytes)| Ok((key.to_owned(), text(name, key, bytes)?))).collect()
    }

    async fn labelled_secret(&self, namespace: &str, name: &str, usage: &str) -> Result<Secret, NoSecret> {
        let secret = match Api::<Secret>::namespaced(self.client.clone(), namespace).get_opt(name).await {
            Ok(Some(secret)) => secret,
            Ok(None) => return Err(NoSecret::NotFound { name: name.to_owned() }),
            Err(kube::Error::Api(status)) if status.code == 403 => {
                return Err(NoSecret::Forbidden { namespace: namespace.to_owned(), name: name.to_owned() });
            }
            Err(error) => return Err(NoSecret::Api(error)),
        };
        let none = BTreeMap::new();
        let labels = secret.metadata.labels.as_ref().unwrap_or(&none);
        if labels.get(USE_LABEL).map(String::as_str) != Some(usage) {
            return Err(NoSecret::NotForThis { name: name.to_owned(), usage: usage.to_owned() });
        }
        Ok(secret)
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
    #[error("the key {key:?} of the Secret {name} is not text; write it anew")]
    Invalid { name: String, key: String },
    #[error("landfall may not read the Secret {name}; allow it with: kubectl apply -n {namespace} -k manifests/tenant")]
    Forbidden { namespace: String, name: String },
    #[error(
        "the Secret {name} is not labelled for this; allow it with: kubectl label secret {name} landfall.dev/use={usage}"
    )]
    NotForThis { name: String, usage: String },
    #[error(
        "the Secret {name} is not for {host}; where it may be sent there, say so with: \
         kubectl annotate secret {name} --overwrite landfall.dev/git-host={host}"
    )]
    NotForThisHost { name: String, host: String },
    #[error("the API server: {0}")]
    Api(kube::Error),
}
