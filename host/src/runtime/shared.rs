//! What an application finds in `shared/` when it starts: the folders for its log and its data, and the files of `shared/config/`. What
//! another user runs reads files that are that user's, written by himself; the folder of the files stays ours.

use std::{
    io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use landfall_host_bundle::digest;
use landfall_host_protocol::{Configuration, File, FileValue, Reason, RunAs, SecretValue, Secrets};

use crate::{
    as_user::AsUser,
    failure::{StepFailure, StepResult},
    files,
    folder::Folder,
    gate,
    process::instance_value,
};

/// Folder of the configuration's files.
pub(super) fn place(folder: &Folder) -> PathBuf {
    folder.shared().join("config")
}

/// Makes the folders, and writes the files that are not there yet as they are to be.
pub(super) fn prepare(folder: &Folder, configuration: &Configuration, secrets: &Secrets) -> StepResult<()> {
    let mut user = configuration.run_as.as_ref().map(|run_as| AsUser::new(run_as, &folder.log(0)));
    make_folders(folder, user.as_mut())?;
    for file in &configuration.files {
        let value = value_of(file, secrets)?;
        let path = place(folder).join(&file.name);
        let mode = file.mode & 0o777;
        let written = match &mut user {
            Some(user) => write_as(user, &path, &value, mode),
            None => write(&path, value.as_bytes(), mode),
        };
        written.map_err(|error| files::failure(Reason::StartFailed, &error, &path))?;
    }
    Ok(())
}

fn value_of(file: &File, secrets: &Secrets) -> StepResult<SecretValue> {
    if !is_name(&file.name) {
        return Err(StepFailure::new(Reason::StartFailed, format!("{:?} is no name of a file", file.name)));
    }
    match &file.value {
        FileValue::Plain(text) => Ok(text.as_str().into()),
        FileValue::Secret(key) => secrets.0.get(key).cloned().ok_or_else(|| {
            StepFailure::new(Reason::AwaitingSecrets, format!("the secret value {key} is not on the host"))
        }),
    }
}

pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains('/') && name != "." && name != ".."
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    if files::is_own(path, bytes.len(), digest(bytes).as_str(), mode) {
        return Ok(());
    }
    gate::pass("config.file", || files::write_whole(path, bytes, mode))
}

/// Puts a file in its place that its user himself wrote, so that nobody else can read it, not for a moment.
///
/// He writes it below a folder that nobody can list, in one whose name is a secret of his and ours and that takes new entries of anybody who
/// knows it. Then that is closed; what lies there is looked at, and only the plain file that it has to be is moved on. What else he put there
/// is his own loss: it is neither read nor followed, and not removed either where it is more than files.
fn write_as(user: &mut AsUser, path: &Path, value: &SecretValue, mode: u32) -> io::Result<()> {
    let size = value.as_bytes().len();
    if user.has_file(path, size, digest(value.as_bytes()).as_str(), mode)? {
        return Ok(());
    }
    let uid = user.uid().map_err(io::Error::other)?;
    let hidden = files::beside(path)?;
    gate::pass("config.file", || {
        remove_hidden(&hidden);
        files::create_folder(&hidden, 0o711)?;
        let inner = hidden.join(instance_value()?);
        files::create_folder(&inner, 0o700)?;
        let done = put_as(user, &inner, path, value, mode, uid);
        remove_hidden(&hidden);
        done
    })
}

fn put_as(user: &mut AsUser, inner: &Path, path: &Path, value: &SecretValue, mode: u32, uid: u32) -> io::Result<()> {
    let new = inner.join("file");
    let open = |mode| std::fs::set_permissions(inner, std::fs::Permissions::from_mode(mode));
    // Nobody lists it, and nobody removes what is another's.
    open(0o1733)?;
    let made = user.make_file(&new, value, mode);
    open(0o700)?;
    made?;
    let found = std::fs::symlink_metadata(&new)?;
    let is_it = found.is_file()
        && found.uid() == uid
        && found.mode() & 0o7777 == mode
        && found.nlink() == 1
        && found.len() == value.as_bytes().len() as u64;
    if !is_it {
        return Err(io::Error::other(format!("what uid {uid} wrote is not the file that it is to be")));
    }
    files::rename(&new, path)?;
    files::sync_parent(path)
}

/// Removes a folder in which a file was written, with the files in it.
pub(super) fn remove_hidden(hidden: &Path) {
    if !std::fs::symlink_metadata(hidden).is_ok_and(|found| found.is_dir()) {
        return;
    }
    let entries = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    for inner in entries(hidden) {
        // One of ours: nobody else can make one here, and a link to another folder is none.
        if std::fs::symlink_metadata(&inner).is_ok_and(|found| found.is_dir()) {
            let _ = std::fs::set_permissions(&inner, std::fs::Permissions::from_mode(0o700));
            for file in entries(&inner) {
                let _ = std::fs::remove_file(file);
            }
            let _ = std::fs::remove_dir(&inner);
        }
    }
    let _ = std::fs::remove_dir(hidden);
}

/// `shared/data` is the user's that the application runs as.
fn make_folders(folder: &Folder, user: Option<&mut AsUser>) -> StepResult<()> {
    let make = |path: &Path| {
        gate::pass("shared.make", || files::create_folder(path, 0o755))
            .map_err(|error| files::failure(Reason::StartFailed, &error, path))
    };
    let (shared, own) = (folder.shared(), rustix::process::getuid().as_raw());
    make(&shared)?;
    // One who died while it was open to all left it so: what a stranger put there then is seen below.
    if std::fs::symlink_metadata(&shared).is_ok_and(|found| found.mode() & 0o7777 == 0o1777) {
        std::fs::set_permissions(&shared, std::fs::Permissions::from_mode(0o755))
            .map_err(|error| files::failure(Reason::StartFailed, &error, &shared))?;
    }
    for path in [shared.join("log"), place(folder)] {
        make(&path)?;
        if user.is_some() {
            check_owner(&path, own)?;
        }
    }
    let data = shared.join("data");
    let Some(user) = user else {
        make(&data)?;
        return Ok(());
    };
    // One of ours that nothing is in makes room.
    let _ = std::fs::remove_dir(&data);
    let failed = |why: String| StepFailure::new(Reason::StartFailed, format!("{}: {why}", data.display()));
    if std::fs::symlink_metadata(&data).is_err() {
        user.make_folder(&data).map_err(failed)?;
    }
    let uid = user.uid().map_err(failed)?;
    check_owner(&data, uid)
}

/// A folder, and this user's.
fn check_owner(path: &Path, uid: u32) -> StepResult<()> {
    let found = std::fs::symlink_metadata(path).map_err(|error| files::failure(Reason::StartFailed, &error, path))?;
    if found.is_dir() && found.uid() == uid {
        return Ok(());
    }
    let why = format!("{} is not a folder of uid {uid} but of uid {}; remove it by hand", path.display(), found.uid());
    Err(StepFailure::new(Reason::StartFailed, why))
}

/// Removes what a user that the application ran as put into `shared/data`, which only he can.
pub(super) fn clear_data(folder: &Folder, run_as: Option<&RunAs>) -> StepResult<()> {
    let data = folder.shared().join("data");
    match run_as {
        Some(run_as) if data.is_dir() => AsUser::new(run_as, &folder.log(0))
            .empty_folder(&data)
            .map_err(|why| StepFailure::new(Reason::Internal, format!("{}: {why}", data.display()))),
        _ => Ok(()),
    }
}
