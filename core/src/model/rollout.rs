//! What lies in the store about rollouts: `rollouts/<uid>/<revision>` and `verdicts/<uid>/<rollout>/<attempt>/<host>`. Both are JSON
//! and create-only, so a new field needs a default.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::keyed::KeyedHash;
use crate::api::{
    EnvVar, Reason,
    deployment::{Phase, ReturnedFrom},
    project::Run,
};

/// One revision: everything that is needed to run it again, also when the version's own record and the spec are long gone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RolloutRecord {
    pub revision: i64,
    /// Of digest and effective environment; another one is another revision.
    pub hash: String,
    pub version: String,
    pub commit: String,
    /// SHA-256 of the release, 64 hex digits.
    pub digest: String,
    /// Bytes of the release.
    pub size: u64,
    /// The effective environment without what landfall adds per host, sorted by name.
    #[serde(default)]
    pub env: Vec<EnvVar>,
    /// The keyed hash of each value that is in a Secret, by its place `<Secret>/<key>`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub values: BTreeMap<String, KeyedHash>,
    #[serde(deserialize_with = "Run::frozen")]
    pub run: Run,
    pub started_at: Timestamp,
    /// Hosts with another release than this one, a pinned version each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pinned: Vec<PinnedHosts>,
    /// What failed, where this is a return to what was ready before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returned_from: Option<ReturnedFrom>,
}

impl RolloutRecord {
    /// This revision as one host has it; `None` where its version could not be deployed.
    pub fn on_host(&self, host: &str) -> Option<Cow<'_, Self>> {
        match self.pin_of(host) {
            Some(pinned) => Some(Cow::Owned(self.as_pinned(pinned, pinned.release.as_ref()?))),
            None => Some(Cow::Borrowed(self)),
        }
    }

    /// Where a pin gives this host another version.
    pub fn pin_of(&self, host: &str) -> Option<&PinnedHosts> {
        self.pinned.iter().find(|pinned| pinned.hosts.contains(host))
    }

    /// This revision as the hosts with this release have it.
    pub(crate) fn of_digest(&self, digest: &str) -> Option<Cow<'_, Self>> {
        if self.digest == digest {
            return Some(Cow::Borrowed(self));
        }
        let mut pinned = self.pinned.iter().filter_map(|pinned| Some((pinned, pinned.release.as_ref()?)));
        let (pinned, release) = pinned.find(|(_, release)| release.digest == digest)?;
        Some(Cow::Owned(self.as_pinned(pinned, release)))
    }

    fn as_pinned(&self, pinned: &PinnedHosts, release: &PinnedRelease) -> Self {
        let PinnedRelease { commit, digest, size, env, values, run } = release.clone();
        let version = pinned.version.clone();
        let of_host = Self { version, commit, digest, size, env, values, run, ..self.clone() };
        Self { pinned: Vec::new(), returned_from: None, ..of_host }
    }
}

/// Hosts that are pinned to one version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PinnedHosts {
    pub version: String,
    /// By name, those that have left since the pin took effect included.
    pub hosts: BTreeSet<String>,
    /// `None`: the version could not be deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<PinnedRelease>,
}

/// What runs on hosts of a pin; the fields are as those of [`RolloutRecord`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PinnedRelease {
    pub commit: String,
    pub digest: String,
    pub size: u64,
    #[serde(default)]
    pub env: Vec<EnvVar>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub values: BTreeMap<String, KeyedHash>,
    #[serde(deserialize_with = "Run::frozen")]
    pub run: Run,
}

/// Why one host failed in one attempt of a rollout. It stands until another attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostFailure {
    pub rollout: String,
    pub attempt: i64,
    pub host: String,
    pub reason: Reason,
    /// Where it failed.
    pub phase: Phase,
    /// With the last lines of what ran, cleaned.
    pub message: String,
    pub at: Timestamp,
    /// The process that failed, where one lives all the same: another attempt starts another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessId>,
}

impl HostFailure {
    /// Earlier operators gave up healing after this; the current one ignores it.
    pub(crate) fn is_given_up_healing(&self) -> bool {
        self.reason == Reason::RestartedTooOften
    }
}

/// One process of one boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessId {
    pub pid: i64,
    /// Field 22 of `/proc/PID/stat`, in clock ticks since boot.
    pub start: u64,
}

/// Id of a rollout: `3.1` is revision 3 with the redeploy of serial 1. A later one is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RolloutId {
    pub revision: i64,
    /// Serial of the redeploy that began it, 0 without one.
    pub serial: i64,
}

impl RolloutId {
    /// Reads an id of a status, a record or a host; `None` where it is none.
    pub fn read(text: &str) -> Option<Self> {
        let (revision, serial) = text.split_once('.')?;
        Some(Self { revision: revision.parse().ok()?, serial: serial.parse().ok()? })
    }
}

impl fmt::Display for RolloutId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.revision, self.serial)
    }
}

/// One attempt of one rollout: `2.0.1` is the first attempt of rollout `2.0`. A later one is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RolloutAttempt {
    rollout: RolloutId,
    attempt: i64,
}

impl RolloutAttempt {
    /// `rollout` is a [`RolloutId`]; `None` where it is not.
    pub fn new(rollout: &str, attempt: i64) -> Option<Self> {
        Some(Self { rollout: RolloutId::read(rollout)?, attempt })
    }

    /// What all attempts of one rollout have in common.
    pub fn rollout(&self) -> RolloutId {
        self.rollout
    }
}

impl FromStr for RolloutAttempt {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (rollout, attempt) = text.rsplit_once('.').ok_or(())?;
        Self::new(rollout, attempt.parse().map_err(|_| ())?).ok_or(())
    }
}

impl fmt::Display for RolloutAttempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.rollout, self.attempt)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn attempt(text: &str) -> RolloutAttempt {
        text.parse().unwrap()
    }

    #[test]
    fn attempts_are_ordered_by_number_not_by_text() {
        assert!(attempt("10.0.1") > attempt("9.3.2"));
        assert!(attempt("2.0.11") > attempt("2.0.2"));
        assert_eq!(RolloutAttempt::new("2.1", 3).unwrap().to_string(), "2.1.3");
        assert!(
            RolloutId::read("10.0") > RolloutId::read("9.12") && RolloutId::read("3.1").unwrap().to_string() == "3.1"
        );
        assert!(["", "3", "3.", "3.1.2", "x.1"].into_iter().all(|text| RolloutId::read(text).is_none()));
        assert!("2.0".parse::<RolloutAttempt>().is_err() && "../x".parse::<RolloutAttempt>().is_err());
    }
}
