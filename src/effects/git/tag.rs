//! The one thing we write to a repository: an annotated tag. An existing one is never moved, whoever made it.

use std::{cell::RefCell, rc::Rc};

use git2::{Direction, ErrorClass, ErrorCode, PushOptions, Signature, Time};

use super::{
    GitError, TagOutcome, TagRequest,
    mirror::{self, Mirror},
    types::clean,
};

/// Bytes of a hook's output that are shown.
const MAX_OUTPUT: usize = 4096;

/// The grammar of versions: `^[A-Za-z0-9][A-Za-z0-9._+-]{0,62}$`, no `..`, not ending in `.` or `.lock`.
pub(super) fn check_name(name: &str) -> Result<String, GitError> {
    let bad = |why| Err(GitError::BadTagName { name: clean(name.as_bytes(), 80), why });
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'+' | b'-');
    if !(1..=63).contains(&name.len()) || !name.bytes().all(fits) {
        return bad("use 1 to 63 characters of A-Z a-z 0-9 . _ + -");
    }
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return bad("it has to begin with a letter or a digit");
    }
    if name.contains("..") || name.ends_with('.') || name.ends_with(".lock") {
        return bad("it must not have '..' nor end in '.' or '.lock'");
    }
    Ok(name.to_owned())
}

/// What the tag names at the remote now, peeled.
pub(super) fn target(m: &Mirror, name: &str) -> Result<Option<String>, GitError> {
    let mut remote = m.remote()?;
    let connection = remote.connect_auth(Direction::Fetch, Some(m.callbacks()), None).map_err(m.unreachable())?;
    let (plain, peeled) = (format!("refs/tags/{name}"), format!("refs/tags/{name}^{{}}"));
    let heads = connection.list().map_err(m.unreachable())?;
    let find = |name: &str| heads.iter().find(|head| head.name() == name).map(|head| head.oid().to_string());
    Ok(find(&peeled).or_else(|| find(&plain)))
}

/// Whatever the push answers, the remote's own list decides: an answer may get lost, and another may have been faster.
pub(super) fn push(m: &Mirror, tag: &TagRequest) -> Result<TagOutcome, GitError> {
    if let Some(there) = there(m, tag)? {
        return Ok(there);
    }
    let sent = send(m, tag);
    match (there(m, tag)?, sent) {
        (Some(_), Ok(())) => Ok(TagOutcome::Pushed),
        (Some(there), Err(_)) => Ok(there),
        (None, Err(error)) => Err(error),
        (None, Ok(())) => {
            let why = "the push was answered well, but the tag is not there".to_owned();
            Err(GitError::Failed { url: m.url.clone(), what: "be tagged", why })
        }
    }
}

fn there(m: &Mirror, tag: &TagRequest) -> Result<Option<TagOutcome>, GitError> {
    match target(m, &tag.name)? {
        None => Ok(None),
        Some(sha) if sha == tag.sha => Ok(Some(TagOutcome::AlreadyThere)),
        Some(existing) => Err(GitError::TagConflict { name: tag.name.clone(), existing }),
    }
}

fn send(m: &Mirror, tag: &TagRequest) -> Result<(), GitError> {
    let commit = mirror::commit(m, &tag.sha)?;
    let failed = m.failed("make a tag");
    let tagger = Signature::new("landfall", "landfall@landfall.dev", &Time::new(tag.tagged_at.as_second(), 0));
    let id =
        tagger.and_then(|tagger| m.repo.tag_annotation_create(&tag.name, commit.as_object(), &tagger, &tag.message));
    let id = id.map_err(failed)?;
    let (refused, output) = (Rc::new(RefCell::new(None)), Rc::new(RefCell::new(Vec::new())));
    let sent = m.remote()?.push(
        &[format!("{id}:refs/tags/{}", tag.name)],
        Some(PushOptions::new().remote_callbacks(callbacks(m, id, &refused, &output)).packbuilder_parallelism(1)),
    );
    let refusal = |words: String| {
        let more = clean(&output.borrow(), 300);
        let words = if more.trim().is_empty() { words } else { format!("{words}: {}", more.trim()) };
        Err(GitError::PushRefused { name: tag.name.clone(), words })
    };
    match (refused.take(), sent) {
        (Some(words), _) => refusal(words),
        (None, Err(error)) if is_refusal(&error) => refusal(mirror::why(&error)),
        (None, Err(error)) => match m.unreachable()(error) {
            GitError::PushRefused { words, .. } => refusal(words),
            other => Err(other),
        },
        (None, Ok(())) => Ok(()),
    }
}

/// Refusals land in `refused`; what a hook prints, in `output`.
fn callbacks<'a>(
    m: &Mirror,
    id: git2::Oid,
    refused: &Rc<RefCell<Option<String>>>,
    output: &Rc<RefCell<Vec<u8>>>,
) -> git2::RemoteCallbacks<'a> {
    let (refused, output) = (refused.clone(), output.clone());
    let mut callbacks = m.callbacks();
    callbacks.push_negotiation(move |updates| {
        // libgit2 has no rule for tags and would move one that sits on an ancestor.
        let fresh = updates.iter().all(|update| update.src().is_zero() && update.dst() == id);
        let moved = || git2::Error::new(ErrorCode::Exists, ErrorClass::Reference, "the tag exists by now");
        if fresh { Ok(()) } else { Err(moved()) }
    });
    callbacks.push_update_reference(move |_, status| {
        *refused.borrow_mut() = status.map(|status| clean(status.as_bytes(), 300));
        Ok(())
    });
    let stop = m.stop();
    callbacks.sideband_progress(move |bytes| {
        let mut output = output.borrow_mut();
        let room = MAX_OUTPUT.saturating_sub(output.len()).min(bytes.len());
        output.extend_from_slice(bytes.get(..room).unwrap_or_default());
        !stop.is_cancelled()
    });
    callbacks
}

/// Errors that are refusals and stay so, as against a broken connection.
fn is_refusal(error: &git2::Error) -> bool {
    let words = error.message();
    let denied = ["ermission denied", "ead-only file system", "non-bare"].iter().any(|part| words.contains(part));
    denied || matches!(error.code(), ErrorCode::BareRepo | ErrorCode::Auth)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_git_or_a_shell_could_misread_are_no_tags() {
        for name in
            ["", "..", "-rf", ".x", "a..b", "a.lock", "a.", "a b", "a/b", "a\n", "v1^{}", "@{", "~1", &"x".repeat(64)]
        {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        for name in ["v1.4.2", "1", "v20261124-42", "a+b_c-d", &"x".repeat(63)] {
            assert!(check_name(name).is_ok(), "{name:?}");
        }
    }
}
