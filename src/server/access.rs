//! Whether a user may read an object, or have something made of it. The API server asks RBAC before it forwards a request; this asks again, as every aggregated server of
//! Kubernetes does, so that a misconfigured proxy gives no access. It must not grant a right by itself.

use std::{collections::HashMap, time::Duration};

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::{Api, Client, api::PostParams};
use parking_lot::Mutex;

use super::{api_error::ApiError, front_proxy::User};
use crate::{
    api::view::{VIEW_GROUP, VIEW_VERSION},
    effects::{api_server::api_message, fresh::Fresh},
};

/// How long an answer is cached: a right that is withdrawn ends with the first request after that.
const ANSWER_TTL: Duration = Duration::from_secs(10);
const ANSWERS_MAX: usize = 4096;

/// One subresource of one object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ObjectPath {
    pub namespace: String,
    pub resource: &'static str,
    pub name: String,
    pub sub: &'static str,
    /// What is done with it: `get` or `create`.
    pub verb: &'static str,
}

#[derive(Default)]
pub struct Access {
    answers: Mutex<HashMap<(User, ObjectPath), Fresh<bool>>>,
}

impl Access {
    /// `Ok` where the user may.
    pub async fn check(&self, client: &Client, user: &User, path: &ObjectPath) -> Result<(), ApiError> {
        let key = (user.clone(), path.clone());
        let known = self.lock().get(&key).and_then(|answer| answer.get(ANSWER_TTL)).copied();
        let allowed = match known {
            Some(allowed) => allowed,
            None => {
                let allowed = review(client, user, path).await?;
                let mut answers = self.lock();
                if answers.len() >= ANSWERS_MAX {
                    answers.clear();
                }
                answers.insert(key, Fresh::now(allowed));
                allowed
            }
        };
        let ObjectPath { namespace, resource, name, sub, verb } = path;
        match allowed {
            true => Ok(()),
            false => Err(ApiError::forbidden(format!(
                "{resource}.{VIEW_GROUP} {name:?} is forbidden: User {:?} cannot {verb} resource \"{resource}/{sub}\" in API group {VIEW_GROUP:?} in the namespace {namespace:?}",
                user.name
            ))),
        }
    }

    fn lock(&self) -> parking_lot::MutexGuard<'_, HashMap<(User, ObjectPath), Fresh<bool>>> {
        self.answers.lock()
    }
}

async fn review(client: &Client, user: &User, path: &ObjectPath) -> Result<bool, ApiError> {
    let attributes = ResourceAttributes {
        group: Some(VIEW_GROUP.to_owned()),
        version: Some(VIEW_VERSION.to_owned()),
        resource: Some(path.resource.to_owned()),
        subresource: Some(path.sub.to_owned()),
        namespace: Some(path.namespace.clone()),
        name: Some(path.name.clone()),
        verb: Some(path.verb.to_owned()),
        ..ResourceAttributes::default()
    };
    let spec = SubjectAccessReviewSpec {
        user: Some(user.name.clone()),
        uid: user.uid.clone(),
        groups: Some(user.groups.clone()),
        extra: (!user.extra.is_empty()).then(|| user.extra.clone()),
        resource_attributes: Some(attributes),
        ..SubjectAccessReviewSpec::default()
    };
    let asked = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
    let answer = Api::<SubjectAccessReview>::all(client.clone()).create(&PostParams::default(), &asked).await;
    match answer {
        Ok(answer) => Ok(answer.status.is_some_and(|status| status.allowed)),
        Err(kube::Error::Api(status)) if status.code == 403 => Err(ApiError::internal(
            &"the operator may not create subjectaccessreviews, so nobody is let in; apply manifests/operator-rights.yaml again",
        )),
        Err(error) => Err(ApiError::unavailable(format!("your rights can't be asked for: {}", api_message(&error)), 1)),
    }
}
