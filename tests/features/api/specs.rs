//! Objects with every field of their spec set, the paths of all these fields, and ways to change one of them.

use std::fmt::{self, Display};

use serde_json::{Value, json};

/// One step from a value to a value in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Field(String),
    /// The first entry of a list.
    Item,
    /// The entry `key` of a map.
    Entry,
}

/// Where in an object a field is, as the API server writes it: `spec.run.env[0].name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldPath(pub Vec<Step>);

impl Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, step) in self.0.iter().enumerate() {
            match step {
                Step::Field(name) if n == 0 => write!(f, "{name}")?,
                Step::Field(name) => write!(f, ".{name}")?,
                Step::Item => write!(f, "[0]")?,
                Step::Entry => write!(f, ".key")?,
            }
        }
        Ok(())
    }
}

/// Of two fields that exclude each other the base has both; whoever sets one takes the other away.
const EXCLUSIVE: [[&str; 2]; 19] = [
    ["seconds", "manual"],
    ["httpGet", "tcpSocket"],
    ["names", "selector"],
    ["value", "valueFrom"],
    ["exec", "http"],
    ["http", "undoExec"],
    ["process", "systemd"],
    ["process", "script"],
    ["process", "static"],
    ["systemd", "script"],
    ["systemd", "static"],
    ["script", "static"],
    ["systemd", "livenessProbe"],
    ["script", "livenessProbe"],
    ["static", "livenessProbe"],
    ["command", "unit"],
    ["unit", "memoryMax"],
    ["unit", "restartPolicy"],
    ["secretKeyRef", "configMapKeyRef"],
];

/// The kinds, as the base objects and schemas have them.
pub const KINDS: [&str; 4] = ["Project", "Build", "HostGroup", "Deployment"];

/// An object of this kind with every field set. Nothing that it names is beyond this machine.
pub fn full(kind: &str) -> Value {
    let spec = match kind {
        "Project" => json!({
            "source": {
                "url": "https://127.0.0.1:1/shop.git", "secretRef": { "name": "git" }, "path": "services/cart",
                "branches": ["main"], "interval": "1m", "submodules": "Refuse", "lfs": "Refuse",
            },
            "build": {
                "executor": { "local": {} },
                "parameters": [{ "name": "PROFILE", "type": "String", "default": "prod", "enum": ["prod"], "description": "d" }],
                "env": [{ "name": "TOKEN", "value": "x", "valueFrom": { "secretKeyRef": { "name": "repo", "key": "token" } } }],
                "script": "true", "artifacts": [{ "path": "app", "as": "app" }],
                "caches": [{ "name": "m2", "path": "~/.m2", "maxBytes": "5Gi" }],
                "timeoutSeconds": 60, "idleTimeoutSeconds": 60,
                "resources": { "limits": { "cpu": "500m", "memory": "512Mi", "pids": 100 } },
                "tag": { "template": "v{date}-{number}", "push": false },
                "concurrencyPolicy": "Queue", "trigger": { "onPush": ["main"] },
            },
            "run": {
                "user": "app", "process": { "command": ["./app"], "restartPolicy": "Always" },
                "env": [{ "name": "A", "value": "b", "valueFrom": { "secretKeyRef": { "name": "db", "key": "password" } } }],
                "files": [{
                    "name": "app.yaml", "mode": 0o644,
                    "valueFrom": {
                        "secretKeyRef": { "name": "tls", "key": "key" }, "configMapKeyRef": { "name": "app", "key": "app.yaml" },
                    },
                }],
                "systemd": { "command": ["./app"], "unit": "app.service", "memoryMax": "512Mi", "restartPolicy": "Always" },
                "script": {
                    "start": { "command": ["./ctl", "start"], "timeoutSeconds": 60 },
                    "stop": { "command": ["./ctl", "stop"], "timeoutSeconds": 60 },
                    "status": { "command": ["./ctl", "status"], "timeoutSeconds": 10 },
                },
                "static": { "reload": { "command": ["./reload"], "timeoutSeconds": 30 } },
                "stop": { "signal": "TERM", "to": "Main" }, "terminationGracePeriodSeconds": 1,
                "drain": {
                    "exec": ["./drain"], "undoExec": ["./undrain"], "timeoutSeconds": 10,
                    "http": {
                        "method": "POST", "scheme": "HTTP", "port": 8081, "path": "/drain", "undoPath": "/undrain",
                        "httpHeaders": [{ "name": "Host", "value": "x" }],
                    },
                },
                "hooks": [{ "at": "BeforeStop", "exec": ["./warn"], "timeoutSeconds": 30 }],
                "readinessProbe": {
                    "httpGet": {
                        "port": 8080, "path": "/", "scheme": "HTTP", "host": "127.0.0.1",
                        "httpHeaders": [{ "name": "Host", "value": "x" }],
                    },
                    "tcpSocket": { "port": 8080 },
                    "periodSeconds": 1, "timeoutSeconds": 1, "successThreshold": 1, "failureThreshold": 3,
                },
                "livenessProbe": {
                    "httpGet": {
                        "port": 8080, "path": "/", "scheme": "HTTP", "host": "127.0.0.1",
                        "httpHeaders": [{ "name": "Host", "value": "x" }],
                    },
                    "tcpSocket": { "port": 8080 },
                    "periodSeconds": 10, "timeoutSeconds": 1, "failureThreshold": 3,
                },
                "healthyDeadlineSeconds": 60,
            },
            "retention": {
                "succeededLimit": 5, "failedLimit": 5, "releasesPerHost": 5, "logs": { "maxAge": "90d", "maxBytes": "100Mi" },
            },
        }),
        "Build" => json!({
            "projectRef": { "name": "shop" }, "revision": "main", "parameters": { "key": "x" }, "tag": "v1", "cancelled": false,
        }),
        "HostGroup" => json!({
            "ssh": {
                "user": "deploy", "port": 1, "credentialsRef": { "name": "key" }, "certificatePrincipal": "deploy",
                "hostKeys": { "policy": "Strict", "knownHostsRef": { "name": "known-hosts" } },
                "jump": [{ "address": "127.0.0.1", "user": "jump", "port": 1 }],
                "connectTimeoutSeconds": 1, "maxConcurrentConnections": 1,
            },
            "become": { "method": "Sudo", "users": ["app"] }, "root": "/srv/landfall", "probe": { "periodSeconds": 60 },
            "upload": { "minBytesPerSecond": 1 }, "minAvailable": "1%",
            "env": [{ "name": "A", "value": "b", "valueFrom": { "secretKeyRef": { "name": "db", "key": "password" } } }],
            "keepSecretsOnHost": true,
            "hosts": [{
                "name": "web-01", "address": "127.0.0.1", "labels": { "key": "a" },
                "suspend": { "reason": "disk swap", "until": "2100-01-01T00:00:00Z" },
            }],
        }),
        _ => json!({
            "projectRef": { "name": "shop" }, "hostGroupRef": { "name": "web" },
            "hosts": {
                "names": ["web-01"],
                "selector": {
                    "matchLabels": { "key": "a" },
                    "matchExpressions": [{ "key": "zone", "operator": "In", "values": ["a"] }],
                },
            },
            "version": "v1",
            "pins": [{
                "version": "v0", "reason": "a leak under study", "until": "2100-01-01T00:00:00Z",
                "hosts": {
                    "names": ["web-01"],
                    "selector": {
                        "matchLabels": { "key": "a" },
                        "matchExpressions": [{ "key": "zone", "operator": "In", "values": ["a"] }],
                    },
                },
            }],
            "env": [{ "name": "A", "value": "b", "valueFrom": { "secretKeyRef": { "name": "db", "key": "password" } } }],
            "strategy": {
                "rollingUpdate": { "maxUnavailable": 1, "pauseSeconds": 1, "spreadBy": "zone", "order": "ByZone" },
                "canary": {
                    "hosts": {
                        "names": ["web-01"],
                        "selector": {
                            "matchLabels": { "key": "a" },
                            "matchExpressions": [{ "key": "zone", "operator": "In", "values": ["a"] }],
                        },
                    },
                    "maxHosts": 1,
                    "pause": { "seconds": 1, "manual": true },
                },
                "maxFailures": 0, "onFailure": "RollBack",
            },
            "minReadySeconds": 0, "progressDeadlineSeconds": 60, "paused": false, "revisionHistoryLimit": 10,
            "deletionPolicy": "Retain",
        }),
    };
    json!({ "apiVersion": "landfall.dev/v1alpha1", "kind": kind, "metadata": { "name": "x" }, "spec": spec })
}

/// [`full`] without the second of the fields that exclude each other: what an API server takes.
pub fn valid(kind: &str) -> Value {
    let mut object = full(kind);
    drop_second(&mut object);
    object
}

fn drop_second(value: &mut Value) {
    if let Some(fields) = value.as_object_mut() {
        for [first, second] in EXCLUSIVE {
            if fields.contains_key(first) {
                fields.remove(second);
            }
        }
        fields.values_mut().for_each(drop_second);
    }
    value.as_array_mut().into_iter().flatten().for_each(drop_second);
}

/// A valid object with this value at that place, as it is.
pub fn with(kind: &str, path: &FieldPath, value: Value) -> Value {
    let mut object = full(kind);
    *place(&mut object, path) = value.clone();
    drop_second(&mut object);
    *place(&mut object, path) = value;
    object
}

/// The place; what it excludes is removed on the way.
fn place<'a>(object: &'a mut Value, path: &FieldPath) -> &'a mut Value {
    let mut place = object;
    for step in &path.0 {
        place = match step {
            Step::Field(name) => {
                for [first, second] in EXCLUSIVE {
                    if name == first || name == second {
                        let other = if name == first { second } else { first };
                        place.as_object_mut().map(|fields| fields.remove(other));
                    }
                }
                &mut place[name.as_str()]
            }
            Step::Item => &mut place[0],
            Step::Entry => &mut place["key"],
        };
    }
    place
}

/// Every field of the spec with its schema: entries of lists and maps included.
pub fn fields(kind: &str) -> Vec<(FieldPath, Value)> {
    let crds = landfall::api::crds::all();
    let crd = crds.iter().find(|crd| crd.spec.names.kind == kind).unwrap();
    let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
    let mut all = Vec::new();
    let spec = FieldPath(vec![Step::Field("spec".to_owned())]);
    walk(&schema["openAPIV3Schema"]["properties"]["spec"], spec, &mut all);
    all
}

fn walk(schema: &Value, path: FieldPath, all: &mut Vec<(FieldPath, Value)>) {
    let below = |step: Step| FieldPath(path.0.iter().cloned().chain([step]).collect());
    all.push((path.clone(), schema.clone()));
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        walk(field, below(Step::Field(name.clone())), all);
    }
    if schema["items"].is_object() {
        walk(&schema["items"], below(Step::Item), all);
    }
    if schema["additionalProperties"].is_object() {
        walk(&schema["additionalProperties"], below(Step::Entry), all);
    }
}

/// Whether this operator can read the object; what an API server took it has to.
pub fn readable(kind: &str, object: &Value) -> Result<(), String> {
    use landfall::api::{Build, Deployment, HostGroup, Project};
    fn read<T: serde::de::DeserializeOwned>(object: &Value) -> Result<(), String> {
        serde_json::from_value::<T>(object.clone()).map(|_| ()).map_err(|error| error.to_string())
    }
    match kind {
        "Project" => read::<Project>(object),
        "Build" => read::<Build>(object),
        "HostGroup" => read::<HostGroup>(object),
        _ => read::<Deployment>(object),
    }
}

#[test]
fn the_full_objects_have_every_field() {
    for kind in KINDS {
        let object = full(kind);
        for (path, _) in fields(kind) {
            let mut place = &object;
            for step in &path.0 {
                place = match step {
                    Step::Field(name) => &place[name.as_str()],
                    Step::Item => &place[0],
                    Step::Entry => &place["key"],
                };
            }
            assert!(!place.is_null(), "the full {kind} lacks {path}; add it, so that it is tried as well");
        }
        readable(kind, &valid(kind)).unwrap();
    }
}
