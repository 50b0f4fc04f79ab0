//! Applications that a command starts, stops and looks at (`script`), and files that something else serves (`static`). No keeper stands above
//! them: what they leave behind is found by the mark alone, and nobody starts them again by himself.

use std::time::Duration;

use landfall_host_protocol::{
    Configuration, EnvValue, EnvVar, FolderFacts, Probe, ProbeAction, ProcessFacts, ProcessState, Reason, RunAs,
    ScriptRuntime, Secrets, Start, StaticRuntime, Stop,
};

use super::{IsCancelled, Patience, Runtime, Waited, configuration, process, shared};
use crate::{
    as_user, clock,
    failure::{StepFailure, StepResult},
    files,
    folder::Folder,
    keeper::{self, Belonging, Exit, Phase, State, Tries, hands_of, launch::Launch},
    probe::{self, Tried},
    process::{Found, boot_id, find, instance_value, signal_name},
};

/// Between two looks at what is waited for.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Which of the two it is, with its commands.
pub(super) enum Commands {
    Script { start: Vec<String>, stop: Vec<String>, status: Vec<String>, timeout: Duration },
    Static { reload: Vec<String>, timeout: Duration },
}

impl Commands {
    pub(super) fn script(script: &ScriptRuntime) -> Self {
        Self::Script {
            start: script.start.clone(),
            stop: script.stop.clone(),
            status: script.status.clone(),
            timeout: seconds(script.timeout_seconds),
        }
    }

    pub(super) fn files(files: &StaticRuntime) -> Self {
        Self::Static { reload: files.reload.clone(), timeout: seconds(files.timeout_seconds) }
    }
}

fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(u64::from(seconds.max(1)))
}

/// What commands of a start are run with.
struct Surroundings<'a> {
    folder: &'a Folder,
    state: &'a State,
    config: &'a Configuration,
    secrets: &'a Secrets,
}

impl Surroundings<'_> {
    fn launch(&self, command: &[String]) -> StepResult<Launch> {
        // A start has all of them; who only looks or stops has those that are kept on the host.
        let is_here = |variable: &EnvVar| match &variable.value {
            EnvValue::Plain(_) => true,
            EnvValue::Secret(key) => self.secrets.0.contains_key(key),
        };
        let mut config = self.config.clone();
        config.env.retain(is_here);
        let env = keeper::environment(&config, self.secrets, &self.state.instance)
            .map_err(|why| StepFailure::new(Reason::StartFailed, why))?;
        Ok(Launch { command: command.to_vec(), env, folder: self.folder.release(&self.state.release) })
    }

    /// Runs a command to its end; what it prints goes to the application's log. What it leaves running stays.
    fn run(&self, command: &[String], timeout: Duration, reason: Reason) -> StepResult<()> {
        let failed = |why: String| {
            let mut failure = StepFailure::new(reason, format!("{}: {why}", command.join(" ")));
            failure.lines = keeper::tail(self.folder);
            failure
        };
        let path = self.folder.log(0);
        let log = keeper::open_log(self.folder).map_err(|error| files::failure(reason, &error, &path))?;
        let launch = self.launch(command)?;
        let mut hands = hands_of(self.config.run_as.as_ref(), &path);
        let identity = hands.prepare(&log).map_err(|error| failed(error.to_string()))?;
        hands.go(&launch).map_err(|error| failed(error.why))?;
        let end = clock::monotonic() + timeout;
        loop {
            let left = end.saturating_duration_since(clock::monotonic());
            match find(&identity) {
                Found::Dead => break,
                _ if left.is_zero() => {
                    // It hangs; of its session nothing stays.
                    let of = Belonging { session: Some(identity.clone()), ..Belonging::default() };
                    hands.end_all(&of, Duration::from_secs(10));
                    return Err(failed(format!("not done within {} s; it was ended", timeout.as_secs())));
                }
                Found::Alive(handle) => {
                    handle.wait(left);
                }
                Found::Hidden => std::thread::sleep(LOOK_INTERVAL.min(left)),
            }
        }
        match hands.reap(identity.pid) {
            Some(Exit { status: Some(0), .. }) => Ok(()),
            Some(Exit { status: Some(status), .. }) => Err(failed(format!("exit status {status}"))),
            Some(Exit { signal: Some(signal), .. }) => Err(failed(format!("killed by SIG{}", signal_name(signal)))),
            Some(_) | None => Err(failed("ended, and nobody saw how".to_owned())),
        }
    }

    /// Asks a command that changes nothing; the error is what it said.
    fn ask(&self, command: &[String], timeout: Duration) -> Result<(), String> {
        let launch = self.launch(command).map_err(|failure| failure.why)?;
        let mut hands = hands_of(self.config.run_as.as_ref(), &self.folder.log(0));
        match hands.execute(&launch, timeout, &[]).tried(command, timeout) {
            Tried::Yes => Ok(()),
            Tried::No(why) | Tried::Unasked(why) => Err(why),
            Tried::Interrupted => Err("interrupted".to_owned()),
        }
    }

    /// Whether it runs, as its own command says.
    fn runs(&self, commands: &Commands) -> Result<(), String> {
        match commands {
            Commands::Script { status, timeout, .. } => self.ask(status, *timeout),
            Commands::Static { .. } => Ok(()),
        }
    }

    /// One try of a probe.
    fn try_probe(&self, probe: &Probe) -> Tried {
        let timeout = probe::timeout(probe);
        match &probe.action {
            ProbeAction::Exec { command } => self.ask(command, timeout).map_or_else(Tried::No, |()| Tried::Yes),
            action => probe::connect(action, timeout, &[]),
        }
    }
}

/// What a look at its readiness comes to.
enum Look {
    Ready,
    /// Too few answers yet, and what was said last.
    NotYet(String),
    NotReady(String),
}

/// Its readiness, asked by who waits, for no keeper does.
struct Readiness {
    /// `None`: it has no probe, and is ready while it runs.
    tries: Option<Tries>,
    last: Tried,
}

impl Readiness {
    fn new(probe: Option<&Probe>) -> Self {
        let tries = probe.map(|probe| Tries::new(probe, clock::monotonic()));
        Self { tries, last: Tried::Unasked("its readiness probe was not asked yet".to_owned()) }
    }

    /// Of one that was ready when it was asked last.
    fn of_ready(probe: Option<&Probe>) -> Self {
        let mut readiness = Self::new(probe);
        if let Some(tries) = &mut readiness.tries {
            (tries.answer, tries.due) = (Some(true), clock::monotonic());
        }
        readiness
    }

    fn look(&mut self, surroundings: &Surroundings<'_>, commands: &Commands) -> Look {
        if let Err(why) = surroundings.runs(commands) {
            return Look::NotReady(why);
        }
        let Some(tries) = &mut self.tries else { return Look::Ready };
        let now = clock::monotonic();
        if now >= tries.due {
            self.last = surroundings.try_probe(&tries.probe);
            tries.take(&self.last, now, clock::monotonic(), true);
        }
        let why = match &self.last {
            Tried::No(why) | Tried::Unasked(why) => why.clone(),
            Tried::Yes | Tried::Interrupted => tries.progress().unwrap_or_default(),
        };
        match tries.answer {
            Some(true) => Look::Ready,
            Some(false) => Look::NotReady(why),
            None => Look::NotYet(why),
        }
    }
}

/// What is on record of this folder; the configuration with it.
fn recorded(folder: &Folder, reason: Reason) -> StepResult<Option<(State, configuration::Kept)>> {
    let failed = |error: std::io::Error| files::failure(reason, &error, &folder.dot());
    let Some(state) = State::read(folder).map_err(failed)? else { return Ok(None) };
    let Some(hash) = state.config.clone() else { return Ok(None) };
    let kept = configuration::load(folder, &hash).map_err(failed)?;
    Ok(kept.map(|kept| (state, kept)))
}

fn write(folder: &Folder, state: &mut State, reason: Reason) -> StepResult<()> {
    state.write(folder).map_err(|error| files::failure(reason, &error, &folder.state()))
}

/// It was started in this boot, and not stopped since.
fn is_started(commands: &Commands, state: &State) -> bool {
    let survives_boots = matches!(commands, Commands::Static { .. });
    let of_this_boot = state.keeper.is_none() && state.booted.as_deref() == Some(boot_id());
    state.phase == Phase::Running && (survives_boots || of_this_boot)
}

/// In this boot's time: files are served since before it.
fn ready_since(state: &State) -> Option<u64> {
    let is_of_this_boot = state.booted.as_deref() == Some(boot_id());
    state.ready_since.map(|since| if is_of_this_boot { since } else { 0 })
}

/// Processes that carry this start's mark.
fn left(state: &State) -> Belonging {
    Belonging { instance: state.instance.clone(), known: state.living_unended(), ..Belonging::default() }
}

/// What can't be ended is on record then.
fn end_left(folder: &Folder, state: &mut State, run_as: Option<&RunAs>) -> StepResult<()> {
    let mut hands = hands_of(run_as, &folder.log(0));
    let ended = keeper::end(hands.as_mut(), None, &left(state), &Stop::default(), &mut || None);
    let unended = ended.err().map(|keeper::Unended(left)| left).unwrap_or_default();
    if unended == state.unended {
        return if unended.is_empty() { Ok(()) } else { Err(keeper::unended(&unended)) };
    }
    state.set_unended(unended);
    let written = write(folder, state, Reason::StopFailed);
    if state.unended.is_empty() { written } else { Err(keeper::unended(&state.unended)) }
}

impl Runtime for Commands {
    fn observe(&self, folder: &Folder, facts: &mut FolderFacts) {
        let Ok(Some((state, kept))) = recorded(folder, Reason::Internal) else { return };
        let secrets = kept.secrets.clone().unwrap_or_default();
        let surroundings = Surroundings { folder, state: &state, config: &kept.configuration, secrets: &secrets };
        let started = is_started(self, &state);
        let runs = started
            && match self {
                Self::Script { status, timeout, .. } => surroundings.ask(status, *timeout).is_ok(),
                Self::Static { .. } => true,
            };
        let process_state = match state.phase {
            Phase::Running if runs => ProcessState::Running,
            Phase::Stopped => ProcessState::Stopped,
            _ => ProcessState::Ended,
        };
        if !runs {
            facts.survivors = crate::process::describe_all(&left(&state).living());
        }
        let ready = runs && state.is_ready();
        let facts_of = process::facts_of(&state, process_state, ready);
        facts.process = Some(ProcessFacts { ready_since: ready_since(&state).filter(|_| ready), ..facts_of });
    }

    fn check(&self, folder: &Folder, start: &Start) -> StepResult<()> {
        let needed = match self {
            Self::Script { start, stop, status, .. } => vec![start, stop, status],
            Self::Static { .. } => Vec::new(),
        };
        if needed.iter().any(|command| command.is_empty()) {
            return Err(StepFailure::new(Reason::HostUnsupported, "start, stop and status must all be commands"));
        }
        if matches!(self, Self::Script { .. }) {
            process::check_mount(folder)?;
        }
        if let Some(why) = start.config.readiness.as_ref().and_then(probe::unsupported) {
            return Err(StepFailure::new(Reason::HostUnsupported, why));
        }
        if let Some(run_as) = &start.config.run_as {
            as_user::try_become(run_as).map_err(|why| StepFailure::new(Reason::HostUnsupported, why))?;
        }
        Ok(())
    }

    fn stop(&self, folder: &Folder) -> StepResult<()> {
        let Some((mut state, kept)) = recorded(folder, Reason::StopFailed)? else { return Ok(()) };
        let secrets = kept.secrets.clone().unwrap_or_default();
        if is_started(self, &state)
            && let Self::Script { stop, timeout, .. } = self
        {
            let surroundings = Surroundings { folder, state: &state, config: &kept.configuration, secrets: &secrets };
            surroundings.run(stop, *timeout, Reason::StopFailed)?;
        }
        end_left(folder, &mut state, kept.configuration.run_as.as_ref())?;
        if state.phase != Phase::Stopped {
            state.phase = Phase::Stopped;
            state.ready_since = None;
            write(folder, &mut state, Reason::StopFailed)?;
        }
        Ok(())
    }

    fn start(&self, folder: &Folder, start: &Start, secrets: &Secrets, _: &Patience) -> StepResult<()> {
        let mut before =
            State::read(folder).map_err(|error| files::failure(Reason::StartFailed, &error, &folder.state()))?;
        if let Some(state) = &mut before {
            super::systemd::check_down(folder, state)?;
            if is_started(self, state) {
                if process::is_same(state, start) {
                    return Ok(());
                }
                let why = format!("{} of this project is still started", state.release);
                return Err(StepFailure::new(Reason::StartFailed, why));
            }
            end_left(folder, state, start.config.run_as.as_ref())?;
        }
        if let Some(key) = keeper::missing_secret(&start.config, Some(secrets)) {
            let why = format!("the secret value {key} is not on the host; the operator brings it");
            return Err(StepFailure::new(Reason::AwaitingSecrets, why));
        }
        configuration::store(folder, &start.config, secrets)?;
        shared::prepare(folder, &start.config, secrets)?;
        let instance = instance_value()
            .map_err(|error| StepFailure::new(Reason::StartFailed, format!("/dev/urandom: {error}")))?;
        let uid = process::owner_uid(folder);
        let mut state = State::new(start, uid, instance, before.map_or(0, |state| state.counter));
        state.booted = Some(boot_id().to_owned());
        // On record before it runs: what a start that is cut off leaves is found by its mark.
        write(folder, &mut state, Reason::StartFailed)?;
        let surroundings = Surroundings { folder, state: &state, config: &start.config, secrets };
        match self {
            Self::Script { start, timeout, .. } => surroundings.run(start, *timeout, Reason::StartFailed)?,
            Self::Static { reload, .. } if reload.is_empty() => {}
            Self::Static { reload, timeout } => surroundings.run(reload, *timeout, Reason::StartFailed)?,
        }
        state.phase = Phase::Running;
        write(folder, &mut state, Reason::StartFailed)
    }

    fn wait_ready(&self, folder: &Folder, timeout: Duration, cancelled: IsCancelled<'_>) -> StepResult<Waited> {
        let end = clock::monotonic() + timeout;
        let mut readiness = None;
        loop {
            let Some((mut state, kept)) =
                recorded(folder, Reason::NotReady)?.filter(|(state, _)| is_started(self, state))
            else {
                return Err(StepFailure::new(Reason::NotReady, "nothing is started in this folder"));
            };
            let readiness = readiness.get_or_insert_with(|| Readiness::new(kept.configuration.readiness.as_ref()));
            let secrets = kept.secrets.clone().unwrap_or_default();
            let surroundings = Surroundings { folder, state: &state, config: &kept.configuration, secrets: &secrets };
            let why = match readiness.look(&surroundings, self) {
                Look::Ready => {
                    if !state.is_ready() {
                        state.ready_since = Some(clock::uptime_millis());
                        state.was_ready = true;
                        write(folder, &mut state, Reason::NotReady)?;
                    }
                    return Ok(Waited::Reached);
                }
                Look::NotYet(why) | Look::NotReady(why) => why,
            };
            if cancelled() {
                return Ok(Waited::Cancelled);
            }
            if clock::monotonic() >= end {
                let mut failure =
                    StepFailure::new(Reason::NotReady, format!("not ready within {} s: {why}", timeout.as_secs()));
                failure.lines = keeper::tail(folder);
                return Err(failure);
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    fn min_ready(&self, folder: &Folder, time: Duration, cancelled: IsCancelled<'_>) -> StepResult<Waited> {
        let needed = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let mut readiness = None;
        loop {
            let Some((mut state, kept)) =
                recorded(folder, Reason::NotReady)?.filter(|(state, _)| is_started(self, state))
            else {
                return Err(StepFailure::new(Reason::NotReady, "nothing is started in this folder"));
            };
            let readiness = readiness.get_or_insert_with(|| Readiness::of_ready(kept.configuration.readiness.as_ref()));
            let secrets = kept.secrets.clone().unwrap_or_default();
            let surroundings = Surroundings { folder, state: &state, config: &kept.configuration, secrets: &secrets };
            if let Look::NotReady(why) = readiness.look(&surroundings, self) {
                state.ready_since = None;
                write(folder, &mut state, Reason::NotReady)?;
                return Err(StepFailure::new(Reason::NotReady, format!("it was ready and is not any more: {why}")));
            }
            let Some(since) = ready_since(&state) else {
                // Nobody saw when; it is ready now.
                state.ready_since = Some(clock::uptime_millis());
                write(folder, &mut state, Reason::NotReady)?;
                continue;
            };
            if clock::uptime_millis().saturating_sub(since) >= needed {
                return Ok(Waited::Reached);
            }
            if cancelled() {
                return Ok(Waited::Cancelled);
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
    }
}
