//! The shared object: a Lease, since operators already may write those, and since nobody watches all of them. Terms and counter stand in its
//! annotations, its spec is for `kubectl get lease`. Each write is a compare-and-swap. It must not decide what is written.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client};

use crate::{
    api::verbs::ADOPT_ALL,
    effects::{api_server::post_params, clock},
    model::leading::{Leadership, OBJECT, Unreadable},
};

/// The object, as it was read or written last.
#[derive(Clone)]
pub(super) struct Found {
    lease: Lease,
    pub leadership: Leadership,
}

impl Found {
    pub fn uid(&self) -> &str {
        self.lease.metadata.uid.as_deref().unwrap_or_default()
    }

    /// Whose hosts all Deployments take over.
    pub fn adopt_all(&self) -> Option<&String> {
        self.lease.metadata.annotations.as_ref()?.get(ADOPT_ALL).filter(|value| !value.is_empty())
    }

    /// By the API server's clock.
    pub fn made(&self) -> Timestamp {
        self.lease.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0)
    }
}

#[derive(Debug)]
pub(super) enum ObjectError {
    Api(kube::Error),
    Unreadable(Unreadable),
}

impl From<kube::Error> for ObjectError {
    fn from(error: kube::Error) -> Self {
        Self::Api(error)
    }
}

impl ObjectError {
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(409)
    }

    /// What the API server answered.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Api(kube::Error::Api(status)) => Some(status.code),
            _ => None,
        }
    }
}

pub(super) struct Object {
    api: Api<Lease>,
}

impl Object {
    pub fn new(client: Client, namespace: &str) -> Self {
        Self { api: Api::namespaced(client, namespace) }
    }

    pub async fn read(&self) -> Result<Option<Found>, ObjectError> {
        self.api.get_opt(OBJECT).await?.map(found).transpose()
    }

    /// Makes it, with nobody in it. When it was made stands in the answer, by the API server's clock.
    pub async fn create(&self) -> Result<Found, ObjectError> {
        let mut annotations = BTreeMap::new();
        Leadership::default().write(&mut annotations).map_err(kube::Error::SerdeError)?;
        let (name, annotations) = (Some(OBJECT.to_owned()), Some(annotations));
        let empty = Lease { metadata: ObjectMeta { name, annotations, ..ObjectMeta::default() }, spec: None };
        found(self.api.create(&post_params(), &empty).await?)
    }

    /// Writes `next`, if it is still the version of `before`. What others put on the object stays.
    pub async fn write(&self, before: &Found, next: &Leadership) -> Result<Found, ObjectError> {
        let mut metadata = before.lease.metadata.clone();
        metadata.managed_fields = None;
        let mut annotations: BTreeMap<String, String> = metadata.annotations.take().unwrap_or_default();
        next.write(&mut annotations).map_err(kube::Error::SerdeError)?;
        metadata.annotations = Some(annotations);
        let lease = Lease { metadata, spec: Some(summary(next)) };
        found(self.api.replace(OBJECT, &post_params(), &lease).await?)
    }
}

fn found(lease: Lease) -> Result<Found, ObjectError> {
    let none = BTreeMap::new();
    let annotations = lease.metadata.annotations.as_ref().unwrap_or(&none);
    let leadership = Leadership::read(annotations).map_err(ObjectError::Unreadable)?;
    Ok(Found { lease, leadership })
}

/// For people's eyes.
fn summary(leadership: &Leadership) -> LeaseSpec {
    let holders: Vec<&str> = leadership.terms.iter().map(|term| term.holder.as_str()).collect();
    let longest = leadership.terms.iter().map(|term| term.lease_seconds).max();
    LeaseSpec {
        holder_identity: Some(holders.join(", ")),
        lease_duration_seconds: longest.and_then(|seconds| i32::try_from(seconds).ok()),
        renew_time: Some(MicroTime(clock::now())),
        ..LeaseSpec::default()
    }
}
