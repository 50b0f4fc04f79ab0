//! `landfall commits PROJECT`: a branch page by page, as the operator last fetched it.

use std::fmt::Write;

use jiff::Timestamp;

use super::{
    screen::ago,
    view::{ViewClient, ViewError, is_name},
};
use crate::{
    api::view::{CommitPage, path},
    effects::clock,
    model::text::for_terminal,
};

/// List the commits of a Project's branch, newest first, with the versions built of them.
#[derive(Debug, Clone, clap::Args)]
pub struct CommitsArgs {
    /// The Project's name
    #[arg(value_name = "PROJECT")]
    pub project: String,
    /// Where it is [default: the namespace of the kubeconfig's context]
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// [default: the Project's default branch]
    #[arg(short, long)]
    pub branch: Option<String>,
    /// 50 commits a page
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub page: u32,
}

/// Prints the page on stdout.
pub async fn commits(args: CommitsArgs) -> Result<(), ViewError> {
    let name = args.project.strip_prefix("project/").unwrap_or(&args.project);
    if !is_name(name) {
        return Err(ViewError::BadName { object: args.project, what: "commits", wanted: "a Project's name" });
    }
    let client = ViewClient::new(args.namespace).await?;
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("page", &args.page.to_string());
    if let Some(branch) = &args.branch {
        query.append_pair("branch", branch);
    }
    let path = path(&client.namespace, "projects", name, "commits");
    let page: CommitPage = client.json(&format!("{path}?{}", query.finish())).await?;
    print!("{}", screen(&page, clock::now()));
    if page.more {
        eprintln!("landfall: there are more; --page {} goes on", page.page + 1);
    }
    Ok(())
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
