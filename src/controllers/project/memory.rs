//! What this operator remembers of projects: the last listing with its age, and versions that were read (they never change).

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;

use crate::{
    api::project::{BranchView, VersionView},
    controllers::build::broken::Broken,
    effects::{class::Class, clock},
    plan::{fault::Fault, project::Listing},
};

/// What was listed: another URL or other patterns are another source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) url: String,
    pub(super) branches: Vec<String>,
    /// Name of its Secret, which is read anew at each look.
    pub(super) secret: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) source: Source,
    pub(super) listing: Option<(Timestamp, Vec<BranchView>)>,
    pub(super) fault: Option<Fault>,
    pub(super) running: bool,
    /// The interval of the task that looks by itself.
    pub(super) ticked: Option<Duration>,
    again: bool,
    runs: u64,
}

/// Cheap to clone; all clones are one memory.
#[derive(Clone, Default)]
pub struct Memory {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    /// By uid.
    known: HashMap<String, Known>,
    /// By namespace and name, then by version.
    versions: HashMap<(String, String), BTreeMap<String, VersionView>>,
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of this source; nothing where another was listed last.
    pub(super) fn known(&self, uid: &str, source: &Source) -> Known {
        self.lock().known.get(uid).filter(|known| known.source == *source).cloned().unwrap_or_default()
    }

    /// Takes the place of the one listing that may run; `None` where one runs. It is told to look once more then, if `again`.
    pub(super) fn occupy(&self, uid: &str, source: &Source, again: bool) -> Option<Occupied> {
        let mut inner = self.lock();
        let known = inner.known.entry(uid.to_owned()).or_default();
        if known.source != *source {
            // A listing of another source that still runs settles nothing any more.
            let runs = known.runs;
            *known = Known { source: source.clone(), runs, ..Known::default() };
        }
        if known.running {
            known.again |= again;
            return None;
        }
        known.running = true;
        known.runs += 1;
        let run = known.runs;
        drop(inner);
        Some(Occupied { memory: self.clone(), uid: uid.to_owned(), run })
    }

    /// Notes that a task looks at this source by itself; `None`: it does so no more.
    pub(super) fn tick(&self, uid: &str, source: &Source, interval: Option<Duration>) {
        if let Some(known) = self.lock().known.get_mut(uid).filter(|known| known.source == *source) {
            known.ticked = interval;
        }
    }

    /// The project is gone.
    pub(super) fn forget(&self, uid: &str) {
        self.lock().known.remove(uid);
    }

    pub(super) fn versions(&self, namespace: &str, name: &str) -> BTreeMap<String, VersionView> {
        self.lock().versions.get(&(namespace.to_owned(), name.to_owned())).cloned().unwrap_or_default()
    }

    pub(super) fn remember(&self, namespace: &str, name: &str, versions: BTreeMap<String, VersionView>) {
        self.lock().versions.insert((namespace.to_owned(), name.to_owned()), versions);
    }
}

/// What became of a look.
pub(super) struct Settled {
    /// It is to be taken once more, because somebody asked meanwhile.
    pub(super) again: bool,
    /// A planner would see something new.
    pub(super) news: bool,
}

/// The right to list one project, until it is dropped.
pub(super) struct Occupied {
    memory: Memory,
    uid: String,
    run: u64,
}

impl Occupied {
    pub(super) fn key(&self) -> String {
        format!("project/{}/list/{}", self.uid, self.run)
    }

    /// What the look found.
    pub(super) fn settle(&self, result: Result<Vec<BranchView>, Broken>) -> Settled {
        let mut inner = self.memory.lock();
        let known = inner.known.get_mut(&self.uid).filter(|known| known.runs == self.run);
        let Some(known) = known else { return Settled { again: false, news: true } };
        let mut news = true;
        match result {
            Ok(branches) => {
                let before = known.listing.as_ref().map(|(_, branches)| branches);
                news = known.fault.is_some() || before != Some(&branches);
                known.listing = Some((clock::now(), branches));
                known.fault = None;
            }
            Err(broken) if broken.class == Class::Waiting => {}
            Err(broken) => {
                let before = known.fault.as_ref().map_or(0, |fault| fault.failures);
                known.fault = Some(Fault {
                    reason: broken.reason,
                    message: broken.message,
                    terminal: broken.class == Class::Terminal,
                    failures: before.saturating_add(1),
                    at: clock::now(),
                });
            }
        }
        Settled { again: std::mem::take(&mut known.again), news }
    }
}

impl Drop for Occupied {
    fn drop(&mut self) {
        if let Some(known) = self.memory.lock().known.get_mut(&self.uid).filter(|known| known.runs == self.run) {
            known.running = false;
        }
    }
}

impl Known {
    pub(super) fn listing(&self) -> Option<Listing> {
        self.listing.clone().map(|(at, branches)| Listing { at, branches })
    }
}
