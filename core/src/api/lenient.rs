//! Reading of a status or record that another version of landfall may have written. A value that can't be read must not make the whole
//! object unreadable: display is dropped, and intent is set aside as it was found, with a mark.
//!
//! - display: `#[serde(default, deserialize_with = "lenient::list")]` drops the entries that can't be read, `lenient::or_default` the field;
//! - intent, which decisions rest on: [`Lenient`], which keeps what it can't read and writes it back unchanged;
//! - enums that a later version may extend: a last variant `Unknown` with `#[serde(other)]`, and an open text in the schema.
//!
//! It decides nothing: what follows from an unreadable intent is said by planners (`StatusUnreadable`).

use std::{borrow::Cow, collections::BTreeMap, ops::Deref};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use serde_json::Value;

/// Intent in a status: absent, readable, or there and unreadable. It is used as the `Option` of what can be read; whoever begins something
/// new asks [`Lenient::is_unreadable`] first. Written back, an unreadable one is what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lenient<T> {
    readable: Option<T>,
    unreadable: Option<Value>,
}

impl<T> Lenient<T> {
    /// Something stands there, and this version can't read it.
    pub(crate) fn is_unreadable(&self) -> bool {
        self.unreadable.is_some()
    }

    /// Nothing stands there, readable or not; such a field is not written.
    pub(crate) fn is_absent(&self) -> bool {
        self.readable.is_none() && self.unreadable.is_none()
    }

    /// What can be read.
    pub fn into_option(self) -> Option<T> {
        self.readable
    }
}

impl<T> Default for Lenient<T> {
    fn default() -> Self {
        Self::from(None)
    }
}

impl<T> Deref for Lenient<T> {
    type Target = Option<T>;

    fn deref(&self) -> &Option<T> {
        &self.readable
    }
}

impl<T> From<Option<T>> for Lenient<T> {
    fn from(readable: Option<T>) -> Self {
        Self { readable, unreadable: None }
    }
}

impl<T> From<T> for Lenient<T> {
    fn from(readable: T) -> Self {
        Self::from(Some(readable))
    }
}

impl<T: Serialize> Serialize for Lenient<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.unreadable {
            Some(unreadable) => unreadable.serialize(serializer),
            None => self.readable.serialize(serializer),
        }
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Ok(match serde_json::from_value(value.clone()) {
            Ok(readable) => Self { readable, unreadable: None },
            Err(_) => Self { readable: None, unreadable: Some(value) },
        })
    }
}

impl<T: JsonSchema> JsonSchema for Lenient<T> {
    fn inline_schema() -> bool {
        Option::<T>::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        Option::<T>::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        Option::<T>::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Option::<T>::json_schema(generator)
    }
}

/// The entries of a list that can be read.
pub fn list<'de, T: DeserializeOwned, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let entries = value.as_array().cloned().unwrap_or_default();
    Ok(entries.into_iter().filter_map(|entry| serde_json::from_value(entry).ok()).collect())
}

/// The entries of a map that can be read.
pub fn map<'de, T: DeserializeOwned, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, T>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let entries = value.as_object().cloned().unwrap_or_default();
    Ok(entries.into_iter().filter_map(|(key, entry)| Some((key, serde_json::from_value(entry).ok()?))).collect())
}

/// What can be read, else the default: for an option, nothing.
pub fn or_default<'de, T: DeserializeOwned + Default, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(deserializer)?).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::{
        Build, Deployment, build::BuildStatus, deployment::DeploymentStatus, hostgroup::HostGroupStatus,
        project::ProjectStatus,
    };

    fn read<T: DeserializeOwned>(value: &Value) -> T {
        serde_json::from_value(value.clone()).unwrap()
    }

    #[test]
    fn a_phase_of_a_later_version_leaves_the_deployment_readable() {
        let exception = |phase: &str| json!({ "host": "web-01", "phase": phase, "reason": "Draining", "message": "", "since": "2026-11-24T00:00:00Z" });
        let status: DeploymentStatus = read(&json!({
            "observedGeneration": 3,
            "exceptions": [exception("Ready"), exception("Draining"), { "machine": "web-02" }],
            "history": [{ "revision": "seven" }],
            "hosts": { "total": "many" },
            "canary": { "step": 2 },
        }));
        assert_eq!(status.observed_generation, 3);
        assert_eq!(status.exceptions.len(), 2);
        assert_eq!(status.exceptions[1].phase, crate::api::deployment::Phase::Unknown);
        assert!(status.history.is_empty());
    }

    #[test]
    fn an_unreadable_rollout_is_marked_and_written_back_as_it_was() {
        let rollout = json!({ "id": { "revision": 7, "serial": 0 }, "intent": { "updating": ["web-01"] } });
        let status: DeploymentStatus = read(&json!({ "observedGeneration": 1, "rollout": rollout }));
        assert!(status.rollout.is_unreadable() && status.rollout.is_none());
        assert_eq!(serde_json::to_value(&status).unwrap()["rollout"], rollout);
        let absent: DeploymentStatus = read(&json!({ "observedGeneration": 1 }));
        assert!(!absent.rollout.is_unreadable());
        assert!(serde_json::to_value(&absent).unwrap().get("rollout").is_none());
    }

    /// Every field of every status, each with values of every other JSON type.
    #[test]
    fn no_field_of_any_status_makes_its_object_unreadable() {
        fn survives<T: DeserializeOwned + Serialize + Default>() {
            let crds = crate::api::crds::all();
            let fields = crds.iter().flat_map(|crd| {
                let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
                schema["openAPIV3Schema"]["properties"]["status"]["properties"].as_object().unwrap().clone()
            });
            for (field, _) in fields {
                for odd in [
                    json!("x"),
                    json!(-1.5),
                    json!(true),
                    json!([[]]),
                    json!([{ "a": 1 }]),
                    json!({ "a": {} }),
                    Value::Null,
                ] {
                    let status = json!({ field.as_str(): odd });
                    assert!(serde_json::from_value::<T>(status.clone()).is_ok(), "{status}");
                }
            }
        }
        survives::<ProjectStatus>();
        survives::<BuildStatus>();
        survives::<HostGroupStatus>();
        survives::<DeploymentStatus>();
    }

    #[test]
    fn a_status_of_any_shape_leaves_its_object_readable() {
        let metadata = json!({ "name": "x", "namespace": "y" });
        let build = json!({ "metadata": metadata, "spec": { "projectRef": { "name": "p" }, "revision": "main" },
                            "status": { "attempts": [{ "number": 1, "startedAt": "2026-11-24T00:00:00Z", "outcome": "Skipped" }] } });
        let build: Build = read(&build);
        assert_eq!(build.status.unwrap().attempts[0].outcome, Some(crate::api::build::Outcome::Unknown));
        let deployment = json!({ "metadata": metadata, "status": { "conditions": [{ "type": "Ready" }] },
            "spec": { "projectRef": { "name": "p" }, "hostGroupRef": { "name": "g" }, "version": "v1" } });
        assert!(read::<Deployment>(&deployment).status.unwrap().conditions.is_empty());
    }
}
