//! The local executor: runs a build's script on this machine, detached and out of sight of everything that is not its business.
//! It must not decide whether to retry, nor read the script's meaning.
//!
//! Each attempt has a folder below `<data>/executor/<build uid>/<attempt>/` with `step.json`, `src/` (the checkout), `pid`, `log`,
//! `times` (when its output arrived), `cancel` and `exit`. A runner process of our own survives the operator, enforces the timeouts and
//! writes `exit`; whoever comes later finds it by pid, start time and boot id. An attempt begins at most once.

mod arrivals;
mod attempt;
mod cache;
mod capture;
mod config;
mod disk;
mod encodings;
mod end;
mod files;
mod garbage;
mod identity;
mod isolation_check;
mod limits;
mod masks;
mod runner;
mod sandbox;
mod script;
mod slot;
mod trusted;
mod watch;

use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use parking_lot::Mutex;

pub use self::config::LocalConfig;
use super::{
    error::ExecutorError,
    interface::{Done, Executor},
    secrets::Secrets,
    types::{AttemptId, BuildStep, Caches, Isolation, StepState},
};
use crate::{
    effects::{
        gate::{Effect, Gate},
        logs::Log,
        store::{Store, StoreError, keys},
    },
    model::text,
};

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct LocalExecutor {
    config: Arc<LocalConfig>,
    tried: Arc<tokio::sync::OnceCell<()>>,
    /// Pieces of logs that are in the store, of attempts that still run.
    sealed: Arc<Mutex<HashMap<AttemptId, u64>>>,
}

impl LocalExecutor {
    pub fn new(config: LocalConfig) -> Self {
        Self { config: Arc::new(config), tried: Arc::default(), sealed: Arc::default() }
    }

    /// Whether this machine can isolate scripts; `ExecutorUnsafe` where not. Tried until it worked once. Always fine when trusted.
    pub async fn check(&self) -> Result<(), ExecutorError> {
        if self.config.isolation == Isolation::Trusted {
            return Ok(());
        }
        let config = self.config.clone();
        self.tried.get_or_try_init(|| blocking(move || isolation_check::isolation(&config))).await.map(|_| ())
    }

    /// Where the checkout of an attempt has to lie before its start (`Git::checkout` writes it).
    pub fn checkout_dir(&self, attempt: &AttemptId) -> PathBuf {
        self.dir(attempt).join(files::SRC)
    }

    fn dir(&self, attempt: &AttemptId) -> PathBuf {
        self.config.folder.join(&attempt.uid).join(attempt.attempt.to_string())
    }

    /// Starts an attempt; one that was begun before is left alone, whatever became of it. Effect `build.start`.
    /// Returns when its runner is on record (or it was before). The secrets are given to the runner alone, and masked in the output.
    pub async fn start(
        &self,
        gate: &Gate,
        attempt: &AttemptId,
        step: BuildStep,
        secrets: Secrets,
    ) -> Result<(), ExecutorError> {
        script::check(&step, &secrets)?;
        step.caches.as_ref().map_or(Ok(()), cache::check)?;
        self.check().await?;
        let (dir, id, config) = (self.dir(attempt), attempt.clone(), self.config.clone());
        let mut hidden = config.hidden.clone();
        hidden.push(config.folder.clone());
        let max_log_bytes = config.max_log_bytes;
        let caches = self.caches();
        let asked = watch::StepFile { step, isolation: config.isolation, hidden, max_log_bytes, caches };
        let work = blocking(move || attempt::start(&dir, &id, &config.runner, &asked, &secrets));
        gate.pass(Effect::new("build.start", attempt.to_string()), work).await
    }

    /// Whether the checkout has room for these caches; `CacheRefused` where the commit has something there.
    pub async fn fits(&self, attempt: &AttemptId, caches: &Caches) -> Result<(), ExecutorError> {
        let (dir, caches) = (self.dir(attempt), caches.clone());
        blocking(move || cache::fits(&dir, &caches)).await
    }

    /// Namespaces and uids of the projects that have caches.
    pub(crate) async fn cached_projects(&self) -> Result<Vec<(String, String)>, ExecutorError> {
        let root = self.caches();
        blocking(move || Ok(cache::projects(&root))).await
    }

    /// Removes the caches of all projects of a namespace but those with these uids. Effect `cache.delete`.
    pub async fn delete_caches(
        &self,
        gate: &Gate,
        namespace: &str,
        projects: BTreeSet<String>,
    ) -> Result<Vec<String>, ExecutorError> {
        let (root, space) = (self.caches(), namespace.to_owned());
        let work = blocking(move || cache::delete(&root, &space, &projects));
        gate.pass(Effect::new("cache.delete", namespace), work).await
    }

    /// `<data>/caches`, beside the executor's own folder.
    fn caches(&self) -> PathBuf {
        self.config.folder.with_file_name("caches")
    }

    /// What is known of an attempt now.
    pub async fn state(&self, attempt: &AttemptId) -> Result<StepState, ExecutorError> {
        let dir = self.dir(attempt);
        blocking(move || attempt::state(&dir)).await
    }

    /// Ends an attempt with all its processes; one that ended, or never began, is left alone. Effect `build.cancel`.
    /// Returns when the record is written; a runner that does not obey for 15 s is killed, and then the attempt is `Lost`.
    pub async fn cancel(&self, gate: &Gate, attempt: &AttemptId) -> Result<(), ExecutorError> {
        let dir = self.dir(attempt);
        let work = blocking(move || attempt::cancel(&dir));
        gate.pass(Effect::new("build.cancel", attempt.to_string()), work).await
    }

    /// Raw bytes of the log file from `offset`, at most 1 MiB; empty at the end, or where there is none. Show them only through `model::text::clean`.
    pub async fn log(&self, attempt: &AttemptId, offset: u64) -> Result<Vec<u8>, ExecutorError> {
        let dir = self.dir(attempt);
        blocking(move || attempt::read_log(&dir, offset)).await
    }

    /// The same log for those who follow it, also when the attempt's folder is gone and only the sealed pieces are left.
    pub fn log_of(&self, attempt: &AttemptId, store: &Store) -> Result<Log, ExecutorError> {
        let folder = keys::log_folder(&attempt.uid, &attempt.attempt.to_string()).map_err(StoreError::from)?;
        let dir = self.dir(attempt);
        let (file, times) = (dir.join(files::LOG), Some(dir.join(files::TIMES)));
        Ok(Log { file, times, folder, store: store.clone() })
    }

    /// The last `n` lines, cleaned for display.
    pub async fn last_lines(&self, attempt: &AttemptId, n: usize) -> Result<Vec<String>, ExecutorError> {
        let path = self.dir(attempt).join(files::LOG);
        let size = std::fs::metadata(path).map_or(0, |log| log.len());
        let tail = self.log(attempt, size.saturating_sub(64 * 1024)).await?;
        Ok(text::last_lines(&tail, n))
    }

    /// Copies the log into the store as `logs/<uid>/<attempt>/<n>`, pieces of 1 MiB: the whole ones while it runs, the last one when
    /// it has ended, and with it the index of its times. Idempotent. Returns how many pieces are sealed.
    pub async fn seal(&self, gate: &Gate, store: &Store, attempt: &AttemptId) -> Result<u64, ExecutorError> {
        // Asked first: what is read after it is the whole log.
        let is_over = !matches!(self.state(attempt).await?, StepState::Running { .. });
        let log = self.log_of(attempt, store)?;
        let known = self.sealed.lock().get(attempt).copied();
        let from = match known {
            Some(sealed) => sealed,
            None => log.sealed_pieces().await?,
        };
        let sealed = log.seal(gate, from, is_over).await?;
        if is_over {
            log.seal_times(gate).await?;
        }
        let mut all = self.sealed.lock();
        if is_over {
            all.remove(attempt);
        } else {
            all.insert(attempt.clone(), sealed);
        }
        Ok(sealed)
    }

    /// Uids of the builds that have a folder here.
    pub async fn builds(&self) -> Result<Vec<String>, ExecutorError> {
        let folder = self.config.folder.clone();
        blocking(move || Ok(garbage::builds(&folder))).await
    }

    /// Numbers of a build's attempts that have a folder.
    pub async fn attempts(&self, uid: &str) -> Result<Vec<i64>, ExecutorError> {
        let build = self.config.folder.join(uid);
        blocking(move || Ok(garbage::attempts(&build))).await
    }

    /// Whether the attempts up to this one left more than their logs and records.
    pub async fn has_leftovers(&self, uid: &str, upto: i64) -> Result<bool, ExecutorError> {
        let build = self.config.folder.join(uid);
        blocking(move || Ok(garbage::has_leftovers(&build, upto))).await
    }

    /// Removes the checkouts of a build's attempts up to this one; logs and records stay, and what runs is left alone.
    /// Effect `checkout.delete`.
    pub async fn delete_checkouts(&self, gate: &Gate, uid: &str, upto: i64) -> Result<(), ExecutorError> {
        let build = self.config.folder.join(uid);
        gate.pass(Effect::new("checkout.delete", uid), blocking(move || garbage::delete_checkouts(&build, upto))).await
    }

    /// Removes an attempt's log; that of one that runs is left alone. Effect `log.remove`, where there is one.
    pub(crate) async fn remove_log(&self, gate: &Gate, attempt: &AttemptId) -> Result<(), ExecutorError> {
        let dir = self.dir(attempt);
        if !dir.join(files::LOG).exists() {
            return Ok(());
        }
        let work = blocking(move || garbage::remove_log(&dir));
        gate.pass(Effect::new("log.remove", attempt.to_string()), work).await
    }

    /// Ends what still runs of a build that is gone, and removes all of its folder. Effect `workspace.delete`.
    pub async fn delete_build(&self, gate: &Gate, uid: &str) -> Result<(), ExecutorError> {
        let build = self.config.folder.join(uid);
        gate.pass(Effect::new("workspace.delete", uid), blocking(move || garbage::delete_build(&build))).await
    }
}

impl Executor for LocalExecutor {
    fn check(&self) -> Done<'_, ()> {
        Box::pin(self.check())
    }

    fn checkout_dir(&self, attempt: &AttemptId) -> PathBuf {
        self.checkout_dir(attempt)
    }

    fn start<'a>(&'a self, gate: &'a Gate, attempt: &'a AttemptId, step: BuildStep, secrets: Secrets) -> Done<'a, ()> {
        Box::pin(self.start(gate, attempt, step, secrets))
    }

    fn state<'a>(&'a self, attempt: &'a AttemptId) -> Done<'a, StepState> {
        Box::pin(self.state(attempt))
    }

    fn cancel<'a>(&'a self, gate: &'a Gate, attempt: &'a AttemptId) -> Done<'a, ()> {
        Box::pin(self.cancel(gate, attempt))
    }

    fn log_of(&self, attempt: &AttemptId, store: &Store) -> Result<Log, ExecutorError> {
        self.log_of(attempt, store)
    }

    fn last_lines<'a>(&'a self, attempt: &'a AttemptId, n: usize) -> Done<'a, Vec<String>> {
        Box::pin(self.last_lines(attempt, n))
    }

    fn seal<'a>(&'a self, gate: &'a Gate, store: &'a Store, attempt: &'a AttemptId) -> Done<'a, u64> {
        Box::pin(self.seal(gate, store, attempt))
    }

    fn fits<'a>(&'a self, attempt: &'a AttemptId, caches: &'a Caches) -> Done<'a, ()> {
        Box::pin(self.fits(attempt, caches))
    }

    fn cached_projects(&self) -> Done<'_, Vec<(String, String)>> {
        Box::pin(self.cached_projects())
    }

    fn delete_caches<'a>(
        &'a self,
        gate: &'a Gate,
        namespace: &'a str,
        projects: BTreeSet<String>,
    ) -> Done<'a, Vec<String>> {
        Box::pin(self.delete_caches(gate, namespace, projects))
    }

    fn builds(&self) -> Done<'_, Vec<String>> {
        Box::pin(self.builds())
    }

    fn attempts<'a>(&'a self, uid: &'a str) -> Done<'a, Vec<i64>> {
        Box::pin(self.attempts(uid))
    }

    fn has_leftovers<'a>(&'a self, uid: &'a str, upto: i64) -> Done<'a, bool> {
        Box::pin(self.has_leftovers(uid, upto))
    }

    fn delete_checkouts<'a>(&'a self, gate: &'a Gate, uid: &'a str, upto: i64) -> Done<'a, ()> {
        Box::pin(self.delete_checkouts(gate, uid, upto))
    }

    fn remove_log<'a>(&'a self, gate: &'a Gate, attempt: &'a AttemptId) -> Done<'a, ()> {
        Box::pin(self.remove_log(gate, attempt))
    }

    fn delete_build<'a>(&'a self, gate: &'a Gate, uid: &'a str) -> Done<'a, ()> {
        Box::pin(self.delete_build(gate, uid))
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ExecutorError> + Send + 'static,
) -> Result<T, ExecutorError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| ExecutorError::Failed { what: "finish its work".into(), why: error.to_string() })?
}

/// What `landfall build-step DIR` does: the runner of one attempt, hidden from users. `None` where this program was called for something
/// else. The first thing in `main`, on the main thread: the thread that calls it is the one whose death ends the sandbox.
pub fn run_step_if_asked() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    let asked = args.next().is_some_and(|word| word == "build-step");
    let dir = args.next().filter(|_| asked)?;
    Some(match runner::run(Path::new(&dir)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("landfall build-step: {error}");
            ExitCode::FAILURE
        }
    })
}
