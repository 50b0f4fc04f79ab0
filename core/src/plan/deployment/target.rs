//! Target of hosts: the effective environment, its hash, and the ids of revisions and rollouts.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use sha2::{Digest, Sha256};

use super::observed::Observed;
use crate::model::rollout::RolloutRecord;
use crate::{
    api::{EnvVar, project::Run},
    model::ids::ReleaseName,
};

/// `run.env`, over it `HostGroup.env`, over it `Deployment.env`; sorted by name.
pub(crate) fn effective_env(run: &[EnvVar], group: &[EnvVar], deployment: &[EnvVar]) -> Vec<EnvVar> {
    let mut all: BTreeMap<&str, &str> = BTreeMap::new();
    for var in run.iter().chain(group).chain(deployment) {
        all.insert(&var.name, &var.value);
    }
    all.into_iter().map(|(name, value)| EnvVar { name: name.to_owned(), value: value.to_owned() }).collect()
}

/// Of the release's digest and the effective environment: another hash is another revision. Names its algorithm: `1:` and 32 hex digits.
pub fn hash(digest: &str, env: &[EnvVar]) -> String {
    let mut hasher = Sha256::new();
    hasher.update(b"landfall configuration 1\n");
    feed(&mut hasher, digest, env);
    format!("1:{}", hex(hasher, 16))
}

/// The hash of operators that named no algorithm: 16 hex digits.
fn hash_without_name(digest: &str, env: &[EnvVar]) -> String {
    let mut hasher = Sha256::new();
    feed(&mut hasher, digest, env);
    hex(hasher, 8)
}

/// Whether a stored hash is of this digest and environment, by the algorithm that it names.
pub(crate) fn is_hash_of(stored: &str, digest: &str, env: &[EnvVar]) -> bool {
    match stored.split_once(':') {
        Some(("1", _)) => stored == hash(digest, env),
        Some(_) => false,
        None => stored == hash_without_name(digest, env),
    }
}

fn feed(hasher: &mut Sha256, digest: &str, env: &[EnvVar]) {
    hasher.update(digest);
    for var in env {
        // Lengths first, so that no value can pass for the next name.
        hasher.update((var.name.len() as u64).to_be_bytes());
        hasher.update(&var.name);
        hasher.update((var.value.len() as u64).to_be_bytes());
        hasher.update(&var.value);
    }
}

fn hex(hasher: Sha256, bytes: usize) -> String {
    hasher.finalize().iter().take(bytes).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What a host runs when its update is over.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The Deployment's uid.
    pub uid: String,
    pub revision: i64,
    /// Revisions with the same digest and environment, this one included: a process of any of them runs the target.
    pub same_revisions: BTreeSet<i64>,
    /// Serial of the last `redeploy` of this digest and environment, 0 without one. A process of an earlier serial is started again.
    pub redeploy_serial: i64,
    /// `<revision>.<serial>`
    pub rollout: String,
    pub attempt: i64,
    pub version: String,
    pub commit: String,
    pub release: ReleaseName,
    /// SHA-256 of the release, 64 hex digits.
    pub digest: String,
    pub size: u64,
    /// Without what landfall adds per host.
    pub env: Vec<EnvVar>,
    pub run: Run,
    pub min_ready_seconds: i64,
    /// Number of releases kept on a host.
    pub releases_kept: usize,
}

impl Target {
    /// Port of the readiness probe.
    pub fn port(&self) -> Option<u16> {
        self.run.readiness_probe.as_ref()?.port()
    }

    pub fn new(
        observed: &Observed,
        record: &RolloutRecord,
        rollout: &str,
        attempt: i64,
        min_ready_seconds: i64,
    ) -> Self {
        let same = |one: &&RolloutRecord| one.digest == record.digest && one.env == record.env;
        let others = observed.records.iter().filter(same).map(|one| one.revision);
        Self {
            uid: observed.uid.clone(),
            revision: record.revision,
            same_revisions: others.chain([record.revision]).collect(),
            redeploy_serial: 0,
            rollout: rollout.to_owned(),
            attempt,
            version: record.version.clone(),
            commit: record.commit.clone(),
            release: ReleaseName::new(&record.version, &record.digest),
            digest: record.digest.clone(),
            size: record.size,
            env: record.env.clone(),
            run: record.run.clone(),
            min_ready_seconds,
            releases_kept: observed.releases_kept,
        }
    }

    /// The whole environment of the process on one host.
    pub fn env_on(&self, project: &str, group: &str, host: &str, address: &str) -> Vec<(String, String)> {
        let own = [
            ("LANDFALL_PROJECT", project),
            ("LANDFALL_VERSION", self.version.as_str()),
            ("LANDFALL_COMMIT", self.commit.as_str()),
            ("LANDFALL_HOST", host),
            ("LANDFALL_ADDRESS", address),
            ("LANDFALL_HOST_GROUP", group),
        ];
        let given = self.env.iter().map(|var| (var.name.clone(), var.value.clone()));
        given.chain(own.map(|(name, value)| (name.to_owned(), value.to_owned()))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn var(name: &str, value: &str) -> EnvVar {
        EnvVar { name: name.into(), value: value.into() }
    }

    #[test]
    fn the_deployment_overrides_the_group_and_the_group_the_version() {
        let env = effective_env(
            &[var("A", "run"), var("B", "run"), var("C", "run")],
            &[var("B", "group"), var("C", "group")],
            &[var("C", "deployment")],
        );
        assert_eq!(env, vec![var("A", "run"), var("B", "group"), var("C", "deployment")]);
    }

    #[test]
    fn a_value_never_passes_for_another_variable() {
        assert_ne!(hash("d", &[var("A", "1B2")]), hash("d", &[var("A", "1"), var("B", "2")]));
        assert_ne!(hash("d", &[var("A", "1")]), hash("e", &[var("A", "1")]));
    }

    #[test]
    fn a_hash_is_compared_by_the_algorithm_that_it_names() {
        let env = [var("A", "1")];
        let (named, unnamed) = (hash("d", &env), hash_without_name("d", &env));
        assert!(named.starts_with("1:") && !unnamed.contains(':'), "{named} {unnamed}");
        assert!(is_hash_of(&named, "d", &env) && is_hash_of(&unnamed, "d", &env));
        assert!(!is_hash_of(&named, "d", &[]) && !is_hash_of(&unnamed, "e", &env));
        assert!(!is_hash_of(&named.replace("1:", "2:"), "d", &env), "an algorithm that nobody knows is another hash");
    }
}
