//! Values of Secrets and ConfigMaps for applications. The planner gets their keyed hashes, a task that is about to begin gets the values themselves, read
//! for it alone. Nothing is kept or logged but the key of the hashes. It must not decide.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use landfall_host_protocol::SecretValue;

use super::{
    configuration::Brought,
    context::DeploymentContext,
    failure::StepError,
    host_ref::HostRef,
    seen_objects::{Known, Object, Part, Seen},
};
use crate::{
    api::{ConfigMapKeyRef, Deployment, Reason, SecretKeyRef},
    controllers::{
        error::api_message,
        frame::ReconcileError,
        records::{read_json, to_json},
        secrets::NoSecret,
    },
    effects::{
        clock,
        store::{Create, keys},
    },
    model::{
        Class, Failure,
        keyed::{HashKey, HashKeyRecord, KeyedHash},
    },
    plan::{
        deployment::{Reference, Target, ValueAt, ValueSeen},
        secret_use::{Purpose, SecretUse},
    },
};

/// Bytes of a value in a variable: less than what the kernel takes.
const VARIABLE_BYTES: usize = 64 << 10;
/// Bytes of a file.
const FILE_BYTES: usize = 512 << 10;
/// Bytes of all values as a task carries them: with all else it is one message of 1 MiB.
const TASK_BYTES: usize = 896 << 10;
/// Secrets and ConfigMaps of one application: each is a request, and as many again for each host.
const OBJECTS: usize = 64;

/// Where the values are, and for whom.
pub(super) struct Place<'a> {
    pub namespace: &'a str,
    pub project: &'a str,
}

/// What is there of each value. What was seen a moment ago is not read again, but where the Deployment itself has changed.
pub(super) async fn seen(
    context: &DeploymentContext,
    place: &Place<'_>,
    object: &Deployment,
    references: &[Reference],
) -> Result<BTreeMap<String, ValueSeen>, ReconcileError> {
    if references.is_empty() {
        return Ok(BTreeMap::new());
    }
    let key = hash_key(context).await?;
    let uid = object.uid().unwrap_or_default();
    let is_new = context.seen_objects.is_new_look(&uid, look(object), clock::monotonic());
    let mut all = BTreeMap::new();
    for part in parts(place, references) {
        let known = context.seen_objects.get(&part, clock::monotonic()).filter(|_| !is_new);
        let seen = match known {
            Some(seen) => seen,
            None => read(context, &key, part.clone()).await?.0,
        };
        all.insert(part.object, seen);
    }
    let mut judge = Judge::new(&all);
    let mut found: BTreeMap<String, ValueSeen> = BTreeMap::new();
    for reference in references {
        let seen = match judge.of(reference) {
            Ok(known) => ValueSeen::Hash(known.hash.clone()),
            Err(failure) => ValueSeen::Missing(failure),
        };
        // What can be a file may be no variable.
        if !matches!(found.get(&reference.place()), Some(ValueSeen::Missing(_))) {
            found.insert(reference.place(), seen);
        }
    }
    Ok(found)
}

/// Another one after each change by a person.
fn look(object: &Deployment) -> u64 {
    let mut hasher = DefaultHasher::new();
    (object.metadata.generation, object.annotations()).hash(&mut hasher);
    hasher.finish()
}

/// The values that the target needs. `heal`: what had been ready is started again, with the values of now. An update is of the values that it
/// was decided on: where one has changed since, the decision is taken again.
pub(super) async fn for_task(
    context: &DeploymentContext,
    host_ref: &HostRef,
    target: &Target,
    heal: bool,
) -> Result<Brought, StepError> {
    if target.values.is_empty() {
        return Ok(Brought::default());
    }
    let place = Place { namespace: &host_ref.namespace, project: &host_ref.project };
    let key = hash_key(context).await.map_err(StepError::Values)?;
    let references = target.references();
    let (mut all, mut values) = (BTreeMap::new(), BTreeMap::new());
    for part in parts(&place, &references) {
        let object = part.object.clone();
        let (seen, read) =
            read(context, &key, part).await.map_err(|error| StepError::Values(NoValue::Api(error).into()))?;
        values.extend(read.into_iter().map(|(key, value)| ((object.clone(), key), value)));
        all.insert(object, seen);
    }
    let mut judge = Judge::new(&all);
    let mut brought = Brought::default();
    for reference in references {
        let known = judge.of(&reference).map_err(|failure| {
            let message = format!("{}: {}", reference.field, failure.message);
            StepError::Values(Failure { message, ..failure })
        })?;
        let name = reference.place();
        if !heal && target.values.get(&name).is_some_and(|of_target| known.hash.is_other(of_target)) {
            let message =
                format!("{}: the value was changed meanwhile, and is rolled out as another revision", reference.field);
            return Err(StepError::Values(Failure::waiting(Reason::AwaitingSecrets, message)));
        }
        brought.hashes.insert(name.clone(), known.hash.clone());
        let (object, key) = object_and_key(&reference);
        // A value that several variables have is brought once.
        let Some(value) = values.remove(&(object, key.to_owned())) else { continue };
        match (&reference.at, value.as_text()) {
            (ValueAt::ConfigMap(_), Some(text)) => drop(brought.plain.insert(name, text.to_owned())),
            _ => drop(brought.secrets.0.insert(name, value)),
        }
    }
    Ok(brought)
}

fn hash(key: &HashKey, namespace: &str, name: &str, value: &SecretValue) -> KeyedHash {
    key.hash(&format!("{namespace}/{name}"), value.as_bytes())
}

fn object_and_key(reference: &Reference) -> (Object, &str) {
    match &reference.at {
        ValueAt::Secret(at) => (Object::Secret(at.name.clone()), &at.key),
        ValueAt::ConfigMap(at) => (Object::ConfigMap(at.name.clone()), &at.key),
    }
}

/// What is needed of each object, up to the limit.
fn parts(place: &Place<'_>, references: &[Reference]) -> Vec<Part> {
    let mut keys: BTreeMap<Object, BTreeSet<String>> = BTreeMap::new();
    for reference in references {
        let (object, key) = object_and_key(reference);
        if keys.len() < OBJECTS || keys.contains_key(&object) {
            keys.entry(object).or_default().insert(key.to_owned());
        }
    }
    let part = |(object, keys): (Object, BTreeSet<String>)| Part {
        namespace: place.namespace.to_owned(),
        project: place.project.to_owned(),
        object,
        keys: keys.into_iter().collect(),
    };
    keys.into_iter().map(part).collect()
}

/// One read of an object. Of its values only the named ones are kept.
async fn read(
    context: &DeploymentContext,
    key: &HashKey,
    part: Part,
) -> Result<(Seen, BTreeMap<String, SecretValue>), kube::Error> {
    let values = match &part.object {
        Object::Secret(name) => {
            let wanted = SecretUse { namespace: &part.namespace, purpose: Purpose::Run, user: &part.project };
            match context.secrets.labelled(name, &wanted).await {
                Ok(secret) => Ok(named(&part, |key| secret.bytes(key).map(<[u8]>::to_vec))),
                Err(NoSecret::Api(error)) => return Err(error),
                Err(error) => Err(NoValue::Secret(error)),
            }
        }
        Object::ConfigMap(name) => match context.shared.api::<ConfigMap>(&part.namespace).get_opt(name).await {
            Ok(Some(map)) => {
                let (text, binary) = (map.data.unwrap_or_default(), map.binary_data.unwrap_or_default());
                let of = |key: &str| {
                    let text = text.get(key).map(|text| text.clone().into_bytes());
                    text.or_else(|| binary.get(key).map(|bytes| bytes.0.clone()))
                };
                Ok(named(&part, of))
            }
            Ok(None) => Err(NoValue::NoConfigMap { name: name.clone() }),
            Err(kube::Error::Api(status)) if status.code == 403 => {
                Err(NoValue::Forbidden { namespace: part.namespace.clone(), name: name.clone() })
            }
            Err(error) => return Err(error),
        },
    };
    let (seen, values) = match values {
        Ok(values) => {
            let known = values.iter().map(|(name, value)| (name.clone(), known(key, &part, name, value)));
            (Seen::Keys(known.collect()), values)
        }
        Err(why) => (Seen::Refused(why.into()), BTreeMap::new()),
    };
    context.seen_objects.keep(part, seen.clone(), clock::monotonic());
    Ok((seen, values))
}

fn named(part: &Part, of: impl Fn(&str) -> Option<Vec<u8>>) -> BTreeMap<String, SecretValue> {
    part.keys.iter().filter_map(|key| Some((key.clone(), of(key)?.into()))).collect()
}

fn known(key: &HashKey, part: &Part, name: &str, value: &SecretValue) -> Known {
    let key_of = name.to_owned();
    let at = match part.object.clone() {
        Object::Secret(name) => ValueAt::Secret(SecretKeyRef { name, key: key_of }),
        Object::ConfigMap(name) => ValueAt::ConfigMap(ConfigMapKeyRef { name, key: key_of }),
    };
    let bytes = value.as_bytes().len();
    let text = value.as_text();
    Known {
        hash: hash(key, &part.namespace, &at.place(), value),
        bytes,
        bytes_in_task: serde_json::to_vec(value).map_or(usize::MAX, |text| text.len()),
        fits_variable: bytes <= VARIABLE_BYTES && text.is_some_and(|text| !text.contains('\0')),
    }
}

/// Says of one reference after the other whether its value can be had, and all of them together.
struct Judge<'a> {
    all: &'a BTreeMap<Object, Seen>,
    bytes: BTreeMap<String, usize>,
}

impl<'a> Judge<'a> {
    fn new(all: &'a BTreeMap<Object, Seen>) -> Self {
        Self { all, bytes: BTreeMap::new() }
    }

    fn of(&mut self, reference: &Reference) -> Result<&'a Known, Failure> {
        let (object, key) = object_and_key(reference);
        let known = match self.all.get(&object) {
            Some(Seen::Keys(keys)) => keys.get(key).ok_or_else(|| no_key(&object, key))?,
            Some(Seen::Refused(failure)) => return Err(failure.clone()),
            None => return Err(NoValue::TooManyObjects.into()),
        };
        let place = reference.place();
        if reference.is_variable && !known.fits_variable {
            return Err(NoValue::NoVariable { place }.into());
        }
        if known.bytes > FILE_BYTES {
            return Err(NoValue::TooLong { place, bytes: known.bytes }.into());
        }
        self.bytes.insert(place.clone(), known.bytes_in_task);
        let sum = self.bytes.values().fold(0_usize, |sum, bytes| sum.saturating_add(*bytes));
        match sum > TASK_BYTES {
            true => Err(NoValue::TooMuch { place, bytes: sum }.into()),
            false => Ok(known),
        }
    }
}

fn no_key(object: &Object, key: &str) -> Failure {
    let key = key.to_owned();
    match object.clone() {
        Object::Secret(name) => NoSecret::KeyMissing { name, key }.into(),
        Object::ConfigMap(name) => NoValue::NoKey { name, key }.into(),
    }
}

/// Why a value can't be had.
#[derive(Debug, thiserror::Error)]
enum NoValue {
    #[error(transparent)]
    Secret(NoSecret),
    #[error("the ConfigMap {name} does not exist in this namespace; create it")]
    NoConfigMap { name: String },
    #[error("the ConfigMap {name} has no key {key:?}; add it")]
    NoKey { name: String, key: String },
    #[error(
        "landfall may not read the ConfigMap {name}; allow it with: kubectl apply -n {namespace} -k manifests/tenant"
    )]
    Forbidden { namespace: String, name: String },
    #[error(
        "the value {place} can't be an environment variable: it is not text, has a NUL, or is longer than 64 KiB; replace it, or take it as \
         a file (run.files)"
    )]
    NoVariable { place: String },
    #[error("the value {place} has {bytes} bytes, and {FILE_BYTES} are the most; put large files into the release")]
    TooLong { place: String, bytes: usize },
    #[error(
        "with the value {place} all values have {bytes} bytes as a task carries them, and {TASK_BYTES} are the most; put large files into the \
         release, or let the application fetch them"
    )]
    TooMuch { place: String, bytes: usize },
    #[error(
        "one application takes values from {OBJECTS} Secrets and ConfigMaps at most, and this is of one more; put values that belong together \
         into one object"
    )]
    TooManyObjects,
    #[error("the API server: {}", api_message(.0))]
    Api(kube::Error),
}

impl From<NoValue> for Failure {
    fn from(error: NoValue) -> Self {
        let reason = match error {
            NoValue::Secret(error) => return error.into(),
            NoValue::NoConfigMap { .. } => Reason::ConfigMapNotFound,
            NoValue::NoKey { .. } => Reason::ConfigMapKeyMissing,
            NoValue::Forbidden { .. } => Reason::SecretForbidden,
            NoValue::NoVariable { .. }
            | NoValue::TooLong { .. }
            | NoValue::TooMuch { .. }
            | NoValue::TooManyObjects => Reason::SecretInvalid,
            NoValue::Api(_) => Reason::InternalError,
        };
        Failure::of(reason, Class::Transient, &error)
    }
}

/// The key of keyed hashes, made at its first use.
async fn hash_key(context: &DeploymentContext) -> Result<HashKey, Failure> {
    context.hash_key.get_or_try_init(|| read_hash_key(context)).await.cloned()
}

async fn read_hash_key(context: &DeploymentContext) -> Result<HashKey, Failure> {
    let at = keys::hash_key()?;
    let damaged = || {
        let message = format!("{at} in the store is no key; restore that file from a backup");
        Failure::new(Reason::StoreUnavailable, Class::Terminal, message)
    };
    if let Some(record) = read_json::<HashKeyRecord>(&context.store, &at).await? {
        return record.key().ok_or_else(damaged);
    }
    let record = HashKeyRecord::new(rand::random());
    match context.store.create(&context.shared.gate, &at, to_json(&record)?).await? {
        Create::Created => record.key().ok_or_else(damaged),
        Create::Exists(found) => {
            serde_json::from_slice::<HashKeyRecord>(&found).ok().and_then(|record| record.key()).ok_or_else(damaged)
        }
    }
}
