//! Reading a mirror: branches, commits, what a revision means. User text never reaches revparse.

use git2::{BranchType, ErrorCode, Oid, Repository, Sort};
use jiff::Timestamp;

use super::{
    Branch, Commit, GitError, ResolvedCommit,
    mirror::{Mirror, full_id},
    types::clean,
};
use crate::model::branch_patterns::BranchPatterns;

/// What a status shows of a project.
const BRANCHES: usize = 20;
const COMMITS: usize = 20;
/// The shortest commit id that is taken for one, as git prints them.
const SHORT_ID: usize = 7;
/// Commits that a message names where a short id is not unique.
const CANDIDATES: usize = 10;

/// The patterns of `source.branches`, as they were read and as they were written.
pub(super) struct Patterns {
    read: BranchPatterns,
    text: String,
}

impl Patterns {
    pub(super) fn new(patterns: &[String]) -> Result<Self, GitError> {
        let read = BranchPatterns::parse(patterns)?;
        let text = if patterns.is_empty() { "every branch".to_owned() } else { patterns.join(", ") };
        Ok(Self { read, text })
    }

    fn allow(&self, branch: &str) -> bool {
        self.read.allow(branch)
    }
}

/// An allowed branch and its head.
pub(super) struct Head {
    pub(super) name: String,
    pub(super) id: Oid,
    pub(super) time: i64,
}

pub(super) fn branches(m: &Mirror, patterns: &Patterns, default: Option<&str>) -> Result<Vec<Branch>, GitError> {
    let remote_default = default_branch(&m.repo);
    let default = default.or(remote_default.as_deref());
    let mut heads = heads(m, patterns)?;
    heads.sort_by_key(|head| (Some(head.name.as_str()) != default, -head.time, head.name.clone()));
    heads.truncate(BRANCHES);
    heads
        .into_iter()
        .map(|head| {
            let commits = newest(m, head.id)?;
            Ok(Branch { name: head.name, head: head.id.to_string(), commits })
        })
        .collect()
}

/// Names and heads of all branches that both allow, the longest untouched first.
pub(super) fn heads_of(m: &Mirror, patterns: &Patterns, wanted: &Patterns) -> Result<Vec<(String, String)>, GitError> {
    let mut heads = heads(m, patterns)?;
    heads.retain(|head| wanted.allow(&head.name));
    heads.sort_by_key(|head| (head.time, head.name.clone()));
    Ok(heads.into_iter().map(|head| (head.name, head.id.to_string())).collect())
}

pub(super) fn resolve(m: &Mirror, revision: &str, patterns: &Patterns) -> Result<ResolvedCommit, GitError> {
    let not_found = || GitError::RevisionNotFound { revision: clean(revision.as_bytes(), 100) };
    let commit = match full_id(revision) {
        Some(id) => m.repo.find_commit(id).map_err(|_| not_found())?,
        None => match by_name(&m.repo, revision) {
            Some(commit) => commit,
            None => by_short_id(m, revision, patterns)?.ok_or_else(not_found)?,
        },
    };
    let mut heads = heads(m, patterns)?;
    let named = revision.strip_prefix("refs/heads/").unwrap_or(revision);
    let default = default_branch(&m.repo);
    // A commit that is given by its id is that of the branch whose head it is, if it is one.
    heads.sort_by_key(|head| {
        (head.name != named, head.id != commit.id(), Some(&head.name) != default.as_ref(), head.name.clone())
    });
    for head in heads {
        let reached = head.id == commit.id()
            || m.repo.graph_descendant_of(head.id, commit.id()).map_err(m.failed("compare commits"))?;
        if reached {
            return Ok(ResolvedCommit { commit: describe(&commit), branch: head.name });
        }
        if m.stopped() {
            return Err(GitError::TimedOut { url: m.url.clone(), seconds: 0 });
        }
    }
    Err(GitError::CommitNotOnBranch {
        revision: clean(revision.as_bytes(), 100),
        sha: commit.id().to_string(),
        patterns: clean(patterns.text.as_bytes(), 200),
    })
}

/// A branch, else a tag; also written as a full ref name of these two kinds. A tag that leads to no commit is none.
fn by_name<'a>(repo: &'a Repository, revision: &str) -> Option<git2::Commit<'a>> {
    let names = match revision.strip_prefix("refs/") {
        Some(rest) if rest.starts_with("heads/") || rest.starts_with("tags/") => vec![revision.to_owned()],
        Some(_) => return None,
        None => vec![format!("refs/heads/{revision}"), format!("refs/tags/{revision}")],
    };
    let valid = names.into_iter().filter(|name| git2::Reference::is_valid_name(name));
    valid.filter_map(|name| repo.find_reference(&name).ok()?.peel_to_commit().ok()).next()
}

/// A commit whose id begins so, as screens print it. Where several objects begin so, the commits of allowed branches count, and where
/// several of those do, all of them are named.
fn by_short_id<'a>(m: &'a Mirror, revision: &str, patterns: &Patterns) -> Result<Option<git2::Commit<'a>>, GitError> {
    let short = revision.to_ascii_lowercase();
    if !(SHORT_ID..40).contains(&short.len()) || !short.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(None);
    }
    let failed = m.failed("look a commit up");
    let prefix = Oid::from_str(&short).map_err(&failed)?;
    let found = match m.repo.odb().map_err(&failed)?.exists_prefix(prefix, short.len()) {
        Ok(id) => vec![id],
        Err(error) if error.code() == ErrorCode::Ambiguous => beginning_with(m, &short, patterns)?,
        Err(error) if error.code() == ErrorCode::NotFound => vec![],
        Err(error) => return Err(failed(error)),
    };
    match found.as_slice() {
        // One object that is no commit is none that was meant.
        [id] => Ok(m.repo.find_commit(*id).ok()),
        [] => Ok(None),
        several => {
            let candidates = several.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            Err(GitError::RevisionAmbiguous { revision: short, candidates })
        }
    }
}

/// Commits of allowed branches whose id begins so; not all of very many.
fn beginning_with(m: &Mirror, short: &str, patterns: &Patterns) -> Result<Vec<Oid>, GitError> {
    let failed = m.failed("list commits");
    let mut walk = m.repo.revwalk().map_err(&failed)?;
    for head in heads(m, patterns)? {
        walk.push(head.id).map_err(&failed)?;
    }
    let mut found = Vec::new();
    for id in walk {
        let id = id.map_err(&failed)?;
        if m.stopped() {
            return Err(GitError::TimedOut { url: m.url.clone(), seconds: 0 });
        }
        if id.to_string().starts_with(short) {
            found.push(id);
        }
        if found.len() == CANDIDATES {
            break;
        }
    }
    Ok(found)
}

/// Names of all tags, without `refs/tags/`. One that is no UTF-8 is none that we could have made.
pub(super) fn tags(m: &Mirror) -> Result<Vec<String>, GitError> {
    let failed = m.failed("list its tags");
    let mut names = Vec::new();
    for reference in m.repo.references_glob("refs/tags/*").map_err(&failed)? {
        let reference = reference.map_err(&failed)?;
        names.extend(reference.name().ok().and_then(|name| name.strip_prefix("refs/tags/")).map(str::to_owned));
    }
    Ok(names)
}

pub(super) fn heads(m: &Mirror, patterns: &Patterns) -> Result<Vec<Head>, GitError> {
    let mut heads = Vec::new();
    for branch in m.repo.branches(Some(BranchType::Local)).map_err(m.failed("list its branches"))? {
        let (branch, _) = branch.map_err(m.failed("list its branches"))?;
        // A name that is no UTF-8 or a head that is no commit can't be built.
        let Some(name) = branch.name_bytes().ok().and_then(|name| std::str::from_utf8(name).ok()) else { continue };
        if !patterns.allow(name) || clean(name.as_bytes(), 250) != name {
            continue;
        }
        let Ok(commit) = branch.get().peel_to_commit() else { continue };
        heads.push(Head { name: name.to_owned(), id: commit.id(), time: commit.time().seconds() });
    }
    Ok(heads)
}

fn newest(m: &Mirror, head: Oid) -> Result<Vec<Commit>, GitError> {
    let failed = m.failed("list commits");
    let mut walk = m.repo.revwalk().map_err(&failed)?;
    walk.set_sorting(Sort::TIME).map_err(&failed)?;
    walk.push(head).map_err(&failed)?;
    let ids = walk.take(COMMITS).collect::<Result<Vec<_>, _>>().map_err(&failed)?;
    let found = ids.into_iter().map(|id| m.repo.find_commit(id).map_err(&failed));
    found.map(|commit| Ok(describe(&commit?))).collect()
}

pub(super) fn describe(commit: &git2::Commit<'_>) -> Commit {
    Commit {
        sha: commit.id().to_string(),
        subject: clean(commit.summary_bytes().unwrap_or_default(), 200),
        author: clean(commit.author().name_bytes(), 100),
        // A time that a Timestamp can't hold is made up.
        time: Timestamp::from_second(commit.time().seconds()).unwrap_or(Timestamp::UNIX_EPOCH),
    }
}

/// Where the remote's HEAD points, as of the last fetch.
pub(super) fn default_branch(repo: &Repository) -> Option<String> {
    let head = repo.find_reference("HEAD").ok()?;
    Some(head.symbolic_target().ok()??.strip_prefix("refs/heads/")?.to_owned())
}
