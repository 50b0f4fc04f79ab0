//! The gate that every effect passes: is this operator still allowed to act, and does the record of a test know of it.
//!
//! It must not decide what is done, only whether anything may be done now. In debug builds it is also where the crash harness
//! ends the process, just before or just after an effect.

use std::{fmt, future::Future, io::Write, path::PathBuf, sync::Arc, time::Instant};

use super::clock;
use crate::model::ids::FenceToken;
use parking_lot::Mutex;
use tokio::sync::watch;

/// One effect on the outside world: a name of the closed list (`host.stop`, `git.tag`, …) and what it is done to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    pub name: &'static str,
    pub subject: String,
}

impl Effect {
    pub fn new(name: &'static str, subject: impl Into<String>) -> Self {
        Self { name, subject: subject.into() }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.subject)
    }
}

/// The gate is shut: another operator may hold the lease by now. Nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this operator does not hold the lease (any more), so nothing was done; the one that holds it goes on")]
pub struct GateShut;

/// What the lease says: until when this process may act, and with which token.
#[derive(Clone, Debug)]
pub struct LeaseTerm {
    /// Monotonic; `None` for a gate without a lease (tools and tests).
    pub until: Option<Instant>,
    pub token: FenceToken,
    /// Whose hosts all Deployments of the term take over, as a person said on the object of leaders (`landfall.dev/adopt-all`).
    pub adopt_all: Option<String>,
    /// No lease can be had any more, by nobody: only what lets go of objects may be done.
    pub namespace_deleting: bool,
}

/// What may be done in a namespace that is being deleted, also by two operators at once: it ends what runs on this machine and takes
/// away what is ours. Nothing on hosts, nothing in repositories, nothing new.
const ALLOWED_DURING_NAMESPACE_DELETION: [&str; 8] = [
    "finalizer.remove",
    "status.commit",
    "build.cancel",
    "checkout.delete",
    "workspace.delete",
    "cache.delete",
    "pin.delete",
    "log.remove",
];

/// Cheap to clone; all clones are one gate.
#[derive(Clone)]
pub struct Gate {
    inner: Arc<Inner>,
}

struct Inner {
    held: Mutex<Option<LeaseTerm>>,
    adopt_all: watch::Sender<Option<String>>,
    probe: Probe,
}

impl Gate {
    /// A gate that is shut until [`Gate::open`] is called.
    pub fn shut() -> Self {
        let (held, adopt_all) = (Mutex::new(None), watch::Sender::new(None));
        Self { inner: Arc::new(Inner { held, adopt_all, probe: Probe::from_environment() }) }
    }

    /// A gate for one process that needs no lease.
    pub fn open_for(token: FenceToken) -> Self {
        let gate = Self::shut();
        gate.open(LeaseTerm { until: None, token, adopt_all: None, namespace_deleting: false });
        gate
    }

    /// The lease was won or renewed.
    pub fn open(&self, held: LeaseTerm) {
        let adopt_all = held.adopt_all.clone();
        *self.inner.held.lock() = Some(held);
        self.inner.adopt_all.send_if_modified(|known| {
            let changes = *known != adopt_all;
            *known = adopt_all;
            changes
        });
    }

    /// What the object of leaders said last of hosts that all Deployments take over.
    pub(crate) fn adopt_all(&self) -> Option<String> {
        self.inner.adopt_all.borrow().clone()
    }

    /// Its changes.
    pub(crate) fn adopt_all_changes(&self) -> watch::Receiver<Option<String>> {
        self.inner.adopt_all.subscribe()
    }

    /// The namespace is being deleted, and the lease with it: nothing can be done on hosts any more.
    pub(crate) fn namespace_deleting(&self) -> bool {
        self.inner.held.lock().as_ref().is_some_and(|held| held.namespace_deleting)
    }

    /// The lease was given back or lost.
    pub fn close(&self) {
        *self.inner.held.lock() = None;
    }

    /// The fence token of the lease that is held now.
    pub fn token(&self) -> Result<FenceToken, GateShut> {
        self.held().map(|held| held.token)
    }

    fn held(&self) -> Result<LeaseTerm, GateShut> {
        let held = self.inner.held.lock();
        let valid = held.as_ref().filter(|held| held.until.is_none_or(|until| clock::monotonic() < until));
        valid.cloned().ok_or(GateShut)
    }

    /// Does one effect, if this process may act now.
    pub async fn pass<T, E, F>(&self, effect: Effect, work: F) -> Result<T, E>
    where
        E: From<GateShut>,
        F: Future<Output = Result<T, E>>,
    {
        if self.held()?.namespace_deleting && !ALLOWED_DURING_NAMESPACE_DELETION.contains(&effect.name) {
            return Err(GateShut.into());
        }
        let count = self.inner.probe.before(&effect);
        let done = work.await;
        self.inner.probe.after(&effect, count, done.is_ok());
        done
    }
}

/// The crash harness' view of the gate. It listens to two variables, in debug builds alone:
/// `LANDFALL_EFFECTS_LEDGER` names a file that gets a line `before|done|failed <effect> #<n>` per effect;
/// `LANDFALL_CRASH_AT` is `before|after <effect> #<n>`: there the process ends as by `kill -9`. With `<name> *#<n>` instead of
/// `<effect> #<n>` it is the n-th effect of that name, whatever it is done to.
#[derive(Default)]
struct Probe {
    ledger: Option<PathBuf>,
    crash_at: Option<String>,
    counts: Mutex<std::collections::HashMap<String, u32>>,
}

/// How often this very effect was begun, and how often any effect of its name.
#[derive(Clone, Copy, Default)]
struct Count {
    own: u32,
    of_name: u32,
}

impl Probe {
    fn from_environment() -> Self {
        if !cfg!(debug_assertions) {
            return Self::default();
        }
        Self {
            ledger: std::env::var_os("LANDFALL_EFFECTS_LEDGER").map(PathBuf::from),
            crash_at: std::env::var("LANDFALL_CRASH_AT").ok(),
            counts: Mutex::default(),
        }
    }

    fn silent(&self) -> bool {
        self.ledger.is_none() && self.crash_at.is_none()
    }

    fn before(&self, effect: &Effect) -> Count {
        if self.silent() {
            return Count::default();
        }
        let count = {
            let mut counts = self.counts.lock();
            let mut next = |key: String| {
                let count = counts.entry(key).or_default();
                *count += 1;
                *count
            };
            Count { own: next(effect.to_string()), of_name: next(format!("{} *", effect.name)) }
        };
        self.write("before", effect, count);
        self.crash("before", effect, count);
        count
    }

    fn after(&self, effect: &Effect, count: Count, done: bool) {
        if self.silent() {
            return;
        }
        self.crash("after", effect, count);
        self.write(if done { "done" } else { "failed" }, effect, count);
    }

    fn write(&self, word: &str, effect: &Effect, count: Count) {
        let Some(path) = &self.ledger else { return };
        let line = format!("{word} {effect} #{}\n", count.own);
        let written = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .and_then(|mut file| file.write_all(line.as_bytes()));
        if let Err(error) = written {
            tracing::error!(%error, path = %path.display(), "the effects ledger can't be written");
        }
    }

    fn crash(&self, word: &str, effect: &Effect, count: Count) {
        let Some(point) = self.crash_at.as_deref() else { return };
        if point == format!("{word} {effect} #{}", count.own)
            || point == format!("{word} {} *#{}", effect.name, count.of_name)
        {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
    }
}
