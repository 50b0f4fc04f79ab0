//! `landfall plan deployment/NAME` and `landfall diff -f FILE`: what a Deployment would do with its spec, with another version, or with the spec in a
//! file. The operator's own planner says; nothing is changed.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{
    cluster::{API_VERSION, ClusterArgs},
    error::{CliError, ExitStatus},
    object::{self, Kind},
    output::{self, Format},
    screen,
    view::ViewClient,
};
use crate::api::{
    GROUP,
    view::{DeploymentPlan, PlanRequest, path},
};

/// Show what a Deployment would do now: which hosts it updates, in which order and batches, why, and what holds it
///
/// The operator's planner decides on what is known of the hosts now, as if every host did as it is told. Nothing is changed.
///
/// Exit code: 0 with the plan, 2 without an answer (usage, no cluster, no such object, no right).
#[derive(Debug, Clone, clap::Args)]
pub struct PlanArgs {
    /// Object: deployment/NAME
    #[arg(value_name = "deployment/NAME")]
    pub object: String,
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Try this version in place of that of the spec
    #[arg(long, value_name = "VERSION")]
    pub version: Option<String>,
    /// Output format [default: the screen]
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub output: Option<Format>,
}

/// Show what Deployments would do with the specs in a file, as `landfall plan` does
///
/// A Deployment that does not exist yet has no plan; other objects in the file are passed over.
///
/// Exit code: 0 with the plans, 2 without an answer (usage, no cluster, no such object, no right, no Deployment in the file).
#[derive(Debug, Clone, clap::Args)]
pub struct DiffArgs {
    /// YAML or JSON file with Deployments; - is standard input
    #[arg(short, long, value_name = "FILE")]
    pub filename: PathBuf,
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Output format [default: the screen]
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub output: Option<Format>,
}

/// Prints the plan on stdout.
pub async fn plan(args: PlanArgs) -> Result<ExitStatus, CliError> {
    let (_, name) = object::required(&args.object, &[Kind::Deployment])?;
    let client = ViewClient::new(&args.cluster).await?;
    let mut spec = None;
    if let Some(version) = args.version {
        let mut deployment = client.cluster.get(Kind::Deployment, name).await?;
        deployment["spec"]["version"] = version.into();
        spec = Some(deployment["spec"].take());
    }
    let namespace = client.cluster.namespace.clone();
    show(&client, &namespace, name, spec, args.output).await?;
    Ok(ExitStatus::Done)
}

/// Prints one plan after the other on stdout.
pub async fn diff(args: DiffArgs) -> Result<ExitStatus, CliError> {
    let deployments = deployments(&args.filename)?;
    let client = ViewClient::new(&args.cluster).await?;
    for mut deployment in deployments {
        let name = deployment["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let own = deployment["metadata"]["namespace"].as_str().map(str::to_owned);
        let namespace = args.cluster.namespace.clone().or(own).unwrap_or_else(|| client.cluster.namespace.clone());
        show(&client, &namespace, &name, Some(deployment["spec"].take()), args.output).await?;
    }
    Ok(ExitStatus::Done)
}

async fn show(
    client: &ViewClient,
    namespace: &str,
    name: &str,
    spec: Option<Value>,
    output: Option<Format>,
) -> Result<(), CliError> {
    let request = PlanRequest { spec, ..PlanRequest::default() };
    let plan: DeploymentPlan = client.create(&path(namespace, "deployments", name, "plan"), &request).await?;
    match output {
        Some(format) => output::print_value(format, &plan),
        None => output::print(&screen::plan(namespace, name, &plan)),
    }
}

/// The Deployments in the file, at least one.
fn deployments(file: &Path) -> Result<Vec<Value>, CliError> {
    let unreadable = |why: String| CliError::BadFile { file: file.to_owned(), why };
    let mut text = String::new();
    let read = match file.as_os_str() == "-" {
        true => std::io::stdin().read_to_string(&mut text).map(|_| ()),
        false => std::fs::read_to_string(file).map(|read| text = read),
    };
    read.map_err(|error| unreadable(error.to_string()))?;
    let all: Vec<Value> = serde_saphyr::from_multiple(&text).map_err(|error| unreadable(error.to_string()))?;
    let is_ours = |object: &Value| {
        object["kind"] == Kind::Deployment.name() && object["apiVersion"] == format!("{GROUP}/{API_VERSION}").as_str()
    };
    let ours: Vec<Value> = all.into_iter().filter(is_ours).collect();
    if ours.is_empty() {
        return Err(unreadable(format!("it has no object of apiVersion {GROUP}/{API_VERSION} and kind Deployment")));
    }
    match ours.iter().any(|one| one["metadata"]["name"].as_str().is_none_or(|name| !object::is_name(name))) {
        true => Err(unreadable("a Deployment in it has no metadata.name".to_owned())),
        false => Ok(ours),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Vec<Value>, CliError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        deployments(file.path())
    }

    #[test]
    fn the_deployments_of_landfall_in_a_file_are_meant_and_nothing_else() {
        let ours =
            "apiVersion: landfall.dev/v1alpha1\nkind: Deployment\nmetadata: { name: web }\nspec: { version: v2 }\n";
        let foreign = "apiVersion: apps/v1\nkind: Deployment\nmetadata: { name: web }\n";
        let found = of(&format!("{foreign}---\n{ours}---\n{ours}")).unwrap();
        assert_eq!(
            found.iter().map(|one| one["spec"]["version"].as_str()).collect::<Vec<_>>(),
            [Some("v2"), Some("v2")]
        );
        for (text, wanted) in [
            (foreign, "no object of apiVersion landfall.dev/v1alpha1"),
            ("apiVersion: landfall.dev/v1alpha1\nkind: Deployment\n", "no metadata.name"),
            ("a: [", "can't be read"),
        ] {
            let refused = of(text).unwrap_err().to_string();
            assert!(refused.contains(wanted), "{refused}");
        }
    }
}
