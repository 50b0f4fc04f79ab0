//! Where things lie in a project's folder. Paths only: no I/O and no decision.
//!
//! ```text
//! <root>/.landfall/bin/<digest>          the program
//! <root>/<namespace>.<project>/
//!   releases/<version>-<digest12>/       one unpacked release, never changed after its digest was verified
//!   current -> releases/…                switched by rename, never absent
//!   shared/{log,data,config}/            survives releases
//!   .landfall/                           0700; one JSON line a record, each with a format number
//! ```

use std::path::{Path, PathBuf};

use landfall_host_protocol::{ConfigHash, Digest, FolderName, ReleaseName, TaskId, configuration_file};

/// One project's folder below the group's root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    root: PathBuf,
    name: FolderName,
}

impl Folder {
    /// `root`: the group's root, absolute.
    pub fn new(root: &Path, name: FolderName) -> Self {
        Self { root: root.to_owned(), name }
    }

    pub fn name(&self) -> &FolderName {
        &self.name
    }

    /// The group's root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn path(&self) -> PathBuf {
        self.root.join(self.name.as_str())
    }

    pub fn releases(&self) -> PathBuf {
        self.path().join("releases")
    }

    pub fn release(&self, name: &ReleaseName) -> PathBuf {
        self.releases().join(name.as_str())
    }

    pub fn current(&self) -> PathBuf {
        self.path().join("current")
    }

    pub fn shared(&self) -> PathBuf {
        self.path().join("shared")
    }

    /// The application's log; `0` is the current file.
    pub fn log(&self, file: u32) -> PathBuf {
        let name = if file == 0 { "output.log".to_owned() } else { format!("output.log.{file}") };
        self.shared().join("log").join(name)
    }

    /// Our own records.
    pub fn dot(&self) -> PathBuf {
        self.path().join(".landfall")
    }

    pub fn owner(&self) -> PathBuf {
        self.dot().join("owner")
    }

    pub fn fence(&self) -> PathBuf {
        self.dot().join("fence")
    }

    pub fn lock(&self) -> PathBuf {
        self.dot().join("lock")
    }

    pub fn journal(&self) -> PathBuf {
        self.dot().join("journal")
    }

    /// The keeper's record of the application.
    pub fn state(&self) -> PathBuf {
        self.dot().join("state")
    }

    pub fn config(&self, hash: &ConfigHash) -> PathBuf {
        self.dot().join("config").join(configuration_file(hash))
    }

    pub fn incoming(&self, digest: &Digest) -> PathBuf {
        self.dot().join("incoming").join(digest.as_str())
    }

    /// What was staged, with the size, mode, inode and change time of each file.
    pub fn staged(&self, name: &ReleaseName) -> PathBuf {
        self.dot().join("staged").join(name.as_str())
    }

    pub fn tasks(&self) -> PathBuf {
        self.dot().join("tasks")
    }

    /// `task`, `events` and `result` of one task. The id comes from outside: only its plain characters name the folder.
    pub fn task(&self, id: &TaskId) -> PathBuf {
        let plain = |text: &str| -> String {
            text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).take(64).collect()
        };
        self.tasks().join(format!("{}-{}-{}-{}", plain(&id.uid), plain(&id.rollout), id.attempt, id.n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_task_id_leads_out_of_the_folder() {
        let folder = Folder::new(Path::new("/srv/landfall"), FolderName::new("shop", "web"));
        let id = TaskId { uid: "../../../etc/x".to_owned(), rollout: "1.0/..".to_owned(), attempt: 1, n: 0 };
        let path = folder.task(&id);
        assert_eq!(path.parent(), Some(folder.tasks().as_path()));
        assert!(!path.to_string_lossy().contains(".."));
    }
}
