//! `deployments/plan`: what a Deployment would do with its spec or with one that is tried. Observed as for a reconcile, and decided by the
//! planner; nothing is written, and no host is asked.

use std::sync::Arc;

use kube::Api;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{api_error::ApiError, logs::away, state::View};
use crate::{
    api::{
        Deployment,
        conditions::READY,
        deployment::DeploymentSpec,
        view::{
            DeploymentPlan, HostLeftOut, PlanRequest, PlannedBatch, PlannedCause, PlannedGivenUp, PlannedUpdate,
            VIEW_API,
        },
    },
    effects::clock,
    plan::deployment::{Foreseen, ForeseenUpdate, GivenUpAs, UpdateCause, foresee},
};

pub async fn plan(view: &Arc<View>, namespace: &str, name: &str, body: &[u8]) -> Result<DeploymentPlan, ApiError> {
    let tried = tried_spec(body)?;
    let leading = view.hosts.borrow().clone().ok_or_else(away)?;
    let found = Api::<Deployment>::namespaced(view.client.clone(), namespace).get_opt(name).await?;
    let missing = || ApiError::not_found(format!("there is no Deployment {name:?} in the namespace {namespace:?}"));
    let mut deployment = found.ok_or_else(missing)?;
    let is_new = tried.is_some();
    if let Some(spec) = tried {
        check_references(&deployment.spec, &spec)?;
        deployment.spec = spec;
    }
    let spec = deployment.spec.clone();
    let _permit = view.planning.acquire().await.map_err(|error| ApiError::internal(&error))?;
    let failed = |why| ApiError::unavailable(format!("what the plan rests on can't be read now: {why}"), 1);
    let mut observed = leading.observe(deployment).await.map_err(failed)?;
    // As the API server counts a change of the spec.
    observed.generation += i64::from(is_new);
    let now = clock::now();
    let foreseen = tokio::task::spawn_blocking(move || foresee(&observed, now)).await;
    Ok(answer(&spec, foreseen.map_err(|error| ApiError::internal(&error))?))
}

fn tried_spec(body: &[u8]) -> Result<Option<DeploymentSpec>, ApiError> {
    if body.is_empty() {
        return Ok(None);
    }
    let request: PlanRequest = read("", &mut serde_json::Deserializer::from_slice(body))?;
    let Some(spec) = request.spec else { return Ok(None) };
    let parsed: DeploymentSpec = read("spec.", &spec)?;
    let known = serde_json::to_value(&parsed).map_err(|error| ApiError::internal(&error))?;
    match unknown_field("spec", &spec, &known) {
        Some(field) => Err(ApiError::bad_request(format!(
            "{field} is no field of a Deployment; kubectl explain lfd.spec lists them"
        ))),
        None => Ok(Some(parsed)),
    }
}

fn read<'de, T: DeserializeOwned, D: serde::Deserializer<'de>>(prefix: &str, from: D) -> Result<T, ApiError> {
    serde_path_to_error::deserialize(from)
        .map_err(|error| ApiError::bad_request(format!("{prefix}{}: {}", error.path(), error.inner())))
}

/// The path of a field that was sent and is not among what was read of it. Empty lists and objects are left out when they are written.
fn unknown_field(path: &str, sent: &Value, known: &Value) -> Option<String> {
    match (sent, known) {
        (Value::Object(sent), Value::Object(known)) => sent.iter().find_map(|(name, value)| {
            let path = format!("{path}.{name}");
            match known.get(name) {
                Some(known) => unknown_field(&path, value, known),
                None => (!is_empty(value)).then_some(path),
            }
        }),
        (Value::Array(sent), Value::Array(known)) => sent
            .iter()
            .zip(known)
            .enumerate()
            .find_map(|(index, (sent, known))| unknown_field(&format!("{path}[{index}]"), sent, known)),
        _ => None,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(all) => all.is_empty(),
        Value::Object(all) => all.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

fn check_references(before: &DeploymentSpec, tried: &DeploymentSpec) -> Result<(), ApiError> {
    if (&before.project_ref, &before.host_group_ref) == (&tried.project_ref, &tried.host_group_ref) {
        return Ok(());
    }
    Err(ApiError::bad_request(format!(
        "spec.projectRef and spec.hostGroupRef can't be changed: this Deployment is of project {} on host group {}",
        before.project_ref.name, before.host_group_ref.name
    )))
}

fn answer(spec: &DeploymentSpec, foreseen: Foreseen) -> DeploymentPlan {
    let ready = foreseen.status.conditions.iter().find(|condition| condition.type_ == READY);
    let (reason, message) = ready.map(|ready| (ready.reason.clone(), ready.message.clone())).unwrap_or_default();
    // Where the plan is cut, what is not ready has its turn yet.
    let left_out = foreseen.left_out().filter(|_| !foreseen.is_cut).map(|one| HostLeftOut {
        host: one.host.clone(),
        version: one.version.clone(),
        reason: one.reason.clone(),
        message: one.message.clone(),
    });
    let updates = foreseen.batches.iter().map(Vec::len).sum();
    DeploymentPlan {
        api_version: VIEW_API.to_owned(),
        kind: "DeploymentPlan".to_owned(),
        project: spec.project_ref.name.clone(),
        host_group: spec.host_group_ref.name.clone(),
        version: spec.version.clone(),
        rollout: foreseen.rollout.clone(),
        more: foreseen.is_cut,
        unchanged: usize::try_from(foreseen.status.hosts.ready).unwrap_or(0).saturating_sub(updates),
        left_out: left_out.collect(),
        given_up: foreseen
            .given_up
            .iter()
            .map(|(host, to)| PlannedGivenUp { host: host.clone(), removed: *to == GivenUpAs::Removed })
            .collect(),
        ready: foreseen.is_ready(),
        reason,
        message,
        batches: foreseen
            .batches
            .into_iter()
            .map(|batch| PlannedBatch { hosts: batch.into_iter().map(update).collect() })
            .collect(),
    }
}

fn update(update: ForeseenUpdate) -> PlannedUpdate {
    let ForeseenUpdate { host, from, to, cause } = update;
    let cause = match cause {
        UpdateCause::Nothing => PlannedCause::New,
        UpdateCause::Version => PlannedCause::Version,
        UpdateCause::Configuration => PlannedCause::Configuration,
        UpdateCause::Down => PlannedCause::Down,
        UpdateCause::Unfinished => PlannedCause::Unfinished,
    };
    PlannedUpdate { host, from, to, cause }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(body: &Value) -> String {
        tried_spec(body.to_string().as_bytes()).unwrap_err().message
    }

    #[test]
    fn what_is_tried_is_a_spec_and_a_field_that_is_none_is_named() {
        let spec =
            json!({ "projectRef": { "name": "hello" }, "hostGroupRef": { "name": "web" }, "version": "v2", "env": [] });
        let whole = json!({ "apiVersion": "landfall.dev/v1alpha1", "kind": "Deployment", "metadata": { "name": "x" }, "spec": spec });
        assert_eq!(tried_spec(whole.to_string().as_bytes()).unwrap().unwrap().version, "v2");
        assert_eq!(tried_spec(b"").unwrap(), None);
        assert_eq!(tried_spec(b"{}").unwrap(), None);
        let mut wrong = whole.clone();
        wrong["spec"]["strategy"] = json!({ "rollingUpdate": { "maxUnavailabel": 2 } });
        assert!(
            refused(&wrong).starts_with("spec.strategy.rollingUpdate.maxUnavailabel is no field"),
            "{}",
            refused(&wrong)
        );
        let mut wrong = whole;
        wrong["spec"]["minReadySeconds"] = json!("soon");
        assert!(refused(&wrong).starts_with("spec.minReadySeconds: invalid type"), "{}", refused(&wrong));
        assert!(refused(&json!({ "sepc": {} })).contains("sepc"));
    }
}
