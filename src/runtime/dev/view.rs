//! The APIService follows the operator: registered while it serves, removed as soon as it stops or dies. While an API is registered and its
//! server does not answer, no namespace of the control plane can be deleted.

use std::time::Duration;

use k8s_openapi::{api::core::v1::Secret, kube_aggregator::pkg::apis::apiregistration::v1::APIService};
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
};

use super::{error::DevError, install::apply, say};
use crate::api::view::{API_SERVICE, VIEW_GROUP, VIEW_SECRET, VIEW_SERVICE, VIEW_VERSION};

const NAMESPACE: &str = "landfall-system";
const RETRY_INTERVAL: Duration = Duration::from_millis(300);
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// Runs until it is aborted. `ends` counts how often the operator ended.
pub(crate) async fn tend(client: Client, port: u16, mut ends: watch::Receiver<u32>) {
    loop {
        ends.borrow_and_update();
        while !answers(port).await {
            tokio::time::sleep(RETRY_INTERVAL / 3).await;
        }
        while let Err(error) = register(&client, port).await {
            say(&format!("the aggregated API is not registered yet: {error}"));
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
        tokio::select! {
            _ = ends.changed() => {}
            () = silent(port) => {}
        }
        while let Err(error) = remove(&client).await {
            say(&format!("the APIService is still there: {error}"));
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
    }
}

/// Returns when nothing answers on that port, twice in a row: a busy machine is slow sometimes.
async fn silent(port: u16) {
    loop {
        tokio::time::sleep(CHECK_INTERVAL).await;
        if !answers(port).await && !answers(port).await {
            return;
        }
    }
}

/// Whether a running process serves connections there: the kernel accepts them for a stopped one too, but only a running one answers to
/// bytes that are not TLS, or closes.
async fn answers(port: u16) -> bool {
    let request = async {
        let mut connection = TcpStream::connect(("127.0.0.1", port)).await?;
        connection.write_all(b"landfall dev checks that the operator answers\r\n\r\n").await?;
        connection.read(&mut [0; 16]).await
    };
    match tokio::time::timeout(ANSWER_TIMEOUT, request).await {
        Ok(Err(refused)) => refused.kind() == std::io::ErrorKind::ConnectionReset,
        Ok(Ok(_)) => true,
        Err(_) => false,
    }
}

/// Registers the API. The Service leads to this machine: an EndpointSlice refuses loopback addresses, an external name does not.
async fn register(client: &Client, port: u16) -> Result<(), DevError> {
    let secret = Api::<Secret>::namespaced(client.clone(), NAMESPACE).get(VIEW_SECRET).await;
    let secret = secret.map_err(|error| DevError::Install { what: VIEW_SECRET.into(), why: error.to_string() })?;
    let bundle = secret.data.and_then(|mut data| data.remove("ca.crt"));
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": VIEW_SERVICE, "namespace": NAMESPACE },
        "spec": { "type": "ExternalName", "externalName": "localhost", "ports": [{ "port": port }] },
    });
    let registered = json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": { "name": API_SERVICE },
        "spec": {
            "group": VIEW_GROUP, "version": VIEW_VERSION, "groupPriorityMinimum": 100, "versionPriority": 10,
            "service": { "name": VIEW_SERVICE, "namespace": NAMESPACE, "port": port },
            "caBundle": bundle,
        },
    });
    for object in [service, registered] {
        let object: DynamicObject =
            serde_json::from_value(object).map_err(|error| DevError::Manifest(error.to_string()))?;
        apply(client, &object).await?;
    }
    Ok(())
}

/// Removes the APIService; one that does not exist counts as removed.
pub async fn remove(client: &Client) -> Result<(), DevError> {
    match Api::<APIService>::all(client.clone()).delete(API_SERVICE, &DeleteParams::default()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(DevError::Install { what: format!("the removal of {API_SERVICE}"), why: error.to_string() }),
    }
}
