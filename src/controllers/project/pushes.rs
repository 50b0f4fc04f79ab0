//! Heads that were pushed: what the store knows of them, and their Builds. It must not decide which are new.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Resource, ResourceExt};

use super::context::ProjectContext;
use crate::{
    api::{BRANCH_ANNOTATION, Build, LocalRef, Project, Reason, TRIGGER_LABEL, build::BuildSpec},
    controllers::records::{read_json, to_json},
    effects::{
        api_server::{api_message, post_params},
        gate::{Effect, Gate, GateShut},
        store::{Store, keys},
    },
    model::{Class, Failure},
    plan::project::{
        Head, PushesObserved,
        trigger::{self, BASELINE},
    },
};

/// What is on record of the heads of this project.
pub(super) async fn observed(uid: &str, context: &ProjectContext) -> Result<PushesObserved, Failure> {
    let mut observed =
        PushesObserved { retry_state: context.sources.push_retry_state(uid), ..PushesObserved::default() };
    for key in context.store.list(&keys::triggers(uid)?).await? {
        if !key.name().starts_with(BASELINE) {
            observed.known.insert(key.name().to_owned());
        } else if let Some(heads) = read_json::<Vec<Head>>(&context.store, &key).await? {
            observed.known.extend(heads.into_iter().map(|head| head.sha));
            observed.baselines.insert(key.name().to_owned());
        }
    }
    Ok(observed)
}

/// Puts the heads that were there on record, then deletes what was on record for another trigger.
pub(super) async fn record_baseline(
    project: &Project,
    baseline: &str,
    heads: &[Head],
    context: &ProjectContext,
) -> Result<(), Failure> {
    let key = keys::trigger(&project.uid().unwrap_or_default(), baseline)?;
    context.store.create(&context.shared.gate, &key, to_json(&heads)?).await?;
    delete_baselines(project, Some(baseline), context).await
}

/// Deletes the records of heads that were there, but for one.
pub(super) async fn delete_baselines(
    project: &Project,
    excluding: Option<&str>,
    context: &ProjectContext,
) -> Result<(), Failure> {
    let folder = keys::triggers(&project.uid().unwrap_or_default())?;
    for key in context.store.list(&folder).await? {
        if key.name().starts_with(BASELINE) && Some(key.name()) != excluding {
            context.store.remove(&context.shared.gate, &key).await?;
        }
    }
    Ok(())
}

/// Creates the Build of each head, then its record. Either is there already where a former try came so far.
pub(super) async fn trigger(project: &Project, heads: &[Head], context: &ProjectContext) -> Result<(), Failure> {
    let uid = project.uid().unwrap_or_default();
    for head in heads {
        let key = keys::trigger(&uid, &head.sha)?;
        // The record may be newer than the observation that this was decided on.
        if context.store.get(&key).await?.is_none() {
            let name = create(project, head, context).await?;
            context
                .store
                .create(&context.shared.gate, &key, to_json(&serde_json::json!({ "head": head, "build": name }))?)
                .await?;
        }
    }
    Ok(())
}

async fn create(project: &Project, head: &Head, context: &ProjectContext) -> Result<String, Failure> {
    let build = build(project, head);
    let (name, api) = (build.name_any(), context.shared.api::<Build>(&project.namespace().unwrap_or_default()));
    let effect = Effect::new("build.create", name.clone());
    let created = context
        .shared
        .gate
        .pass(effect, async { api.create(&post_params(), &build).await.map(|_| ()).map_err(WriteError::Api) })
        .await;
    let failed = |error: &kube::Error| {
        let message = format!("the Build {name} of {} can't be created: {}", head.branch, api_message(error));
        Failure::new(Reason::TriggerFailed, Class::Transient, message)
    };
    match created {
        Ok(()) => Ok(name),
        Err(WriteError::Shut(shut)) => Err(Failure::of(Reason::InternalError, Class::Waiting, &shut)),
        Err(WriteError::Api(kube::Error::Api(status))) if status.code == 409 => {
            let there = api.get_opt(&name).await.map_err(|error| failed(&error))?;
            let same = |there: &Build| {
                there.spec.project_ref == build.spec.project_ref && there.spec.revision == build.spec.revision
            };
            let Some(there) = there else {
                // It is no longer known of which commit it was: this head gets one of its own.
                let message =
                    format!("the Build {name} of {} was deleted while another was created in its place", head.branch);
                return Err(Failure::new(Reason::TriggerFailed, Class::Transient, message));
            };
            if same(&there) {
                return Ok(name);
            }
            let message = format!(
                "{} was pushed, but a Build of the name {name} is there and is not of commit {}; delete that one",
                head.branch, head.sha
            );
            Err(Failure::new(Reason::TriggerFailed, Class::Transient, message))
        }
        Err(WriteError::Api(kube::Error::Api(status))) if status.code == 403 => {
            let message = format!(
                "the Build {name} of {} may not be created: {}; see that the operator has the rights of manifests/operator-rights.yaml, and the namespace room in its quota",
                head.branch, status.message
            );
            Err(Failure::new(Reason::TriggerFailed, Class::Transient, message))
        }
        Err(WriteError::Api(error)) => Err(failed(&error)),
    }
}

/// How a write to the API server was not done.
pub(super) enum WriteError {
    Shut(GateShut),
    Api(kube::Error),
}

impl From<GateShut> for WriteError {
    fn from(shut: GateShut) -> Self {
        Self::Shut(shut)
    }
}

/// Nothing of the Project's own labels and annotations: GitOps tools would take the Build for theirs, and prune it.
fn build(project: &Project, head: &Head) -> Build {
    let name = project.name_any();
    let owner = OwnerReference { controller: Some(true), ..owner(project) };
    Build {
        metadata: ObjectMeta {
            name: Some(trigger::build_name(&name, &head.sha)),
            namespace: project.namespace(),
            labels: Some([(TRIGGER_LABEL.to_owned(), "push".to_owned())].into()),
            annotations: Some([(BRANCH_ANNOTATION.to_owned(), head.branch.clone())].into()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: BuildSpec {
            project_ref: LocalRef { name },
            revision: head.sha.clone(),
            parameters: Default::default(),
            tag: None,
            cancelled: false,
        },
        status: None,
    }
}

/// It is deleted with its Project, because no person created it.
fn owner(project: &Project) -> OwnerReference {
    OwnerReference {
        api_version: Project::api_version(&()).into_owned(),
        kind: Project::kind(&()).into_owned(),
        name: project.name_any(),
        uid: project.uid().unwrap_or_default(),
        ..OwnerReference::default()
    }
}

/// The Project is deleted: its records go.
pub async fn delete_push_records(uid: &str, gate: &Gate, store: &Store) -> Result<(), Failure> {
    for key in store.list(&keys::triggers(uid)?).await? {
        store.remove(gate, &key).await?;
    }
    Ok(())
}
