//! Caches: folders that a script finds as the last successful one of its project left them. It must not know what is in them.
//!
//! `<data>/caches/<namespace>/<project uid>/<name>/` has a file `current` that names the one generation that counts. A script works on
//! a copy of that, in its own home or checkout, and only the copy of a script that ended with 0 becomes the next generation: whatever
//! fails, is killed or is lost on the way leaves the last good one as it was.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::super::{
    error::ExecutorError,
    types::{Cache, Caches, ExitReason},
};
use super::{files, watch::Watch};
use crate::effects::{clock, remove};

const CURRENT: &str = "current";
/// What a file costs beside its bytes.
const PER_ENTRY: u64 = 512;
/// Levels of folders in a cache.
const DEPTH: usize = 256;

/// Where the caches of a project are kept.
fn kept(root: &Path, caches: &Caches) -> PathBuf {
    root.join(&caches.namespace).join(&caches.project)
}

/// Names and paths are checked at admission already; here once more, because they become paths of ours.
pub(super) fn check(caches: &Caches) -> Result<(), ExecutorError> {
    let one = |text: &str| {
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'@' | b'+' | b'-');
        !text.is_empty() && text != "." && text != ".." && text.bytes().all(fits)
    };
    let bad = |cache: &Cache, why: &str| {
        Err(ExecutorError::CacheRefused { name: cache.name.clone(), path: cache.path.clone(), why: why.to_owned() })
    };
    for cache in &caches.folders {
        let path = cache.path.strip_prefix("~/").unwrap_or(&cache.path);
        let part = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
        if !one(&cache.name) || !one(&caches.namespace) || !one(&caches.project) || !path.split('/').all(part) {
            return bad(cache, "a path is relative to the checkout or begins with ~/, and has no '..'");
        }
    }
    Ok(())
}

/// Refuses a cache for which the checkout has no room: it would hide what the commit has there.
pub(super) fn fits(dir: &Path, caches: &Caches) -> Result<(), ExecutorError> {
    check(caches)?;
    for cache in &caches.folders {
        place(dir, cache, false).map_err(|why| ExecutorError::CacheRefused {
            name: cache.name.clone(),
            path: cache.path.clone(),
            why,
        })?;
    }
    Ok(())
}

/// The folder of the attempt that the path of a cache begins in, and the path below it.
fn base_and_path(cache: &Cache) -> (&'static str, &str) {
    match cache.path.strip_prefix("~/") {
        Some(path) => (files::HOME, path),
        None => (files::SRC, cache.path.as_str()),
    }
}

/// Where the script finds the cache. No link is followed, and nothing that is there is hidden.
fn place(dir: &Path, cache: &Cache, make: bool) -> Result<PathBuf, String> {
    let (base, path) = base_and_path(cache);
    let mut at = dir.join(base);
    let parts: Vec<&str> = path.split('/').collect();
    for (n, part) in parts.iter().enumerate() {
        at.push(part);
        let last = n + 1 == parts.len();
        match fs::symlink_metadata(&at) {
            Ok(found) if !found.is_dir() => return Err(format!("the commit has {part:?} there, which is no folder")),
            Ok(_) if last && fs::read_dir(&at).is_ok_and(|mut entries| entries.next().is_some()) => {
                return Err("the commit has files there, which the cache would hide".to_owned());
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound && !make => return Ok(dir.join(base).join(path)),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                fs::create_dir(&at).map_err(|error| format!("its folder can't be made: {error}"))?;
            }
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(at)
}

/// Puts a copy of each cache where the script finds it. `Some`: the attempt was ended meanwhile. What can't be had is left out, and said
/// in the log: a damaged cache must not stop builds.
pub(super) fn fetch(watch: &Watch<'_>, notes: &mut u64) -> io::Result<Option<ExitReason>> {
    let Some(caches) = &watch.asked.step.caches else { return Ok(None) };
    let home = kept(&watch.asked.caches, caches);
    delete_unknown(&home, caches);
    for cache in &caches.folders {
        let to = place(watch.dir, cache, true).map_err(io::Error::other)?;
        let folder = home.join(&cache.name);
        let Some(from) = current(&folder) else { continue };
        let begun = clock::monotonic();
        let mut copy = copy(&from, &to, &["--reflink=auto"]).spawn()?;
        match watch.until_end(&mut copy, begun)? {
            Ok(status) if status.success() => {}
            Ok(status) => {
                remove::tree(&to)?;
                fs::create_dir(&to)?;
                *notes += files::add_note(
                    watch.dir,
                    &format!("cache {} is left out: its copy ended with {status}", cache.name),
                );
            }
            Err(reason) => {
                copy.kill()?;
                copy.wait()?;
                return Ok(Some(reason));
            }
        }
    }
    Ok(None)
}

fn copy(from: &Path, to: &Path, more: &[&str]) -> Command {
    let mut command = Command::new("cp");
    command.arg("-a").args(more).arg("-T").arg("--").arg(from).arg(to);
    command.env_clear().env("PATH", super::sandbox::PATH).env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// The script ended well: what it left is the next generation. What fails here costs the cache, not the build.
pub(super) fn keep(watch: &Watch<'_>, notes: &mut u64) {
    let Some(caches) = &watch.asked.step.caches else { return };
    for cache in &caches.folders {
        match keep_one(watch, caches, cache) {
            Ok(None) => {}
            Ok(Some(note)) => *notes += files::add_note(watch.dir, &note),
            Err(error) => {
                *notes += files::add_note(watch.dir, &format!("cache {} stays as it was: {error}", cache.name))
            }
        }
    }
}

fn keep_one(watch: &Watch<'_>, caches: &Caches, cache: &Cache) -> io::Result<Option<String>> {
    let Some(from) = left(watch.dir, cache) else {
        return Ok(Some(format!("cache {} stays as it was: {} is no folder any more", cache.name, cache.path)));
    };
    let folder = kept(&watch.asked.caches, caches).join(&cache.name);
    let size = size(&from, cache.max_bytes)?;
    if size > cache.max_bytes {
        delete_folder(&folder)?;
        return Ok(Some(format!(
            "cache {} holds more than its maxBytes ({}), and is thrown away; the next build begins with an empty one",
            cache.name, cache.max_bytes
        )));
    }
    fs::create_dir_all(&folder)?;
    let name = generation(watch.dir);
    let to = folder.join(&name);
    remove::tree(&to)?;
    if cache.path.starts_with("~/") {
        fs::rename(&from, &to)?;
    } else {
        // The checkout is still packed from. It is never written again, so its files may be the cache's as well.
        let status = copy(&from, &to, &["--link"]).status()?;
        if !status.success() {
            return Err(io::Error::other(format!("its copy ended with {status}")));
        }
    }
    // The name must not outlive a power cut that the files did not.
    rustix::fs::syncfs(File::open(&folder)?)?;
    files::write_atomic(&folder.join(CURRENT), name.as_bytes())?;
    others(&folder, &name);
    Ok(None)
}

/// Where a script left a cache. No link is followed: the script may have made some.
fn left(dir: &Path, cache: &Cache) -> Option<PathBuf> {
    let (base, path) = base_and_path(cache);
    let mut at = dir.join(base);
    for part in path.split('/') {
        at.push(part);
        fs::symlink_metadata(&at).ok().filter(fs::Metadata::is_dir)?;
    }
    Some(at)
}

/// `<build uid>.<attempt>`
fn generation(dir: &Path) -> String {
    let name = |path: Option<&Path>| path.and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    format!("{}.{}", name(dir.parent()).unwrap_or_default(), name(Some(dir)).unwrap_or_default())
}

/// The generation that counts; the others are leftovers, and go.
fn current(folder: &Path) -> Option<PathBuf> {
    let name = fs::read_to_string(folder.join(CURRENT)).ok()?;
    let plain = !name.contains('/') && name != "." && name != "..";
    let found = Some(folder.join(&name)).filter(|path| plain && !name.is_empty() && path.is_dir());
    others(folder, if found.is_some() { &name } else { "" });
    found
}

fn others(folder: &Path, name: &str) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name() != *name && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let _ = remove::tree(&entry.path());
        }
    }
}

/// Caches that the project does not list any more.
fn delete_unknown(home: &Path, caches: &Caches) {
    let names: BTreeSet<&str> = caches.folders.iter().map(|cache| cache.name.as_str()).collect();
    for entry in fs::read_dir(home).into_iter().flatten().flatten() {
        if !entry.file_name().to_str().is_some_and(|name| names.contains(name)) {
            let _ = delete_folder(&entry.path());
        }
    }
}

/// Removes the caches of all projects of a namespace but these. Returns the uids of those that went.
pub(super) fn delete(root: &Path, namespace: &str, projects: &BTreeSet<String>) -> Result<Vec<String>, ExecutorError> {
    let mut gone = Vec::new();
    for entry in fs::read_dir(root.join(namespace)).into_iter().flatten().flatten() {
        let Some(uid) = entry.file_name().to_str().map(str::to_owned) else { continue };
        if !projects.contains(&uid) {
            remove::tree(&entry.path())
                .map_err(|error| ExecutorError::io("remove the caches of a project that is gone", &error))?;
            gone.push(uid);
        }
    }
    let _ = fs::remove_dir(root.join(namespace)); // fails where one is left
    Ok(gone)
}

/// Namespaces and uids of the projects that have caches.
pub(super) fn projects(root: &Path) -> Vec<(String, String)> {
    let names = |path: &Path| -> Vec<String> {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    };
    let spaces = names(root).into_iter();
    spaces.flat_map(|space| names(&root.join(&space)).into_iter().map(move |uid| (space.clone(), uid))).collect()
}

/// What a cache takes, as far as its limit is not passed: nobody counts a million files to know that they are too many.
/// Its depth is bounded because whoever copies it recurses.
fn size(path: &Path, limit: u64) -> io::Result<u64> {
    let mut size = 0;
    // Folders stay open, so that their entries need not be kept in memory instead.
    for entry in walkdir::WalkDir::new(path).max_open(DEPTH + 2) {
        // Without its path, which may be long.
        let entry = entry.map_err(|error| error.into_io_error().unwrap_or_else(|| ErrorKind::Other.into()))?;
        if entry.depth() > DEPTH {
            return Err(io::Error::other(format!("its folders are nested more than {DEPTH} deep, so it is not kept")));
        }
        size += PER_ENTRY + entry.metadata()?.blocks() * 512;
        if size > limit {
            break;
        }
    }
    Ok(size)
}

/// The name goes first: what is left of a generation after a crash must not count as one.
fn delete_folder(folder: &Path) -> io::Result<()> {
    match fs::remove_file(folder.join(CURRENT)) {
        Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Err(error),
        _ => remove::tree(folder),
    }
}
