//! What the operator was told of this host, and what may be different now. A number is raised whenever a folder's facts really changed; a
//! look at a quiet host compares two numbers.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use landfall_host_protocol::{FolderFacts, FolderName, HostFacts, MachineFacts, Push};

use super::{
    processes::Processes,
    short::SHORTER,
    watch::{Changes, Fingerprint, Watch, fingerprint},
};
use crate::{
    clock,
    facts::{self, Condition, PrivilegeCheck},
    folder::Folder,
    process::Identity,
    task,
};

/// Between two pushes.
const PUSH_INTERVAL: Duration = Duration::from_secs(1);
/// Between two surveys that nobody waits for.
const SURVEY_INTERVAL: Duration = Duration::from_millis(100);
/// The same while a task runs in each of the folders that changed: its events tell what it does, and its end tells of the
/// folder. Of an act by hand, which nobody follows, the operator hears a second later at most.
const SURVEY_INTERVAL_OF_TASKS: Duration = Duration::from_secs(1);
/// Bytes of facts in one push, so that it fits a frame; what is left comes a second later.
const MAX_PUSHED: usize = 512 << 10;

/// Bytes of the facts of one folder in a push; longer ones are shortened.
const MAX_FOLDER: usize = 256 << 10;

/// Which folders are to be read again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Scope {
    #[default]
    Nothing,
    Some(BTreeSet<FolderName>),
    All,
}

impl Scope {
    fn add(&mut self, name: FolderName) {
        match self {
            Self::All => {}
            Self::Some(names) => {
                names.insert(name);
            }
            Self::Nothing => *self = Self::Some(BTreeSet::from([name])),
        }
    }
}

/// Folders as a survey found them; `None`: gone.
#[derive(Debug)]
pub(super) struct Survey {
    all: bool,
    folders: BTreeMap<FolderName, Option<FolderFacts>>,
    fingerprints: BTreeMap<FolderName, Fingerprint>,
    /// Who runs the open tasks.
    runners: BTreeMap<FolderName, Identity>,
}

pub(super) struct View {
    root: PathBuf,
    namespace: String,
    seen: u64,
    folders: BTreeMap<FolderName, FolderFacts>,
    fingerprints: BTreeMap<FolderName, Fingerprint>,
    /// Of the root, when it was told last.
    told: Condition,
    machine: Option<MachineFacts>,
    /// Why the root can't be used, when that was looked at last.
    unfit: Option<String>,
    /// `None`: they are asked for the first time.
    users: Option<PrivilegeCheck>,
    /// The operator was told of the host itself.
    is_host_told: bool,
    /// What is told of the host itself is different now.
    is_host_unpushed: bool,
    stale: Scope,
    is_surveying: bool,
    /// Folders in which a task ran when they were read last, and nothing ended since.
    working: BTreeSet<FolderName>,
    /// Surveys begun; a look waits for one that begins after it.
    begun: u64,
    done: u64,
    unpushed: BTreeSet<FolderName>,
    /// What ends of tasks told of their folders since these were read last.
    beside: BTreeMap<FolderName, FolderFacts>,
    pushed_at: Option<Instant>,
    surveyed_at: Option<Instant>,
    processes: Processes,
}

impl View {
    pub(super) fn new(root: &Path, namespace: &str, watch: &mut Watch) -> Self {
        watch.root(root);
        Self {
            root: root.to_owned(),
            namespace: namespace.to_owned(),
            seen: 0,
            folders: BTreeMap::new(),
            fingerprints: BTreeMap::new(),
            told: Condition::default(),
            machine: None,
            unfit: None,
            users: None,
            is_host_told: false,
            is_host_unpushed: false,
            stale: Scope::All,
            is_surveying: false,
            working: BTreeSet::new(),
            begun: 0,
            done: 0,
            unpushed: BTreeSet::new(),
            beside: BTreeMap::new(),
            pushed_at: None,
            surveyed_at: None,
            processes: Processes::default(),
        }
    }

    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    pub(super) fn folders(&self) -> impl Iterator<Item = (&FolderName, &FolderFacts)> {
        self.folders.iter()
    }

    pub(super) fn processes(&self) -> &Processes {
        &self.processes
    }

    pub(super) fn set_machine(&mut self, machine: MachineFacts, unfit: Option<String>) {
        let differs =
            self.machine.as_ref().is_none_or(|known| !is_same_machine(known, &machine)) || self.unfit != unfit;
        self.machine = Some(machine);
        self.unfit = unfit;
        if differs {
            self.host_changed();
        }
    }

    pub(super) fn set_users(&mut self, users: PrivilegeCheck) {
        let differs = self.users.as_ref() != Some(&users);
        self.users = Some(users);
        if differs {
            self.host_changed();
        }
    }

    fn host_changed(&mut self) {
        if self.is_host_told {
            self.seen += 1;
            self.is_host_unpushed = true;
        }
    }

    /// sudo or su is to be asked again: something of what it said last is to be mended, or it was not asked.
    pub(super) fn are_users_due(&self) -> bool {
        self.users.as_ref().is_none_or(|users| !users.cannot_become.is_empty() || users.sudo_too_wide)
    }

    /// The first survey and the machine's facts are there.
    pub(super) fn is_ready(&self) -> bool {
        self.done > 0 && self.machine.is_some()
    }

    pub(super) fn apply(&mut self, changes: Changes) {
        if changes.all {
            self.stale = Scope::All;
        }
        for name in changes.folders {
            self.stale.add(name);
        }
    }

    /// The poll below inotify: what changed without a word.
    pub(super) fn poll(&mut self) {
        let names = facts::names(&self.root, &self.namespace);
        if names.len() != self.folders.len() || names.iter().any(|name| !self.folders.contains_key(name)) {
            self.stale = Scope::All;
        }
        for (name, known) in &self.fingerprints {
            if fingerprint(&Folder::new(&self.root, name.clone())) != *known {
                self.stale.add(name.clone());
            }
        }
        for name in self.processes.ended_unseen() {
            self.stale.add(name);
        }
        for (name, _) in self.folders.iter().filter(|(_, facts)| facts.shell_helper) {
            if !facts::has_shell_helper(&Folder::new(&self.root, name.clone())) {
                self.stale.add(name.clone());
            }
        }
        self.look_at_runners();
    }

    /// Open tasks whose runner is not held: no file changes when it dies, or when somebody else goes on with the task.
    pub(super) fn look_at_runners(&mut self) {
        for (name, facts) in &self.folders {
            let Some(task) = facts.task.as_ref().filter(|_| !self.processes.has_runner(name)) else { continue };
            let folder = Folder::new(&self.root, name.clone());
            if task::runs(&folder, &task.id) != task.running {
                self.stale.add(name.clone());
            } else if let Some(runner) = task::runner(&folder, &task.id).filter(|_| task.running) {
                self.processes.watch(name, runner, true);
            }
        }
    }

    /// A process whose end was told ended.
    pub(super) fn process_ended(&mut self, index: usize) {
        if let Some(name) = self.processes.forget(index) {
            self.working.remove(&name);
            self.stale.add(name);
        }
    }

    /// Number of the survey that knows all that is true now; `None`: what is known is true.
    pub(super) fn needed_survey(&self) -> Option<u64> {
        match (&self.stale, self.is_surveying) {
            (Scope::Nothing, false) => None,
            (Scope::Nothing, true) => Some(self.begun),
            _ => Some(self.begun + 1),
        }
    }

    pub(super) fn has_survey(&self, number: u64) -> bool {
        self.done >= number
    }

    /// The work of the next survey, to be done in a thread; `None`: nothing is to be read, or not yet.
    pub(super) fn begin_survey(
        &mut self,
        is_waited_for: bool,
        watch: &mut Watch,
    ) -> Option<impl FnOnce() -> Survey + Send + use<>> {
        let due = is_waited_for || self.until_survey().is_some_and(|time| time.is_zero());
        if self.is_surveying || self.stale == Scope::Nothing || !due {
            return None;
        }
        self.is_surveying = true;
        self.begun += 1;
        self.surveyed_at = Some(clock::monotonic());
        let scope = std::mem::take(&mut self.stale);
        let (root, namespace) = (self.root.clone(), self.namespace.clone());
        // Watched before they are read: what changes meanwhile is heard of.
        let names = match &scope {
            Scope::All => facts::candidates(&root, &namespace),
            Scope::Some(names) => names.iter().cloned().collect(),
            Scope::Nothing => Vec::new(),
        };
        for name in names {
            watch.folder(&Folder::new(&root, name));
        }
        Some(move || survey(&root, &namespace, scope))
    }

    /// `Err` of the thread that could not be started: the survey is due again.
    pub(super) fn survey_failed(&mut self) {
        self.is_surveying = false;
        self.begun = self.begun.saturating_sub(1);
        self.stale = Scope::All;
    }

    pub(super) fn end_survey(&mut self, survey: Survey) {
        self.is_surveying = false;
        self.done = self.begun;
        let (mut found, mut runners) = (survey.folders, survey.runners);
        if survey.all {
            for name in self.folders.keys() {
                found.entry(name.clone()).or_insert(None);
            }
        }
        let is_first = self.seen == 0;
        let mut has_changed = is_first;
        for (name, facts) in found {
            if name.namespace() != self.namespace {
                continue;
            }
            let other = self.beside.remove(&name);
            match facts.as_ref().and_then(|facts| facts.task.as_ref()).is_some_and(|task| task.running) {
                true => self.working.insert(name.clone()),
                false => self.working.remove(&name),
            };
            let is_other = other.is_some_and(|told| !is_same(Some(&told), facts.as_ref()));
            if !is_other && is_same(self.folders.get(&name), facts.as_ref()) {
                self.read_again(&name, facts.as_ref());
                continue;
            }
            has_changed = true;
            if self.processes.replace(&name, facts.as_ref(), runners.remove(&name)) {
                self.stale.add(name.clone());
            }
            match facts {
                Some(facts) => {
                    self.folders.insert(name.clone(), facts);
                }
                None => {
                    self.folders.remove(&name);
                    self.fingerprints.remove(&name);
                }
            }
            if !is_first {
                self.unpushed.insert(name);
            }
        }
        for (name, fingerprint) in survey.fingerprints {
            if self.folders.contains_key(&name) {
                self.fingerprints.insert(name, fingerprint);
            }
        }
        if has_changed {
            self.seen += 1;
        }
    }

    /// Whether what the operator saw is still true, as far as is known.
    pub(super) fn is_unchanged(&mut self, seen: u64) -> bool {
        let now = facts::condition(&self.root);
        if differ(&self.told, &now) {
            self.seen += 1;
            self.told = now;
        }
        seen == self.seen
    }

    /// All facts, and their number. What they tell need not be pushed.
    pub(super) fn facts(&mut self) -> (u64, HostFacts) {
        self.unpushed.clear();
        let facts = HostFacts { folders: self.folders.clone(), ..self.host() };
        (self.seen, facts)
    }

    /// Facts of the host itself. What they tell need not be pushed.
    fn host(&mut self) -> HostFacts {
        self.is_host_told = true;
        self.is_host_unpushed = false;
        self.told = facts::condition(&self.root);
        let root = facts::root(&self.root);
        self.unfit.clone_from(&root.unfit);
        let machine = MachineFacts {
            uptime_seconds: clock::uptime_seconds(),
            uptime_millis: clock::uptime_millis(),
            clock_millis: clock::wall_millis(),
            ..self.machine.clone().unwrap_or_else(facts::machine)
        };
        let users_pending = self.users.is_none();
        let PrivilegeCheck { cannot_become, sudo_too_wide } = self.users.clone().unwrap_or_default();
        HostFacts { machine, root, folders: BTreeMap::new(), cannot_become, sudo_too_wide, users_pending }
    }

    /// Facts that are the same have the number of their newest read, or a look would seem older than what the end of a task told.
    fn read_again(&mut self, name: &FolderName, facts: Option<&FolderFacts>) {
        if let (Some(known), Some(facts)) = (self.folders.get_mut(name), facts) {
            known.seen = known.seen.max(facts.seen);
        }
    }

    /// The end of a task told this of its folder.
    pub(super) fn told_beside(&mut self, name: FolderName, facts: &FolderFacts) {
        if is_same(self.folders.get(&name), Some(facts)) {
            self.read_again(&name, Some(facts));
        }
        self.working.remove(&name);
        self.beside.insert(name, facts.clone());
    }

    /// What is to be told unasked now.
    pub(super) fn take_push(&mut self) -> Option<Push> {
        if !self.until_push()?.is_zero() {
            return None;
        }
        if self.is_host_unpushed {
            let facts = Box::new(self.host());
            return Some(Push::Host { seen: self.seen, facts });
        }
        self.pushed_at = Some(clock::monotonic());
        let mut folders = BTreeMap::new();
        let mut bytes = 0;
        while bytes < MAX_PUSHED
            && let Some(name) = self.unpushed.pop_first()
        {
            let mut facts = self.folders.get(&name).cloned();
            let length = |facts: &FolderFacts| serde_json::to_vec(facts).map_or(0, |text| text.len());
            for shorter in SHORTER {
                if let Some(facts) = facts.as_mut().filter(|facts| length(facts) > MAX_FOLDER) {
                    shorter(facts);
                }
            }
            bytes += facts.as_ref().map_or(4, length) + name.as_str().len();
            folders.insert(name, facts);
        }
        Some(Push::Folders { seen: self.seen, uptime_millis: clock::uptime_millis(), folders })
    }

    /// Until the next push; `None`: there is nothing to tell.
    pub(super) fn until_push(&self) -> Option<Duration> {
        if self.is_host_unpushed {
            // It changes once in a while.
            return Some(Duration::ZERO);
        }
        (!self.unpushed.is_empty() && self.is_ready()).then(|| left(self.pushed_at, PUSH_INTERVAL))
    }

    /// Until the next survey; `None`: there is nothing to read, or one is under way.
    pub(super) fn until_survey(&self) -> Option<Duration> {
        let interval = match &self.stale {
            Scope::Nothing => return None,
            Scope::Some(names) if names.is_subset(&self.working) => SURVEY_INTERVAL_OF_TASKS,
            Scope::Some(_) | Scope::All => SURVEY_INTERVAL,
        };
        (!self.is_surveying).then(|| left(self.surveyed_at, interval))
    }
}

/// The same but for the number of the read.
fn is_same(one: Option<&FolderFacts>, other: Option<&FolderFacts>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => FolderFacts { seen: other.seen, ..one.clone() } == *other,
        (None, None) => true,
        _ => false,
    }
}

/// The same but for what time moves.
fn is_same_machine(one: &MachineFacts, other: &MachineFacts) -> bool {
    let MachineFacts { uptime_seconds, uptime_millis, clock_millis, .. } = *other;
    MachineFacts { uptime_seconds, uptime_millis, clock_millis, ..one.clone() } == *other
}

/// What is left of an interval since then.
fn left(since: Option<Instant>, interval: Duration) -> Duration {
    since.map_or(Duration::ZERO, |since| interval.saturating_sub(clock::monotonic().saturating_duration_since(since)))
}

/// Space moves all the time: a sixteenth of it counts.
fn differ(told: &Condition, now: &Condition) -> bool {
    let moved = |told: u64, now: u64| told.abs_diff(now) > told / 16;
    told.flags != now.flags || moved(told.free_bytes, now.free_bytes) || moved(told.free_inodes, now.free_inodes)
}

/// Reads folders. The fingerprint is taken first, so that a change meanwhile is found by the next poll.
fn survey(root: &Path, namespace: &str, scope: Scope) -> Survey {
    let (all, names) = match scope {
        Scope::All => (true, facts::names(root, namespace)),
        Scope::Some(names) => (false, names.into_iter().collect()),
        Scope::Nothing => (false, Vec::new()),
    };
    let (folders, fingerprints, runners) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut survey = Survey { all, folders, fingerprints, runners };
    for name in names {
        let folder = Folder::new(root, name.clone());
        survey.fingerprints.insert(name.clone(), fingerprint(&folder));
        let facts = facts::folder(&folder);
        if let Some(task) = facts.as_ref().and_then(|facts| facts.task.as_ref()).filter(|task| task.running) {
            survey.runners.extend(task::runner(&folder, &task.id).map(|runner| (name.clone(), runner)));
        }
        survey.folders.insert(name, facts);
    }
    survey
}
