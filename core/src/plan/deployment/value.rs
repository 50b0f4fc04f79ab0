//! A value that an application takes from a Secret or a ConfigMap: where it is, and by which name it is called. It must not know what was
//! observed, nor what is decided.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    api::{
        ConfigMapKeyRef, EnvVar, SecretKeyRef,
        project::{FileSource, RunFile},
    },
    model::{Failure, keyed::KeyedHash},
};

/// A value that the effective environment names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    pub at: ValueAt,
    /// The field that names it, for a message.
    pub field: String,
    /// It becomes a variable, which holds no bytes but text.
    pub is_variable: bool,
}

/// Where a value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueAt {
    Secret(SecretKeyRef),
    ConfigMap(ConfigMapKeyRef),
}

impl ValueAt {
    /// `<Secret>/<key>` or `ConfigMap/<name>/<key>`: no name has a slash or a capital letter.
    pub fn place(&self) -> String {
        match self {
            Self::Secret(at) => format!("{}/{}", at.name, at.key),
            Self::ConfigMap(at) => format!("ConfigMap/{}/{}", at.name, at.key),
        }
    }

    pub(crate) fn of(source: &FileSource) -> Option<Self> {
        let secret = source.secret_key_ref.clone().map(Self::Secret);
        secret.or_else(|| source.config_map_key_ref.clone().map(Self::ConfigMap))
    }
}

impl Reference {
    /// By which records, tasks and hosts call the value.
    pub fn place(&self) -> String {
        self.at.place()
    }
}

/// What was seen of a value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ValueSeen {
    Hash(KeyedHash),
    /// It can't be used, with what mends it.
    Missing(Failure),
}

/// `run.env`, over it `HostGroup.env`, over it `Deployment.env`; sorted by name.
pub(crate) fn effective_env(run: &[EnvVar], group: &[EnvVar], deployment: &[EnvVar]) -> Vec<EnvVar> {
    let mut all: BTreeMap<&str, &EnvVar> = BTreeMap::new();
    for var in run.iter().chain(group).chain(deployment) {
        all.insert(&var.name, var);
    }
    all.into_values().cloned().collect()
}

/// Those of an environment and of files, with the fields that name them.
pub(crate) fn all(
    env: &[EnvVar],
    files: &[RunFile],
    variable: impl Fn(&str) -> String,
    file: impl Fn(&str) -> String,
) -> Vec<Reference> {
    let of_env = env.iter().filter_map(|one| {
        let at = ValueAt::Secret(one.secret()?.clone());
        Some(Reference { at, field: variable(&one.name), is_variable: true })
    });
    let of_files = files.iter().filter_map(|one| {
        Some(Reference { at: ValueAt::of(&one.value_from)?, field: file(&one.name), is_variable: false })
    });
    of_env.chain(of_files).collect()
}
