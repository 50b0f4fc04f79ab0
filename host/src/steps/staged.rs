//! What was staged, and whether it still is: `staged/<release>` says which digest a release had when it was verified, and
//! `staged/<release>.files` what each of its files is and looked like. A file whose size, mode, inode and time of change are the recorded
//! ones is not read; any other is hashed. Files that an application made beside them are nobody's business.

use std::{
    collections::BTreeMap,
    fs::{File, Metadata},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use landfall_host_protocol::{Digest, Entry, EntryKind, Manifest, Reason, ReleaseFacts, ReleaseName};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    failure::{StepFailure, StepResult},
    files,
    folder::Folder,
    gate,
    records::shell,
};

/// Paths of changed files that are named.
const NAMED: usize = 5;
const PIECE: usize = 64 << 10;
/// Mode of every folder of a release.
pub(super) const FOLDER_MODE: u32 = 0o755;

/// `staged/<release>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    digest: Digest,
    /// Counts what was staged here, so that the order hangs on no clock; 0: an earlier program counted nothing.
    #[serde(default)]
    n: u64,
}

/// `staged/<release>.files`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Contents {
    digest: Digest,
    entries: Vec<Recorded>,
}

/// One entry of the manifest, and what it looked like when it was verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Recorded {
    #[serde(flatten)]
    entry: Entry,
    look: Look,
}

/// What changes with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Look {
    inode: u64,
    /// Seconds and nanoseconds.
    changed: (i64, i64),
}

impl Look {
    fn of(found: &Metadata) -> Self {
        Self { inode: found.ino(), changed: (found.ctime(), found.ctime_nsec()) }
    }
}

/// Whether an entry is what the manifest says.
enum Verdict {
    /// Not even looked into: it looks as it did.
    AsRecorded,
    /// It is, and looks different: written again with the same bytes, or copied.
    Same(Look),
    Changed,
}

fn contents_path(folder: &Folder, release: &ReleaseName) -> PathBuf {
    let record = folder.staged(release);
    let mut name = record.file_name().unwrap_or_default().to_owned();
    name.push(".files");
    record.with_file_name(name)
}

/// Whole releases and their digests, also those of the shell helper's time.
pub fn list(folder: &Folder) -> Vec<(ReleaseName, Digest)> {
    let mut found: BTreeMap<ReleaseName, Digest> = shell::releases(folder).into_iter().collect();
    let staged = folder.dot().join("staged");
    for entry in std::fs::read_dir(staged).into_iter().flatten().flatten() {
        let Some(name) = entry.file_name().to_str().and_then(ReleaseName::parse) else { continue };
        if let Ok(Some(Record { digest, .. })) = files::read_record(&folder.staged(&name)) {
            found.insert(name, digest);
        }
    }
    found.into_iter().filter(|(name, _)| folder.release(name).is_dir()).collect()
}

/// Of two releases the one with the higher number was staged later.
pub(super) fn number(folder: &Folder, release: &ReleaseName) -> u64 {
    files::read_record::<Record>(&folder.staged(release)).ok().flatten().map_or(0, |record| record.n)
}

/// The digest of a whole release; `None` where it is not staged.
pub fn digest(folder: &Folder, release: &ReleaseName) -> Option<Digest> {
    if !folder.release(release).is_dir() {
        return None;
    }
    match files::read_record(&folder.staged(release)) {
        Ok(Some(Record { digest, .. })) => Some(digest),
        _ => shell::verified(folder, release),
    }
}

/// Facts of all whole releases. Whether somebody changed one is looked at for `checked` only: it costs a look at each of its files.
pub fn facts(folder: &Folder, checked: Option<&ReleaseName>) -> Vec<ReleaseFacts> {
    let facts = |(name, digest): (ReleaseName, Digest)| {
        let tampered = if checked == Some(&name) { tampered(folder, &name) } else { Vec::new() };
        ReleaseFacts { name, digest, tampered }
    };
    list(folder).into_iter().map(facts).collect()
}

/// The first few files of a staged release that somebody changed. A release of the shell helper's time has none on record.
pub fn tampered(folder: &Folder, release: &ReleaseName) -> Vec<String> {
    match files::read_record::<Contents>(&contents_path(folder, release)) {
        Ok(Some(contents)) => look(folder, release, contents).0,
        Ok(None) => Vec::new(),
        Err(_) => vec![".landfall/staged".to_owned()],
    }
}

/// Files that look different and have the right bytes, by the record that names them: a look writes nothing, and must not hash them each
/// time.
static SEEN: Mutex<Seen> = Mutex::new(BTreeMap::new());
type Seen = BTreeMap<PathBuf, (Digest, BTreeMap<usize, Look>)>;
const SEEN_MAX: usize = 64;

/// The first few changed files, and how many others were hashed.
fn look(folder: &Folder, release: &ReleaseName, mut contents: Contents) -> (Vec<String>, usize) {
    let key = contents_path(folder, release);
    let seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
    let mut known = seen.filter(|(digest, _)| *digest == contents.digest).map(|(_, looks)| looks).unwrap_or_default();
    for (index, look) in &known {
        if let Some(recorded) = contents.entries.get_mut(*index) {
            recorded.look = *look;
        }
    }
    let (changed, looks) = differences(&folder.release(release), &contents.entries);
    let hashed = looks.len();
    if hashed > 0 {
        known.extend(looks);
        let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= SEEN_MAX {
            seen.clear();
        }
        seen.insert(key, (contents.digest, known));
    }
    (changed, hashed)
}

/// Whether a release is there and as it was staged; `digest`: the one that is wanted.
pub(super) fn check(folder: &Folder, release: &ReleaseName, digest: Option<&Digest>) -> StepResult<()> {
    let Some(found) = self::digest(folder, release) else {
        return Err(StepFailure::new(Reason::StageFailed, format!("{release} is not on the host")));
    };
    if digest.is_some_and(|digest| digest != &found) {
        return Err(StepFailure::new(Reason::StageFailed, format!("{release} has another digest ({found})")));
    }
    let contents = match files::read_record::<Contents>(&contents_path(folder, release)) {
        Ok(Some(contents)) if contents.digest == found => contents,
        _ => take_over(folder, release, &found)?,
    };
    let (changed, looks) = differences(&folder.release(release), &contents.entries);
    if !changed.is_empty() {
        return Err(changed_by_others(release, &changed));
    }
    refresh(folder, release, contents, looks);
    Ok(())
}

pub(super) fn changed_by_others(release: &ReleaseName, changed: &[String]) -> Box<StepFailure> {
    let why = format!("files of {release} were changed on the host: {}", changed.join(", "));
    StepFailure::new(Reason::ReleaseTampered, why)
}

/// Whether the release's folder holds what the manifest says; then it is on record. What somebody changed is named.
pub(super) fn verify(folder: &Folder, release: &ReleaseName, manifest: &Manifest) -> io::Result<Vec<String>> {
    let path = contents_path(folder, release);
    let recorded = files::read_record::<Contents>(&path).ok().flatten();
    let recorded = recorded
        .filter(|contents| contents.digest == manifest.release)
        .filter(|contents| contents.entries.iter().map(|recorded| &recorded.entry).eq(manifest.entries.iter()));
    let has_record = recorded.is_some() && digest(folder, release).as_ref() == Some(&manifest.release);
    let contents = recorded.unwrap_or_else(|| unseen(manifest));
    let (changed, looks) = differences(&folder.release(release), &contents.entries);
    if !changed.is_empty() {
        return Ok(changed);
    }
    if has_record {
        refresh(folder, release, contents, looks);
    } else {
        write(folder, release, contents, looks)?;
    }
    Ok(changed)
}

/// A manifest none of whose files was looked at yet.
fn unseen(manifest: &Manifest) -> Contents {
    let look = Look { inode: 0, changed: (0, 0) };
    let entries = manifest.entries.iter().map(|entry| Recorded { entry: entry.clone(), look }).collect();
    Contents { digest: manifest.release.clone(), entries }
}

/// Puts on record what files looked like that have just been written and verified.
pub(super) fn record(folder: &Folder, release: &ReleaseName, manifest: &Manifest) -> io::Result<()> {
    let path = folder.release(release);
    let mut looks = BTreeMap::new();
    for (index, entry) in manifest.entries.iter().enumerate() {
        looks.insert(index, Look::of(&std::fs::symlink_metadata(path.join(&entry.path))?));
    }
    write(folder, release, unseen(manifest), looks)
}

fn write(
    folder: &Folder,
    release: &ReleaseName,
    mut contents: Contents,
    looks: BTreeMap<usize, Look>,
) -> io::Result<()> {
    for (index, look) in looks {
        if let Some(recorded) = contents.entries.get_mut(index) {
            recorded.look = look;
        }
    }
    gate::pass("staged.writeFiles", || {
        if files::create_folder(&folder.dot().join("staged"), 0o700)? {
            files::sync_dir(&folder.dot())?;
        }
        files::write_record(&contents_path(folder, release), &contents)
    })?;
    gate::pass("staged.write", || {
        let n = list(folder).iter().map(|(name, _)| number(folder, name)).max().unwrap_or(0).saturating_add(1);
        files::write_record(&folder.staged(release), &Record { digest: contents.digest.clone(), n })
    })
}

/// Files with the right bytes that look different are not hashed the next time. It is no harm where that can't be written.
fn refresh(folder: &Folder, release: &ReleaseName, contents: Contents, looks: BTreeMap<usize, Look>) {
    if !looks.is_empty() {
        let _ = write(folder, release, contents, looks);
    }
}

/// The release no longer counts as staged, whatever of it is still there.
pub(super) fn forget(folder: &Folder, release: &ReleaseName) -> io::Result<()> {
    let verified = folder.dot().join("verified");
    gate::pass("staged.remove", || {
        files::remove_file(&folder.staged(release))?;
        files::remove_file(&contents_path(folder, release))?;
        if folder.dot().join("staged").is_dir() {
            files::sync_dir(&folder.dot().join("staged"))?;
        }
        if verified.is_dir() {
            files::remove_file(&verified.join(release.as_str()))?;
            files::sync_dir(&verified)?;
        }
        Ok(())
    })
}

/// A release's file with this content, not verified.
pub(super) fn file_with(folder: &Folder, release: &ReleaseName, sha256: &Digest) -> io::Result<Option<File>> {
    let Some(contents) = files::read_record::<Contents>(&contents_path(folder, release))? else { return Ok(None) };
    let has = |entry: &Entry| matches!(&entry.kind, EntryKind::File { sha256: other, .. } if other == sha256);
    let Some(found) = contents.entries.iter().find(|recorded| has(&recorded.entry)) else { return Ok(None) };
    open(&folder.release(release).join(&found.entry.path)).map(Some)
}

fn open(path: &Path) -> io::Result<File> {
    files::open_to_read(path)
}

/// The first few entries that are not what they should be, and the new looks of those that are and look different.
fn differences(release: &Path, entries: &[Recorded]) -> (Vec<String>, BTreeMap<usize, Look>) {
    let (mut changed, mut looks) = (Vec::new(), BTreeMap::new());
    for (index, recorded) in entries.iter().enumerate() {
        match compare(&release.join(&recorded.entry.path), recorded) {
            Verdict::AsRecorded => {}
            Verdict::Same(look) => {
                looks.insert(index, look);
            }
            Verdict::Changed if changed.len() < NAMED => changed.push(recorded.entry.path.clone()),
            Verdict::Changed => break,
        }
    }
    (changed, looks)
}

fn compare(path: &Path, recorded: &Recorded) -> Verdict {
    let Ok(found) = std::fs::symlink_metadata(path) else { return Verdict::Changed };
    let look = Look::of(&found);
    let same = |is_same: bool| match is_same {
        true if look == recorded.look => Verdict::AsRecorded,
        true => Verdict::Same(look),
        false => Verdict::Changed,
    };
    match &recorded.entry.kind {
        // An application may make files of its own in a folder, which changes the folder's time.
        EntryKind::Folder if found.is_dir() && found.mode() & 0o7777 == FOLDER_MODE => Verdict::AsRecorded,
        EntryKind::Folder => Verdict::Changed,
        EntryKind::Link { target } => same(std::fs::read_link(path).is_ok_and(|found| found == Path::new(target))),
        EntryKind::File { mode, size, sha256 } => {
            if !found.is_file() || found.len() != *size || found.mode() & 0o7777 != *mode {
                return Verdict::Changed;
            }
            same(look == recorded.look || hash(path).is_ok_and(|found| &found == sha256))
        }
    }
}

/// SHA-256 of a file.
pub(super) fn hash(path: &Path) -> io::Result<Digest> {
    let mut file = open(path)?;
    let (mut hasher, mut piece) = (Sha256::new(), vec![0; PIECE]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(Digest::from_bytes(hasher.finalize().into())),
            read => hasher.update(piece.get(..read).unwrap_or_default()),
        }
    }
}

/// A release that the shell helper unpacked and digested as a whole: where its digest is still the same, its files come on record.
fn take_over(folder: &Folder, release: &ReleaseName, digest: &Digest) -> StepResult<Contents> {
    let tampered = |why: &str| StepFailure::new(Reason::ReleaseTampered, format!("{release} {why}"));
    let Some(tree) = shell::verified_tree(folder, release) else {
        return Err(tampered("was staged, and the record of its files is gone"));
    };
    let path = folder.release(release);
    let failed = |error: io::Error| files::failure(Reason::StageFailed, &error, &path);
    let mut found = Vec::new();
    read_tree(&path, "", &mut found).map_err(failed)?;
    if shell_digest(&found) != tree {
        return Err(tampered("was changed on the host since it was unpacked"));
    }
    found.sort_by(|(a, _), (b, _)| a.path.cmp(&b.path));
    let entries = found.into_iter().map(|(entry, look)| Recorded { entry, look }).collect();
    let contents = Contents { digest: digest.clone(), entries };
    write(folder, release, contents.clone(), BTreeMap::new()).map_err(failed)?;
    Ok(contents)
}

fn read_tree(folder: &Path, below: &str, found: &mut Vec<(Entry, Look)>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let metadata = std::fs::symlink_metadata(&path)?;
        let name = path.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidData)?;
        let relative = if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
        let kind = if metadata.is_dir() {
            read_tree(&path, &relative, found)?;
            EntryKind::Folder
        } else if metadata.is_symlink() {
            let target = std::fs::read_link(&path)?;
            EntryKind::Link { target: target.to_str().ok_or(io::ErrorKind::InvalidData)?.to_owned() }
        } else {
            EntryKind::File { mode: metadata.mode() & 0o7777, size: metadata.len(), sha256: hash(&path)? }
        };
        found.push((Entry { path: relative, kind }, Look::of(&metadata)));
    }
    Ok(())
}

/// As the shell helper digests a folder: lines of `sha256sum` for files, `PATH > TARGET` for links, sorted, and the digest of that.
fn shell_digest(found: &[(Entry, Look)]) -> Digest {
    let line = |entry: &Entry| match &entry.kind {
        EntryKind::Folder => None,
        EntryKind::File { sha256, .. } => Some(format!("{sha256}  ./{}\n", entry.path)),
        EntryKind::Link { target } => Some(format!("./{} > {target}\n", entry.path)),
    };
    let mut lines: Vec<String> = found.iter().filter_map(|(entry, _)| line(entry)).collect();
    lines.sort();
    landfall_host_bundle::digest(lines.concat().as_bytes())
}

#[cfg(test)]
mod tests {
    use landfall_host_protocol::FolderName;

    use super::*;

    #[test]
    fn a_touched_file_is_hashed_once_and_a_changed_one_is_seen() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::new(root.path(), FolderName::new("shop", "web"));
        let release = ReleaseName::new("v1.0", &"ab".repeat(32));
        std::fs::create_dir_all(folder.release(&release)).unwrap();
        let path = folder.release(&release).join("file");
        std::fs::write(&path, "same").unwrap();
        let mode = std::fs::metadata(&path).unwrap().mode() & 0o7777;
        let kind = EntryKind::File { mode, size: 4, sha256: hash(&path).unwrap() };
        let look = Look { inode: 0, changed: (0, 0) };
        let entries = vec![Recorded { entry: Entry { path: "file".to_owned(), kind }, look }];
        let contents = Contents { digest: Digest::parse(&"ab".repeat(32)).unwrap(), entries };
        assert_eq!(super::look(&folder, &release, contents.clone()), (vec![], 1));
        assert_eq!(super::look(&folder, &release, contents.clone()), (vec![], 0));
        std::fs::write(&path, "diff").unwrap();
        assert_eq!(super::look(&folder, &release, contents), (vec!["file".to_owned()], 0));
    }
}
