//! What `spec.retention` of a Project no longer keeps: Builds, versions, releases, logs.
//!
//! Nothing goes that runs, waits, or that a Deployment wants, runs or could go back to. A version goes in two looks: it is put on record
//! as removed, so that no Deployment takes it any more, and its bytes go only if a look after that finds no Deployment that took it before.
//! Each act may be done twice, and what a crash leaves undone is found by the next look.

use std::{collections::BTreeSet, fmt};

use jiff::Timestamp;
use serde::Deserialize;

use super::Collectable;
use crate::{
    api::{
        common::{bytes, seconds},
        lifecycle::Retention,
    },
    plan::builds::stage::BuildStage,
};

/// Everything that the decision needs. What lies in the store is listed before Builds and Deployments are.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observed {
    #[serde(default)]
    pub retention: Retention,
    /// All Builds of the project.
    #[serde(default)]
    pub builds: Vec<BuildObserved>,
    /// Versions that Deployments want, run or name in their history.
    #[serde(default)]
    pub needed: BTreeSet<String>,
    /// All versions that were ever published.
    #[serde(default)]
    pub versions: Vec<VersionObserved>,
    /// What the project's Builds said.
    #[serde(default)]
    pub logs: Vec<LogObserved>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildObserved {
    pub name: String,
    pub uid: String,
    pub created: Timestamp,
    pub stage: BuildStage,
    /// Its version is published.
    #[serde(default)]
    pub published: bool,
    /// Somebody asks for another attempt, or it is being deleted already.
    #[serde(default)]
    pub busy: bool,
    #[serde(default)]
    pub version: Option<String>,
    /// Its version is that of an earlier Build of its name: somebody, a git tool say, created it again after that one was deleted.
    #[serde(default)]
    pub came_back: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VersionObserved {
    pub version: String,
    pub built_at: Timestamp,
    /// SHA-256 of its release in hex.
    pub digest: String,
    /// The bytes of its release are there.
    pub stored: bool,
    /// It is on record as removed.
    #[serde(default)]
    pub removed: bool,
}

/// What one attempt said.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogObserved {
    pub uid: String,
    pub attempt: i64,
    pub bytes: u64,
    /// When the last of it was written.
    pub at: Timestamp,
    /// Its first piece is gone: a removal was cut short.
    #[serde(default)]
    pub torn: bool,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A removed version is wanted after all, and its bytes are there: it is one again.
    RestoreVersion {
        version: String,
    },
    /// Put it on record as removed. The version's own record stays, so that its name is never given to something else.
    ExpireVersion {
        version: String,
        digest: String,
    },
    /// Remove its bytes.
    DeleteRelease {
        version: String,
        digest: String,
    },
    DeleteLog {
        uid: String,
        attempt: i64,
    },
    DeleteBuild {
        name: String,
        uid: String,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RestoreVersion { version } => write!(f, "RestoreVersion {version}"),
            Self::ExpireVersion { version, .. } => write!(f, "ExpireVersion {version}"),
            Self::DeleteRelease { version, .. } => write!(f, "DeleteRelease {version}"),
            Self::DeleteLog { uid, attempt } => write!(f, "DeleteLog {uid}/{attempt}"),
            Self::DeleteBuild { name, .. } => write!(f, "DeleteBuild {name}"),
        }
    }
}

impl Action {
    /// Kind of the thing that goes; `None`: nothing goes.
    pub fn kind(&self) -> Option<Collectable> {
        match self {
            Self::RestoreVersion { .. } => None,
            Self::ExpireVersion { .. } => Some(Collectable::Version),
            Self::DeleteRelease { .. } => Some(Collectable::Release),
            Self::DeleteLog { .. } => Some(Collectable::Log),
            Self::DeleteBuild { .. } => Some(Collectable::Build),
        }
    }
}

/// What is to be done, in this order.
pub fn plan(observed: &Observed, now: Timestamp) -> Vec<Action> {
    let mut all = versions(observed);
    all.extend(logs(observed, now));
    all.extend(builds(observed, true, observed.retention.succeeded_limit));
    all.extend(builds(observed, false, observed.retention.failed_limit));
    all
}

fn count(limit: i64) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// The newest versions are kept, and every one that is needed.
fn versions(observed: &Observed) -> Vec<Action> {
    let mut versions: Vec<&VersionObserved> = observed.versions.iter().collect();
    versions.sort_by(|a, b| b.built_at.cmp(&a.built_at).then_with(|| b.version.cmp(&a.version)));
    let needed = |version: &VersionObserved| observed.needed.contains(&version.version);
    let (removed, there): (Vec<_>, Vec<_>) = versions.into_iter().partition(|version| version.removed);
    // At least the newest stays, whatever the schema let through.
    let old =
        there.into_iter().skip(count(observed.retention.succeeded_limit).max(1)).filter(|version| !needed(version));
    let begun = removed.into_iter().filter(|version| version.stored).map(|version| match needed(version) {
        true => Action::RestoreVersion { version: version.version.clone() },
        false => Action::DeleteRelease { version: version.version.clone(), digest: version.digest.clone() },
    });
    begun
        .chain(
            old.map(|version| Action::ExpireVersion {
                version: version.version.clone(),
                digest: version.digest.clone(),
            }),
        )
        .collect()
}

/// Of the Builds that ended so, all but the newest. One that came back stays and takes nobody's place: it belongs to whoever applies it, and
/// deleting it again would go on for ever.
fn builds(observed: &Observed, published: bool, limit: i64) -> Vec<Action> {
    let ended = |build: &&BuildObserved| build.stage == BuildStage::Ended && build.published == published;
    let mut builds: Vec<&BuildObserved> =
        observed.builds.iter().filter(ended).filter(|build| !build.came_back).collect();
    builds.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| b.name.cmp(&a.name)));
    let needed =
        |build: &BuildObserved| build.version.as_ref().is_some_and(|version| observed.needed.contains(version));
    let limit = if published { count(limit).max(1) } else { count(limit) };
    builds
        .into_iter()
        .skip(limit)
        .filter(|build| !build.busy && !needed(build))
        .map(|build| Action::DeleteBuild { name: build.name.clone(), uid: build.uid.clone() })
        .collect()
}

/// Logs that are too old, then the oldest of those that are too much together; the newest stays, however much it is. What a Build that
/// has not ended says is left alone.
fn logs(observed: &Observed, now: Timestamp) -> Vec<Action> {
    let rule = &observed.retention.logs;
    let (Some(max_age), Some(max_bytes)) = (seconds(&rule.max_age), bytes(&rule.max_bytes)) else { return vec![] };
    let ended = observed.builds.iter().filter(|build| build.stage == BuildStage::Ended && !build.busy);
    let ended: BTreeSet<&str> = ended.map(|build| build.uid.as_str()).collect();
    let mut logs: Vec<&LogObserved> = observed.logs.iter().collect();
    logs.sort_by(|a, b| b.at.cmp(&a.at).then_with(|| (&b.uid, b.attempt).cmp(&(&a.uid, a.attempt))));
    let mut newer = 0_u64;
    let mut gone = Vec::new();
    for log in logs {
        let old = now.duration_since(log.at).as_secs() > max_age;
        let much = newer > 0 && newer.saturating_add(log.bytes) > max_bytes;
        if (log.torn || old || much) && ended.contains(log.uid.as_str()) {
            gone.push(Action::DeleteLog { uid: log.uid.clone(), attempt: log.attempt });
        }
        newer = newer.saturating_add(log.bytes);
    }
    gone
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::plan::gc::Collector;

    fn stage() -> impl Strategy<Value = BuildStage> {
        prop_oneof![
            Just(BuildStage::Early),
            Just(BuildStage::Queued),
            Just(BuildStage::Active),
            Just(BuildStage::Ended),
            Just(BuildStage::Ended)
        ]
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn build() -> impl Strategy<Value = BuildObserved> {
        (0..9_i64, stage(), any::<bool>(), prop::bool::weighted(0.2), 0..9_u32).prop_map(
            |(second, stage, published, busy, version)| BuildObserved {
                name: String::new(),
                uid: String::new(),
                created: at(second),
                stage,
                published,
                busy,
                version: Some(format!("v{version}")),
                came_back: false,
            },
        )
    }

    fn observed() -> impl Strategy<Value = Observed> {
        let version = (0..9_i64, any::<bool>(), prop::bool::weighted(0.2));
        let log = (0..9_usize, 0..2000_u64, 0..9_i64);
        let parts = (
            prop::collection::vec(build(), 0..9),
            prop::collection::vec(version, 0..9),
            prop::collection::vec(log, 0..9),
            prop::collection::btree_set(0..9_u32, 0..4),
            (1..4_i64, 0..4_i64, 0..3000_u64),
        );
        parts.prop_map(|(builds, versions, logs, needed, (succeeded_limit, failed_limit, max_bytes))| Observed {
            retention: Retention {
                succeeded_limit,
                failed_limit,
                releases_per_host: 5,
                logs: crate::api::lifecycle::LogRetention { max_bytes: max_bytes.to_string(), ..Default::default() },
            },
            builds: (0..).zip(builds).map(|(n, build)| BuildObserved { uid: format!("b{n}"), ..build }).collect(),
            needed: needed.into_iter().map(|n| format!("v{n}")).collect(),
            versions: (0..)
                .zip(versions)
                .map(|(n, (second, stored, removed))| VersionObserved {
                    version: format!("v{n}"),
                    built_at: at(second),
                    digest: format!("d{n}"),
                    stored: stored || !removed,
                    removed,
                })
                .collect(),
            logs: logs
                .into_iter()
                .map(|(n, bytes, second)| LogObserved {
                    uid: format!("b{n}"),
                    attempt: 1,
                    bytes,
                    at: at(second),
                    torn: false,
                })
                .collect(),
        })
    }

    /// What there is after an act.
    fn done(mut observed: Observed, action: &Action) -> Observed {
        let mut of = |name: &String, change: fn(&mut VersionObserved)| {
            observed.versions.iter_mut().filter(|version| version.version == *name).for_each(change);
        };
        match action {
            Action::RestoreVersion { version } => of(version, |version| version.removed = false),
            Action::ExpireVersion { version, .. } => of(version, |version| version.removed = true),
            Action::DeleteRelease { version, .. } => of(version, |version| version.stored = false),
            Action::DeleteLog { uid, .. } => observed.logs.retain(|log| log.uid != *uid),
            Action::DeleteBuild { uid, .. } => observed.builds.retain(|build| build.uid != *uid),
        }
        observed
    }

    proptest! {
        #[test]
        fn what_goes_is_of_a_kind_that_retention_looks_for(observed in observed()) {
            for action in plan(&observed, at(10)) {
                prop_assert!(action.kind().is_none_or(|kind| kind.collector() == Collector::Retention));
            }
        }

        #[test]
        fn nothing_goes_that_is_needed_or_under_way_and_the_newest_stays_and_then_there_is_silence(observed in observed()) {
            let now = at(10);
            let newest = observed.versions.iter().filter(|version| !version.removed).map(|version| version.built_at).max();
            let actions = plan(&observed, now);
            for action in &actions {
                match action {
                    Action::DeleteRelease { version, .. } | Action::ExpireVersion { version, .. } => prop_assert!(!observed.needed.contains(version)),
                    Action::RestoreVersion { version } => prop_assert!(observed.needed.contains(version)),
                    Action::DeleteLog { uid, .. } | Action::DeleteBuild { uid, .. } => {
                        let build = observed.builds.iter().find(|build| build.uid == *uid).unwrap();
                        prop_assert!(build.stage == BuildStage::Ended && !build.busy);
                        let needed = build.version.as_ref().is_some_and(|version| observed.needed.contains(version));
                        let log = matches!(action, Action::DeleteLog { .. });
                        prop_assert!(log || !needed);
                    }
                }
            }
            let after = actions.iter().fold(observed, done);
            let kept = after.versions.iter().filter(|version| !version.removed).map(|version| version.built_at).max();
            prop_assert!(kept >= newest);
            // What is retired loses its bytes at the next look, and what is restored may be one too many then.
            let last = (0..3).fold(after, |observed, _| plan(&observed, now).iter().fold(observed, done));
            prop_assert_eq!(plan(&last, now), []);
        }
    }
}
