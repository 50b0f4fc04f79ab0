//! May this user read that? The API server has asked RBAC before it forwarded the request; this asks again, as every aggregated server of
//! Kubernetes does, so that a mistake on the way opens nothing. It must not know a right of its own.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::{Api, Client, api::PostParams};
use parking_lot::Mutex;

use super::{api_error::ApiError, front_proxy::User};
use crate::{
    api::view::{VIEW_GROUP, VIEW_VERSION},
    effects::{api_server::api_message, clock},
};

/// How long an answer is cached: a right that is withdrawn ends with the first request after that.
const FRESH: Duration = Duration::from_secs(10);
const KEPT: usize = 4096;

/// One subresource of one object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ObjectPath {
    pub namespace: String,
    pub resource: &'static str,
    pub name: String,
    pub sub: &'static str,
}

#[derive(Default)]
pub struct Access {
    answers: Mutex<HashMap<(User, ObjectPath), (bool, Instant)>>,
}

impl Access {
    /// `Ok` where the user may `get` it.
    pub async fn check(&self, client: &Client, user: &User, place: &ObjectPath) -> Result<(), ApiError> {
        let key = (user.clone(), place.clone());
        let known = self.lock().get(&key).filter(|(_, at)| at.elapsed() < FRESH).map(|(allowed, _)| *allowed);
        let allowed = match known {
            Some(allowed) => allowed,
            None => {
                let allowed = review(client, user, place).await?;
                let mut answers = self.lock();
                if answers.len() >= KEPT {
                    answers.clear();
                }
                answers.insert(key, (allowed, clock::monotonic()));
                allowed
            }
        };
        let ObjectPath { namespace, resource, name, sub } = place;
        match allowed {
            true => Ok(()),
            false => Err(ApiError::forbidden(format!(
                "{resource}.{VIEW_GROUP} {name:?} is forbidden: User {:?} cannot get resource \"{resource}/{sub}\" in API group {VIEW_GROUP:?} in the namespace {namespace:?}",
                user.name
            ))),
        }
    }

    fn lock(&self) -> parking_lot::MutexGuard<'_, HashMap<(User, ObjectPath), (bool, Instant)>> {
        self.answers.lock()
    }
}

async fn review(client: &Client, user: &User, place: &ObjectPath) -> Result<bool, ApiError> {
    let attributes = ResourceAttributes {
        group: Some(VIEW_GROUP.to_owned()),
        version: Some(VIEW_VERSION.to_owned()),
        resource: Some(place.resource.to_owned()),
        subresource: Some(place.sub.to_owned()),
        namespace: Some(place.namespace.clone()),
        name: Some(place.name.clone()),
        verb: Some("get".to_owned()),
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
