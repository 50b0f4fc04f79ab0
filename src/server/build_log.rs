//! `builds/log`: the output of a script, while it runs and afterwards.

use std::{sync::Arc, time::Duration};

use kube::{Api, ResourceExt};

use super::{api_error::ApiError, logs::Readable, query::LogQuery, state::View};
use crate::{
    api::{Build, build::Attempt, conditions},
    effects::executor::{AttemptId, StepState},
    model::backoff::Backoff,
};

pub(crate) const PARAMETERS: [&str; 5] = ["follow", "since", "tail", "attempt", "timestamps"];
/// Between two reads of a build that has not begun yet.
const BEGIN_POLL: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(2));

/// The requested log. With `follow` it is waited for until the script begins.
pub async fn find(view: &Arc<View>, namespace: &str, name: &str, query: &LogQuery) -> Result<Readable, ApiError> {
    let api = Api::<Build>::namespaced(view.client.clone(), namespace);
    let requested = match &query.attempt {
        Some(text) => Some(text.parse::<i64>().map_err(|_| {
            ApiError::bad_request(format!("attempt takes the number of an attempt, from 1, not {text:?}"))
        })?),
        None => None,
    };
    let mut waits = BEGIN_POLL.waits();
    loop {
        let build = api
            .get_opt(name)
            .await?
            .ok_or_else(|| ApiError::not_found(format!("there is no Build {name:?} in the namespace {namespace:?}")))?;
        if let Some(attempt) = attempt(&build, requested) {
            return readable(view, &build, attempt).await;
        }
        if !query.follow || is_over(&build) {
            return Err(without_log(&build, requested));
        }
        tokio::time::sleep(waits.next_wait()).await;
    }
}

fn attempt(build: &Build, requested: Option<i64>) -> Option<&Attempt> {
    let mut attempts = build.status.iter().flat_map(|status| &status.attempts);
    match requested {
        Some(number) => attempts.find(|attempt| attempt.number == number),
        None => attempts.next_back(),
    }
}

/// No (further) attempt comes, unless a person asks for one.
fn is_over(build: &Build) -> bool {
    let Some(status) = &build.status else { return false };
    let is_true = |kind: &str| status.conditions.iter().any(|one| one.type_ == kind && one.status == "True");
    build.metadata.deletion_timestamp.is_some() || is_true(conditions::STALLED) || is_true("Ready")
}

fn without_log(build: &Build, requested: Option<i64>) -> ApiError {
    let name = build.name_any();
    if let Some(number) = requested {
        return ApiError::not_found(format!(
            "the Build {name:?} has no attempt {number} (its status keeps the newest 20)"
        ));
    }
    let ready = build.status.iter().flat_map(|status| &status.conditions).find(|one| one.type_ == "Ready");
    let why =
        ready.map_or_else(|| "not observed yet".to_owned(), |ready| format!("{}: {}", ready.reason, ready.message));
    let then = if is_over(build) { "" } else { "; follow=true waits for it" };
    ApiError::not_found(format!("the Build {name:?} has no log, its script did not begin ({why}){then}"))
}

async fn readable(view: &Arc<View>, build: &Build, attempt: &Attempt) -> Result<Readable, ApiError> {
    let id = AttemptId::new(build.uid().unwrap_or_default(), attempt.number);
    let log = view.executor.log_of(&id, &view.store).map_err(|error| ApiError::internal(&error))?;
    let ended = attempt.outcome.is_some();
    let state = view.executor.state(&id).await.map_err(|error| ApiError::internal(&error))?;
    let has_output = attempt.log_bytes.is_some_and(|bytes| bytes > 0);
    if has_output && ended && log.size().await.map_err(|error| ApiError::internal(&error))? == 0 {
        let name = build.name_any();
        return Err(ApiError::not_found(format!(
            "the log of attempt {} of the Build {name:?} was removed by retention.logs of its Project",
            attempt.number
        )));
    }
    let here = state != StepState::Absent;
    let over = match state {
        StepState::Running { .. } => false,
        StepState::Absent => ended,
        StepState::Exited(_) | StepState::Lost { .. } => true,
    };
    let (executor, client, build) = (view.executor.clone(), view.client.clone(), build.clone());
    let ended = move || {
        let (executor, client, id, build) = (executor.clone(), client.clone(), id.clone(), build.clone());
        async move {
            match executor.state(&id).await {
                Ok(StepState::Running { .. }) | Err(_) => false,
                Ok(StepState::Exited(_) | StepState::Lost { .. }) => true,
                Ok(StepState::Absent) => is_gone(&client, &build).await,
            }
        }
    };
    Ok(Readable { log, attempt: attempt.number.to_string(), here, over, ended: Box::new(move || Box::pin(ended())) })
}

/// Whether an attempt that is nowhere to be found never begins: its Build was deleted or has ended.
async fn is_gone(client: &kube::Client, build: &Build) -> bool {
    let api = Api::<Build>::namespaced(client.clone(), &build.namespace().unwrap_or_default());
    match api.get_opt(&build.name_any()).await {
        Ok(Some(now)) => now.uid() != build.uid() || is_over(&now),
        Ok(None) => true,
        Err(_) => false,
    }
}
