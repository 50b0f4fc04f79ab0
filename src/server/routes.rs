//! Paths and their handlers. Every path of an object authenticates and authorises the user first.

use std::sync::Arc;

use axum::{
    Extension, Json, Router,
    extract::{Path, State},
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get, post},
};
use bytes::Bytes;

use super::{
    access::ObjectPath,
    api_error::ApiError,
    application_log, build_log, commits,
    connections::Peer,
    deployment_log, deployment_plan, discovery, hosts, logs,
    query::{LogQuery, Parameters},
    relay::relayed,
    state::View,
};
use crate::api::view::{VIEW_API, VIEW_GROUP};

pub(crate) fn router(view: Arc<View>) -> Router {
    let route = |of: &str| format!("/apis/{VIEW_API}/namespaces/{{namespace}}/{of}");
    Router::new()
        .route("/healthz", get(healthy))
        .route("/livez", get(healthy))
        .route("/readyz", get(healthy))
        .route("/apis", get(discovery::groups))
        .route(&format!("/apis/{VIEW_GROUP}"), get(discovery::group))
        .route(&format!("/apis/{VIEW_API}"), get(discovery::resources))
        .route("/openapi/v2", get(discovery::openapi_v2))
        .route("/openapi/v3", get(discovery::openapi_v3))
        // Of a resource of its own, whose subresource is `log`: the API server gives these as long as they take, and any other 60 s.
        .route(&route("applications/{name}/log"), object("applications", "log", application_log))
        .route(&route("builds/{name}/log"), object("builds", "log", build_log))
        .route(&route("deployments/{name}/log"), object("deployments", "log", deployment_log))
        .route(&route("deployments/{name}/plan"), made("deployments", "plan", plan))
        .route(&route("projects/{name}/commits"), object("projects", "commits", commits))
        .route(&route("hostgroups/{name}/hosts"), object("hostgroups", "hosts", hosts))
        .fallback(not_found)
        .with_state(view)
}

async fn healthy() -> &'static str {
    "ok"
}

async fn not_found(uri: Uri) -> ApiError {
    ApiError::not_found(format!("the server could not find the requested resource: {:?}", uri.path()))
}

/// Request for one object, whose user may make it.
struct Admitted {
    view: Arc<View>,
    namespace: String,
    name: String,
    query: Option<String>,
    /// Name of the user.
    user: String,
    body: Bytes,
}

impl Admitted {
    /// Authenticates and authorises the user; where another replica has to answer, its response is in `Err`.
    async fn admit(
        view: Arc<View>,
        peer: &Peer,
        headers: &HeaderMap,
        uri: &Uri,
        (path, body): (ObjectPath, Bytes),
    ) -> Result<Result<Self, Response>, ApiError> {
        // Names become parts of paths: of URLs of the API server, and of files.
        for name in [&path.namespace, &path.name] {
            if !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte)) {
                return Err(ApiError::bad_request(format!("{name:?} is no name; it takes a-z 0-9 - .")));
            }
        }
        let user = peer.tls.front_proxy.user(headers);
        let no_user = || ApiError::unauthorized("the request names no user; ask the API server, not the operator");
        let user = user.ok_or_else(no_user)?;
        view.access.check(&view.client, &user, &path).await?;
        let method = if path.verb == "create" { Method::POST } else { Method::GET };
        if let Some(response) = relayed(&view, peer, (method, body.clone()), headers, uri).await {
            return Ok(Err(response));
        }
        let ObjectPath { namespace, name, .. } = path;
        Ok(Ok(Self { view, namespace, name, query: uri.query().map(str::to_owned), user: user.name, body }))
    }
}

/// A handler of one subresource: admitted first, then `answer`.
fn object<A, F>(resource: &'static str, sub: &'static str, answer: A) -> MethodRouter<Arc<View>>
where
    A: Fn(Admitted) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Response, ApiError>> + Send,
{
    type Extracted = (State<Arc<View>>, Extension<Peer>, Path<(String, String)>, Uri, HeaderMap);
    get(move |(State(view), Extension(peer), Path((namespace, name)), uri, headers): Extracted| async move {
        let path = ObjectPath { namespace, resource, name, sub, verb: "get" };
        match Admitted::admit(view, &peer, &headers, &uri, (path, Bytes::new())).await? {
            Ok(admitted) => answer(admitted).await,
            Err(relayed) => Ok(relayed),
        }
    })
}

/// The same of one that is made of what is sent.
fn made<A, F>(resource: &'static str, sub: &'static str, answer: A) -> MethodRouter<Arc<View>>
where
    A: Fn(Admitted) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Response, ApiError>> + Send,
{
    type Extracted = (State<Arc<View>>, Extension<Peer>, Path<(String, String)>, Uri, HeaderMap);
    post(
        move |(State(view), Extension(peer), Path((namespace, name)), uri, headers): Extracted, body: Bytes| async move {
            let path = ObjectPath { namespace, resource, name, sub, verb: "create" };
            match Admitted::admit(view, &peer, &headers, &uri, (path, body)).await? {
                Ok(admitted) => answer(admitted).await,
                Err(relayed) => Ok(relayed),
            }
        },
    )
}

async fn build_log(admitted: Admitted) -> Result<Response, ApiError> {
    let Admitted { view, namespace, name, query, user, .. } = admitted;
    let query = LogQuery::read(query.as_deref(), &build_log::PARAMETERS)?;
    let readable = build_log::find(&view, &namespace, &name, &query).await?;
    let permit = view.reader_permits.take(&user)?;
    logs::answer(&view, readable, &query, permit).await
}

async fn deployment_log(admitted: Admitted) -> Result<Response, ApiError> {
    let Admitted { view, namespace, name, query, user, .. } = admitted;
    let query = LogQuery::read(query.as_deref(), &deployment_log::PARAMETERS)?;
    let readable = deployment_log::find(&view, &namespace, &name, &query).await?;
    let permit = view.reader_permits.take(&user)?;
    logs::answer(&view, readable, &query, permit).await
}

async fn application_log(admitted: Admitted) -> Result<Response, ApiError> {
    let Admitted { view, namespace, name, query, user, .. } = admitted;
    let query = application_log::Query::read(query.as_deref())?;
    application_log::answer(&view, &namespace, &name, &query, &user).await
}

async fn commits(admitted: Admitted) -> Result<Response, ApiError> {
    let page = commits::page(&admitted.view, &admitted.namespace, &admitted.name, admitted.query.as_deref()).await?;
    Ok(Json(page).into_response())
}

async fn hosts(admitted: Admitted) -> Result<Response, ApiError> {
    Parameters::read(admitted.query.as_deref(), &[])?;
    let matrix = hosts::matrix(&admitted.view, &admitted.namespace, &admitted.name).await?;
    Ok(Json(matrix).into_response())
}

async fn plan(admitted: Admitted) -> Result<Response, ApiError> {
    Parameters::read(admitted.query.as_deref(), &[])?;
    let Admitted { view, namespace, name, body, .. } = admitted;
    let plan = deployment_plan::plan(&view, &namespace, &name, &body).await?;
    Ok((StatusCode::CREATED, Json(plan)).into_response())
}
