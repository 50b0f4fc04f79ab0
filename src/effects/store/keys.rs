//! Every key of the store, built in one place. It must not do I/O.
//!
//! Parts come from resources, tags and hosts, so each is checked here once more: a key never leaves its folder.

use std::fmt;

use object_store::path::Path;

/// The name of one object: `versions/shop/petclinic/v1.4.2`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(String);

/// A part of a key that can't be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{part:?} can't be part of a name in the store; use 1 to 253 characters of A-Z a-z 0-9 . _ + - and not '.' or '..'"
)]
pub struct BadPart {
    pub part: String,
}

impl Key {
    pub(super) fn of(parts: &[&str]) -> Result<Self, BadPart> {
        for part in parts {
            let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'+' | b'-');
            let ok = (1..=253).contains(&part.len()) && part.bytes().all(fits) && *part != "." && *part != "..";
            if !ok {
                return Err(BadPart { part: part.chars().take(80).collect() });
            }
        }
        Ok(Self(parts.join("/")))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last part of the key.
    pub fn name(&self) -> &str {
        self.0.rsplit_once('/').map_or(self.0.as_str(), |(_, name)| name)
    }

    pub(super) fn path(&self) -> Path {
        Path::from(self.0.as_str())
    }

    pub(super) fn found(path: &Path) -> Self {
        Self(path.as_ref().to_owned())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The key of keyed hashes of secret values. It is a secret itself, of whoever may read the store.
pub(crate) fn hash_key() -> Result<Key, BadPart> {
    Key::of(&["hash-key"])
}

/// The control plane that the store belongs to.
pub(crate) fn control_plane() -> Result<Key, BadPart> {
    Key::of(&["control-plane"])
}

/// That this fence was given to an operator: `fences/<n>`.
pub(crate) fn fence(fence: i64) -> Result<Key, BadPart> {
    Key::of(&["fences", &fence.to_string()])
}

/// The folder of all fences, for `Store::list`.
pub(crate) fn fences() -> Result<Key, BadPart> {
    Key::of(&["fences"])
}

/// `releases/sha256/<digest>`; `digest` is 64 lower-case hex digits, without a prefix.
pub fn release(digest: &str) -> Result<Key, BadPart> {
    let hex = digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if !hex {
        return Err(BadPart { part: digest.chars().take(80).collect() });
    }
    Key::of(&["releases", "sha256", digest])
}

/// The record that makes a version deployable.
pub fn version(namespace: &str, project: &str, version: &str) -> Result<Key, BadPart> {
    Key::of(&["versions", namespace, project, version])
}

/// The folder of all versions of a project, for `Store::list`.
pub fn versions(namespace: &str, project: &str) -> Result<Key, BadPart> {
    Key::of(&["versions", namespace, project])
}

/// The folder of all versions of all projects, for `Store::list`.
pub(crate) fn all_versions() -> Result<Key, BadPart> {
    Key::of(&["versions"])
}

/// Namespace, project and version of the key of a version's record.
pub(crate) fn version_parts(key: &Key) -> Option<(&str, &str, &str)> {
    let mut parts = key.as_str().strip_prefix("versions/")?.split('/');
    let found = (parts.next()?, parts.next()?, parts.next()?);
    parts.next().is_none().then_some(found)
}

/// The record that a version's release was removed: `removed/<namespace>/<project>/<version>`.
pub fn removed(namespace: &str, project: &str, version: &str) -> Result<Key, BadPart> {
    Key::of(&["removed", namespace, project, version])
}

/// The folder of all those of a project, for `Store::list`.
pub(crate) fn all_removed(namespace: &str, project: &str) -> Result<Key, BadPart> {
    Key::of(&["removed", namespace, project])
}

/// The claim of one build number.
pub fn number(namespace: &str, project: &str, number: i64) -> Result<Key, BadPart> {
    Key::of(&["numbers", namespace, project, &number.to_string()])
}

/// The folder of all claimed numbers of a project, for `Store::list`.
pub fn numbers(namespace: &str, project: &str) -> Result<Key, BadPart> {
    Key::of(&["numbers", namespace, project])
}

/// A head that was built because it was pushed, or the heads that were there before: `triggers/<project uid>/<name>`.
pub fn trigger(project_uid: &str, name: &str) -> Result<Key, BadPart> {
    Key::of(&["triggers", project_uid, name])
}

/// The folder of all those of a project, for `Store::list`.
pub fn triggers(project_uid: &str) -> Result<Key, BadPart> {
    Key::of(&["triggers", project_uid])
}

/// The folder of those of all projects, for `Store::list`.
pub(crate) fn all_triggers() -> Result<Key, BadPart> {
    Key::of(&["triggers"])
}

/// The project's uid of such a record.
pub(crate) fn project_of_trigger(key: &Key) -> Option<&str> {
    key.as_str().strip_prefix("triggers/")?.split('/').next()
}

/// What a build was granted: script, parameters, env, artifacts, run, tag.
pub(crate) fn build_plan(build_uid: &str) -> Result<Key, BadPart> {
    Key::of(&["builds", build_uid, "plan.json"])
}

/// Another record of one build, beside its plan: `builds/<uid>/<name>`.
pub(crate) fn build_record(build_uid: &str, name: &str) -> Result<Key, BadPart> {
    Key::of(&["builds", build_uid, name])
}

/// What a successful attempt made: `builds/<uid>/release.json`.
pub(crate) fn build_release(build_uid: &str) -> Result<Key, BadPart> {
    build_record(build_uid, "release.json")
}

/// The folder of the records of one build.
pub fn build(build_uid: &str) -> Result<Key, BadPart> {
    Key::of(&["builds", build_uid])
}

/// The folder of the records of all builds, for `Store::list`.
pub fn builds() -> Result<Key, BadPart> {
    Key::of(&["builds"])
}

/// The uid and the name of the record of a build.
pub(crate) fn build_parts(key: &Key) -> Option<(&str, &str)> {
    key.as_str().strip_prefix("builds/")?.split_once('/').filter(|(_, name)| !name.contains('/'))
}

/// One revision of a Deployment.
pub fn rollout(deployment_uid: &str, revision: i64) -> Result<Key, BadPart> {
    Key::of(&["rollouts", deployment_uid, &revision.to_string()])
}

/// The folder of all revisions of a Deployment, for `Store::list`.
pub fn rollouts(deployment_uid: &str) -> Result<Key, BadPart> {
    Key::of(&["rollouts", deployment_uid])
}

/// A verdict that a host can't journal itself.
pub fn host_failure(deployment_uid: &str, rollout: &str, attempt: i64, host: &str) -> Result<Key, BadPart> {
    Key::of(&["verdicts", deployment_uid, rollout, &attempt.to_string(), host])
}

/// The folder of all verdicts of a Deployment, for `Store::list`.
pub(crate) fn host_failures_of(deployment_uid: &str) -> Result<Key, BadPart> {
    Key::of(&["verdicts", deployment_uid])
}

/// The `n`-th key that was trusted on first use at an address; ':' of an IPv6 address becomes '_', which no name holds.
pub fn host_key(namespace: &str, group: &str, address: &str, port: u16, n: u32) -> Result<Key, BadPart> {
    Key::of(&["hostkeys", namespace, group, &machine(address, port), &n.to_string()])
}

/// The record that this key no longer counts, with the stamp that asked for it.
pub(crate) fn host_key_forgotten(
    namespace: &str,
    group: &str,
    address: &str,
    port: u16,
    n: u32,
) -> Result<Key, BadPart> {
    Key::of(&["hostkeys", namespace, group, &machine(address, port), &format!("{n}.forgotten")])
}

/// The folder of both, for `Store::list`.
pub fn host_keys(namespace: &str, group: &str, address: &str, port: u16) -> Result<Key, BadPart> {
    Key::of(&["hostkeys", namespace, group, &machine(address, port)])
}

fn machine(address: &str, port: u16) -> String {
    let canonical = address.parse::<std::net::IpAddr>().map(|ip| ip.to_string());
    format!("{}+{port}", canonical.unwrap_or_else(|_| address.to_ascii_lowercase()).replace(':', "_"))
}

/// The `n`-th piece (1 MiB) of a log, from 0; of a host, or of a build where there is none.
pub fn log(object_uid: &str, attempt: i64, host: Option<&str>, n: u64) -> Result<Key, BadPart> {
    let (attempt, n) = (attempt.to_string(), n.to_string());
    match host {
        Some(host) => Key::of(&["logs", object_uid, &attempt, host, &n]),
        None => Key::of(&["logs", object_uid, &attempt, &n]),
    }
}

/// The folder of all logs of an object, for `Store::entries`.
pub fn logs(object_uid: &str) -> Result<Key, BadPart> {
    Key::of(&["logs", object_uid])
}

/// The folder of the pieces of one log: `logs/<uid>/<attempt>`.
pub(crate) fn log_folder(object_uid: &str, attempt: &str) -> Result<Key, BadPart> {
    Key::of(&["logs", object_uid, attempt])
}

/// The attempt of the key of a log's piece.
pub(crate) fn attempt_of_log(key: &Key) -> Option<&str> {
    key.as_str().strip_prefix("logs/")?.split('/').nth(1)
}

/// The folder of one host's part of it: `logs/<uid>/<attempt>/<host>`.
pub(crate) fn host_log_folder(object_uid: &str, attempt: &str, host: &str) -> Result<Key, BadPart> {
    Key::of(&["logs", object_uid, attempt, host])
}

/// Piece `n` of the log of that folder.
pub fn piece(folder: &Key, n: u64) -> Key {
    Key(format!("{folder}/{n}"))
}

/// The index of the times of the log of that folder.
pub(crate) fn log_times(folder: &Key) -> Key {
    Key(format!("{folder}/{LOG_TIMES}"))
}

/// Its name among the pieces of the log.
pub(crate) const LOG_TIMES: &str = "times";

/// The key of this name right below a folder; both are parts of keys already.
pub(crate) fn below(folder: &Key, name: &str) -> Key {
    Key(format!("{folder}/{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_never_leaves_its_folder() {
        for part in ["", ".", "..", "a/b", "../x", "a\nb", "a%2f", "a b", "-\0", "ä", &"x".repeat(254)] {
            assert!(version("shop", "petclinic", part).is_err(), "{part:?}");
            assert!(version(part, "petclinic", "v1").is_err(), "{part:?}");
        }
        assert!(release(&"A".repeat(64)).is_err());
        assert!(release("..").is_err());
    }

    #[test]
    fn keys_read_as_the_api_document_says() -> Result<(), BadPart> {
        assert_eq!(version("shop", "petclinic", "v1.4.2+b-1")?.as_str(), "versions/shop/petclinic/v1.4.2+b-1");
        assert_eq!(number("shop", "petclinic", 42)?.as_str(), "numbers/shop/petclinic/42");
        assert_eq!(build_plan("u-1")?.as_str(), "builds/u-1/plan.json");
        assert_eq!(host_failure("u", "3.0", 1, "web-01")?.as_str(), "verdicts/u/3.0/1/web-01");
        assert_eq!(host_key("a", "g", "10.0.0.1", 22, 1)?.as_str(), "hostkeys/a/g/10.0.0.1+22/1");
        assert_eq!(host_keys("a", "g", "2001:DB8::1", 2222)?.as_str(), "hostkeys/a/g/2001_db8__1+2222");
        assert_eq!(log("u", 2, None, 0)?.as_str(), "logs/u/2/0");
        assert_eq!(log("u", 2, Some("web-01"), 7)?.as_str(), "logs/u/2/web-01/7");
        Ok(())
    }
}
