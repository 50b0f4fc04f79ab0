//! One host of one Deployment, by its names.

use crate::{
    controllers::hosts::{HostKey, HostWorkerKey},
    model::ids::FolderName,
};

/// The host, and the Deployment that acts on it.
#[derive(Clone, Debug)]
pub(crate) struct HostRef {
    pub namespace: String,
    pub deployment: String,
    pub uid: String,
    pub project: String,
    pub group: String,
    pub host: String,
}

impl HostRef {
    /// The fields that every log line about this host carries.
    pub(crate) fn span(&self) -> tracing::Span {
        let Self { namespace, deployment: name, host, .. } = self;
        tracing::info_span!(parent: None, "host", kind = "Deployment", namespace, name, host)
    }

    pub(crate) fn worker_key(&self) -> HostWorkerKey {
        HostWorkerKey { uid: self.uid.clone(), host: self.host.clone() }
    }

    pub fn host_key(&self) -> HostKey {
        HostKey::new(&self.namespace, &self.group, &self.host)
    }

    pub fn folder(&self) -> FolderName {
        FolderName::new(&self.namespace, &self.project)
    }
}
