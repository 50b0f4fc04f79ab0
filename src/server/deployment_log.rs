//! `deployments/log`: what was done on the hosts of a rollout, and what came of it; with `?host` on one of them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use kube::{Api, ResourceExt};
use parking_lot::Mutex;

use super::{api_error::ApiError, logs::Readable, query::LogQuery, state::View};
use crate::{
    api::{
        Deployment, HostGroup,
        conditions::STALLED,
        deployment::{DeploymentStatus, RolloutOutcome},
    },
    effects::clock,
    model::rollout::RolloutAttempt,
};

/// Its lines have their times with and without `timestamps`.
pub(crate) const PARAMETERS: [&str; 6] = ["follow", "since", "tail", "attempt", "timestamps", "host"];
/// Interval between two reads of a Deployment whose rollout has not begun.
const BEGIN_POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Interval between two reads of a Deployment to see whether its rollout has ended, for each follower.
const END_POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The requested log. With `follow` it is waited for until the rollout begins.
pub async fn find(view: &Arc<View>, namespace: &str, name: &str, query: &LogQuery) -> Result<Readable, ApiError> {
    let requested = match &query.attempt {
        Some(text) => Some(text.parse::<RolloutAttempt>().map_err(|()| {
            ApiError::bad_request(format!("attempt takes <revision>.<serial>.<attempt>, say 2.0.1, not {text:?}"))
        })?),
        None => None,
    };
    let api = Api::<Deployment>::namespaced(view.client.clone(), namespace);
    loop {
        let deployment = api.get_opt(name).await?.ok_or_else(|| {
            ApiError::not_found(format!("there is no Deployment {name:?} in the namespace {namespace:?}"))
        })?;
        let status = deployment.status.clone().unwrap_or_default();
        let observed = status.observed_generation >= deployment.metadata.generation.unwrap_or_default();
        let current = current(&status);
        match requested.or(current) {
            // A follower of a change that is not observed yet wants that rollout, not the one before.
            Some(attempt) if observed || !query.follow || requested.is_some() => {
                check_host(view, &deployment, query.host.as_deref()).await?;
                return readable(view, &deployment, attempt, query).await;
            }
            Some(_) => {}
            None if query.follow && !(observed && is_stalled(&status)) => {}
            None => return Err(without_log(&deployment, &status)),
        }
        tokio::time::sleep(BEGIN_POLL_INTERVAL).await;
    }
}

fn current(status: &DeploymentStatus) -> Option<RolloutAttempt> {
    status.rollout.as_ref().and_then(|rollout| RolloutAttempt::new(&rollout.id, rollout.attempt))
}

fn is_stalled(status: &DeploymentStatus) -> bool {
    status.conditions.iter().any(|one| one.type_ == STALLED && one.status == "True")
}

/// Whether that attempt has ended: succeeded, failed, or another one has taken its place.
fn is_over(status: &DeploymentStatus, attempt: RolloutAttempt) -> bool {
    let progressing = status.history.first().is_none_or(|newest| newest.outcome == RolloutOutcome::Progressing);
    current(status) != Some(attempt) || !progressing || is_stalled(status)
}

fn without_log(deployment: &Deployment, status: &DeploymentStatus) -> ApiError {
    let ready = status.conditions.iter().find(|one| one.type_ == "Ready");
    let why =
        ready.map_or_else(|| "not observed yet".to_owned(), |ready| format!("{}: {}", ready.reason, ready.message));
    let then = if is_stalled(status) { "" } else { "; follow=true waits for it" };
    ApiError::not_found(format!(
        "the Deployment {:?} has no log, no rollout has begun ({why}){then}",
        deployment.name_any()
    ))
}

/// A misspelt host is an error, not an empty log.
async fn check_host(view: &View, deployment: &Deployment, host: Option<&str>) -> Result<(), ApiError> {
    let Some(host) = host else { return Ok(()) };
    let (namespace, group) = (deployment.namespace().unwrap_or_default(), &deployment.spec.host_group_ref.name);
    let known = Api::<HostGroup>::namespaced(view.client.clone(), &namespace).get_opt(group).await?;
    match known {
        Some(known) if !known.spec.hosts.iter().any(|one| one.name == host) => {
            Err(ApiError::not_found(format!("the HostGroup {group:?} has no host {host:?}")))
        }
        _ => Ok(()),
    }
}

/// Whether it is time to ask again.
fn is_due(asked: &mut Option<Instant>) -> bool {
    let due = asked.is_none_or(|at| at.elapsed() >= END_POLL_INTERVAL);
    if due {
        *asked = Some(clock::monotonic());
    }
    due
}

async fn readable(
    view: &Arc<View>,
    deployment: &Deployment,
    attempt: RolloutAttempt,
    query: &LogQuery,
) -> Result<Readable, ApiError> {
    let uid = deployment.uid().unwrap_or_default();
    let log = view.rollout_logs.log_of(&uid, attempt, query.host.as_deref(), &view.store);
    let log = log.map_err(|error| ApiError::bad_request(error.to_string()))?;
    // What the status tells was written down before it; a line may still wait for the disk.
    view.rollout_logs.flush().await;
    let here = log.file.exists();
    let over = is_over(&deployment.status.clone().unwrap_or_default(), attempt);
    let (client, namespace, name) =
        (view.client.clone(), deployment.namespace().unwrap_or_default(), deployment.name_any());
    let (asked, rollout_logs) = (Mutex::new(None), view.rollout_logs.clone());
    let ended = move || {
        let api = Api::<Deployment>::namespaced(client.clone(), &namespace);
        let (name, uid) = (name.clone(), uid.clone());
        let due = is_due(&mut asked.lock());
        let rollout_logs = rollout_logs.clone();
        async move {
            if !due {
                return false;
            }
            let over = match api.get_opt(&name).await {
                Ok(Some(now)) if now.uid().as_deref() == Some(&uid) => {
                    is_over(&now.status.unwrap_or_default(), attempt)
                }
                Ok(_) => true,
                Err(_) => false,
            };
            if over {
                rollout_logs.flush().await;
            }
            over
        }
    };
    Ok(Readable { log, attempt: attempt.to_string(), here, over, ended: Box::new(move || Box::pin(ended())) })
}
