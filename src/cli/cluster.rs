//! The cluster that a command speaks to: the options that choose it, and reads and writes with the caller's own rights.

use std::{path::PathBuf, time::Duration};

use hyper::{header::CONTENT_TYPE, http::request::Builder};
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
pub(super) const API_VERSION: &str = "v1alpha1";
/// Manager of the fields that this program writes. Flux leaves them alone, as it does not those of managers named `kubectl…`.
const FIELD_MANAGER: &str = "landfall-cli";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout of one short answer.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Options that every command has that speaks to a cluster.
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

    /// The options as they are typed once more in a command that a message shows.
    pub fn repeated(&self, namespace: &str) -> String {
        let kubeconfig = self.kubeconfig.as_ref().map(|file| format!(" --kubeconfig {}", file.display()));
        let context = self.context.as_ref().map(|context| format!(" --context {context}"));
        format!("-n {namespace}{}{}", kubeconfig.unwrap_or_default(), context.unwrap_or_default())
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
        let request = hyper::Request::get(format!("{}/{name}", self.path(kind)));
        self.send(request, Vec::new(), kind, name).await
    }

    /// The objects of a kind whose fields have these values, such as `spec.projectRef.name=hello`; all of them where that is empty.
    pub async fn list(&self, kind: Kind, fields: &str) -> Result<Vec<Value>, CliError> {
        let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("fieldSelector", fields).finish();
        let request = hyper::Request::get(format!("{}?{query}", self.path(kind)));
        let mut list = self.send(request, Vec::new(), kind, "").await?;
        match list["items"].take() {
            Value::Array(items) => Ok(items),
            _ => Ok(Vec::new()),
        }
    }

    /// Merges the patch into the object, as the field manager of this program's. Where the patch names a `resourceVersion`, an object that was
    /// changed since is [`CliError::Changed`].
    pub async fn merge(&self, kind: Kind, name: &str, patch: &Value) -> Result<Value, CliError> {
        let path = format!("{}/{name}?fieldManager={FIELD_MANAGER}&fieldValidation=Strict", self.path(kind));
        let request = hyper::Request::patch(path).header(CONTENT_TYPE, "application/merge-patch+json");
        self.send(request, serde_json::to_vec(patch)?, kind, name).await
    }

    /// Creates the object, as the field manager of this program's. One of this name that was created meanwhile is [`CliError::Changed`].
    pub async fn create(&self, kind: Kind, name: &str, object: &Value) -> Result<Value, CliError> {
        let path = format!("{}?fieldManager={FIELD_MANAGER}&fieldValidation=Strict", self.path(kind));
        let request = hyper::Request::post(path).header(CONTENT_TYPE, "application/json");
        self.send(request, serde_json::to_vec(object)?, kind, name).await
    }

    fn path(&self, kind: Kind) -> String {
        format!("/apis/{GROUP}/{API_VERSION}/namespaces/{}/{}", self.namespace, kind.plural())
    }

    /// `name` is for messages.
    async fn send(&self, request: Builder, body: Vec<u8>, kind: Kind, name: &str) -> Result<Value, CliError> {
        let request = request.body(body).map_err(|error| CliError::Refused(format!("the path is none: {error}")))?;
        let (namespace, name) = (self.namespace.clone(), name.to_owned());
        match self.client.request(request).await {
            Ok(object) => Ok(object),
            // A Status that names the object; where the path is not served the API server answers "page not found" in plain text.
            Err(kube::Error::Api(status)) if status.code == 404 && status.details.is_some() => {
                Err(CliError::NotFound { kind: kind.name(), plural: kind.plural(), namespace, name })
            }
            Err(kube::Error::Api(status)) if status.code == 404 => {
                Err(CliError::NotInstalled { address: self.address.clone() })
            }
            Err(kube::Error::Api(status)) if status.code == 409 => {
                Err(CliError::Changed { kind: kind.name(), namespace, name })
            }
            Err(error) => Err(from_kube(error, &self.address)),
        }
    }
}
