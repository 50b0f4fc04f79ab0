//! Where the programs of the control plane come from: `KUBEBUILDER_ASSETS`, else the user's cache folder, else built there.

use std::{env, fs, path::PathBuf};

use super::{
    error::DevError,
    folder::{Folder, home},
    gobuild::{self, PROGRAMS},
};

/// Folder that holds every one of [`PROGRAMS`].
#[derive(Debug, Clone)]
pub struct Binaries(PathBuf);

impl Binaries {
    /// A folder that was found before.
    pub fn at(folder: PathBuf) -> Result<Self, DevError> {
        let missing: Vec<_> = PROGRAMS.into_iter().filter(|program| !folder.join(program).is_file()).collect();
        if missing.is_empty() { Ok(Self(folder)) } else { Err(DevError::AssetsIncomplete { folder, missing }) }
    }

    /// Finds them, or builds them, which takes minutes and is reported through `say`. Blocks.
    ///
    /// Where `KUBEBUILDER_ASSETS` is set nothing else is looked at: versions are not mixed behind the user's back.
    pub fn find_or_build(say: &dyn Fn(&str)) -> Result<Self, DevError> {
        if let Some(assets) = env::var_os("KUBEBUILDER_ASSETS").filter(|assets| !assets.is_empty()) {
            return Self::at(PathBuf::from(assets));
        }
        let cache = home("XDG_CACHE_HOME", ".cache")?.join("landfall/control-plane");
        let built = cache.join(gobuild::fingerprint());
        if let Ok(found) = Self::at(built.clone()) {
            return Ok(found);
        }
        fs::create_dir_all(&cache).map_err(DevError::file("cannot create the folder", &cache))?;
        let lock = Folder::at(&cache).wait_lock(".lock")?;
        // Another may have built it while this one waited.
        let found = match Self::at(built.clone()) {
            Ok(found) => found,
            Err(_) => {
                gobuild::build(&cache, &built, say)?;
                Self::at(built)?
            }
        };
        drop(lock);
        Ok(found)
    }

    pub fn folder(&self) -> &PathBuf {
        &self.0
    }

    pub fn program(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}
