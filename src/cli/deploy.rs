//! `landfall deploy PROJECT VERSION --to GROUP`: sets the version of the one Deployment of a project on a host group, or creates it. What git owns
//! is said first, and not changed without `--force`.

use serde_json::{Value, json};

use super::{
    cluster::{API_VERSION, Cluster, ClusterArgs, SILENCE_MAX},
    error::{CliError, ExitStatus},
    follow::Until,
    git_owner::{GitOwner, git_owner},
    object::{Kind, name_of},
    output,
    wait::{WaitOptions, wait_for},
};
use crate::{
    api::{GROUP, verbs::PAUSE},
    model::text::for_terminal,
};

/// How often the version is written where the object is changed at the same time, which the operator does in every rollout.
const TRIES: usize = 10;

/// Deploy a version of a Project on a HostGroup
///
/// It sets spec.version of the Deployment of that project and group. Where there is none, it creates one, named PROJECT-GROUP, for all hosts
/// of the group. Setting a former version is the way back.
///
/// Exit code: 0 written (with --wait: ready), 1 failed, 2 no answer (usage, no cluster, no such object, no right, owned by git), 3 the time
/// is over.
#[derive(Debug, Clone, clap::Args)]
pub struct DeployArgs {
    /// Name of the Project
    #[arg(value_name = "PROJECT")]
    pub project: String,
    /// Version to deploy; `landfall status project/NAME` lists the newest
    #[arg(value_name = "VERSION")]
    pub version: String,
    /// Name of the HostGroup
    #[arg(long, value_name = "GROUP")]
    pub to: String,
    /// Name of the Deployment to set or to create [default: that of the project on the group, else PROJECT-GROUP]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Write the version also where Argo CD or Flux keeps the Deployment as git has it
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub cluster: ClusterArgs,
    #[command(flatten)]
    pub waiting: WaitOptions,
}

/// Prints what was written and how to watch it, and waits where that is wanted.
pub async fn deploy(args: DeployArgs) -> Result<ExitStatus, CliError> {
    let bad =
        |object: &str, wanted: &'static str| CliError::BadName { object: object.to_owned(), wanted: wanted.into() };
    let project = name_of(Kind::Project, &args.project)
        .ok_or_else(|| bad(&args.project, "the name of a Project; `kubectl get lfp` lists them"))?;
    let group = name_of(Kind::HostGroup, &args.to)
        .ok_or_else(|| bad(&args.to, "the name of a HostGroup; `kubectl get lfh` lists them"))?;
    let named = match &args.name {
        Some(name) => Some(
            name_of(Kind::Deployment, name)
                .ok_or_else(|| bad(name, "the name of a Deployment; `kubectl get lfd` lists them"))?,
        ),
        None => None,
    };
    let deadline = args.waiting.deadline()?;
    let cluster = args.cluster.connect(Some(SILENCE_MAX)).await?;
    let wish = Wish { project, group, version: &args.version, named, force: args.force };
    note_unknown_version(&wish, &cluster.get(Kind::Project, project).await?);
    let mut tries = 1;
    let (name, done) = loop {
        match write(&wish, &cluster).await {
            Err(CliError::Changed { .. }) if tries < TRIES => tries += 1,
            written => break written?,
        }
    };
    let (object, options) = (Kind::Deployment.object(&name), args.cluster.repeated(&cluster.namespace));
    let text = format!("{object}: {done}. To watch it: landfall status {options} {object} --watch\n");
    output::print(&for_terminal(&text))?;
    match args.waiting.wait {
        true => wait_for(&cluster, Kind::Deployment, &name, Until::Decided, deadline).await,
        false => Ok(ExitStatus::Done),
    }
}

/// What is to run where.
struct Wish<'a> {
    project: &'a str,
    group: &'a str,
    version: &'a str,
    /// The Deployment that the user names.
    named: Option<&'a str>,
    force: bool,
}

/// Name of the Deployment, and what was done.
async fn write(wish: &Wish<'_>, cluster: &Cluster) -> Result<(String, String), CliError> {
    let fields = format!("spec.projectRef.name={},spec.hostGroupRef.name={}", wish.project, wish.group);
    let deployments = cluster.list(Kind::Deployment, &fields).await?;
    match choose(wish, &deployments)? {
        Some(deployment) => set(wish, cluster, deployment).await,
        None => create(wish, cluster).await,
    }
}

async fn set(wish: &Wish<'_>, cluster: &Cluster, deployment: &Value) -> Result<(String, String), CliError> {
    let name = name(deployment).to_owned();
    let object = Kind::Deployment.object(&name);
    if deployment["metadata"]["deletionTimestamp"].is_string() {
        let message = format!(
            "{object} is being deleted; wait until it is gone: kubectl -n {} get lfd {name} --watch",
            cluster.namespace
        );
        return Err(CliError::NotApplicable(message));
    }
    let before = deployment["spec"]["version"].as_str().unwrap_or("?");
    if before == wish.version {
        return Ok((name, format!("{before} is its version already; nothing was written")));
    }
    match git_owner(deployment) {
        Some(owner) if !wish.force => return Err(CliError::NotApplicable(kept_by_git(&object, wish.version, &owner))),
        Some(GitOwner { owner, mark }) => eprintln!(
            "landfall: {object} is kept as git has it by {owner}, as its {mark} shows; its next sync may set the version back to {before}"
        ),
        None => {}
    }
    let patch = json!({
        "metadata": { "resourceVersion": deployment["metadata"]["resourceVersion"] },
        "spec": { "version": wish.version },
    });
    cluster.merge(Kind::Deployment, &name, &patch).await?;
    let is_paused = deployment["spec"]["paused"] == true || deployment["metadata"]["annotations"][PAUSE].is_string();
    let paused = if is_paused { "; it is paused, and begins once it is resumed" } else { "" };
    Ok((name, format!("{before} → {}{paused}", wish.version)))
}

async fn create(wish: &Wish<'_>, cluster: &Cluster) -> Result<(String, String), CliError> {
    // A Deployment of a group that does not exist would wait for it.
    cluster.get(Kind::HostGroup, wish.group).await?;
    let name = wish.named.map_or_else(|| format!("{}-{}", wish.project, wish.group), str::to_owned);
    let object = json!({
        "apiVersion": format!("{GROUP}/{API_VERSION}"), "kind": "Deployment",
        "metadata": { "name": name },
        "spec": {
            "projectRef": { "name": wish.project },
            "hostGroupRef": { "name": wish.group },
            "version": wish.version,
        },
    });
    if let Err(error) = cluster.create(Kind::Deployment, &name, &object).await {
        return Err(match error {
            CliError::Changed { .. } => taken(wish, cluster, &name).await?.unwrap_or(error),
            error => error,
        });
    }
    let done =
        format!("created, for {} of project {} on all hosts of host group {}", wish.version, wish.project, wish.group);
    Ok((name, done))
}

/// Why the name is not free; `None` where a Deployment of this project and group got it at the same time.
async fn taken(wish: &Wish<'_>, cluster: &Cluster, name: &str) -> Result<Option<CliError>, CliError> {
    let spec = &cluster.get(Kind::Deployment, name).await?["spec"];
    let named = |field: &str| spec[field]["name"].as_str().unwrap_or("?").to_owned();
    let (project, group) = (named("projectRef"), named("hostGroupRef"));
    let message = format!(
        "deployment/{name} exists already, for project {project} on host group {group}; name the new one otherwise with --name"
    );
    Ok((project != wish.project || group != wish.group).then_some(CliError::NotApplicable(message)))
}

/// The Deployment that is meant, of those of this project on this group.
fn choose<'a>(wish: &Wish<'_>, deployments: &'a [Value]) -> Result<Option<&'a Value>, CliError> {
    if let Some(named) = wish.named {
        return Ok(deployments.iter().find(|one| name(one) == named));
    }
    match deployments {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        several => {
            let names: Vec<&str> = several.iter().map(name).collect();
            let message = format!(
                "project {} has {} Deployments on host group {}, each for other hosts: {}; say which one with --name",
                wish.project,
                names.len(),
                wish.group,
                names.join(", ")
            );
            Err(CliError::NotApplicable(message))
        }
    }
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

fn kept_by_git(object: &str, version: &str, GitOwner { owner, mark }: &GitOwner) -> String {
    format!(
        "{object} is kept as git has it by {owner}, as its {mark} shows; nothing was written. Commit spec.version: {version} to git, or write it \
         until the next sync with --force"
    )
}

/// A version that is not published yet is waited for, so it is no error; but it may be a typing error.
fn note_unknown_version(wish: &Wish<'_>, project: &Value) {
    let versions = project["status"]["versions"].as_array().map_or(&[][..], Vec::as_slice);
    if !versions.iter().any(|one| one["version"] == wish.version) {
        eprintln!(
            "landfall: {} is not among the newest {} versions of project {}; where it does not exist, the Deployment waits for it",
            wish.version,
            versions.len(),
            wish.project
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(name: &str) -> Value {
        json!({ "metadata": { "name": name } })
    }

    fn wish(named: Option<&'static str>) -> Wish<'static> {
        Wish { project: "hello", group: "web", version: "v2", named, force: false }
    }

    #[test]
    fn the_one_deployment_is_meant_and_of_several_the_named_one() {
        let both = [deployment("canary"), deployment("hello-web")];
        assert!(choose(&wish(None), &[]).unwrap().is_none());
        assert_eq!(name(choose(&wish(None), &both[..1]).unwrap().unwrap()), "canary");
        assert_eq!(name(choose(&wish(Some("hello-web")), &both).unwrap().unwrap()), "hello-web");
        assert!(choose(&wish(Some("other")), &both).unwrap().is_none());
        let refused = choose(&wish(None), &both).unwrap_err().to_string();
        assert!(refused.contains("canary, hello-web") && refused.contains("--name"), "{refused}");
    }

    #[test]
    fn what_git_owns_is_refused_with_what_to_do_instead() {
        let owner = GitOwner { owner: "Flux (Kustomization shop)".into(), mark: "label x".into() };
        assert_eq!(
            kept_by_git("deployment/web", "v2", &owner),
            "deployment/web is kept as git has it by Flux (Kustomization shop), as its label x shows; nothing was written. Commit \
             spec.version: v2 to git, or write it until the next sync with --force"
        );
    }
}
