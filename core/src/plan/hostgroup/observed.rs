//! Everything that the planner of a HostGroup decides on. It must not know how any of it was found.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{check::HostCheck, records::HostKeyRecord};
use crate::{
    api::hostgroup::{HostGroupSpec, HostGroupStatus},
    model::Failure,
    plan::secret_use::is_withdrawn,
};

/// Everything that the planner knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Observed {
    pub namespace: String,
    pub generation: i64,
    pub spec: HostGroupSpec,
    #[serde(default)]
    pub status: Option<HostGroupStatus>,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// The object is being deleted.
    #[serde(default)]
    pub deleting: bool,
    /// Deployments that may have acted on its hosts, by name: they carry the finalizer.
    #[serde(default)]
    pub used_by: Vec<String>,
    /// They can't be listed; the finalizer stays as it is.
    #[serde(default)]
    pub users_unknown: bool,
    /// The group carries the finalizer.
    #[serde(default)]
    pub held: bool,
    /// Why no host can be signed in to: the Secrets.
    #[serde(default)]
    pub secret: Option<Failure>,
    /// By the host's name; a host that is not here was never asked.
    #[serde(default)]
    pub hosts: BTreeMap<String, HostCheck>,
    /// The hosts are being watched with this very spec and these very Secrets; or not any more, where those are refused.
    #[serde(default)]
    pub watched: bool,
    /// What is on record of the key that a stamp wants forgotten, where there is such a stamp.
    #[serde(default)]
    pub kept: Option<HostKeyRecord>,
}

impl Observed {
    /// A Deployment has acted on its hosts, as far as is known.
    pub(super) fn is_in_use(&self) -> bool {
        !self.used_by.is_empty() || self.users_unknown && self.held
    }

    /// Somebody took its Secret away: no host is signed in to any more.
    pub(super) fn is_withdrawn(&self) -> bool {
        self.secret.as_ref().is_some_and(|failure| is_withdrawn(failure.reason, self.deleting))
    }
}
