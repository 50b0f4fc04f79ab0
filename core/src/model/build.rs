//! What is kept of a build in the store, below `builds/<uid>/`: enough to tell its whole story again when its status is lost.
//! Records are JSON, created once and never changed, so a new field needs a default.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};

use super::{format, version::LISTED};
use crate::api::{
    SecretKeyRef,
    build::{Artifact, BuiltCommit},
    lifecycle::CacheRule,
    project::{ArtifactRule, BuildEnvVar, ExternalContent, Resources, Run},
};

/// `plan.json`: what was granted. Every attempt reads only this, so an edit of the Project changes later builds alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildPlan {
    /// Format of this record; records without it are of the first.
    #[serde(default = "format::first")]
    pub format: u32,
    pub namespace: String,
    pub project: String,
    /// Name of the Build.
    pub build: String,
    pub uid: String,
    pub number: i64,
    pub granted_at: Time,
    /// As the template made it; checked when the build begins.
    pub version: String,
    /// Whether the tag is pushed.
    pub push: bool,
    /// URL of the repository.
    pub url: String,
    /// Name of its Secret, where the Project does not say another by now.
    #[serde(default)]
    pub secret: Option<String>,
    /// The folder where the script runs; empty or `.`: the root.
    #[serde(default)]
    pub path: String,
    #[serde(default)]
    pub submodules: ExternalContent,
    #[serde(default)]
    pub lfs: ExternalContent,
    pub commit: BuiltCommit,
    pub script: String,
    #[serde(default)]
    pub env: Vec<BuildEnvVar>,
    /// Name → value, defaults included.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    pub artifacts: Vec<ArtifactRule>,
    /// The Project's uid: another Project of that name has other caches.
    #[serde(default)]
    pub project_uid: String,
    #[serde(default)]
    pub caches: Vec<CacheRule>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    pub timeout_seconds: i64,
    pub idle_timeout_seconds: i64,
    #[serde(deserialize_with = "Run::frozen")]
    pub run: Run,
}

impl BuildPlan {
    /// The script's variables, in the order in which a later one wins: the recipe's, the parameters, landfall's own.
    /// Values go into the environment as they are; none is ever part of a command.
    pub fn environment(&self) -> Vec<(String, String)> {
        let own = [
            ("LANDFALL_PROJECT", self.project.clone()),
            ("LANDFALL_COMMIT", self.commit.sha.clone()),
            ("LANDFALL_BRANCH", self.commit.branch.clone()),
            ("LANDFALL_VERSION", self.version.clone()),
            ("LANDFALL_BUILD_NUMBER", self.number.to_string()),
        ];
        let plain = self.env.iter().filter(|env| env.value_from.is_none());
        let recipe = plain.map(|env| (env.name.clone(), env.value.clone().unwrap_or_default()));
        let parameters = self.parameters.iter().map(|(name, value)| (name.clone(), value.clone()));
        let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
        std::iter::once(("CI".to_owned(), "true".to_owned())).chain(recipe).chain(parameters).chain(own).collect()
    }

    /// The variables whose values are in Secrets, read again for each attempt. A parameter of the same name wins.
    pub fn secrets(&self) -> Vec<(String, SecretKeyRef)> {
        secrets(&self.env).into_iter().filter(|(name, _)| !self.parameters.contains_key(name)).collect()
    }

    /// `run.json` in the release: the same bytes for the same plan.
    pub fn run_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        let run = RunJson { project: &self.project, version: &self.version, commit: &self.commit.sha, run: &self.run };
        serde_json::to_vec_pretty(&run)
    }
}

/// The variables of a recipe whose values are in Secrets.
pub fn secrets(env: &[BuildEnvVar]) -> Vec<(String, SecretKeyRef)> {
    let from = |env: &BuildEnvVar| Some((env.name.clone(), env.value_from.as_ref()?.secret_key_ref.clone()));
    env.iter().filter_map(from).collect()
}

#[derive(Serialize)]
struct RunJson<'a> {
    project: &'a str,
    version: &'a str,
    commit: &'a str,
    run: &'a Run,
}

/// `release.json`: what the successful attempt made. From here on nothing is built again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseRecord {
    /// Format of this record; records without it are of the first.
    #[serde(default = "format::first")]
    pub format: u32,
    /// The attempt that made it.
    pub attempt: i64,
    /// SHA-256 of the release in hex, 64 digits.
    pub digest: String,
    /// Bytes.
    pub size: u64,
    /// The first of them, see [`listed`].
    pub artifacts: Vec<Artifact>,
    /// How many files there are. Records of an earlier version list all of them and have no count.
    #[serde(default)]
    pub artifact_count: u64,
}

impl ReleaseRecord {
    /// How many files the release has, and those that a status and a record list.
    pub fn shown(&self) -> (u64, Vec<Artifact>) {
        let count = self.artifact_count.max(self.artifacts.len() as u64);
        (count, listed(self.artifacts.iter().cloned()))
    }
}

/// Bytes of the names of all artifacts that are listed.
const LISTED_BYTES: usize = 64 * 1024;

/// The first artifacts, as many as a status and a record take. The others are in the release.
pub fn listed(artifacts: impl IntoIterator<Item = Artifact>) -> Vec<Artifact> {
    let mut room = LISTED_BYTES;
    let fits = |artifact: &Artifact| match room.checked_sub(artifact.name.len()) {
        Some(left) => {
            room = left;
            true
        }
        None => false,
    };
    artifacts.into_iter().take(LISTED).take_while(fits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(count: usize, name: usize) -> impl Iterator<Item = Artifact> {
        (0..count).map(move |n| Artifact { name: format!("{n:0name$}"), digest: format!("sha256:{n:064}"), size: 1 })
    }

    #[test]
    fn no_number_of_files_and_no_length_of_names_makes_a_status_too_large() {
        assert_eq!(listed(files(99, 8)).len(), 99);
        assert_eq!(listed(files(50_000, 8)).len(), LISTED);
        let long = listed(files(50_000, 4000));
        assert_eq!(long.len(), 16);
        let of_before = ReleaseRecord {
            format: format::FORMAT,
            attempt: 1,
            digest: "d".into(),
            size: 1,
            artifacts: files(300, 8).collect(),
            artifact_count: 0,
        };
        let (count, listed) = of_before.shown();
        assert_eq!((count, listed.len()), (300, LISTED), "a record that lists all and counts none");
    }
}
