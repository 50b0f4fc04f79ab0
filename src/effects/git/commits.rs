//! A branch of the mirror page by page.

use git2::Sort;

use super::{
    Commit, GitError,
    mirror::Mirror,
    read::{Patterns, default_branch, describe, heads},
    types::clean,
};

const PAGE: usize = 50;

/// Which commits are wanted.
#[derive(Clone, Debug, Default)]
pub struct CommitsQuery {
    /// Default: where the remote's HEAD points, else the branch that changed last.
    pub branch: Option<String>,
    /// From 0.
    pub page: u32,
}

/// One page, newest first.
#[derive(Clone, Debug)]
pub struct CommitList {
    pub branch: String,
    pub commits: Vec<Commit>,
    pub more: bool,
    /// All that may be asked for, sorted.
    pub branches: Vec<String>,
}

/// `None` where nothing was fetched yet, or the repository is empty.
pub(super) fn commits(m: &Mirror, patterns: &Patterns, query: &CommitsQuery) -> Result<Option<CommitList>, GitError> {
    let heads = heads(m, patterns)?;
    let remote_default = default_branch(&m.repo);
    let branch_asked = query.branch.as_ref();
    let named = |name: Option<&String>| name.and_then(|name| heads.iter().find(|head| head.name == *name));
    let default = || named(remote_default.as_ref()).or_else(|| heads.iter().max_by_key(|head| head.time));
    let head = if branch_asked.is_some() { named(branch_asked) } else { default() };
    let Some(head) = head else {
        return match branch_asked.filter(|_| !heads.is_empty()) {
            Some(branch) => Err(GitError::RevisionNotFound { revision: clean(branch.as_bytes(), 100) }),
            None => Ok(None),
        };
    };
    let failed = m.failed("list commits");
    let mut walk = m.repo.revwalk().map_err(&failed)?;
    walk.set_sorting(Sort::TOPOLOGICAL | Sort::TIME).map_err(&failed)?;
    walk.push(head.id).map_err(&failed)?;
    let skip = PAGE.saturating_mul(usize::try_from(query.page).unwrap_or(usize::MAX));
    let mut found = Vec::new();
    for id in walk.skip(skip).take(PAGE + 1) {
        let commit = m.repo.find_commit(id.map_err(&failed)?).map_err(&failed)?;
        found.push(describe(&commit));
        if m.stopped() {
            return Err(GitError::TimedOut { url: m.url.clone(), seconds: 0 });
        }
    }
    let more = found.len() > PAGE;
    found.truncate(PAGE);
    let mut branches: Vec<String> = heads.iter().map(|head| head.name.clone()).collect();
    branches.sort();
    Ok(Some(CommitList { branch: head.name.clone(), commits: found, more, branches }))
}
