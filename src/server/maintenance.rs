//! Keeps up to date what the aggregated API is served with: certificates, the API server's front proxy, and the APIService's
//! `caBundle`. It never creates the APIService: where that was deleted, it stays deleted.

use std::{net::SocketAddr, time::Duration};

use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::{Api, api::Patch};
use tokio::{net::TcpListener, sync::watch};

use super::{authority::Authority, error::ViewError, front_proxy::FrontProxy, state::View, tls::Tls};
use crate::{
    api::view::API_SERVICE,
    effects::{api_server::patch_params, clock},
};

const START_RETRY_INTERVAL: Duration = Duration::from_secs(5);
const CHECK_INTERVAL: Duration = Duration::from_secs(20);
/// Checks for which a leaf certificate is used: a day. It is valid for three months.
const CHECKS_PER_LEAF: u32 = 3 * 60 * 24;

/// Returns once connections can be accepted, and keeps the rest up to date in the background.
pub async fn begin(view: &std::sync::Arc<View>, address: SocketAddr) -> (TcpListener, watch::Receiver<Tls>) {
    let mut last_warning = String::new();
    loop {
        match start(view, address).await {
            Ok((listener, trusted, tls)) => {
                let (sender, receiver) = watch::channel(tls);
                tokio::spawn(keep_current(view.clone(), trusted, sender));
                return (listener, receiver);
            }
            Err(error) => warn_once(&mut last_warning, &error),
        }
        tokio::time::sleep(START_RETRY_INTERVAL).await;
    }
}

/// A log line for each error that differs from the last one.
fn warn_once(last_warning: &mut String, error: &ViewError) {
    let text = error.to_string();
    if *last_warning != text {
        tracing::warn!("the aggregated API is not served as it should be: {text}");
        *last_warning = text;
    }
}

/// Certificates that connections are verified with.
type Trusted = (FrontProxy, Authority);

async fn start(view: &View, address: SocketAddr) -> Result<(TcpListener, Trusted, Tls), ViewError> {
    let trusted = read_trusted(view).await?;
    let tls = Tls::new(trusted.0.clone(), &trusted.1, &view.namespace, clock::now())?;
    // Before the API server sends requests here.
    update_ca_bundle(view, &trusted.1).await?;
    let listener = TcpListener::bind(address).await.map_err(|source| ViewError::Listen { address, source })?;
    Ok((listener, trusted, tls))
}

async fn read_trusted(view: &View) -> Result<Trusted, ViewError> {
    let front_proxy = FrontProxy::read(&view.client).await?;
    let authority = Authority::of_secret(&view.client, &view.namespace, clock::now()).await?;
    Ok((front_proxy, authority))
}

async fn keep_current(view: std::sync::Arc<View>, mut trusted: Trusted, sender: watch::Sender<Tls>) {
    let (mut last_warning, mut checks) = (String::new(), 0_u32);
    loop {
        tokio::time::sleep(CHECK_INTERVAL).await;
        checks = checks.wrapping_add(1);
        let done = async {
            let now = read_trusted(&view).await?;
            if now != trusted || checks.is_multiple_of(CHECKS_PER_LEAF) {
                sender.send_replace(Tls::new(now.0.clone(), &now.1, &view.namespace, clock::now())?);
                trusted = now;
            }
            update_ca_bundle(&view, &trusted.1).await
        };
        match done.await {
            Ok(()) => last_warning.clear(),
            Err(error) => warn_once(&mut last_warning, &error),
        }
    }
}

/// Makes the API server trust our authority, where an APIService exists.
async fn update_ca_bundle(view: &View, authority: &Authority) -> Result<(), ViewError> {
    let api = Api::<APIService>::all(view.client.clone());
    let failed = |source| ViewError::ApiService { source };
    let Some(known) = api.get_opt(API_SERVICE).await.map_err(failed)? else { return Ok(()) };
    let bundle = k8s_openapi::ByteString(authority.bundle.clone().into_bytes());
    let current = known.spec.and_then(|spec| spec.ca_bundle);
    if current.as_ref() == Some(&bundle) {
        return Ok(());
    }
    let patch = serde_json::json!({ "spec": { "caBundle": bundle } });
    let params = patch_params();
    match api.patch(API_SERVICE, &params, &Patch::Merge(patch)).await {
        Ok(_) => Ok(()),
        // Deleted meanwhile.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(failed(error)),
    }
}
