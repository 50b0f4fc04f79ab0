//! The cluster that a command speaks to: the options that choose it, and reads with the caller's own rights.

use std::{path::PathBuf, time::Duration};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::Value;

use super::{
    error::{CliError, from_kube},
    object::Kind,
};
use crate::{api::GROUP, effects::api_server::name_program};

/// Version of the kinds that this program speaks.
const API_VERSION: &str = "v1alpha1";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Options that every command has that reads from a cluster.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ClusterArgs {
    /// Namespace of the object [default: that of the kubeconfig's context]
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Kubeconfig file [default: $KUBECONFIG, else ~/.kube/config, else the pod's service account]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig [default: its current context]
    #[arg(long, value_name = "CONTEXT")]
    pub context: Option<String>,
}

/// A client with the caller's rights.
pub struct Cluster {
    pub client: Client,
    /// Of objects whose namespace is not named.
    pub namespace: String,
    /// The API server's URL, for messages.
    pub address: String,
}

impl ClusterArgs {
    /// `silence` is how long an answer may pause; `None` where it may pause for ever, as a log does.
    pub async fn connect(&self, silence: Option<Duration>) -> Result<Cluster, CliError> {
        let mut config = self.config().await?;
        // Commands repeat their requests themselves, and tell the user.
        config.default_retry = false;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        config.read_timeout = silence;
        name_program(&mut config);
        let address = config.cluster_url.to_string();
        let namespace = self.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).map_err(|error| from_kube(error, &address))?;
        Ok(Cluster { client, namespace, address })
    }

    async fn config(&self) -> Result<Config, CliError> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        match &self.kubeconfig {
            Some(path) => Ok(Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &options).await?),
            None if self.context.is_some() => Ok(Config::from_kubeconfig(&options).await?),
            None => Ok(Config::infer().await?),
        }
    }
}

impl Cluster {
    /// The object as the API server has it, with every field that this program does not know.
    pub async fn get(&self, kind: Kind, name: &str) -> Result<Value, CliError> {
        let path = format!("/apis/{GROUP}/{API_VERSION}/namespaces/{}/{}/{name}", self.namespace, kind.plural());
        let request = hyper::Request::get(&path).body(Vec::new());
        let request = request.map_err(|error| CliError::Refused(format!("{path} is not a path: {error}")))?;
        match self.client.request(request).await {
            Ok(object) => Ok(object),
            // A Status that names the object; where the path is not served the API server answers "page not found" in plain text.
            Err(kube::Error::Api(status)) if status.code == 404 && status.details.is_some() => {
                Err(CliError::NotFound {
                    kind: kind.name(),
                    plural: kind.plural(),
                    namespace: self.namespace.clone(),
                    name: name.to_owned(),
                })
            }
            Err(kube::Error::Api(status)) if status.code == 404 => {
                Err(CliError::NotInstalled { address: self.address.clone() })
            }
            Err(error) => Err(from_kube(error, &self.address)),
        }
    }
}
