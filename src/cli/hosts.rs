//! `landfall hosts GROUP`: every host of a group, and what runs there in which version.

use std::fmt::Write;

use jiff::Timestamp;

use super::{
    cluster::ClusterArgs,
    error::{CliError, ExitStatus},
    object::{Kind, name_of},
    output::{self, Format},
    screen::{ago, indented},
    view::ViewClient,
};
use crate::{
    api::view::{HostMatrix, HostRow, HostState, path},
    effects::clock,
    model::text::for_terminal,
};

/// List the hosts of a HostGroup, with the version of each project that runs there
///
/// Exit code: 0 with the list, 2 without an answer (usage, no cluster, no such object, no right).
#[derive(Debug, Clone, clap::Args)]
pub struct HostsArgs {
    /// Name of the HostGroup
    #[arg(value_name = "HOSTGROUP")]
    pub group: String,
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Output format [default: a table]
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub output: Option<Format>,
}

/// Prints the table on stdout.
pub async fn hosts(args: HostsArgs) -> Result<ExitStatus, CliError> {
    let name = name_of(Kind::HostGroup, &args.group).ok_or_else(|| CliError::BadName {
        object: args.group.clone(),
        wanted: "the name of a HostGroup; `kubectl get lfh` lists them".into(),
    })?;
    let client = ViewClient::new(&args.cluster).await?;
    let matrix: HostMatrix = client.json(&path(&client.cluster.namespace, "hostgroups", name, "hosts")).await?;
    match args.output {
        Some(format) => output::print_value(format, &matrix)?,
        None => output::print(&screen(&matrix, clock::now()))?,
    }
    Ok(ExitStatus::Done)
}

/// One line for each project on each host; a host without projects has a line as well.
fn screen(matrix: &HostMatrix, now: Timestamp) -> String {
    let mut out = String::new();
    let head = ["HOST", "ADDRESS", "PROJECT", "VERSION", "STATE", "CHECKED"].map(str::to_owned);
    let rows: Vec<[String; 6]> =
        std::iter::once(head).chain(matrix.hosts.iter().flat_map(|host| lines(host, now))).collect();
    let width = |column: usize| rows.iter().filter_map(|row| Some(row.get(column)?.chars().count())).max().unwrap_or(0);
    let [w0, w1, w2, w3, w4] = [0, 1, 2, 3, 4].map(width);
    for [host, address, project, version, state, checked] in &rows {
        let _ = writeln!(out, "{host:<w0$}  {address:<w1$}  {project:<w2$}  {version:<w3$}  {state:<w4$}  {checked}");
    }
    for host in &matrix.hosts {
        if let Some(problem) = &host.problem {
            let _ = writeln!(out, "{}: {}", host.host, indented(problem));
        }
    }
    for_terminal(&out)
}

fn lines(host: &HostRow, now: Timestamp) -> Vec<[String; 6]> {
    let checked = host.seen_at.map_or_else(|| "-".to_owned(), |at| ago(at, now));
    let line = |project: &str, version: &str, state: String| {
        [host.host.clone(), host.address.clone(), project.to_owned(), version.to_owned(), state, checked.clone()]
    };
    if host.projects.is_empty() {
        let state = match host.state {
            HostState::Unknown => "Unknown",
            HostState::Reachable => "Empty",
            HostState::Unreachable => "Unreachable",
        };
        return vec![line("-", "-", state.to_owned())];
    }
    let projects = host.projects.iter().map(|project| {
        let state = project.phase.map_or_else(|| format!("{:?}", project.state), |phase| format!("{phase:?}"));
        line(&project.project, project.version.as_deref().unwrap_or("-"), state)
    });
    projects.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_host_is_a_line_whatever_is_known_of_it() {
        let matrix: HostMatrix = serde_json::from_value(serde_json::json!({
            "apiVersion": "view.landfall.dev/v1alpha1", "kind": "HostMatrix",
            "hosts": [
                { "host": "web-01", "address": "10.0.0.1", "state": "Reachable", "seenAt": "2026-11-25T08:00:00Z", "projects": [
                    { "project": "shop", "version": "v2", "state": "Ready" },
                    { "project": "blog", "version": "v1", "state": "Running", "phase": "Verifying" },
                ] },
                { "host": "web-02", "address": "10.0.0.2", "state": "Unreachable", "problem": "Unreachable: no\u{1b}[2J answer", "projects": [] },
            ],
        }))
        .unwrap();
        let shown = screen(&matrix, "2026-11-25T08:00:05Z".parse().unwrap());
        let expected = "\
HOST    ADDRESS   PROJECT  VERSION  STATE        CHECKED
web-01  10.0.0.1  shop     v2       Ready        5s ago
web-01  10.0.0.1  blog     v1       Verifying    5s ago
web-02  10.0.0.2  -        -        Unreachable  -
web-02: Unreachable: no\u{fffd}[2J answer
";
        assert_eq!(shown, expected);
    }
}
