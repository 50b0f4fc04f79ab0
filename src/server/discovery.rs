//! What the API server and kubectl ask of a group before anything else: which versions and resources it has, and its schemas (none).

use axum::{
    Json,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use crate::api::view::{VIEW_API, VIEW_GROUP, VIEW_VERSION};

/// Subresources only, so that `kubectl get builds` never means this group.
const RESOURCES: [(&str, &str, &str); 6] = [
    ("applications/log", "ApplicationLog", "get"),
    ("builds/log", "BuildLog", "get"),
    ("deployments/log", "DeploymentLog", "get"),
    ("deployments/plan", "DeploymentPlan", "create"),
    ("hostgroups/hosts", "HostMatrix", "get"),
    ("projects/commits", "CommitPage", "get"),
];

pub async fn groups() -> Json<Value> {
    Json(json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": [group_value()] }))
}

pub async fn group() -> Json<Value> {
    let mut group = group_value();
    group["kind"] = json!("APIGroup");
    group["apiVersion"] = json!("v1");
    Json(group)
}

fn group_value() -> Value {
    let version = json!({ "groupVersion": VIEW_API, "version": VIEW_VERSION });
    json!({ "name": VIEW_GROUP, "versions": [version], "preferredVersion": version })
}

pub async fn resources() -> Json<Value> {
    let resource = |(name, kind, verb): &(&str, &str, &str)| json!({ "name": name, "singularName": "", "namespaced": true, "kind": kind, "verbs": [verb] });
    let resources: Vec<Value> = RESOURCES.iter().map(resource).collect();
    Json(json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": VIEW_API, "resources": resources }))
}

/// An empty document, with a tag that never changes: the API server asks every minute and gets 304 Not Modified.
pub(crate) async fn openapi_v2() -> Response {
    let document =
        json!({ "swagger": "2.0", "info": { "title": "landfall view", "version": VIEW_VERSION }, "paths": {} });
    let mut response = Json(document).into_response();
    response.headers_mut().insert(header::ETAG, HeaderValue::from_static("\"landfall-view-1\""));
    response
}

pub(crate) async fn openapi_v3() -> Json<Value> {
    Json(json!({ "paths": {} }))
}
