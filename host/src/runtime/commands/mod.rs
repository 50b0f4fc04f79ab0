//! Applications that a command starts, stops and looks at (`script`), and files that something else serves (`static`). No keeper stands above
//! them: what they leave behind is found by the mark alone, and whether they run is what their status command says. A watcher asks it; nobody
//! here starts them again by himself.

mod asking;
mod run;
mod watcher;

use std::time::Duration;

use landfall_host_protocol::{
    Configuration, FolderFacts, KeeperFacts, ProcessFacts, ProcessState, Reason, RunAs, Runtime as Kind, ScriptRuntime,
    Secrets, Start, StaticRuntime, Stop,
};

use super::{IsCancelled, Patience, Runtime, Waited, configuration, process, shared};
use crate::{
    as_user, clock,
    facts::{self, current_release},
    failure::{StepFailure, StepResult},
    files,
    folder::Folder,
    keeper::{self, Belonging, Phase, State, hands_of},
    probe,
    process::{boot_id, describe_all, instance_value, suspected},
};
use asking::{Asking, Look};
use run::{For, Runs, Surroundings, confirmed, until_down};

/// Between two looks at what is waited for.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// Before a no is asked again.
const CONFIRM_PAUSE: Duration = Duration::from_millis(250);
/// After its end, until its status command has to know.
const DOWN_TIMEOUT: Duration = Duration::from_secs(3);
/// A status command that hangs holds up a look at all folders no longer than this, and only where no watcher asks it.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) use watcher::{run as watch, start as attend};

/// A command, and how long it may take.
pub(super) struct Command {
    words: Vec<String>,
    limit: Duration,
}

impl Command {
    fn new(words: &[String], seconds: u32) -> Self {
        Self { words: words.to_vec(), limit: Duration::from_secs(u64::from(seconds.max(1))) }
    }

    /// For a person.
    fn shown(&self) -> String {
        self.words.join(" ")
    }
}

/// Which of the two it is, with its commands.
pub(super) enum Commands {
    Script { start: Command, stop: Command, status: Command },
    Static { reload: Option<Command> },
}

impl Commands {
    pub(super) fn script(script: &ScriptRuntime) -> Self {
        let seconds = script.timeout_seconds;
        Self::Script {
            start: Command::new(&script.start, seconds),
            stop: Command::new(&script.stop, script.stop_timeout_seconds.unwrap_or(seconds)),
            status: Command::new(&script.status, script.status_timeout_seconds.unwrap_or(seconds)),
        }
    }

    pub(super) fn files(files: &StaticRuntime) -> Self {
        let reload = Command::new(&files.reload, files.timeout_seconds);
        Self::Static { reload: Some(reload).filter(|reload| !reload.words.is_empty()) }
    }

    fn of(config: &Configuration) -> Option<Self> {
        match &config.runtime {
            Kind::Script(script) => Some(Self::script(script)),
            Kind::Static(files) => Some(Self::files(files)),
            Kind::Process(_) | Kind::Systemd(_) => None,
        }
    }

    /// It was started in this boot, and not stopped since. Files are served since before it.
    fn is_started(&self, state: &State) -> bool {
        let survives_boots = matches!(self, Self::Static { .. });
        state.phase == Phase::Running && is_by_command(state) && (survives_boots || is_of_this_boot(state))
    }

    /// Why what is served is not what was started, where it is not: somebody changed `current`.
    fn is_elsewhere(&self, folder: &Folder, state: &State) -> Option<String> {
        if matches!(self, Self::Script { .. }) {
            return None;
        }
        match current_release(folder) {
            Some(release) if release == state.release => None,
            Some(other) => Some(format!("current points at {other} instead of {}", state.release)),
            None => Some(format!("current does not point at {}", state.release)),
        }
    }
}

/// What is on record is of one of the two: neither a process nor a unit has these marks.
fn is_by_command(state: &State) -> bool {
    state.unit.is_none() && state.booted.is_some()
}

fn is_of_this_boot(state: &State) -> bool {
    state.booted.as_deref() == Some(boot_id())
}

/// What is on record of a folder.
struct Record {
    state: State,
    kept: configuration::Kept,
}

impl Record {
    /// `None`: nothing of the two runtimes is on record.
    fn read(folder: &Folder, reason: Reason) -> StepResult<Option<Self>> {
        let failed = |error: std::io::Error| files::failure(reason, &error, &folder.dot());
        let Some(state) = State::read(folder).map_err(failed)?.filter(is_by_command) else { return Ok(None) };
        let Some(hash) = state.config.clone() else { return Ok(None) };
        let kept = configuration::load(folder, &hash).map_err(failed)?;
        Ok(kept.filter(|kept| Commands::of(&kept.configuration).is_some()).map(|kept| Self { state, kept }))
    }

    /// The same for who is about to write it: no watcher does so any more.
    fn alone(folder: &Folder, reason: Reason) -> StepResult<Option<Self>> {
        if let Some(record) = Self::read(folder, reason)? {
            watcher::end(folder, &record);
        }
        Self::read(folder, reason)
    }

    fn config(&self) -> &Configuration {
        &self.kept.configuration
    }

    fn commands(&self) -> Option<Commands> {
        Commands::of(self.config())
    }

    /// Those that are kept on this host.
    fn secrets(&self) -> Secrets {
        self.kept.secrets.clone().unwrap_or_default()
    }

    fn write(&mut self, folder: &Folder, reason: Reason) -> StepResult<()> {
        write(folder, &mut self.state, reason)
    }

    /// In this boot's time: files are served since before it.
    fn ready_since(&self) -> Option<u64> {
        self.state.ready_since.map(|since| if is_of_this_boot(&self.state) { since } else { 0 })
    }

    fn is_ready_now(&mut self, folder: &Folder) -> StepResult<()> {
        if self.state.is_ready() {
            return Ok(());
        }
        self.state.ready_since = Some(clock::uptime_millis());
        self.state.unready_since = None;
        self.state.was_ready = true;
        self.state.probe_failure = None;
        self.write(folder, Reason::NotReady)
    }

    fn is_unready_now(&mut self, folder: &Folder, why: String) -> StepResult<()> {
        self.state.ready_since = None;
        self.state.unready_since = Some(clock::uptime_millis());
        self.state.probe_failure = Some(why);
        self.write(folder, Reason::NotReady)
    }

    /// It had been running, and is down now.
    fn is_down_now(&mut self, folder: &Folder, why: &str) -> StepResult<()> {
        self.state.ready_since = None;
        self.state.unready_since = None;
        self.state.phase = Phase::Ended;
        self.state.last_end = Some(watcher::ended(why));
        self.write(folder, Reason::NotReady)
    }
}

fn write(folder: &Folder, state: &mut State, reason: Reason) -> StepResult<()> {
    state.write(folder).map_err(|error| files::failure(reason, &error, &folder.state()))
}

/// Processes that carry this start's mark.
fn left(state: &State) -> Belonging {
    Belonging { instance: state.instance.clone(), known: state.living_unended(), ..Belonging::default() }
}

/// What can't be ended is on record then.
fn end_left(folder: &Folder, state: &mut State, run_as: Option<&RunAs>, stop: &Stop) -> StepResult<()> {
    let mut hands = hands_of(run_as, &folder.log(0));
    let ended = keeper::end(hands.as_mut(), None, &left(state), stop, &mut || None);
    let unended = ended.err().map(|keeper::Unended(left)| left).unwrap_or_default();
    if unended == state.unended {
        return if unended.is_empty() { Ok(()) } else { Err(keeper::unended(&unended)) };
    }
    state.set_unended(unended);
    let written = write(folder, state, Reason::StopFailed);
    if state.unended.is_empty() { written } else { Err(keeper::unended(&state.unended)) }
}

/// Of a start that may have left something, or of a stop that did.
fn end_of(config: &Configuration) -> (Option<&RunAs>, Stop) {
    let leave = match &config.runtime {
        Kind::Script(script) => script.leave.clone(),
        _ => Stop::default(),
    };
    (config.run_as.as_ref(), leave)
}

/// Says something in the application's log.
fn note(folder: &Folder, text: &str) {
    use std::io::Write as _;
    if let Ok(mut log) = keeper::open_log(folder) {
        let _ = writeln!(log, "=== landfall: {text}");
    }
}

impl Runtime for Commands {
    fn observe(&self, folder: &Folder, facts: &mut FolderFacts) {
        let Ok(Some(record)) = Record::read(folder, Reason::Internal) else { return };
        let state = &record.state;
        let watcher = keeper::is_living(state);
        facts.keeper = watcher.as_ref().zip(state.keeper.as_ref()).map(|(handle, record)| KeeperFacts {
            pid: handle.identity().pid,
            start: handle.identity().start,
            program: record.program.clone(),
            parent: record.parent,
        });
        let is_acted_on = facts.task.as_ref().is_some_and(|task| task.running);
        let mut last_end = state.last_end.clone();
        let mut process_state = match state.phase {
            Phase::Running if self.is_started(state) => ProcessState::Running,
            Phase::Stopped => ProcessState::Stopped,
            _ => ProcessState::Ended,
        };
        if process_state == ProcessState::Running
            && let Some(why) = self.is_elsewhere(folder, state)
        {
            process_state = ProcessState::Ended;
            last_end = Some(landfall_host_protocol::Ended {
                lines: vec![format!("landfall: found changed: {why}")],
                ..watcher::ended("")
            });
        }
        // Nobody else asks it now; where a task is at work that one does. Another user's command is asked by its watcher alone, which the
        // session puts there: that user could make a look, and so the whole host, wait for it.
        if let Self::Script { status, .. } = self
            && process_state == ProcessState::Running
            && watcher.is_none()
            && !is_acted_on
            && record.kept.configuration.run_as.is_none()
        {
            let secrets = record.secrets();
            let around = Surroundings { folder, record: &record, secrets: &secrets };
            let mut hands = around.hands();
            let mut ask = || around.runs(hands.as_mut(), status, LOOK_TIMEOUT);
            if let Runs::No(why) = confirmed(CONFIRM_PAUSE, &mut ask) {
                process_state = ProcessState::Ended;
                last_end = Some(watcher::ended(&why));
            }
        }
        let runs = process_state == ProcessState::Running;
        if !runs {
            facts.survivors = describe_all(&left(state).living());
        }
        let ready = runs && state.is_ready();
        let needs = || keeper::missing_secret(record.config(), record.kept.secrets.as_ref()).is_some();
        facts.awaiting_secrets = process_state == ProcessState::Ended && needs();
        let facts_of = process::facts_of(state, process_state, ready);
        let boot = match self {
            // One whose reload was cut off by a reboot is of that boot, and is started again: how it would have ended nobody knows.
            Self::Static { .. } if state.phase != Phase::Ended => boot_id().to_owned(),
            Self::Script { .. } | Self::Static { .. } => state.booted.clone().unwrap_or_default(),
        };
        facts.process = Some(ProcessFacts {
            // No process stands for it: which start it is tells one from another.
            pid: 0,
            start: state.began,
            boot_id: boot,
            ready_since: record.ready_since().filter(|_| ready),
            last_end,
            ..facts_of
        });
    }

    /// Whether it runs is not on record before it was asked.
    fn settle(&self, folder: &Folder, _: &Patience, _: IsCancelled<'_>) -> Waited {
        let Self::Script { status, .. } = self else { return Waited::Reached };
        let Ok(Some(mut record)) = Record::alone(folder, Reason::Internal) else { return Waited::Reached };
        if !self.is_started(&record.state) {
            return Waited::Reached;
        }
        let secrets = record.secrets();
        let around = Surroundings { folder, record: &record, secrets: &secrets };
        let mut hands = around.hands();
        if let Runs::No(why) = confirmed(CONFIRM_PAUSE, || around.runs(hands.as_mut(), status, status.limit)) {
            let _ = record.is_down_now(folder, &why);
        }
        Waited::Reached
    }

    fn check(&self, folder: &Folder, start: &Start) -> StepResult<()> {
        let unsupported = |why: &str| Err(StepFailure::new(Reason::HostUnsupported, why));
        let commands = match self {
            Self::Script { start, stop, status, .. } => vec![start, stop, status],
            Self::Static { reload } => reload.iter().collect(),
        };
        if commands.iter().any(|command| command.words.is_empty()) {
            return unsupported("start, stop and status must all be commands");
        }
        let is_in_release = |program: &String| program.contains('/') && !program.starts_with('/');
        if commands.iter().any(|command| command.words.first().is_some_and(is_in_release)) {
            process::check_mount(folder)?;
        }
        for command in commands {
            process::check_program(folder, start, &command.words)?;
        }
        if matches!(self, Self::Script { .. }) && facts::session_scoped() {
            return unsupported(
                "SessionScoped: logind ends what this session starts (KillUserProcesses=yes); exclude the user by \
                 KillExcludeUsers in logind.conf, or use runtime systemd",
            );
        }
        if start.config.liveness.is_some() {
            return unsupported(
                "a livenessProbe goes with runtime process; the status command of a script says whether it runs",
            );
        }
        if let Some(why) = start.config.readiness.as_ref().and_then(probe::unsupported) {
            return unsupported(&why);
        }
        if let Some(run_as) = &start.config.run_as {
            as_user::try_become(run_as).map_err(|why| StepFailure::new(Reason::HostUnsupported, why))?;
        }
        Ok(())
    }

    /// A stop command that fails keeps no later version from the host, as long as the application is down by then.
    fn stop(&self, folder: &Folder) -> StepResult<Option<String>> {
        let Some(mut record) = Record::alone(folder, Reason::StopFailed)? else { return Ok(None) };
        let mut remark = None;
        // What a start left that failed, and what is half down, is its stop command's as well.
        let may_run = is_of_this_boot(&record.state) && record.state.phase != Phase::Stopped;
        let began = clock::monotonic();
        if let Self::Script { stop, status, .. } = self
            && may_run
        {
            let secrets = record.secrets();
            let around = Surroundings { folder, record: &record, secrets: &secrets };
            let was_running = self.is_started(&record.state);
            let failure = around.run(stop, For::Stop).err().filter(|_| was_running);
            let mut hands = around.hands();
            let of_stop = Belonging { instance: run::stop_mark(&record), ..Belonging::default() };
            let (run_as, leave) = end_of(&record.kept.configuration);
            end_left(folder, &mut record.state, run_as, &leave)?;
            hands.end_all(&of_stop, Duration::from_secs(10));
            // Verified: one that only asks the application to end may be back before it has.
            let around = Surroundings { folder, record: &record, secrets: &secrets };
            let end = (began + stop.limit).max(clock::monotonic() + DOWN_TIMEOUT);
            // One that never said that it runs says nothing by its silence: a status command that is broken from the start keeps no later
            // version away.
            let had_answered = record.state.was_ready;
            let said =
                until_down(end, CONFIRM_PAUSE, had_answered, || around.runs(hands.as_mut(), status, status.limit));
            match (failure, said) {
                (Some(failure), Runs::Yes) => {
                    let why = format!("{}; its status command says that it still runs", failure.why);
                    return Err(Box::new(StepFailure { why, ..*failure }));
                }
                (None, Runs::Yes) => {
                    let why = format!(
                        "the application still runs, as its status command says, {} s after its stop command ({}) began",
                        began.elapsed().as_secs(),
                        stop.shown()
                    );
                    return Err(StepFailure::new(Reason::StopFailed, why));
                }
                (failure, Runs::Unknown(why)) if had_answered => {
                    let unknown = format!(
                        "whether the application still runs is not known: its status command has no answer ({why})"
                    );
                    return Err(match failure {
                        Some(failure) => {
                            let why = format!("{}; {unknown}", failure.why);
                            Box::new(StepFailure { why, ..*failure })
                        }
                        None => StepFailure::new(Reason::StopFailed, unknown),
                    });
                }
                (Some(failure), Runs::No(_) | Runs::Unknown(_)) => {
                    let said = failure.lines.last().map(|line| format!(": {line}")).unwrap_or_default();
                    let text = format!("{}{said}; what was left of the application was ended", failure.why);
                    note(folder, &text);
                    remark = Some(text);
                }
                (None, Runs::No(_) | Runs::Unknown(_)) => {}
            }
        } else {
            let (run_as, leave) = end_of(&record.kept.configuration);
            end_left(folder, &mut record.state, run_as, &leave)?;
        }
        if record.state.phase != Phase::Stopped {
            record.state.phase = Phase::Stopped;
            record.state.ready_since = None;
            record.state.unready_since = None;
            record.write(folder, Reason::StopFailed)?;
        }
        Ok(remark)
    }

    fn start(&self, folder: &Folder, start: &Start, secrets: &Secrets, patience: &Patience) -> StepResult<()> {
        // What is there is of its own configuration.
        super::recorded(folder).settle(folder, patience, &|| false);
        let is_script = matches!(self, Self::Script { .. });
        let of_before = Record::alone(folder, Reason::StartFailed)?.and_then(|record| record.commands());
        let mut before =
            State::read(folder).map_err(|error| files::failure(Reason::StartFailed, &error, &folder.state()))?;
        let (run_as, leave) = end_of(&start.config);
        if let Some(state) = &mut before {
            super::systemd::check_down(folder, state)?;
            let runs = |commands: &Self| commands.is_started(state) && commands.is_elsewhere(folder, state).is_none();
            if of_before.as_ref().is_some_and(runs) {
                if process::is_same(state, start) {
                    return Ok(());
                }
                let why = format!("{} of this project is still started", state.release);
                return Err(StepFailure::new(Reason::StartFailed, why));
            }
            if process::lives(state) {
                let why = "this project still runs by another runtime";
                return Err(StepFailure::new(Reason::StartFailed, why));
            }
            end_left(folder, state, run_as, &leave)?;
        }
        let strangers = if is_script { suspected(&folder.releases(), &[]) } else { Vec::new() };
        if !strangers.is_empty() {
            return Err(process::suspicion(strangers));
        }
        if let Some(key) = keeper::missing_secret(&start.config, Some(secrets)) {
            let why = format!("the secret value {key} is not on the host; the operator brings it");
            return Err(StepFailure::new(Reason::AwaitingSecrets, why));
        }
        if is_script {
            process::check_port(&start.config)?;
        }
        configuration::store(folder, &start.config, secrets)?;
        shared::prepare(folder, &start.config, secrets)?;
        let instance = instance_value()
            .map_err(|error| StepFailure::new(Reason::StartFailed, format!("/dev/urandom: {error}")))?;
        let uid = process::owner_uid(folder);
        let counter = before.map_or(0, |state| state.counter);
        let kept = configuration::Kept { configuration: start.config.clone(), secrets: Some(secrets.clone()) };
        let mut record = Record { state: State::new(start, uid, instance, counter), kept };
        record.state.booted = Some(boot_id().to_owned());
        record.state.began = clock::uptime_millis().max(1);
        // On record before it runs: what a start that is cut off leaves is found by its mark.
        record.write(folder, Reason::StartFailed)?;
        let around = Surroundings { folder, record: &record, secrets };
        let started = match self {
            Self::Script { start, .. } => around.run(start, For::Start),
            Self::Static { reload: None } => Ok(()),
            Self::Static { reload: Some(reload) } => around.run(reload, For::Reload),
        };
        if let Err(mut failure) = started {
            // It leaves nothing behind but what can't be found; that its stop command ends before another start.
            if let Err(unended) = end_left(folder, &mut record.state, run_as, &leave) {
                failure.why.push_str(&format!("; {}", unended.why));
                failure.strangers = unended.strangers;
            }
            return Err(failure);
        }
        record.state.phase = Phase::Running;
        record.write(folder, Reason::StartFailed)
    }

    fn wait_ready(&self, folder: &Folder, timeout: Duration, cancelled: IsCancelled<'_>) -> StepResult<Waited> {
        let end = clock::monotonic() + timeout;
        let mut asking = None;
        loop {
            let (mut record, secrets) = self.started(folder)?;
            let around = Surroundings { folder, record: &record, secrets: &secrets };
            let asking = asking.get_or_insert_with(|| Asking::new(around.hands(), record.config().readiness.as_ref()));
            let why = match asking.look(&around, self) {
                Look::Ready => {
                    record.is_ready_now(folder)?;
                    return Ok(Waited::Reached);
                }
                Look::Down(why) => return Err(died(folder, &mut record, &why)),
                Look::NotYet(why) | Look::NotReady(why) => why,
            };
            if cancelled() {
                return Ok(Waited::Cancelled);
            }
            if clock::monotonic() >= end {
                let why = around.masked(format!("not ready within {} s: {why}", timeout.as_secs()));
                let mut failure = StepFailure::new(Reason::NotReady, why);
                failure.lines = keeper::told_lines(folder, record.config(), record.kept.secrets.as_ref());
                return Err(failure);
            }
            pause(asking, self, end);
        }
    }

    fn min_ready(&self, folder: &Folder, time: Duration, cancelled: IsCancelled<'_>) -> StepResult<Waited> {
        let needed = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let mut asking = None;
        loop {
            let (mut record, secrets) = self.started(folder)?;
            let around = Surroundings { folder, record: &record, secrets: &secrets };
            let asking =
                asking.get_or_insert_with(|| Asking::of_ready(around.hands(), record.config().readiness.as_ref()));
            match asking.look(&around, self) {
                Look::Down(why) => return Err(died(folder, &mut record, &why)),
                Look::NotReady(why) => {
                    record.is_unready_now(folder, why.clone())?;
                    let why = format!("it was ready and is not any more: {why}");
                    return Err(StepFailure::new(Reason::NotReady, why));
                }
                Look::Ready | Look::NotYet(_) => {}
            }
            let Some(since) = record.ready_since() else {
                // Nobody saw when; it is ready now.
                record.is_ready_now(folder)?;
                continue;
            };
            let left = needed.saturating_sub(clock::uptime_millis().saturating_sub(since));
            if left == 0 {
                return Ok(Waited::Reached);
            }
            if cancelled() {
                return Ok(Waited::Cancelled);
            }
            pause(asking, self, clock::monotonic() + Duration::from_millis(left));
        }
    }
}

impl Commands {
    /// What is on record, where it is started; no watcher writes it meanwhile.
    fn started(&self, folder: &Folder) -> StepResult<(Record, Secrets)> {
        let record = Record::alone(folder, Reason::NotReady)?.filter(|record| self.is_started(&record.state));
        let record = record.ok_or_else(|| StepFailure::new(Reason::NotReady, "nothing is started in this folder"))?;
        if let Some(why) = self.is_elsewhere(folder, &record.state) {
            return Err(StepFailure::new(Reason::NotReady, why));
        }
        let secrets = record.secrets();
        Ok((record, secrets))
    }
}

fn died(folder: &Folder, record: &mut Record, why: &str) -> Box<StepFailure> {
    // What can't be written now shows at the next look.
    let _ = record.is_down_now(folder, why);
    let why = format!("the application ended, as its status command says ({why})");
    let mut failure = StepFailure::new(Reason::ProcessDied, why);
    failure.lines = keeper::told_lines(folder, record.config(), record.kept.secrets.as_ref());
    failure
}

/// Until something is to be asked, the end, or a look at whether the wait is to end early.
fn pause(asking: &Asking, commands: &Commands, end: std::time::Instant) {
    let until = asking.due(commands).min(end);
    let left = until.saturating_duration_since(clock::monotonic()).min(LOOK_INTERVAL);
    std::thread::sleep(left.max(Duration::from_millis(1)));
}
