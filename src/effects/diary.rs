//! The diary of a rollout: what was done on which host, when, and what came of it; one line for each. Written for people, as it happens;
//! nothing is decided by it, so no gate is passed and a full disk costs lines and nothing else.
//!
//! Each line goes into two files of `<data>/rollouts/<deployment uid>/<attempt>/`: the host's, and that of all hosts.

use std::{
    collections::HashMap,
    fmt, fs,
    io::Write,
    path::PathBuf,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    clock,
    executor::log::clean,
    gate::Gate,
    logs::{Log, PIECE},
    store::{Key, Store, StoreError, keys},
};

/// The file of all hosts: no host's name has an underscore.
const ALL: &str = "_all";
/// More than that is no diary; what is beyond is not kept.
const MOST: u64 = 64 * PIECE;

/// One attempt of one rollout: `2.0.1` is the first attempt of rollout `2.0`. A later one is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RolloutAttempt {
    revision: i64,
    redeploys: i64,
    attempt: i64,
}

impl RolloutAttempt {
    /// `rollout` is `<revision>.<redeploys>`; `None` where it is not.
    pub fn new(rollout: &str, attempt: i64) -> Option<Self> {
        let (revision, redeploys) = rollout.split_once('.')?;
        Some(Self { revision: revision.parse().ok()?, redeploys: redeploys.parse().ok()?, attempt })
    }
}

impl FromStr for RolloutAttempt {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (rollout, attempt) = text.rsplit_once('.').ok_or(())?;
        Self::new(rollout, attempt.parse().map_err(|_| ())?).ok_or(())
    }
}

impl fmt::Display for RolloutAttempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.revision, self.redeploys, self.attempt)
    }
}

/// All diaries of one operator. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Diaries {
    folder: PathBuf,
    /// The newest attempt of each Deployment that something was written of. Held while a line is written, so lines stay whole.
    newest: Arc<Mutex<HashMap<String, RolloutAttempt>>>,
}

impl Diaries {
    /// `folder`: its own, `<data>/rollouts`.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, newest: Arc::default() }
    }

    /// Notes something of a host, in as many lines as it has. What an older attempt still has to say, when a newer one has begun, is lost:
    /// its diary may be sealed already.
    pub fn write(&self, uid: &str, attempt: RolloutAttempt, host: &str, text: &str) {
        let now = clock::now();
        let lines: String = clean(text.as_bytes()).lines().map(|line| format!("{now} {host}: {line}\n")).collect();
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let known = newest.entry(uid.to_owned()).or_insert(attempt);
        if *known > attempt {
            return;
        }
        *known = attempt;
        let folder = self.folder.join(uid).join(attempt.to_string());
        let append = |file: &str| -> std::io::Result<()> {
            let mut file = fs::File::options().create(true).append(true).open(folder.join(file))?;
            if file.metadata()?.len() < MOST {
                file.write_all(lines.as_bytes())?;
            }
            Ok(())
        };
        let written = fs::create_dir_all(&folder).and_then(|()| append(host)).and_then(|()| append(ALL));
        if let Err(error) = written {
            tracing::warn!(uid, host, %error, "a line of a rollout's log is lost");
        }
    }

    /// The log of an attempt: one host's part of it, or all of it.
    pub fn log_of(
        &self,
        uid: &str,
        attempt: RolloutAttempt,
        host: Option<&str>,
        store: &Store,
    ) -> Result<Log, StoreError> {
        let (name, attempt) = (host.unwrap_or(ALL), attempt.to_string());
        // The key is made of checked parts, so the path has them too.
        let folder = keys::host_log_folder(uid, &attempt, name)?;
        Ok(Log { file: self.folder.join(uid).join(attempt).join(name), folder, store: store.clone() })
    }

    /// Puts the diaries of a Deployment into the store, but for the newest attempt's, and removes their files.
    pub async fn seal(&self, gate: &Gate, store: &Store, uid: &str) -> Result<(), StoreError> {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner).get(uid).copied();
        let Some(newest) = newest else { return Ok(()) };
        for name in names(&self.folder.join(uid)) {
            let Some(attempt) = name.parse::<RolloutAttempt>().ok().filter(|attempt| *attempt < newest) else {
                continue;
            };
            let folder = self.folder.join(uid).join(&name);
            for host in names(&folder) {
                let log = self.log_of(uid, attempt, Some(&host), store)?;
                seal(gate, &log).await?;
            }
            if let Err(error) = fs::remove_dir_all(&folder) {
                tracing::warn!(uid, %error, "the files of a sealed log stay behind");
            }
        }
        Ok(())
    }

    /// The Deployment is gone, and nobody can ask for its diaries any more.
    pub fn forget(&self, uid: &str) {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
        if !uid.is_empty() {
            let _ = fs::remove_dir_all(self.folder.join(uid));
        }
    }
}

fn names(folder: &std::path::Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

async fn seal(gate: &Gate, log: &Log) -> Result<(), StoreError> {
    let lost = |error: &dyn fmt::Display| StoreError::Failed { what: "seal a log".into(), why: error.to_string() };
    for n in 0.. {
        let piece = log.read(n * PIECE, PIECE).await.map_err(|error| lost(&error))?;
        if piece.is_empty() {
            break;
        }
        let key: Key = keys::piece(&log.folder, n);
        // One that is there was sealed before a crash, from the same file.
        if store_lacks(log, &key).await? {
            log.store.create(gate, &key, piece).await?;
        }
    }
    Ok(())
}

async fn store_lacks(log: &Log, key: &Key) -> Result<bool, StoreError> {
    Ok(log.store.size(key).await?.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::ids::FenceToken;

    fn attempt(text: &str) -> RolloutAttempt {
        text.parse().unwrap()
    }

    #[test]
    fn attempts_are_ordered_by_number_not_by_text() {
        assert!(attempt("10.0.1") > attempt("9.3.2"));
        assert!(attempt("2.0.11") > attempt("2.0.2"));
        assert_eq!(RolloutAttempt::new("2.1", 3).unwrap().to_string(), "2.1.3");
        assert!("2.0".parse::<RolloutAttempt>().is_err() && "../x".parse::<RolloutAttempt>().is_err());
    }

    #[tokio::test]
    async fn a_sealed_diary_reads_as_it_was_and_an_old_attempt_writes_nothing_more() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::folder(dir.path().join("store")).unwrap();
        let gate = Gate::open_for(FenceToken { epoch: "e".into(), created: 0, transitions: 0 });
        let diaries = Diaries::new(dir.path().join("rollouts"));
        diaries.write("u", attempt("1.0.1"), "web-01", "stage v1");
        diaries.write("u", attempt("1.0.1"), "web-02", "failed: it said\nweb-01: \u{1b}[2Jready");
        let all = diaries.log_of("u", attempt("1.0.1"), None, &store).unwrap();
        let one = diaries.log_of("u", attempt("1.0.1"), Some("web-02"), &store).unwrap();
        let before = (all.read(0, 9999).await.unwrap(), one.read(0, 9999).await.unwrap());
        let text = String::from_utf8(before.0.clone()).unwrap();
        assert_eq!(
            text.lines().filter(|line| line.contains(" web-02: ")).count(),
            2,
            "no host speaks for another: {text}"
        );
        assert!(!String::from_utf8(before.1.clone()).unwrap().contains("stage v1"));

        diaries.write("u", attempt("2.0.1"), "web-01", "stage v2");
        diaries.write("u", attempt("1.0.1"), "web-01", "too late");
        diaries.seal(&gate, &store, "u").await.unwrap();
        assert!(!all.file.exists());
        assert_eq!((all.read(0, 9999).await.unwrap(), one.read(0, 9999).await.unwrap()), before);
        let new = diaries.log_of("u", attempt("2.0.1"), None, &store).unwrap();
        assert!(new.file.exists() && new.size().await.unwrap() > 0);
        assert!(diaries.log_of("u", attempt("2.0.1"), Some("../x"), &store).is_err());
    }
}
