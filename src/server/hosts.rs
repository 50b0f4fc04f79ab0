//! `hostgroups/hosts`: every host of a group and what runs there, from the memory of the leading operator. Pure but for the reads.

use std::sync::Arc;

use jiff::Timestamp;
use kube::Api;

use super::{api_error::ApiError, logs::away, state::View};
use crate::{
    api::{
        HostGroup,
        deployment::Phase,
        hostgroup::Host,
        view::{HostMatrix, HostRow, HostState, ProcessState, ProjectRow, VIEW_API},
    },
    model::facts::FolderFacts,
    plan::hostgroup::HostCheck,
};

pub async fn matrix(view: &Arc<View>, namespace: &str, name: &str) -> Result<HostMatrix, ApiError> {
    let hosts = view.hosts.borrow().clone().ok_or_else(away)?;
    let group = Api::<HostGroup>::namespaced(view.client.clone(), namespace).get_opt(name).await?;
    let missing = || ApiError::not_found(format!("there is no HostGroup {name:?} in the namespace {namespace:?}"));
    let group = group.ok_or_else(missing)?;
    let rows = group.spec.hosts.iter().map(|host| {
        let (check, checked_at) = hosts.last_check(namespace, name, &host.name);
        row(host, &check, checked_at, namespace, |uid| hosts.phase(uid, &host.name))
    });
    Ok(HostMatrix { api_version: VIEW_API.to_owned(), kind: "HostMatrix".to_owned(), hosts: rows.collect() })
}

/// Only projects of this namespace: what others run on the host is left out.
fn row(
    host: &Host,
    check: &HostCheck,
    checked_at: Option<Timestamp>,
    namespace: &str,
    phase: impl Fn(&str) -> Option<Phase>,
) -> HostRow {
    let (state, folders) = match check {
        HostCheck::Unknown => (HostState::Unknown, None),
        HostCheck::Failed(_) => (HostState::Unreachable, None),
        HostCheck::Facts(facts) => (HostState::Reachable, Some(&facts.folders)),
    };
    let mut projects = Vec::new();
    for (folder, facts) in folders.into_iter().flatten() {
        if let Some(project) = folder.as_str().strip_prefix(namespace).and_then(|rest| rest.strip_prefix('.')) {
            let owner = facts.owner.as_ref();
            projects.push(ProjectRow {
                project: project.to_owned(),
                version: facts.current.as_ref().map(|release| release.version().to_owned()),
                state: process(facts),
                phase: owner.and_then(|owner| phase(&owner.uid)),
                deployment: owner.map(|owner| owner.deployment.clone()),
            });
        }
    }
    HostRow {
        host: host.name.clone(),
        address: host.address.clone(),
        state,
        problem: check.problem().map(|problem| format!("{}: {}", problem.reason, problem.message)),
        seen_at: checked_at,
        projects,
    }
}

fn process(facts: &FolderFacts) -> ProcessState {
    let Some(process) = &facts.process else { return ProcessState::Absent };
    let ready = facts.ready.as_ref().is_some_and(|mark| mark.pid == process.pid && mark.start == process.start);
    match (process.alive, ready) {
        (false, _) => ProcessState::Down,
        (true, true) => ProcessState::Ready,
        (true, false) => ProcessState::Running,
    }
}
