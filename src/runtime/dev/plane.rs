//! One control plane: etcd, the API server and the controllers, started in order, ready when `/readyz` says so, stopped in reverse.
//!
//! Runs in the first process of a process namespace (`inside`), because it relies on the kernel to end its children with it.

use std::{path::PathBuf, time::Duration};

use jiff::Timestamp;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use super::{
    binaries::Binaries,
    commands::{Commands, SERVICE_ADDRESS, local},
    error::DevError,
    files,
    folder::Folder,
    install::install,
    kubeconfig,
    pki::Pki,
    ports::Ports,
    reaper::Children,
    service::Kept,
    view,
};

const READY_SECONDS: u64 = 120;
/// Ends of a program before it was ready after which the start is given up.
const EARLY_ENDS_MAX: u32 = 3;
/// Starts, each with other ports where another program has taken one.
const STARTS_MAX: u32 = 3;
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// The identity that `manifests/` gives its rights to.
const OPERATOR: &str = "system:serviceaccount:landfall-system:landfall";
const OPERATOR_NAMESPACE: &str = "landfall-system";

/// What a control plane is started from.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub folder: Folder,
    pub binaries: Binaries,
    /// Whether what was written must survive a power cut.
    pub durable: bool,
    /// Where the administrator's kubeconfig goes.
    pub kubeconfig: PathBuf,
    /// What the certificates are dated by.
    pub now: Timestamp,
}

/// A control plane that is ready.
pub(crate) struct ControlPlane {
    /// The port that is kept for the operator's aggregated API.
    pub view_port: u16,
    /// The administrator's.
    pub client: Client,
    etcd: Kept,
    apiserver: Kept,
    controllers: Kept,
}

impl ControlPlane {
    /// Returns when landfall's custom resources are served.
    pub async fn start(options: &Options, children: &Children) -> Result<Self, DevError> {
        let mut start = 1;
        loop {
            match Self::start_once(options, children).await {
                Err(DevError::Died { .. }) if start < STARTS_MAX => {
                    start += 1;
                    Ports::forget(&options.folder);
                }
                other => return other,
            }
        }
    }

    async fn start_once(options: &Options, children: &Children) -> Result<Self, DevError> {
        files::private_folder(&options.folder.logs())?;
        files::private_folder(&options.folder.etcd())?;
        let ports = Ports::choose(&options.folder)?;
        let pki = Pki::open(options.folder.pki(), options.now)?;
        issue(&pki, options, &local(ports.apiserver))?;
        let commands = Commands {
            binaries: &options.binaries,
            folder: &options.folder,
            pki: &pki,
            ports,
            durable: options.durable,
        };
        let etcd = commands.etcd().keep(children)?;
        let listening = listening(ports.etcd);
        let up = tokio::select! { () = listening => Ok(()), died = etcd.ended_times(1) => Err(died) };
        if let Err(died) = up {
            etcd.stop().await;
            return Err(died);
        }
        let apiserver = commands.apiserver().keep(children)?;
        let controllers = commands.controllers().keep(children)?;
        let client = client(&options.kubeconfig).await?;
        let plane = Self { view_port: ports.view, client, etcd, apiserver, controllers };
        match plane.become_ready(options).await {
            Ok(()) => Ok(plane),
            Err(error) => {
                plane.stop().await;
                Err(error)
            }
        }
    }

    async fn become_ready(&self, options: &Options) -> Result<(), DevError> {
        let ready = async {
            while self.client.request_text(readyz()?).await.is_err() {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
            // One of an operator that was killed with its control plane.
            view::remove(&self.client).await?;
            install(&self.client).await
        };
        tokio::select! {
            ready = tokio::time::timeout(Duration::from_secs(READY_SECONDS), ready) => {
                ready.unwrap_or_else(|_| Err(DevError::NotReady { seconds: READY_SECONDS, logs: options.folder.logs() }))
            }
            died = self.etcd.ended_times(EARLY_ENDS_MAX) => Err(died),
            died = self.apiserver.ended_times(EARLY_ENDS_MAX) => Err(died),
            died = self.controllers.ended_times(EARLY_ENDS_MAX + 2) => Err(died),
        }
    }

    /// Ends the programs in the order in which they need each other.
    pub async fn stop(self) {
        self.controllers.stop().await;
        self.apiserver.stop().await;
        self.etcd.stop().await;
    }
}

/// All certificates, keys and kubeconfigs of one start.
fn issue(pki: &Pki, options: &Options, server: &str) -> Result<(), DevError> {
    let etcd = pki.authority("etcd-ca")?;
    pki.keep("etcd", &etcd.peer("etcd", &["127.0.0.1", "localhost"])?)?;
    pki.keep("apiserver-etcd", &etcd.client("kube-apiserver", None)?)?;
    let front_proxy = pki.authority("front-proxy-ca")?;
    pki.keep("front-proxy-client", &front_proxy.client("front-proxy-client", None)?)?;
    let cluster = pki.authority("cluster-ca")?;
    let names =
        ["127.0.0.1", SERVICE_ADDRESS, "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"];
    pki.keep("apiserver", &cluster.server("kube-apiserver", &names)?)?;
    pki.key_pair("service-account")?;

    let write = |path: &PathBuf, user: &str, group: Option<&str>, namespace: &str| {
        kubeconfig::write(path, server, &cluster.certificate, user, &cluster.client(user, group)?, namespace)
    };
    write(&options.kubeconfig, "landfall-dev-admin", Some("system:masters"), "default")?;
    write(&options.folder.controllers_kubeconfig(), "system:kube-controller-manager", None, "default")?;
    write(&options.folder.operator_kubeconfig(), OPERATOR, Some("system:serviceaccounts"), OPERATOR_NAMESPACE)
}

async fn client(path: &PathBuf) -> Result<Client, DevError> {
    let unusable = |error: &dyn std::fmt::Display| DevError::Kubeconfig(error.to_string());
    let config = Kubeconfig::read_from(path).map_err(|error| unusable(&error))?;
    let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await;
    let mut config = config.map_err(|error| unusable(&error))?;
    config.connect_timeout = Some(Duration::from_secs(2));
    config.read_timeout = Some(Duration::from_secs(20));
    Client::try_from(config).map_err(|error| unusable(&error))
}

fn readyz() -> Result<hyper::http::Request<Vec<u8>>, DevError> {
    hyper::http::Request::get("/readyz").body(Vec::new()).map_err(|error| DevError::Kubeconfig(error.to_string()))
}

/// Returns when something accepts connections on that port.
async fn listening(port: u16) {
    while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
