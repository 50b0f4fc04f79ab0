//! The data folder of one development control plane: its parts, its lock, and the removal of temporary ones.
//!
//! A folder is locked by its file `lock`, which the kernel releases when the holder dies, however it dies.

use std::{
    env,
    fs::{self, File, OpenOptions, TryLockError},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use super::{args::DevArgs, error::DevError, files};
use crate::effects::remove;

/// Where the parts of a control plane lie.
#[derive(Debug, Clone)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }
    pub fn path(&self) -> &Path {
        &self.0
    }
    pub fn pki(&self) -> PathBuf {
        self.0.join("pki")
    }
    pub fn etcd(&self) -> PathBuf {
        self.0.join("etcd")
    }
    pub fn logs(&self) -> PathBuf {
        self.0.join("logs")
    }
    pub fn ports(&self) -> PathBuf {
        self.0.join("ports.json")
    }
    pub fn kubeconfig(&self) -> PathBuf {
        self.0.join("kubeconfig")
    }
    /// The operator's own: the rights of `manifests/` and no others.
    pub fn operator_kubeconfig(&self) -> PathBuf {
        self.0.join("operator.kubeconfig")
    }
    pub(crate) fn controllers_kubeconfig(&self) -> PathBuf {
        self.pki().join("kube-controller-manager.kubeconfig")
    }
    /// The operator's data folder.
    pub fn operator(&self) -> PathBuf {
        self.0.join("operator")
    }

    /// Locks the lock file of that name; an error where another process holds it.
    pub(crate) fn try_lock(&self, name: &str) -> Result<File, DevError> {
        let path = self.0.join(name);
        let file = open_lock(&path)?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(DevError::InUse { folder: self.0.clone() }),
            Err(TryLockError::Error(source)) => Err(DevError::File { what: "cannot lock", path, source }),
        }
    }

    /// Locks the lock file of that name as soon as its holder releases it. Blocks.
    pub(crate) fn wait_lock(&self, name: &str) -> Result<File, DevError> {
        let path = self.0.join(name);
        let file = open_lock(&path)?;
        file.lock().map_err(DevError::file("cannot lock", path))?;
        Ok(file)
    }
}

/// A folder that this process holds; a temporary one goes with it.
#[derive(Debug)]
pub(crate) struct FolderLock {
    pub folder: Folder,
    temporary: bool,
    lock: File,
}

impl FolderLock {
    /// The folder that the arguments name, made where it is missing and held.
    pub fn open(args: &DevArgs) -> Result<Self, DevError> {
        if args.ephemeral {
            return Self::temporary();
        }
        let path = match &args.data_dir {
            Some(path) => std::path::absolute(path).map_err(DevError::file("cannot find", path))?,
            None => home("XDG_DATA_HOME", ".local/share")?.join("landfall/dev"),
        };
        files::private_folder(&path)?;
        let folder = Folder(path);
        let lock = folder.try_lock("lock")?;
        Ok(Self { folder, temporary: false, lock })
    }

    /// A new temporary folder; those of dead owners are removed on the way.
    fn temporary() -> Result<Self, DevError> {
        let root = env::temp_dir().join(format!("landfall-dev-{}", rustix::process::geteuid().as_raw()));
        match fs::DirBuilder::new().mode(0o700).create(&root) {
            Err(refused) if refused.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(DevError::File { what: "cannot create the folder", path: root, source: refused });
            }
            _ if !files::is_ours_alone(&root) => return Err(DevError::UnsafeFolder { folder: root }),
            _ => {}
        }
        // Held while folders are made and removed: none is removed between its creation and its lock.
        let guard = open_lock(&root.join("lock"))?;
        guard.lock().map_err(DevError::file("cannot lock", &root))?;
        remove_abandoned(&root);
        let path = tempfile::Builder::new()
            .prefix("plane-")
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir_in(&root)
            .map_err(DevError::file("cannot create a folder in", &root))?
            .keep();
        let folder = Folder(path);
        let lock = folder.try_lock("lock")?;
        Ok(Self { folder, temporary: true, lock })
    }

    /// Gives the folder back; a temporary one is removed.
    pub fn close(self) -> Result<(), DevError> {
        if self.temporary {
            // Scripts wrote below it.
            remove::tree(self.folder.path())
                .map_err(DevError::file("cannot remove the temporary folder", self.folder.path()))?;
        }
        drop(self.lock);
        Ok(())
    }
}

/// Removes the temporary folders whose owner is dead. One that can't be removed is left to the next start.
fn remove_abandoned(root: &Path) {
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with("plane-") && Folder(path.clone()).try_lock("lock").is_ok() {
            let _ = remove::tree(&path);
        }
    }
}

fn open_lock(path: &Path) -> Result<File, DevError> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(DevError::file("cannot open the lock", path))
}

/// A base folder of the XDG specification: the variable when it is an absolute path, else below the home folder.
pub fn home(variable: &str, below: &str) -> Result<PathBuf, DevError> {
    if let Some(path) = env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute()) {
        return Ok(path);
    }
    env::var_os("HOME")
        .filter(|home| !home.is_empty())
        .map(|home| PathBuf::from(home).join(below))
        .ok_or(DevError::NoHome)
}
