//! Bundles that the operator made, as files in a folder of its own: each is made once, however many hosts ask for it, and a few at once at
//! most. It decides nothing about hosts, and what it holds is a cache: a new process begins with an empty folder.
//!
//! Calls block while a bundle is made.

use std::{
    collections::BTreeMap,
    fmt,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
};

use landfall_host_protocol::Digest;

use crate::{
    release::{Release, ReleaseError},
    write::{Written, write},
};

/// A bundle in the spool. Its file stays as long as somebody holds this.
#[derive(Debug)]
pub struct Spooled {
    pub path: PathBuf,
    pub written: Written,
    /// The release's manifest, as [`crate::encode`] writes it.
    pub manifest: Vec<u8>,
}

/// Why a bundle was not made.
#[derive(Debug)]
pub enum SpoolError {
    /// The release or its base; the digest says which.
    Release(Digest, ReleaseError),
    Io(io::Error),
}

impl fmt::Display for SpoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Release(digest, error) => write!(f, "{digest}: {error}"),
            Self::Io(error) => write!(f, "the bundle can't be written: {error}"),
        }
    }
}

impl std::error::Error for SpoolError {}

type Made = Result<Arc<Spooled>, Arc<SpoolError>>;
/// Release and base.
type Key = (Digest, Option<Digest>);

/// The folder and what is in it.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    at_once: usize,
    kept: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    slots: BTreeMap<Key, Slot>,
    /// Bundles that are being made.
    running: usize,
    /// Counts uses.
    uses: u64,
    /// Counts files, so that no two have one name.
    files: u64,
}

#[derive(Debug)]
enum Slot {
    /// Set once it is made or was not.
    Making(Arc<OnceLock<Made>>),
    Here {
        spooled: Arc<Spooled>,
        used: u64,
    },
}

impl Spool {
    /// `folder`: ours alone; what lies there is removed. `at_once`: bundles that are made at the same time; `kept`: that stay without being held.
    pub fn new(folder: &Path, at_once: usize, kept: usize) -> io::Result<Self> {
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir_all(folder)?,
        }
        let state = Mutex::new(State::default());
        Ok(Self { folder: folder.to_owned(), at_once: at_once.max(1), kept, state, changed: Condvar::new() })
    }

    /// The bundle of a release for hosts that hold `base`, made now where it is not here. `open`: a release's tar. Who waits for a bundle
    /// that could not be made gets the same error; who asks later, another try.
    pub fn get(
        &self,
        release: &Digest,
        base: Option<&Digest>,
        open: impl Fn(&Digest) -> io::Result<File>,
    ) -> Result<Arc<Spooled>, Arc<SpoolError>> {
        let key = (release.clone(), base.cloned());
        let mut state = self.lock();
        let (made, file) = loop {
            let State { slots, running, uses, files } = &mut *state;
            *uses += 1;
            let now = *uses;
            match slots.get_mut(&key) {
                Some(Slot::Here { spooled, used }) => {
                    *used = now;
                    return Ok(Arc::clone(spooled));
                }
                Some(Slot::Making(made)) => {
                    let made = Arc::clone(made);
                    loop {
                        if let Some(made) = made.get() {
                            return made.clone();
                        }
                        state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                    }
                }
                None if *running < self.at_once => {
                    let made = Arc::new(OnceLock::new());
                    slots.insert(key.clone(), Slot::Making(Arc::clone(&made)));
                    *running += 1;
                    *files += 1;
                    break (made, *files);
                }
                None => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        };
        drop(state);
        let mut making = Making { spool: self, key, made, result: None };
        let result = self.make(release, base, open, &self.folder.join(file.to_string())).map_err(Arc::new);
        making.result = Some(result.clone());
        drop(making);
        result
    }

    fn make(
        &self,
        release: &Digest,
        base: Option<&Digest>,
        open: impl Fn(&Digest) -> io::Result<File>,
        path: &Path,
    ) -> Result<Arc<Spooled>, SpoolError> {
        let read = |digest: &Digest| {
            let tar = open(digest).map_err(ReleaseError::Io);
            tar.and_then(|tar| Release::read(tar, digest)).map_err(|error| SpoolError::Release(digest.clone(), error))
        };
        let (release, base) = (read(release)?, base.map(read).transpose()?);
        let written = File::create(path).and_then(|file| write(&release, base.as_ref(), io::BufWriter::new(file)));
        match written {
            Ok(written) => {
                let manifest = crate::encode(release.manifest());
                Ok(Arc::new(Spooled { path: path.to_owned(), written, manifest }))
            }
            Err(error) => {
                let _ = fs::remove_file(path);
                Err(SpoolError::Io(error))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A bundle under way. However its making ends, those who wait for it are told.
struct Making<'a> {
    spool: &'a Spool,
    key: Key,
    made: Arc<OnceLock<Made>>,
    result: Option<Made>,
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        let panicked = || Err(Arc::new(SpoolError::Io(io::Error::other("its making ended early"))));
        let result = self.result.take().unwrap_or_else(panicked);
        let mut state = self.spool.lock();
        state.running -= 1;
        match &result {
            Ok(spooled) => {
                let used = state.uses;
                state.slots.insert(self.key.clone(), Slot::Here { spooled: Arc::clone(spooled), used });
                state.collect(self.spool.kept);
            }
            Err(_) => {
                state.slots.remove(&self.key);
            }
        }
        let _ = self.made.set(result);
        self.spool.changed.notify_all();
    }
}

impl State {
    /// Removes what was not used for longest and nobody holds, until as many are left as are kept.
    fn collect(&mut self, kept: usize) {
        let mut free: Vec<(u64, Key)> = Vec::new();
        for (key, slot) in &self.slots {
            match slot {
                Slot::Here { spooled, used } if Arc::strong_count(spooled) == 1 => free.push((*used, key.clone())),
                Slot::Here { .. } | Slot::Making(_) => {}
            }
        }
        free.sort();
        let over = free.len().saturating_sub(kept);
        for (_, key) in free.into_iter().take(over) {
            if let Some(Slot::Here { spooled, .. }) = self.slots.remove(&key) {
                let _ = fs::remove_file(&spooled.path);
            }
        }
    }
}
