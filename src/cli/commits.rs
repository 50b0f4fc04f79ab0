//! `landfall commits PROJECT`: a branch page by page, as the operator last fetched it.

use std::fmt::Write;

use jiff::Timestamp;

use super::{
    cluster::ClusterArgs,
    error::{CliError, ExitStatus},
    object::{Kind, name_of},
    output,
    screen::ago,
    view::ViewClient,
};
use crate::{
    api::view::{CommitPage, path},
    effects::clock,
    model::text::for_terminal,
};

/// List the commits of a Project's branch, newest first, with the versions built from them
///
/// Exit code: 0 with the list, 2 without an answer (usage, no cluster, no such object, no right).
#[derive(Debug, Clone, clap::Args)]
pub struct CommitsArgs {
    /// Name of the Project
    #[arg(value_name = "PROJECT")]
    pub project: String,
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Branch to list [default: the repository's default branch]
    #[arg(short, long, value_name = "BRANCH")]
    pub branch: Option<String>,
    /// Page to show, of 50 commits each
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub page: u32,
}

/// Prints the page on stdout.
pub async fn commits(args: CommitsArgs) -> Result<ExitStatus, CliError> {
    let name = name_of(Kind::Project, &args.project).ok_or_else(|| CliError::BadName {
        object: args.project.clone(),
        wanted: "the name of a Project; `kubectl get lfp` lists them".into(),
    })?;
    let client = ViewClient::new(&args.cluster).await?;
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("page", &args.page.to_string());
    if let Some(branch) = &args.branch {
        query.append_pair("branch", branch);
    }
    let path = path(&client.cluster.namespace, "projects", name, "commits");
    let page: CommitPage = client.json(&format!("{path}?{}", query.finish())).await?;
    output::print(&screen(&page, clock::now()))?;
    if page.more {
        eprintln!("landfall: more commits on --page {}", page.page + 1);
    }
    Ok(ExitStatus::Done)
}

fn screen(page: &CommitPage, now: Timestamp) -> String {
    let mut out = String::new();
    let width = page.commits.iter().filter_map(|commit| Some(commit.version.as_ref()?.len())).max().unwrap_or(0).max(7);
    for commit in &page.commits {
        let (sha, version) = (commit.sha.get(..10).unwrap_or(&commit.sha), commit.version.as_deref().unwrap_or("-"));
        let age = ago(commit.time, now);
        let _ = writeln!(out, "{sha}  {version:<width$}  {age:>9}  {:<20}  {}", commit.author, commit.subject);
    }
    for_terminal(&out)
}
