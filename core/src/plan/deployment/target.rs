//! Target of hosts: the effective environment, its hash, and the ids of revisions and rollouts.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use sha2::{Digest, Sha256};

use super::{
    observed::Observed,
    value::{self, Reference, ValueAt},
};
use crate::model::rollout::{PinnedHosts, RolloutRecord};
use crate::{
    api::{
        EnvVar,
        project::{Run, RunFile},
    },
    model::{ids::ReleaseName, keyed::KeyedHash},
};

/// What a revision consists of, beside what its version says.
#[derive(Clone, Copy, Debug)]
pub struct Configured<'a> {
    /// SHA-256 of the release in hex.
    pub digest: &'a str,
    /// The effective environment.
    pub env: &'a [EnvVar],
    /// The keyed hash of each value that is in a Secret, by its place.
    pub values: &'a BTreeMap<String, KeyedHash>,
}

/// Of the release's digest and the effective environment: another hash is another revision. Names its algorithm: `1:` and 32 hex digits.
/// With values of Secrets it is `2:`, 32 hex digits of all that is no such value, the id of the key of keyed hashes, and 32 of the values.
pub fn hash(of: &Configured<'_>) -> String {
    let Some(values) = KeyedHash::of_all(of.values) else {
        let mut hasher = Sha256::new();
        hasher.update(b"landfall configuration 1\n");
        feed(&mut hasher, of.digest, of.env);
        return format!("1:{}", hex(hasher, 16));
    };
    format!("{}:{}:{}", without_values(of), values.key, values.hash)
}

/// The same with the pins: behind it one part for each version. The same hosts with the same releases are the same hash.
pub(crate) fn hash_with_pins(of: &Configured<'_>, pinned: &[PinnedHosts]) -> String {
    let pins = pinned.iter().map(|pinned| {
        let release = pinned.release.as_ref().map(|release| hash(&release.configured()));
        format!(";{}@{}", release.unwrap_or_else(|| undeployable(pinned)), hosts_hash(pinned))
    });
    [hash(of)].into_iter().chain(pins).collect()
}

/// In place of the hash of a release that is not known. No version has a `?`, `;` or `@`.
fn undeployable(pinned: &PinnedHosts) -> String {
    format!("?{}", pinned.version)
}

fn hosts_hash(pinned: &PinnedHosts) -> String {
    let mut hasher = Sha256::new();
    for host in &pinned.hosts {
        hasher.update(host);
        hasher.update(b"\n");
    }
    hex(hasher, 8)
}

/// Whether a stored hash is of this release and these pins; see [`is_hash_of`].
pub(crate) fn is_hash_with_pins(stored: &str, of: &Configured<'_>, pinned: &[PinnedHosts]) -> bool {
    let mut parts = stored.split(';');
    if !parts.next().is_some_and(|stored| is_hash_of(stored, of)) {
        return false;
    }
    let is_pin = |(stored, pinned): (&str, &PinnedHosts)| {
        let Some((release, hosts)) = stored.split_once('@') else { return false };
        let is_release = match &pinned.release {
            Some(wanted) => is_hash_of(release, &wanted.configured()),
            None => release == undeployable(pinned),
        };
        is_release && hosts == hosts_hash(pinned)
    };
    let parts: Vec<&str> = parts.collect();
    parts.len() == pinned.len() && parts.into_iter().zip(pinned).all(is_pin)
}

/// Whether a stored hash is of this release, whatever its pins.
pub(crate) fn is_hash_but_for_pins(stored: &str, of: &Configured<'_>) -> bool {
    stored.split(';').next().is_some_and(|stored| is_hash_of(stored, of))
}

/// The part of a hash of algorithm 2 that no value and no key changes.
fn without_values(of: &Configured<'_>) -> String {
    let mut hasher = Sha256::new();
    hasher.update(b"landfall configuration 2\n");
    feed(&mut hasher, of.digest, of.env);
    for var in of.env {
        let place = place(var).unwrap_or_default();
        hasher.update((place.len() as u64).to_be_bytes());
        hasher.update(place);
    }
    format!("2:{}", hex(hasher, 16))
}

fn place(var: &EnvVar) -> Option<String> {
    Some(ValueAt::Secret(var.secret()?.clone()).place())
}

/// The hash of operators that named no algorithm: 16 hex digits.
fn hash_without_name(of: &Configured<'_>) -> String {
    let mut hasher = Sha256::new();
    feed(&mut hasher, of.digest, of.env);
    hex(hasher, 8)
}

/// Whether a stored hash is of this, by the algorithm that it names. Values that were hashed under another key can't be compared, and count
/// as the same: a store that lost its key starts nothing.
pub(crate) fn is_hash_of(stored: &str, of: &Configured<'_>) -> bool {
    match (stored.split_once(':'), of.values.values().next()) {
        (Some(("1", _)), None) => stored == hash(of),
        (Some(("2", _)), Some(first)) => {
            let Some(keyed) = stored.strip_prefix(&without_values(of)).and_then(|rest| rest.strip_prefix(':')) else {
                return false;
            };
            keyed.split_once(':').is_some_and(|(key, _)| key != first.key) || stored == hash(of)
        }
        (Some(_), _) => false,
        (None, values) => values.is_none() && stored == hash_without_name(of),
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

/// The value of a variable as a host is told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Plain(String),
    /// Its place: the value itself comes beside a task.
    Secret(String),
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
    /// The keyed hash of each value that is in a Secret, by its place.
    pub values: BTreeMap<String, KeyedHash>,
    /// One for all of them, made once: each host's is compared with it. `None` where there is none.
    pub all_values: Option<KeyedHash>,
    /// Whether values of Secrets may lie in a file on the host.
    pub keep_secrets_on_host: bool,
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
        let same = |one: &&RolloutRecord| {
            one.of_digest(&record.digest).is_some_and(|one| (&one.env, &one.values) == (&record.env, &record.values))
        };
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
            values: record.values.clone(),
            all_values: KeyedHash::of_all(&record.values),
            keep_secrets_on_host: observed.group.as_ref().is_some_and(|group| group.keep_secrets_on_host),
            run: record.run.clone(),
            min_ready_seconds,
            releases_kept: observed.releases_kept,
        }
    }

    /// Where each value is that the process needs.
    pub fn references(&self) -> Vec<Reference> {
        let (variable, file) = (|name: &str| format!("variable {name}"), |name: &str| format!("file {name}"));
        value::all(&self.env, &self.run.files, variable, file)
    }

    /// The files of the process, each with the place of its bytes.
    pub fn files(&self) -> impl Iterator<Item = (&RunFile, String)> {
        self.run.files.iter().filter_map(|file| Some((file, ValueAt::of(&file.value_from)?.place())))
    }

    /// The whole environment of the process on one host.
    pub fn env_on(&self, project: &str, group: &str, host: &str, address: &str) -> Vec<(String, Value)> {
        let own = [
            ("LANDFALL_PROJECT", project),
            ("LANDFALL_VERSION", self.version.as_str()),
            ("LANDFALL_COMMIT", self.commit.as_str()),
            ("LANDFALL_HOST", host),
            ("LANDFALL_ADDRESS", address),
            ("LANDFALL_HOST_GROUP", group),
        ];
        let value = |var: &EnvVar| match place(var) {
            Some(place) => Value::Secret(place),
            None => Value::Plain(var.value.clone()),
        };
        let given = self.env.iter().map(|var| (var.name.clone(), value(var)));
        given.chain(own.map(|(name, value)| (name.to_owned(), Value::Plain(value.to_owned())))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{RunEnvSource, SecretKeyRef},
        model::keyed::HashKey,
    };

    fn var(name: &str, value: &str) -> EnvVar {
        EnvVar { name: name.into(), value: value.into(), value_from: None }
    }

    fn secret(name: &str, of: &str, key: &str) -> EnvVar {
        let at = SecretKeyRef { name: of.into(), key: key.into() };
        EnvVar { name: name.into(), value: String::new(), value_from: Some(RunEnvSource { secret_key_ref: at }) }
    }

    fn plain<'a>(digest: &'a str, env: &'a [EnvVar]) -> Configured<'a> {
        static NONE: BTreeMap<String, KeyedHash> = BTreeMap::new();
        Configured { digest, env, values: &NONE }
    }

    #[test]
    fn the_deployment_overrides_the_group_and_the_group_the_version() {
        let env = value::effective_env(
            &[var("A", "run"), var("B", "run"), secret("C", "db", "password")],
            &[var("B", "group"), var("C", "group"), var("D", "group")],
            &[var("C", "deployment"), secret("D", "db", "password")],
        );
        let of = [var("A", "run"), var("B", "group"), var("C", "deployment"), secret("D", "db", "password")];
        assert_eq!(env, of);
    }

    #[test]
    fn a_value_never_passes_for_another_variable() {
        let hash = |digest, env: &[EnvVar]| hash(&plain(digest, env));
        assert_ne!(hash("d", &[var("A", "1B2")]), hash("d", &[var("A", "1"), var("B", "2")]));
        assert_ne!(hash("d", &[var("A", "1")]), hash("e", &[var("A", "1")]));
    }

    #[test]
    fn a_hash_is_compared_by_the_algorithm_that_it_names() {
        let env = [var("A", "1")];
        let of = plain("d", &env);
        let (named, unnamed) = (hash(&of), hash_without_name(&of));
        assert!(named.starts_with("1:") && !unnamed.contains(':'), "{named} {unnamed}");
        assert!(is_hash_of(&named, &of) && is_hash_of(&unnamed, &of));
        assert!(!is_hash_of(&named, &plain("d", &[])) && !is_hash_of(&unnamed, &plain("e", &env)));
        assert!(!is_hash_of(&named.replace("1:", "2:"), &of), "an algorithm that nobody knows is another hash");
    }

    #[test]
    fn a_changed_value_of_a_secret_is_another_hash_and_another_key_is_none() {
        let env = [var("A", "1"), secret("B", "db", "password")];
        let values = |key: u8, value: &str| -> BTreeMap<String, KeyedHash> {
            [("db/password".into(), HashKey::new([key; 32]).hash("team/db/password", value.as_bytes()))].into()
        };
        let (one, two, other_key) = (values(1, "hunter2"), values(1, "hunter3"), values(9, "hunter3"));
        let of = Configured { digest: "d", env: &env, values: &one };
        let stored = hash(&of);
        assert!(stored.starts_with("2:") && is_hash_of(&stored, &of), "{stored}");
        assert!(!is_hash_of(&stored, &Configured { values: &two, ..of }));
        assert!(is_hash_of(&stored, &Configured { values: &other_key, ..of }));
        assert!(!is_hash_of(&stored, &Configured { digest: "e", values: &other_key, ..of }));
        let elsewhere = [var("A", "1"), secret("B", "db", "other")];
        assert!(!is_hash_of(&stored, &Configured { env: &elsewhere, ..of }), "another key of the Secret");
        assert!(!is_hash_of(&stored, &plain("d", &[var("A", "1"), var("B", "")])));
        assert!(!is_hash_of(&hash(&plain("d", &[var("A", "1"), var("B", "")])), &of));
    }
}
