//! What a place to run scripts must do. A new one is a folder beside `local/`, a line in [`super::open`], and keeps the contract that is
//! tested in `tests/features/builds/executor/contract.rs`.

use std::{collections::BTreeSet, path::PathBuf};

use futures::future::BoxFuture;

use super::{
    error::ExecutorError,
    secrets::Secrets,
    types::{AttemptId, BuildStep, Caches, StepState},
};
use crate::effects::{gate::Gate, logs::Log, store::Store};

/// What an act of an executor comes to.
pub type Done<'a, T> = BoxFuture<'a, Result<T, ExecutorError>>;

/// One place where scripts run. Every act passes the gate as the effect that is named, and may be asked for twice: an attempt begins at
/// most once, whatever becomes of it, and what is gone already is fine.
pub trait Executor: Send + Sync {
    /// Whether scripts can be isolated here; `ExecutorUnsafe` where not.
    fn check(&self) -> Done<'_, ()>;

    /// Where the checkout of an attempt has to lie before its start (`Git::checkout` writes it), and what the script made lies afterwards.
    fn checkout_dir(&self, attempt: &AttemptId) -> PathBuf;

    /// Starts an attempt; one that was begun before is left alone. Effect `build.start`. Returns when the start is on record. The secrets
    /// are given to the script alone, and masked in its output.
    fn start<'a>(&'a self, gate: &'a Gate, attempt: &'a AttemptId, step: BuildStep, secrets: Secrets) -> Done<'a, ()>;

    /// What is known of an attempt now. Never guessed.
    fn state<'a>(&'a self, attempt: &'a AttemptId) -> Done<'a, StepState>;

    /// Ends an attempt with all its processes; one that ended, or never began, is left alone. Effect `build.cancel`. Returns when the end
    /// is on record.
    fn cancel<'a>(&'a self, gate: &'a Gate, attempt: &'a AttemptId) -> Done<'a, ()>;

    /// The log of an attempt for those who read it, also when only the sealed pieces are left.
    fn log_of(&self, attempt: &AttemptId, store: &Store) -> Result<Log, ExecutorError>;

    /// The last `n` lines of the log, cleaned for display.
    fn last_lines<'a>(&'a self, attempt: &'a AttemptId, n: usize) -> Done<'a, Vec<String>>;

    /// Copies the log into the store, in pieces: the whole ones while it runs, the last one when it has ended. Returns how many pieces are
    /// sealed.
    fn seal<'a>(&'a self, gate: &'a Gate, store: &'a Store, attempt: &'a AttemptId) -> Done<'a, u64>;

    /// Whether the checkout has room for these caches; `CacheRefused` where the commit has something there.
    fn fits<'a>(&'a self, attempt: &'a AttemptId, caches: &'a Caches) -> Done<'a, ()>;

    /// Namespaces and uids of the projects that have caches.
    fn cached_projects(&self) -> Done<'_, Vec<(String, String)>>;

    /// Removes the caches of all projects of a namespace but those with these uids, and says whose went. Effect `cache.delete`.
    fn delete_caches<'a>(
        &'a self,
        gate: &'a Gate,
        namespace: &'a str,
        projects: BTreeSet<String>,
    ) -> Done<'a, Vec<String>>;

    /// Uids of the builds that left something here.
    fn builds(&self) -> Done<'_, Vec<String>>;

    /// Numbers of a build's attempts that left something here.
    fn attempts<'a>(&'a self, uid: &'a str) -> Done<'a, Vec<i64>>;

    /// Whether the attempts up to this one left more than their logs and records.
    fn has_leftovers<'a>(&'a self, uid: &'a str, upto: i64) -> Done<'a, bool>;

    /// Removes the checkouts of a build's attempts up to this one; logs and records stay, and what runs is left alone. Effect
    /// `checkout.delete`.
    fn delete_checkouts<'a>(&'a self, gate: &'a Gate, uid: &'a str, upto: i64) -> Done<'a, ()>;

    /// Removes an attempt's log; that of one that runs is left alone. Effect `log.remove`, where there is one.
    fn remove_log<'a>(&'a self, gate: &'a Gate, attempt: &'a AttemptId) -> Done<'a, ()>;

    /// Ends what still runs of a build that is gone, and removes all of it. Effect `workspace.delete`.
    fn delete_build<'a>(&'a self, gate: &'a Gate, uid: &'a str) -> Done<'a, ()>;
}
