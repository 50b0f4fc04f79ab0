//! Which path is whose. Every path of an object asks first who it is and whether he may.

use std::sync::Arc;

use axum::{
    Extension, Json, Router,
    extract::{Path, State},
    http::{HeaderMap, Uri},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get},
};

use super::{
    access::ObjectPath,
    api_error::ApiError,
    build_log, commits,
    connections::Peer,
    deployment_log, discovery, hosts, logs,
    query::{LogQuery, Parameters},
    relay::elsewhere,
    state::View,
};
use crate::api::view::{VIEW_API, VIEW_GROUP};

pub fn router(view: Arc<View>) -> Router {
    let path = |of: &str| format!("/apis/{VIEW_API}/namespaces/{{namespace}}/{of}");
    Router::new()
        .route("/healthz", get(healthy))
        .route("/livez", get(healthy))
        .route("/readyz", get(healthy))
        .route("/apis", get(discovery::groups))
        .route(&format!("/apis/{VIEW_GROUP}"), get(discovery::group))
        .route(&format!("/apis/{VIEW_API}"), get(discovery::resources))
        .route("/openapi/v2", get(discovery::openapi_v2))
        .route("/openapi/v3", get(discovery::openapi_v3))
        .route(&path("builds/{name}/log"), object("builds", "log", build_log))
        .route(&path("deployments/{name}/log"), object("deployments", "log", deployment_log))
        .route(&path("projects/{name}/commits"), object("projects", "commits", commits))
        .route(&path("hostgroups/{name}/hosts"), object("hostgroups", "hosts", hosts))
        .fallback(nothing)
        .with_state(view)
}

async fn healthy() -> &'static str {
    "ok"
}

async fn nothing(uri: Uri) -> ApiError {
    ApiError::not_found(format!("the server could not find the requested resource: {:?}", uri.path()))
}

/// One object of one request, whose sender was let in.
struct Asked {
    view: Arc<View>,
    namespace: String,
    name: String,
    query: Option<String>,
    /// Who asks.
    user: String,
}

impl Asked {
    /// Who asks, and whether he may; then whether another replica has to answer.
    async fn admit(
        view: Arc<View>,
        peer: &Peer,
        headers: &HeaderMap,
        uri: &Uri,
        place: ObjectPath,
    ) -> Result<Result<Self, Response>, ApiError> {
        // Names become parts of paths: of the API server's, and of files.
        for name in [&place.namespace, &place.name] {
            if !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte)) {
                return Err(ApiError::bad_request(format!("{name:?} is no name; it takes a-z 0-9 - .")));
            }
        }
        let user = peer.tls.front_proxy.user(headers);
        let nobody = || ApiError::unauthorized("the request names no user; ask the API server, not the operator");
        let user = user.ok_or_else(nobody)?;
        view.access.check(&view.client, &user, &place).await?;
        if let Some(response) = elsewhere(&view, peer, headers, uri).await {
            return Ok(Err(response));
        }
        let ObjectPath { namespace, name, .. } = place;
        Ok(Ok(Self { view, namespace, name, query: uri.query().map(str::to_owned), user: user.name }))
    }
}

/// A handler of one subresource: admitted first, then `answer`.
fn object<A, F>(resource: &'static str, sub: &'static str, answer: A) -> MethodRouter<Arc<View>>
where
    A: Fn(Asked) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Response, ApiError>> + Send,
{
    type Parts = (State<Arc<View>>, Extension<Peer>, Path<(String, String)>, Uri, HeaderMap);
    get(move |(State(view), Extension(peer), Path((namespace, name)), uri, headers): Parts| async move {
        let place = ObjectPath { namespace, resource, name, sub };
        match Asked::admit(view, &peer, &headers, &uri, place).await? {
            Ok(asked) => answer(asked).await,
            Err(relayed) => Ok(relayed),
        }
    })
}

async fn build_log(asked: Asked) -> Result<Response, ApiError> {
    let Asked { view, namespace, name, query, user } = asked;
    let query = LogQuery::read(query.as_deref(), &build_log::PARAMETERS)?;
    let readable = build_log::find(&view, &namespace, &name, &query).await?;
    let permit = view.reader_permits.take(&user)?;
    logs::answer(&view, readable, &query, permit).await
}

async fn deployment_log(asked: Asked) -> Result<Response, ApiError> {
    let Asked { view, namespace, name, query, user } = asked;
    let query = LogQuery::read(query.as_deref(), &deployment_log::PARAMETERS)?;
    let readable = deployment_log::find(&view, &namespace, &name, &query).await?;
    let permit = view.reader_permits.take(&user)?;
    logs::answer(&view, readable, &query, permit).await
}

async fn commits(asked: Asked) -> Result<Response, ApiError> {
    let page = commits::page(&asked.view, &asked.namespace, &asked.name, asked.query.as_deref()).await?;
    Ok(Json(page).into_response())
}

async fn hosts(asked: Asked) -> Result<Response, ApiError> {
    Parameters::read(asked.query.as_deref(), &[])?;
    let matrix = hosts::matrix(&asked.view, &asked.namespace, &asked.name).await?;
    Ok(Json(matrix).into_response())
}
