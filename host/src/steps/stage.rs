//! `stage`: a release is assembled under a temporary name from the bundle in `incoming/` and files of other releases, every file verified
//! by its SHA-256, synced and renamed. A whole one that is there already is not touched; one that somebody changed is replaced.

use std::{
    fs::{File, Permissions},
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use landfall_host_bundle as bundles;
use landfall_host_bundle::ApplyError;
use landfall_host_protocol::{
    Bundle, Digest, Entry, EntryKind, FolderFacts, Manifest, ProcessState, Reason, ReleaseName, Runtime,
};

use super::{Context, Done, staged};
use crate::{
    failure::{StepFailure, StepResult},
    files,
    folder::Folder,
    gate, runtime,
};

/// Bytes and inodes that are left free.
const SPARE_BYTES: u64 = 1 << 20;
const SPARE_INODES: u64 = 16;
/// A file takes whole blocks.
const BLOCK: u64 = 4096;

/// What is to be staged.
pub(super) struct Wanted<'a> {
    pub(super) release: &'a ReleaseName,
    pub(super) digest: &'a Digest,
    /// SHA-256 of the manifest in `incoming/`.
    pub(super) manifest: &'a Digest,
    pub(super) bundle: Option<&'a Bundle>,
}

pub(super) fn stage(context: &Context<'_>, wanted: &Wanted<'_>) -> StepResult<Done> {
    let (folder, release) = (context.folder, wanted.release);
    let mut tampered = Vec::new();
    if staged::digest(folder, release).as_ref() == Some(wanted.digest) {
        match staged::check(folder, release, Some(wanted.digest)) {
            Ok(()) => return Ok(Done::Skipped),
            Err(failure) => context.progress(failure.why),
        }
    }
    let Some(manifest) = read_manifest(folder, wanted)? else {
        return Err(lacking(folder, wanted, "the manifest"));
    };
    if folder.release(release).is_dir() {
        let place = folder.release(release);
        tampered = staged::verify(folder, release, &manifest)
            .map_err(|error| files::failure(Reason::StageFailed, &error, &place))?;
        if tampered.is_empty() {
            return Ok(Done::Ended);
        }
        if runs_from(folder, release) {
            // Its working directory would be gone below it, with what it wrote there.
            let mut failure = staged::changed_by_others(release, &tampered);
            failure.why += "; they are left as they are while its application runs";
            return Err(failure);
        }
    }
    let bundle = wanted.bundle.filter(|bundle| folder.incoming(&bundle.sha256).exists());
    let Some(bundle) = bundle else { return Err(lacking(folder, wanted, "the bundle")) };
    check_space(folder, &manifest)?;
    let assembled = assemble(folder, release, &manifest, bundle)?;
    if !tampered.is_empty() {
        context.progress(format!("replaces {release}, of which {} was changed on the host", tampered.join(", ")));
    }
    put_in_place(folder, release, &manifest, &assembled)
        .map_err(|error| files::failure(Reason::StageFailed, &error, &folder.release(release)))?;
    for digest in [&bundle.sha256, wanted.manifest] {
        let _ = gate::pass("incoming.remove", || files::remove_file(&folder.incoming(digest)));
    }
    Ok(Done::Ended)
}

/// A process runs in this release's folder, or is about to. Files that something else serves are replaced below it without harm.
fn runs_from(folder: &Folder, release: &ReleaseName) -> bool {
    let mut facts = FolderFacts::default();
    runtime::recorded(folder).observe(folder, &mut facts);
    let Some(process) = facts.process.filter(|process| &process.release == release) else { return false };
    let kept = process.config.and_then(|hash| runtime::configuration::load(folder, &hash).ok().flatten());
    let serves_files = kept.is_some_and(|kept| matches!(kept.configuration.runtime, Runtime::Static(_)));
    !serves_files && matches!(process.state, ProcessState::Running | ProcessState::Waiting { .. })
}

/// The operator's manifest; `None`: it is not in `incoming/`.
fn read_manifest(folder: &Folder, wanted: &Wanted<'_>) -> StepResult<Option<Manifest>> {
    let fail = |why: String| StepFailure::new(Reason::StageFailed, why);
    let path = folder.incoming(wanted.manifest);
    let bytes = files::read_whole(&path).map_err(|error| files::failure(Reason::StageFailed, &error, &path))?;
    let Some(bytes) = bytes else { return Ok(None) };
    let got = bundles::digest(&bytes);
    if &got != wanted.manifest {
        return Err(fail(format!("the manifest has SHA-256 {got}, expected {}", wanted.manifest)));
    }
    let manifest = bundles::decode(&bytes).map_err(|error| fail(format!("the manifest: {error}")))?;
    if &manifest.release != wanted.digest {
        return Err(fail(format!("the manifest is of {}, expected {}", manifest.release, wanted.digest)));
    }
    if ReleaseName::new(wanted.release.version(), wanted.digest.as_str()) != *wanted.release {
        return Err(fail(format!("{} is no name of a release with the digest {}", wanted.release, wanted.digest)));
    }
    Ok(Some(manifest))
}

/// Bytes that are needed and not there. Where the release was changed on the host that is the reason, for they were there once.
fn lacking(folder: &Folder, wanted: &Wanted<'_>, what: &str) -> Box<StepFailure> {
    match staged::check(folder, wanted.release, Some(wanted.digest)) {
        Err(failure) if failure.reason == Reason::ReleaseTampered => failure,
        _ => StepFailure::new(Reason::StageFailed, format!("{what} of {} is not in incoming/", wanted.release)),
    }
}

fn check_space(folder: &Folder, manifest: &Manifest) -> StepResult<()> {
    let size = |entry: &Entry| match &entry.kind {
        EntryKind::File { size, .. } => size.div_ceil(BLOCK).saturating_mul(BLOCK),
        EntryKind::Folder => BLOCK,
        EntryKind::Link { .. } => 0,
    };
    let needed = manifest.entries.iter().map(size).fold(SPARE_BYTES, u64::saturating_add);
    let inodes = manifest.entries.len() as u64 + SPARE_INODES;
    let path = folder.path();
    let mut space = files::space(&path).map_err(|error| files::failure(Reason::StageFailed, &error, &path))?;
    space.needed = needed;
    let why = if space.free_bytes < needed {
        format!("{needed} bytes are needed and {} are free", space.free_bytes)
    } else if space.free_inodes.is_some_and(|free| free < inodes) {
        format!("{inodes} inodes are needed and {} are free", space.free_inodes.unwrap_or(0))
    } else {
        return Ok(());
    };
    let mut failure = StepFailure::new(Reason::DiskFull, why);
    failure.full = Some(space);
    Err(failure)
}

/// The whole release under a temporary name, on the disk.
fn assemble(folder: &Folder, release: &ReleaseName, manifest: &Manifest, bundle: &Bundle) -> StepResult<PathBuf> {
    let path = temporary(folder, "new", release);
    let failed = |error: io::Error| files::failure(Reason::StageFailed, &error, &path);
    make_folders(folder, manifest, &path).map_err(failed)?;
    let incoming = folder.incoming(&bundle.sha256);
    let mut assembly = Assembly { folder, path: &path, base: bundle.base.as_ref() };
    let applied = files::open_to_read(&incoming)
        .map_err(ApplyError::Read)
        .and_then(|bundle| bundles::apply(manifest, bundle, &mut assembly));
    if let Err(error) = applied {
        let _ = files::remove_below(folder.root(), &path);
        // A full disk is no fault of the bundle; in any other case it would fail again, and its bytes are asked for again.
        if !matches!(error, ApplyError::Write { .. }) {
            let _ = gate::pass("incoming.remove", || files::remove_file(&incoming));
        }
        return Err(unassembled(&error, &path));
    }
    finish(manifest, &path).map_err(failed)?;
    Ok(path)
}

fn temporary(folder: &Folder, what: &str, release: &ReleaseName) -> PathBuf {
    folder.dot().join("tmp").join(format!("{what}.{release}"))
}

fn make_folders(folder: &Folder, manifest: &Manifest, path: &Path) -> io::Result<()> {
    gate::pass("release.makeFolders", || {
        files::create_folder(&folder.dot().join("tmp"), 0o700)?;
        files::remove_below(folder.root(), path)?;
        files::create_folder(path, staged::FOLDER_MODE)?;
        for entry in manifest.entries.iter().filter(|entry| entry.kind == EntryKind::Folder) {
            files::create_folder(&path.join(&entry.path), staged::FOLDER_MODE)?;
        }
        Ok(())
    })
}

/// Links, and every folder's entries on the disk, once.
fn finish(manifest: &Manifest, path: &Path) -> io::Result<()> {
    gate::pass("release.syncFolders", || {
        for entry in &manifest.entries {
            if let EntryKind::Link { target } = &entry.kind {
                files::create_link(&path.join(&entry.path), Path::new(target))?;
            }
        }
        for entry in manifest.entries.iter().filter(|entry| entry.kind == EntryKind::Folder) {
            files::sync_dir(&path.join(&entry.path))?;
        }
        files::sync_dir(path)
    })
}

fn unassembled(error: &ApplyError, path: &Path) -> Box<StepFailure> {
    match error {
        ApplyError::Write { entry, error } => files::failure(Reason::StageFailed, error, &path.join(entry)),
        other => StepFailure::new(Reason::StageFailed, other.to_string()),
    }
}

fn put_in_place(folder: &Folder, release: &ReleaseName, manifest: &Manifest, assembled: &Path) -> io::Result<()> {
    let (place, old) = (folder.release(release), temporary(folder, "old", release));
    gate::pass("release.rename", || {
        files::create_folder(&folder.releases(), 0o755)?;
        files::sync_dir(&folder.path())?;
        files::remove_below(folder.root(), &old)?;
        files::replace_folder(assembled, &place, &old)?;
        files::sync_dir(&folder.releases())
    })?;
    staged::record(folder, release, manifest)?;
    for left in [assembled, &old] {
        let _ = gate::pass("release.remove", || files::remove_below(folder.root(), left));
    }
    Ok(())
}

/// The host's part of assembling.
struct Assembly<'a> {
    folder: &'a Folder,
    path: &'a Path,
    base: Option<&'a ReleaseName>,
}

impl bundles::Files for Assembly<'_> {
    fn base(&mut self, sha256: &Digest) -> io::Result<Option<File>> {
        let Some(base) = self.base else { return Ok(None) };
        staged::file_with(self.folder, base, sha256)
    }

    fn create(&mut self, entry: &Entry) -> io::Result<File> {
        files::create(&self.path.join(&entry.path), 0o600)
    }

    fn finish(&mut self, entry: &Entry, file: File) -> io::Result<()> {
        gate::pass("release.syncFile", || {
            if let EntryKind::File { mode, .. } = entry.kind {
                file.set_permissions(Permissions::from_mode(mode))?;
            }
            files::sync_file(&file)
        })
    }
}
