//! `landfall matrix [PROJECT]`: how many hosts run which version, by group and zone, and which of them are not as they shall be. Pure but for the
//! reads.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use super::{
    cluster::ClusterArgs,
    error::{CliError, ExitStatus},
    object::{Kind, name_of},
    output::{self, Format},
    screen,
    view::ViewClient,
};
use crate::{
    api::{
        Deployment, HostGroup, Reason,
        deployment::Phase,
        hostgroup::Host,
        view::{HostMatrix, HostRow, HostState, ProcessState, ProjectRow, path},
    },
    effects::clock,
    plan::deployment::{pinned_versions, select},
};

/// Show how many hosts run which version of each Project, by host group and zone, and which are not as they shall be
///
/// Exit code: 0 with the matrix, 2 without an answer (usage, no cluster, no such object, no right).
#[derive(Debug, Clone, clap::Args)]
pub struct MatrixArgs {
    /// Name of the Project [default: every one]
    #[arg(value_name = "PROJECT")]
    pub project: Option<String>,
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Label of the hosts whose value is the zone
    #[arg(long, value_name = "LABEL", default_value = "zone")]
    pub by: String,
    /// Output format [default: a table for each Project]
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub output: Option<Format>,
}

/// Hosts of one Deployment in one zone. Each host is in one of the last five numbers at most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row {
    pub project: String,
    pub deployment: String,
    pub host_group: String,
    /// Empty: the hosts have no such label.
    pub zone: String,
    /// Version that the Deployment asks for.
    pub wanted: String,
    pub hosts: usize,
    /// Number of hosts by the version that runs there, as far as that is known.
    pub versions: BTreeMap<String, usize>,
    /// Nothing runs there.
    pub empty: usize,
    /// Its update failed.
    pub failed: usize,
    /// It was changed by hand or by somebody else, or its process ended.
    pub drifting: usize,
    /// It does not answer, or was not checked yet.
    pub away: usize,
    /// It runs another version than the Deployment asks for there.
    pub stale: usize,
    /// A pin gives it another version than the others, and it runs that.
    pub pinned: usize,
}

/// State of one host, the first that fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Failed,
    Drifting,
    Away,
    Stale,
    Pinned,
    Current,
}

/// Prints the matrix on stdout.
pub async fn matrix(args: MatrixArgs) -> Result<ExitStatus, CliError> {
    let project = match &args.project {
        Some(project) => Some(name_of(Kind::Project, project).ok_or_else(|| CliError::BadName {
            object: project.clone(),
            wanted: "the name of a Project; `kubectl get lfp` lists them".into(),
        })?),
        None => None,
    };
    let client = ViewClient::new(&args.cluster).await?;
    if let Some(project) = project {
        client.cluster.get(Kind::Project, project).await?;
    }
    let fields = project.map(|project| format!("spec.projectRef.name={project}")).unwrap_or_default();
    let deployments: Vec<Deployment> = parsed(client.cluster.list(Kind::Deployment, &fields).await?)?;
    let groups: Vec<HostGroup> = parsed(client.cluster.list(Kind::HostGroup, "").await?)?;
    let used: BTreeSet<&str> = deployments.iter().map(|one| one.spec.host_group_ref.name.as_str()).collect();
    let mut seen = BTreeMap::new();
    for group in groups.iter().filter_map(|group| group.metadata.name.as_deref()).filter(|name| used.contains(name)) {
        let hosts: HostMatrix = client.json(&path(&client.cluster.namespace, "hostgroups", group, "hosts")).await?;
        seen.insert(group.to_owned(), hosts);
    }
    let rows = rows(&deployments, &groups, &seen, &args.by, clock::now());
    match args.output {
        Some(format) => output::print_value(format, &json!({ "kind": "VersionMatrix", "rows": rows }))?,
        None => output::print(&screen::matrix(&rows))?,
    }
    Ok(ExitStatus::Done)
}

fn parsed<K: serde::de::DeserializeOwned>(objects: Vec<serde_json::Value>) -> Result<Vec<K>, CliError> {
    objects.into_iter().map(|object| Ok(serde_json::from_value(object)?)).collect()
}

/// By project, Deployment and zone.
fn rows(
    deployments: &[Deployment],
    groups: &[HostGroup],
    seen: &BTreeMap<String, HostMatrix>,
    label: &str,
    now: Timestamp,
) -> Vec<Row> {
    let mut rows: BTreeMap<(String, String, String), Row> = BTreeMap::new();
    for deployment in deployments {
        let group_name = &deployment.spec.host_group_ref.name;
        let Some(group) = groups.iter().find(|group| group.metadata.name.as_ref() == Some(group_name)) else {
            continue;
        };
        let name = deployment.metadata.name.clone().unwrap_or_default();
        let pinned = pinned_versions(&deployment.spec, &group.spec.hosts, now);
        for host in select(deployment.spec.hosts.as_ref(), &group.spec.hosts).unwrap_or_default() {
            let zone = host.labels.get(label).cloned().unwrap_or_default();
            let project = deployment.spec.project_ref.name.clone();
            let row = rows.entry((project.clone(), name.clone(), zone.clone())).or_insert_with(|| Row {
                project,
                deployment: name.clone(),
                host_group: group_name.clone(),
                zone,
                wanted: deployment.spec.version.clone(),
                hosts: 0,
                versions: BTreeMap::new(),
                empty: 0,
                failed: 0,
                drifting: 0,
                away: 0,
                stale: 0,
                pinned: 0,
            });
            let known = seen.get(group_name).and_then(|hosts| hosts.hosts.iter().find(|one| one.host == host.name));
            row.add(deployment, host, pinned.get(host.name.as_str()).copied(), known);
        }
    }
    rows.into_values().collect()
}

impl Row {
    fn add(&mut self, deployment: &Deployment, host: &Host, pinned: Option<&str>, seen: Option<&HostRow>) {
        let runs = seen.and_then(|seen| seen.projects.iter().find(|one| one.project == self.project));
        let is_known = seen.is_some_and(|seen| seen.state == HostState::Reachable);
        self.hosts += 1;
        match runs.and_then(|runs| runs.version.as_ref()) {
            Some(version) => *self.versions.entry(version.clone()).or_default() += 1,
            None => self.empty += usize::from(is_known),
        }
        match state(deployment, host, pinned, runs.filter(|_| is_known), is_known) {
            State::Failed => self.failed += 1,
            State::Drifting => self.drifting += 1,
            State::Away => self.away += 1,
            State::Stale => self.stale += 1,
            State::Pinned => self.pinned += 1,
            State::Current => {}
        }
    }
}

fn state(
    deployment: &Deployment,
    host: &Host,
    pinned: Option<&str>,
    runs: Option<&ProjectRow>,
    is_known: bool,
) -> State {
    let exceptions = deployment.status.iter().flat_map(|status| &status.exceptions);
    let exception = exceptions.into_iter().find(|one| one.host == host.name);
    if exception.is_some_and(|one| one.phase == Phase::Failed) {
        return State::Failed;
    }
    if !is_known {
        return State::Away;
    }
    let drifts =
        [Reason::ChangedByHand, Reason::ReleaseTampered, Reason::HostsAhead, Reason::FencedByOtherControlPlane];
    let is_drift = exception.is_some_and(|one| drifts.iter().any(|reason| reason.as_str() == one.reason));
    match runs {
        _ if is_drift => State::Drifting,
        Some(runs) if runs.state == ProcessState::Down && runs.phase.is_none() => State::Drifting,
        Some(runs) if pinned.is_some() && runs.version.as_deref() == pinned => State::Pinned,
        Some(runs) if pinned.is_none() && runs.version.as_ref() == Some(&deployment.spec.version) => State::Current,
        _ => State::Stale,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::Value;

    use super::*;

    fn deployment(name: &str, hosts: Value, exceptions: Value) -> Deployment {
        let mut object = json!({
            "metadata": { "name": name },
            "spec": { "projectRef": { "name": "hello" }, "hostGroupRef": { "name": "prod" }, "version": "v2" },
            "status": { "observedGeneration": 1, "conditions": [], "exceptions": exceptions },
        });
        if !hosts.is_null() {
            object["spec"]["hosts"] = hosts;
        }
        object["apiVersion"] = "landfall.dev/v1alpha1".into();
        object["kind"] = "Deployment".into();
        serde_json::from_value(object).unwrap()
    }

    fn exception(host: &str, phase: &str, reason: &str) -> Value {
        json!({ "host": host, "phase": phase, "reason": reason, "message": "m", "since": "2026-11-24T08:00:00Z" })
    }

    /// Three hosts in zone a, three in b, one without a zone.
    pub(in crate::cli) fn example() -> Vec<Row> {
        let zones = [Some("a"), Some("a"), Some("a"), Some("b"), Some("b"), Some("b"), None];
        let host = |(n, zone): (usize, &Option<&str>)| {
            let labels = zone.map(|zone| json!({ "zone": zone })).unwrap_or_else(|| json!({}));
            json!({ "name": format!("web-{n}"), "address": format!("10.0.0.{n}"), "labels": labels })
        };
        let hosts: Vec<Value> = zones.iter().enumerate().map(host).collect();
        let group = json!({
            "apiVersion": "landfall.dev/v1alpha1", "kind": "HostGroup", "metadata": { "name": "prod" },
            "spec": { "ssh": { "user": "deploy", "credentialsRef": { "name": "a" }, "hostKeys": { "knownHostsRef": { "name": "b" } } }, "hosts": hosts },
        });
        let runs = |n: usize, version: Option<&str>, state: &str| {
            let projects = match version {
                Some(version) => {
                    json!([{ "project": "hello", "version": version, "state": state }, { "project": "blog", "version": "v9", "state": "Ready" }])
                }
                None => json!([]),
            };
            json!({ "host": format!("web-{n}"), "address": "x", "state": "Reachable", "projects": projects })
        };
        let silent = json!({ "host": "web-4", "address": "x", "state": "Unreachable", "projects": [] });
        let seen: HostMatrix = serde_json::from_value(json!({
            "apiVersion": "view.landfall.dev/v1alpha1", "kind": "HostMatrix",
            "hosts": [
                runs(0, Some("v2"), "Ready"), runs(1, Some("v1"), "Ready"), runs(2, Some("v1"), "Ready"),
                runs(3, Some("v2"), "Down"), silent, runs(5, Some("v1"), "Ready"), runs(6, None, ""),
            ],
        }))
        .unwrap();
        let exceptions =
            json!([exception("web-2", "Failed", "NotReady"), exception("web-5", "Pending", "ChangedByHand")]);
        let mut deployments = [deployment("hello", Value::Null, exceptions)];
        let pin = json!([{ "version": "v1", "hosts": { "names": ["web-1", "web-4"] }, "reason": "a leak" }]);
        deployments[0].spec.pins = serde_json::from_value(pin).unwrap();
        rows(
            &deployments,
            &[serde_json::from_value(group).unwrap()],
            &BTreeMap::from([("prod".to_owned(), seen)]),
            "zone",
            Timestamp::UNIX_EPOCH,
        )
    }

    #[test]
    fn a_pinned_host_is_told_from_a_stale_one() {
        let rows = example();
        assert_eq!((rows[1].pinned, rows[2].pinned), (1, 0));
    }

    #[test]
    fn each_host_counts_by_version_and_in_one_state_at_most() {
        let rows = example();
        let told: Vec<_> = rows
            .iter()
            .map(|row| (row.zone.as_str(), row.hosts, row.empty, row.failed, row.drifting, row.away, row.stale))
            .collect();
        assert_eq!(told, [("", 1, 1, 0, 0, 0, 1), ("a", 3, 0, 1, 0, 0, 0), ("b", 3, 0, 0, 2, 1, 0)]);
        assert_eq!(rows[1].versions, BTreeMap::from([("v1".to_owned(), 2), ("v2".to_owned(), 1)]));
        assert_eq!(rows[2].versions, BTreeMap::from([("v1".to_owned(), 1), ("v2".to_owned(), 1)]));
    }
}
