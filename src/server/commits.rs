//! `projects/commits`: a branch page by page, out of the operator's mirror.

use std::{collections::HashMap, sync::Arc};

use kube::{Api, ResourceExt};

use super::{api_error::ApiError, logs::away, query::Parameters, state::View};
use crate::{
    api::{
        Project,
        view::{CommitPage, CommitView, VIEW_API},
    },
    effects::git::{CommitsQuery, GitError, Source},
};

pub(crate) const PARAMETERS: [&str; 2] = ["branch", "page"];
const LAST_PAGE: u32 = 1000;

pub async fn page(view: &Arc<View>, namespace: &str, name: &str, query: Option<&str>) -> Result<CommitPage, ApiError> {
    let parameters = Parameters::read(query, &PARAMETERS)?;
    let page = parameters.number::<u32>("page")?.unwrap_or(1);
    if !(1..=LAST_PAGE).contains(&page) {
        return Err(ApiError::bad_request(format!("page takes 1 to {LAST_PAGE}, not {page}")));
    }
    let project = Api::<Project>::namespaced(view.client.clone(), namespace).get_opt(name).await?;
    let missing = || ApiError::not_found(format!("there is no Project {name:?} in the namespace {namespace:?}"));
    let project = project.ok_or_else(missing)?;
    let source = &project.spec.source;
    let wish = CommitsQuery { branch: parameters.text("branch").map(str::to_owned), page: page - 1 };
    // Only the mirror is read, and that takes no Secret. It may hold what another Project had fetched with one of its own.
    let mirror = Source::open(namespace, &source.url).read_by(project.uid().unwrap_or_default());
    let found = view.git.commits(&mirror, &source.branches, wish).await.map_err(|error| problem(&error))?;
    let found = found.ok_or_else(|| match view.leads() {
        true => ApiError::unavailable("nothing of the repository was fetched yet; the Project's status says why", 2),
        false => away(),
    })?;
    let mut versions: HashMap<&str, &str> = HashMap::new();
    for version in project.status.iter().flat_map(|status| &status.versions) {
        // The newest come first.
        versions.entry(&version.commit).or_insert(&version.version);
    }
    let commits = found.commits.into_iter().map(|commit| CommitView {
        version: versions.get(commit.sha.as_str()).map(ToString::to_string),
        sha: commit.sha,
        subject: commit.subject,
        author: commit.author,
        time: commit.time,
    });
    Ok(CommitPage {
        api_version: VIEW_API.to_owned(),
        kind: "CommitPage".to_owned(),
        branch: found.branch,
        page,
        commits: commits.collect(),
        more: found.more,
        branches: found.branches,
    })
}

fn problem(error: &GitError) -> ApiError {
    match error {
        GitError::RevisionNotFound { revision } => {
            ApiError::not_found(format!("there is no branch {revision:?} among those that the Project allows"))
        }
        error => ApiError::internal(error),
    }
}
