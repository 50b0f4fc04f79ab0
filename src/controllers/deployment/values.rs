//! Values of Secrets and ConfigMaps for applications. The planner gets their keyed hashes, a task that is about to begin gets the values themselves, read
//! for it alone. Nothing is kept or logged but the key of the hashes. It must not decide.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use landfall_host_protocol::{SecretValue, Secrets};

use super::{context::DeploymentContext, failure::StepError, host_ref::HostRef};
use crate::{
    api::{ConfigMapKeyRef, Reason, SecretKeyRef},
    controllers::{
        error::api_message,
        frame::ReconcileError,
        records::{read_json, to_json},
        secrets::{LabelledSecret, NoSecret},
    },
    effects::store::{Create, keys},
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
/// Bytes of a file: with all else a task is one message.
const FILE_BYTES: usize = 512 << 10;

/// Where the values are, and for whom.
pub(super) struct Place<'a> {
    pub namespace: &'a str,
    pub project: &'a str,
}

/// What is there of each value.
pub(super) async fn seen(
    context: &DeploymentContext,
    place: &Place<'_>,
    references: &[Reference],
) -> Result<BTreeMap<String, ValueSeen>, ReconcileError> {
    if references.is_empty() {
        return Ok(BTreeMap::new());
    }
    let key = hash_key(context).await?;
    let mut secrets = Read::new(context, place);
    let mut all = BTreeMap::new();
    for reference in references {
        let seen = match secrets.value(reference).await {
            Ok(value) => ValueSeen::Hash(hash(&key, place, &reference.place(), &value)),
            Err(NoValue::Secret(NoSecret::Api(error)) | NoValue::Api(error)) => return Err(error.into()),
            Err(error) => ValueSeen::Missing(error.into()),
        };
        all.insert(reference.place(), seen);
    }
    Ok(all)
}

/// The values that the target needs. `heal`: what had been ready is started again, with the values of now. An update is of the values that it
/// was decided on: where one has changed since, the decision is taken again.
pub(super) async fn for_task(
    context: &DeploymentContext,
    host_ref: &HostRef,
    target: &Target,
    heal: bool,
) -> Result<Secrets, StepError> {
    if target.values.is_empty() {
        return Ok(Secrets::default());
    }
    let place = Place { namespace: &host_ref.namespace, project: &host_ref.project };
    let key = hash_key(context).await.map_err(StepError::Values)?;
    let mut secrets = Read::new(context, &place);
    let mut all = Secrets::default();
    for reference in target.references() {
        let value = secrets.value(&reference).await.map_err(|error| {
            let failure = Failure::from(error);
            let message = format!("{}: {}", reference.field, failure.message);
            StepError::Values(Failure { message, ..failure })
        })?;
        let name = reference.place();
        if !heal && target.values.get(&name).is_some_and(|known| is_other(known, &hash(&key, &place, &name, &value))) {
            let message =
                format!("{}: the value was changed meanwhile, and is rolled out as another revision", reference.field);
            return Err(StepError::Values(Failure::waiting(Reason::AwaitingSecrets, message)));
        }
        all.0.insert(name, value);
    }
    Ok(all)
}

/// Hashes under two keys tell nothing.
fn is_other(known: &KeyedHash, now: &KeyedHash) -> bool {
    known.key == now.key && known.hash != now.hash
}

fn hash(key: &HashKey, place: &Place<'_>, name: &str, value: &SecretValue) -> KeyedHash {
    key.hash(&format!("{}/{name}", place.namespace), value.as_bytes())
}

/// Each Secret is read once.
struct Read<'a> {
    context: &'a DeploymentContext,
    wanted: SecretUse<'a>,
    found: BTreeMap<String, LabelledSecret>,
}

impl<'a> Read<'a> {
    fn new(context: &'a DeploymentContext, place: &Place<'a>) -> Self {
        let wanted = SecretUse { namespace: place.namespace, purpose: Purpose::Run, user: place.project };
        Self { context, wanted, found: BTreeMap::new() }
    }

    async fn value(&mut self, reference: &Reference) -> Result<SecretValue, NoValue> {
        let bytes = match &reference.at {
            ValueAt::Secret(at) => self.of_secret(at).await?,
            ValueAt::ConfigMap(at) => self.of_config_map(at).await?,
        };
        let text = std::str::from_utf8(&bytes).ok();
        if reference.is_variable && (bytes.len() > VARIABLE_BYTES || text.is_none_or(|text| text.contains('\0'))) {
            return Err(NoValue::NoVariable { place: reference.place() });
        }
        if bytes.len() > FILE_BYTES {
            return Err(NoValue::TooLong { place: reference.place(), bytes: bytes.len() });
        }
        Ok(bytes.into())
    }

    async fn of_config_map(&self, at: &ConfigMapKeyRef) -> Result<Vec<u8>, NoValue> {
        let (namespace, name) = (self.wanted.namespace, &at.name);
        let found = match self.context.shared.api::<ConfigMap>(namespace).get_opt(name).await {
            Ok(found) => found.ok_or_else(|| NoValue::NoConfigMap { name: name.clone() })?,
            Err(kube::Error::Api(status)) if status.code == 403 => {
                return Err(NoValue::Forbidden { namespace: namespace.to_owned(), name: name.clone() });
            }
            Err(error) => return Err(NoValue::Api(error)),
        };
        let text = found.data.and_then(|mut data| data.remove(&at.key)).map(String::into_bytes);
        let binary = || Some(found.binary_data?.remove(&at.key)?.0);
        text.or_else(binary).ok_or_else(|| NoValue::NoKey { name: name.clone(), key: at.key.clone() })
    }

    async fn of_secret(&mut self, at: &SecretKeyRef) -> Result<Vec<u8>, NoSecret> {
        if !self.found.contains_key(&at.name) {
            let secret = self.context.secrets.labelled(&at.name, &self.wanted).await?;
            self.found.insert(at.name.clone(), secret);
        }
        let none = || NoSecret::KeyMissing { name: at.name.clone(), key: at.key.clone() };
        let bytes = self.found.get(&at.name).and_then(|secret| secret.bytes(&at.key));
        bytes.map(<[u8]>::to_vec).ok_or_else(none)
    }
}

/// Why a value can't be had.
#[derive(Debug, thiserror::Error)]
enum NoValue {
    #[error(transparent)]
    Secret(#[from] NoSecret),
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
            NoValue::NoVariable { .. } | NoValue::TooLong { .. } => Reason::SecretInvalid,
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
