//! The diary of a rollout: what was done on which host, when, and what came of it; one line for each. Written for people, as it happens;
//! nothing is decided by it, so no gate is passed and a full disk costs lines and nothing else.
//!
//! Each line goes into two files of `<data>/rollouts/<deployment uid>/<attempt>/`: the host's, and that of all hosts.

use std::{
    collections::{BTreeSet, HashMap},
    fmt, fs,
    io::Write,
    path::PathBuf,
    sync::Arc,
};

use super::{
    clock,
    gate::Gate,
    logs::{Log, PIECE},
    store::{Key, Store, StoreError, keys},
};
use crate::model::text::clean;
use crate::plan::deployment::{RolloutAttempt, outdated};
use parking_lot::Mutex;

/// The file of all hosts: no host's name has an underscore.
const ALL: &str = "_all";
/// More than that is no diary; what is beyond is not kept.
const MOST: u64 = 64 * PIECE;

/// All diaries of one operator. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct RolloutLogs {
    folder: PathBuf,
    /// The newest attempt of each Deployment that something was written of. Held while a line is written, so lines stay whole.
    newest: Arc<Mutex<HashMap<String, RolloutAttempt>>>,
}

impl RolloutLogs {
    /// `folder`: its own, `<data>/rollouts`.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, newest: Arc::default() }
    }

    /// Notes something of a host, in as many lines as it has. What an older attempt still has to say, when a newer one has begun, is lost:
    /// its diary may be sealed already.
    pub fn write(&self, uid: &str, attempt: RolloutAttempt, host: &str, text: &str) {
        let now = clock::now();
        let lines: String = clean(text.as_bytes()).lines().map(|line| format!("{now} {host}: {line}\n")).collect();
        let mut newest = self.newest.lock();
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
        let newest = self.newest.lock().get(uid).copied();
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

    /// Removes the diaries of older rollouts than the newest ones, of which `current` is the first. Effect `log.remove`, once for each
    /// attempt that goes.
    pub async fn limit(
        &self,
        gate: &Gate,
        store: &Store,
        uid: &str,
        current: RolloutAttempt,
        rollouts: usize,
    ) -> Result<(), StoreError> {
        let sealed = store.list(&keys::logs(uid)?).await?;
        let sealed = sealed.iter().filter_map(keys::attempt_of_log).map(str::to_owned);
        let all: BTreeSet<String> = sealed.chain(names(&self.folder.join(uid))).collect();
        let all = all.iter().filter_map(|name| name.parse().ok()).chain([current]);
        for attempt in outdated(all, rollouts).into_iter().filter(|attempt| *attempt < current) {
            let folder = keys::log_folder(uid, &attempt.to_string())?;
            let _ = fs::remove_dir_all(self.folder.join(uid).join(attempt.to_string()));
            store.remove_logs(gate, &folder).await?;
        }
        Ok(())
    }

    /// Removes all of them: the Deployment goes. Effect `log.remove`, where something was sealed.
    pub async fn remove(&self, gate: &Gate, store: &Store, uid: &str) -> Result<(), StoreError> {
        self.forget(uid);
        store.remove_logs(gate, &keys::logs(uid)?).await
    }

    /// The Deployment is gone, and nobody can ask for its diaries any more.
    pub fn forget(&self, uid: &str) {
        self.newest.lock().remove(uid);
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
    use crate::{effects::gate::LeaseTerm, model::ids::FenceToken};

    fn attempt(text: &str) -> RolloutAttempt {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn a_sealed_diary_reads_as_it_was_and_an_old_attempt_writes_nothing_more() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::folder(dir.path().join("store")).unwrap();
        let gate = Gate::open_for(FenceToken { epoch: "e".into(), created: 0, transitions: 0 });
        let rollout_logs = RolloutLogs::new(dir.path().join("rollouts"));
        rollout_logs.write("u", attempt("1.0.1"), "web-01", "stage v1");
        rollout_logs.write("u", attempt("1.0.1"), "web-02", "failed: it said\nweb-01: \u{1b}[2Jready");
        let all = rollout_logs.log_of("u", attempt("1.0.1"), None, &store).unwrap();
        let one = rollout_logs.log_of("u", attempt("1.0.1"), Some("web-02"), &store).unwrap();
        let before = (all.read(0, 9999).await.unwrap(), one.read(0, 9999).await.unwrap());
        let text = String::from_utf8(before.0.clone()).unwrap();
        assert_eq!(
            text.lines().filter(|line| line.contains(" web-02: ")).count(),
            2,
            "no host speaks for another: {text}"
        );
        assert!(!String::from_utf8(before.1.clone()).unwrap().contains("stage v1"));

        rollout_logs.write("u", attempt("2.0.1"), "web-01", "stage v2");
        rollout_logs.write("u", attempt("1.0.1"), "web-01", "too late");
        rollout_logs.seal(&gate, &store, "u").await.unwrap();
        assert!(!all.file.exists());
        assert_eq!((all.read(0, 9999).await.unwrap(), one.read(0, 9999).await.unwrap()), before);
        let new = rollout_logs.log_of("u", attempt("2.0.1"), None, &store).unwrap();
        assert!(new.file.exists() && new.size().await.unwrap() > 0);
        assert!(rollout_logs.log_of("u", attempt("2.0.1"), Some("../x"), &store).is_err());
    }

    #[tokio::test]
    async fn of_sealed_diaries_those_of_the_newest_rollouts_stay_and_none_when_the_deployment_goes() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::folder(dir.path().join("store")).unwrap();
        let gate = Gate::open_for(FenceToken { epoch: "e".into(), created: 0, transitions: 0 });
        let rollout_logs = RolloutLogs::new(dir.path().join("rollouts"));
        for uid in ["u", "other"] {
            for name in ["9.0.1", "10.0.1", "10.0.2", "10.1.1", "11.0.1"] {
                rollout_logs.write(uid, attempt(name), "web-01", name);
            }
            rollout_logs.seal(&gate, &store, uid).await.unwrap();
        }
        rollout_logs.limit(&gate, &store, "u", attempt("12.0.1"), 3).await.unwrap();
        let has = async |uid: &str, name: &str| {
            let log = rollout_logs.log_of(uid, attempt(name), Some("web-01"), &store).unwrap();
            log.size().await.unwrap() > 0
        };
        for name in ["9.0.1", "10.0.1", "10.0.2"] {
            assert!(!has("u", name).await, "{name}: 12.0, 11.0 and 10.1 are the newest");
        }
        assert!(has("u", "10.1.1").await && has("u", "11.0.1").await);
        // Its namespace goes, and there is no lease any more.
        let token = FenceToken { epoch: "e".into(), created: 0, transitions: 0 };
        gate.open(LeaseTerm { until: None, token, letting_go: true });
        rollout_logs.remove(&gate, &store, "u").await.unwrap();
        assert!(!has("u", "10.1.1").await && !has("u", "11.0.1").await);
        assert!(has("other", "9.0.1").await && has("other", "11.0.1").await);
    }
}
