//! `landfall history deployment/NAME`: its rollouts by version, from the status.

use serde_json::{Value, json};

use super::{
    cluster::{ClusterArgs, SILENCE_MAX},
    error::{CliError, ExitStatus},
    object::{self, Kind},
    output::{self, Format},
    screen,
};
use crate::{
    api::{Deployment, deployment::HistoryEntry},
    effects::clock,
};

/// Show the rollouts of a Deployment by version: what changed, how they ended, how long they took
///
/// Exit code: 0 with the history, 2 without an answer (usage, no cluster, no such object, no right).
#[derive(Debug, Clone, clap::Args)]
pub struct HistoryArgs {
    /// Object: deployment/NAME
    #[arg(value_name = "deployment/NAME")]
    pub object: String,
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Output format [default: the screen]
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub output: Option<Format>,
}

/// Rollouts of one version, the newest first.
#[derive(Debug, PartialEq)]
pub(super) struct OfVersion<'a> {
    pub version: &'a str,
    pub commit: &'a str,
    pub rollouts: Vec<&'a HistoryEntry>,
}

/// Prints the history on stdout.
pub async fn history(args: HistoryArgs) -> Result<ExitStatus, CliError> {
    let (kind, name) = object::required(&args.object, &[Kind::Deployment])?;
    let cluster = args.cluster.connect(Some(SILENCE_MAX)).await?;
    let object: Deployment = serde_json::from_value(cluster.get(kind, name).await?)?;
    let entries = object.status.map(|status| status.history).unwrap_or_default();
    let versions = by_version(&entries);
    match args.output {
        Some(format) => output::print_value(format, &to_json(&cluster.namespace, name, &versions))?,
        None => output::print(&screen::history(&cluster.namespace, name, &versions, clock::now()))?,
    }
    Ok(ExitStatus::Done)
}

/// In the order of their newest rollouts.
pub(super) fn by_version(entries: &[HistoryEntry]) -> Vec<OfVersion<'_>> {
    let mut versions: Vec<OfVersion<'_>> = Vec::new();
    for entry in entries {
        match versions.iter_mut().find(|one| one.version == entry.version) {
            Some(one) => one.rollouts.push(entry),
            None => versions.push(OfVersion { version: &entry.version, commit: &entry.commit, rollouts: vec![entry] }),
        }
    }
    versions
}

fn to_json(namespace: &str, name: &str, versions: &[OfVersion<'_>]) -> Value {
    let rollout = |entry: &&HistoryEntry| {
        let ended = entry.completed_at.as_ref();
        json!({
            "revision": entry.revision,
            "change": entry.change,
            "outcome": entry.outcome,
            "failedHosts": entry.failed_hosts,
            "startedAt": entry.started_at,
            "completedAt": ended,
            "seconds": ended.map(|ended| ended.0.as_second() - entry.started_at.0.as_second()),
        })
    };
    let version = |of: &OfVersion<'_>| {
        let rollouts: Vec<Value> = of.rollouts.iter().map(rollout).collect();
        json!({ "version": of.version, "commit": of.commit, "rollouts": rollouts })
    };
    let versions: Vec<Value> = versions.iter().map(version).collect();
    json!({ "kind": "DeploymentHistory", "namespace": namespace, "name": name, "versions": versions })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::cli) fn entries() -> Vec<HistoryEntry> {
        serde_json::from_value(json!([
            { "revision": 4, "version": "v1", "commit": "0123456789abcdef", "change": "Version", "startedAt": "2026-11-24T08:20:00Z", "outcome": "Progressing" },
            { "revision": 3, "version": "v2", "commit": "fedcba9876543210", "change": "Environment", "startedAt": "2026-11-24T08:10:00Z", "completedAt": "2026-11-24T08:12:05Z", "outcome": "Failed", "failedHosts": 2 },
            { "revision": 2, "version": "v2", "commit": "fedcba9876543210", "change": "Version", "startedAt": "2026-11-24T08:05:00Z", "completedAt": "2026-11-24T08:05:40Z", "outcome": "Succeeded" },
            { "revision": 1, "version": "v1", "commit": "0123456789abcdef", "change": "Version", "startedAt": "2026-11-24T08:00:00Z", "completedAt": "2026-11-24T08:00:30Z", "outcome": "Superseded" },
        ]))
        .unwrap()
    }

    #[test]
    fn rollouts_stand_below_their_version_with_their_duration() {
        let entries = entries();
        let shape = to_json("shop", "web", &by_version(&entries));
        assert_eq!(shape["versions"][0]["version"], "v1");
        assert_eq!(shape["versions"][0]["rollouts"][1]["revision"], 1);
        assert_eq!(shape["versions"][1]["rollouts"][0]["seconds"], 125);
        assert_eq!(shape["versions"][0]["rollouts"][0]["seconds"], Value::Null);
    }
}
