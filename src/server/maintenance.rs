//! Keeps what the aggregated API stands on: certificates before they end, the API server's front proxy as it is now, and the
//! APIService's `caBundle`. It never makes the APIService: who takes that away wants it away.

use std::{net::SocketAddr, time::Duration};

use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use tokio::{net::TcpListener, sync::watch};

use super::{authority::Authority, error::ViewError, front_proxy::FrontProxy, state::View, tls::Tls};
use crate::{
    api::{FIELD_MANAGER, view::API_SERVICE},
    effects::clock,
};

const AGAIN: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_secs(20);
/// A leaf lasts three months; a new one is made long before.
const LOOKS_PER_LEAF: u32 = 3 * 60 * 24;

/// Comes back when connections can be taken; looks after the rest in the background.
pub async fn begin(view: &std::sync::Arc<View>, address: SocketAddr) -> (TcpListener, watch::Receiver<Tls>) {
    let mut said = String::new();
    loop {
        match start(view, address).await {
            Ok((listener, standing, tls)) => {
                let (tell, told) = watch::channel(tls);
                tokio::spawn(keep(view.clone(), standing, tell));
                return (listener, told);
            }
            Err(error) => say(&mut said, &error),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Once for each new trouble.
fn say(said: &mut String, error: &ViewError) {
    let text = error.to_string();
    if *said != text {
        tracing::warn!("the aggregated API is not served as it should be: {text}");
        *said = text;
    }
}

type Standing = (FrontProxy, Authority);

async fn start(view: &View, address: SocketAddr) -> Result<(TcpListener, Standing, Tls), ViewError> {
    let standing = look(view).await?;
    let tls = Tls::new(standing.0.clone(), &standing.1, &view.namespace, clock::now())?;
    // Before anybody is sent here.
    trust(view, &standing.1).await?;
    let listener = TcpListener::bind(address).await.map_err(|source| ViewError::Listen { address, source })?;
    Ok((listener, standing, tls))
}

async fn look(view: &View) -> Result<Standing, ViewError> {
    let front_proxy = FrontProxy::read(&view.client).await?;
    let authority = Authority::of_secret(&view.client, &view.namespace, clock::now()).await?;
    Ok((front_proxy, authority))
}

async fn keep(view: std::sync::Arc<View>, mut standing: Standing, tell: watch::Sender<Tls>) {
    let (mut said, mut looks) = (String::new(), 0_u32);
    loop {
        tokio::time::sleep(LOOK).await;
        looks = looks.wrapping_add(1);
        let done = async {
            let now = look(&view).await?;
            if now != standing || looks.is_multiple_of(LOOKS_PER_LEAF) {
                tell.send_replace(Tls::new(now.0.clone(), &now.1, &view.namespace, clock::now())?);
                standing = now;
            }
            trust(&view, &standing.1).await
        };
        match done.await {
            Ok(()) => said.clear(),
            Err(error) => say(&mut said, &error),
        }
    }
}

/// Sees that the API server trusts our authority, where it was told of us at all.
async fn trust(view: &View, authority: &Authority) -> Result<(), ViewError> {
    let api = Api::<APIService>::all(view.client.clone());
    let failed = |source| ViewError::ApiService { source };
    let Some(known) = api.get_opt(API_SERVICE).await.map_err(failed)? else { return Ok(()) };
    let bundle = k8s_openapi::ByteString(authority.bundle.clone().into_bytes());
    let trusted = known.spec.and_then(|spec| spec.ca_bundle);
    if trusted.as_ref() == Some(&bundle) {
        return Ok(());
    }
    let patch = serde_json::json!({ "spec": { "caBundle": bundle } });
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    match api.patch(API_SERVICE, &params, &Patch::Merge(patch)).await {
        Ok(_) => Ok(()),
        // It was taken away meanwhile.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(failed(error)),
    }
}
