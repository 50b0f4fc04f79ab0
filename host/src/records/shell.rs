//! Records of the shell helper's time (6257386), which are read and never written: one line of words each. A folder that it left is taken
//! over as it is. Its words hold nothing but letters, digits and `._+-`.

use std::{io, path::Path};

use landfall_host_protocol::{Digest, FenceToken, Owner, ReleaseName, TaskId};

use crate::{files, folder::Folder, gate};

/// The process that the shell helper started: `process`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    /// Field 22 of `/proc/PID/stat`.
    pub start: u64,
    pub boot_id: String,
    pub digest: Digest,
    /// The Deployment's uid.
    pub uid: String,
    pub revision: i64,
    /// `<revision>.<serial>`.
    pub rollout: String,
    pub release: ReleaseName,
}

/// That a rollout's process became ready: `ready`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    pub uid: String,
    pub rollout: String,
    pub pid: i32,
    pub start: u64,
}

/// A line of `journal`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub n: u64,
    /// `begin`, `end` or `fail`.
    pub state: String,
    pub step: String,
    pub task: TaskId,
}

/// The process that the shell helper started last; `None` where it is not on record.
pub fn process(folder: &Folder) -> Option<Process> {
    let text = files::read_whole(&folder.dot().join("process")).ok()??;
    let [pid, start, boot_id, digest, uid, revision, rollout, release] = words(&text)?;
    Some(Process {
        pid: pid.parse().ok()?,
        start: start.parse().ok()?,
        boot_id: boot_id.to_owned(),
        digest: Digest::parse(digest)?,
        uid: uid.to_owned(),
        revision: revision.parse().ok()?,
        rollout: rollout.to_owned(),
        release: ReleaseName::parse(release)?,
    })
}

/// Who the process was started as where that is not the SSH user: `Sudo` or `Su`, and the user.
pub fn user(folder: &Folder) -> Option<(String, String)> {
    let text = files::read_whole(&folder.dot().join("user")).ok()??;
    let [method, user] = words(&text)?;
    Some((method.to_owned(), user.to_owned()))
}

/// The mark of the process that became ready last.
pub fn ready(folder: &Folder) -> Option<Ready> {
    let text = files::read_whole(&folder.dot().join("ready")).ok()??;
    let [uid, rollout, pid, start] = words(&text)?;
    Some(Ready { uid: uid.to_owned(), rollout: rollout.to_owned(), pid: pid.parse().ok()?, start: start.parse().ok()? })
}

/// The digest that a release was verified to have when it was unpacked: `verified/<release>`.
pub fn verified(folder: &Folder, release: &ReleaseName) -> Option<Digest> {
    let text = files::read_whole(&folder.dot().join("verified").join(release.as_str())).ok()??;
    let [digest, _tree] = words(&text)?;
    Digest::parse(digest)
}

/// The digest over all of its files and links.
pub fn verified_tree(folder: &Folder, release: &ReleaseName) -> Option<Digest> {
    let text = files::read_whole(&folder.dot().join("verified").join(release.as_str())).ok()??;
    let [_digest, tree] = words(&text)?;
    Digest::parse(tree)
}

/// Releases that the shell helper unpacked.
pub fn releases(folder: &Folder) -> Vec<(ReleaseName, Digest)> {
    let entries = std::fs::read_dir(folder.dot().join("verified")).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let name = ReleaseName::parse(entry.file_name().to_str()?)?;
            let digest = verified(folder, &name)?;
            Some((name, digest))
        })
        .collect()
}

/// The process is on record in our own way: what the shell helper wrote of it goes. Only who it runs as stays where it is ([`user`]).
pub fn forget_process(folder: &Folder) -> io::Result<()> {
    gate::pass("shellHelper.forget", || {
        for name in ["process", "ready", "heals"] {
            files::remove_file(&folder.dot().join(name))?;
        }
        files::sync_dir(&folder.dot())
    })
}

/// Whether a record was written by the shell helper.
pub fn is_record(path: &Path) -> bool {
    files::read_whole(path).is_ok_and(|text| text.is_some_and(|text| text.first() != Some(&b'{')))
}

/// A detached step of the shell helper is under way.
pub fn is_acting(folder: &Folder) -> bool {
    let path = folder.dot().join("steps/lock");
    let Ok(lock) = files::open_to_read(&path) else { return false };
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockShared) == Err(rustix::io::Errno::WOULDBLOCK)
}

pub(super) fn owner(text: &[u8]) -> Option<Owner> {
    let [control_plane_id, namespace, deployment, uid, host] = words(text)?.map(str::to_owned);
    Some(Owner { control_plane_id, namespace, deployment, uid, host })
}

pub(super) fn fence(text: &[u8]) -> Option<FenceToken> {
    let [epoch, created, transitions] = words(text)?;
    Some(FenceToken { epoch: epoch.to_owned(), created: created.parse().ok()?, transitions: transitions.parse().ok()? })
}

pub(super) fn journal_line(line: &str) -> Option<Line> {
    let [n, state, step, uid, rollout, attempt, task] = words(line.as_bytes())?;
    Some(Line {
        n: n.parse().ok()?,
        state: state.to_owned(),
        step: step.to_owned(),
        task: TaskId {
            uid: uid.to_owned(),
            rollout: rollout.to_owned(),
            attempt: attempt.parse().ok()?,
            n: task.parse().ok()?,
        },
    })
}

/// The words of the first line, where their number fits and all are plain.
fn words<const N: usize>(text: &[u8]) -> Option<[&str; N]> {
    let line = std::str::from_utf8(text).ok()?.lines().next()?;
    let plain = |word: &str| {
        !word.is_empty() && word.len() <= 253 && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+-".contains(&b))
    };
    let words: Vec<&str> = line.split(' ').collect();
    words.iter().all(|word| plain(word)).then_some(words)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use landfall_host_protocol::FolderName;

    use super::*;

    #[test]
    fn records_of_the_shell_helper_are_read() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::new(root.path(), FolderName::new("shop", "web"));
        std::fs::create_dir_all(folder.dot().join("verified")).unwrap();
        let digest = "ab".repeat(32);
        let write = |path: &str, text: &str| std::fs::write(folder.dot().join(path), text).unwrap();
        write("owner", "plane shop web uid-1 h1\n");
        write("fence", "plane 1700000000 4\n");
        write("process", &format!("4711 98765 boot-id {digest} uid-1 3 3.1 v1.0-abababababab\n"));
        write("user", "Sudo app\n");
        write("ready", "uid-1 3.1 4711 98765\n");
        write("verified/v1.0-abababababab", &format!("{digest} {}\n", "cd".repeat(32)));

        let owner = super::super::owner::read(&folder).unwrap().unwrap();
        assert_eq!((owner.control_plane_id.as_str(), owner.host.as_str()), ("plane", "h1"));
        let token = super::super::fence::read(&folder).unwrap().unwrap();
        assert_eq!(token, FenceToken { epoch: "plane".to_owned(), created: 1_700_000_000, transitions: 4 });
        let process = process(&folder).unwrap();
        assert_eq!((process.pid, process.start, process.revision), (4711, 98765, 3));
        assert_eq!(user(&folder), Some(("Sudo".to_owned(), "app".to_owned())));
        assert_eq!(ready(&folder).map(|mark| mark.rollout), Some("3.1".to_owned()));
        let release = ReleaseName::parse("v1.0-abababababab").unwrap();
        assert_eq!(releases(&folder), [(release, Digest::parse(&digest).unwrap())]);
        assert!(!is_acting(&folder));
    }

    #[test]
    fn what_is_no_record_of_the_shell_helper_is_none() {
        assert_eq!(owner(b"{\"format\":1}\n"), None);
        assert_eq!(owner(b"a b c d\n"), None);
        assert_eq!(owner(b"a b c d e f\n"), None);
        assert_eq!(fence(b"plane 12 x\n"), None);
        assert_eq!(fence(b"\xff 1 2\n"), None);
        let root = tempfile::tempdir().unwrap();
        assert_eq!(process(&Folder::new(Path::new(root.path()), FolderName::new("a", "b"))), None);
    }
}
