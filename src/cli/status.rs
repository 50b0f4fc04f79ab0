//! `landfall status deployment/NAME`: hosts, versions and what is going on, on one screen.

use kube::{Api, Client, Config};

use super::screen;
use crate::{
    api::{Deployment, HostGroup},
    effects::clock,
};

/// Show a Deployment on one screen: hosts, versions, and what is going on.
#[derive(Debug, Clone, clap::Args)]
pub struct StatusArgs {
    /// deployment/NAME
    #[arg(value_name = "deployment/NAME")]
    pub object: String,
    /// Where it is [default: the namespace of the kubeconfig's context]
    #[arg(short, long)]
    pub namespace: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    #[error("{0:?} names no Deployment; write deployment/NAME")]
    BadName(String),
    #[error("no cluster: {0}; set KUBECONFIG, or try `landfall dev`")]
    Config(#[from] kube::config::InferConfigError),
    #[error(
        "there is no Deployment {name} in the namespace {namespace}; `kubectl get lfd -n {namespace}` shows which there are"
    )]
    NotFound { namespace: String, name: String },
    #[error("the API server: {0}")]
    Api(#[from] kube::Error),
}

/// Prints the screen on stdout.
pub async fn status(args: StatusArgs) -> Result<(), StatusError> {
    let name = name_of(&args.object).ok_or_else(|| StatusError::BadName(args.object.clone()))?.to_owned();
    let config = Config::infer().await?;
    let namespace = args.namespace.unwrap_or_else(|| config.default_namespace.clone());
    let client = Client::try_from(config)?;
    let deployment = Api::<Deployment>::namespaced(client.clone(), &namespace)
        .get_opt(&name)
        .await?
        .ok_or(StatusError::NotFound { namespace: namespace.clone(), name })?;
    // Without the right to read the group, or without a group, the screen does without its host names.
    let group = Api::<HostGroup>::namespaced(client, &namespace).get_opt(&deployment.spec.host_group_ref.name).await;
    print!("{}", screen::deployment(&deployment, group.ok().flatten().as_ref(), clock::now()));
    Ok(())
}

fn name_of(object: &str) -> Option<&str> {
    let (kind, name) = object.split_once('/')?;
    let known = ["deployment", "deployments", "deployments.landfall.dev", "lfd"].contains(&kind);
    (known && !name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deployment_is_named_as_kubectl_names_it() {
        for good in ["deployment/web", "lfd/web", "deployments.landfall.dev/web"] {
            assert_eq!(name_of(good), Some("web"));
        }
        for bad in ["web", "pod/web", "deployment/", "/web"] {
            assert_eq!(name_of(bad), None);
        }
    }
}
