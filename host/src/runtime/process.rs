//! A process below a keeper.

use std::{os::fd::AsFd, path::Path, time::Duration};

use landfall_host_protocol::{
    Configuration, Ended, FolderFacts, KeeperFacts, ProcessFacts, ProcessState, Reason, RunAs, RunAsMethod,
    Runtime as Kind, Secrets, Start, Stop,
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{StatVfsMountFlags, inotify},
    process::Signal,
};

use super::{IsCancelled, Patience, Runtime, Waited, configuration, shared};
use crate::{
    as_user, clock, facts,
    failure::{StepFailure, StepResult},
    files,
    folder::Folder,
    keeper::{self, Belonging, Order, Phase, State, Unended, Work},
    probe,
    process::{
        Found, Identity, boot_id, find, listening, start_time_now, suspected, suspected_beside, timespec, whose,
    },
    records::shell,
};

/// Beyond the grace period a keeper that was told to stand down may need this much for KILL, records and a slow machine.
const STAND_DOWN_TIMEOUT: Duration = Duration::from_secs(20);
/// Between two looks where nothing wakes us.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

pub(super) struct Process;

impl Runtime for Process {
    fn observe(&self, folder: &Folder, facts: &mut FolderFacts) {
        let Ok(Some(state)) = State::read(folder) else {
            facts.suspected = suspected(&folder.releases(), &[]);
            return;
        };
        observe(folder, &state, facts);
    }

    fn settle(&self, folder: &Folder, patience: &Patience, cancelled: IsCancelled<'_>) -> Waited {
        match settled(folder, Reason::Internal, patience, cancelled) {
            Ok(Settled::Cancelled) => Waited::Cancelled,
            // A record that can't be read is told by who acts on it.
            Ok(Settled::Record(_)) | Err(_) => Waited::Reached,
        }
    }

    fn check(&self, folder: &Folder, start: &Start) -> StepResult<()> {
        let Kind::Process(process) = &start.config.runtime else {
            return Err(StepFailure::new(Reason::Internal, "this is the runtime of processes"));
        };
        check_mount(folder)?;
        if facts::session_scoped() {
            let why = "SessionScoped: logind ends what this session starts (KillUserProcesses=yes); exclude the user by \
                       KillExcludeUsers in logind.conf, or use runtime systemd";
            return Err(StepFailure::new(Reason::HostUnsupported, why));
        }
        for probe in start.config.readiness.iter().chain(&start.config.liveness) {
            if let Some(why) = probe::unsupported(probe) {
                return Err(StepFailure::new(Reason::HostUnsupported, why));
            }
        }
        if crate::process::signal_of(&process.stop.signal).is_none() {
            return Err(StepFailure::new(
                Reason::HostUnsupported,
                format!("signal {} is not known", process.stop.signal),
            ));
        }
        check_program(folder, start, &process.command)?;
        if let Some(run_as) = &start.config.run_as {
            as_user::try_become(run_as).map_err(|why| StepFailure::new(Reason::HostUnsupported, why))?;
        }
        let known = || State::read(folder).ok().flatten().map(|state| everything(&state)).unwrap_or_default();
        let strangers = suspected_beside(&folder.releases(), known);
        if strangers.is_empty() { Ok(()) } else { Err(suspicion(strangers)) }
    }

    fn stop(&self, folder: &Folder) -> StepResult<Option<String>> {
        let Some(mut state) = read(folder, Reason::StopFailed)? else { return Ok(None) };
        let stop = stop_of(folder, &state);
        let limit = keeper::grace(&stop) + STAND_DOWN_TIMEOUT;
        if !keeper::stand_down(folder, &state, limit)? {
            // It is stuck. It would start again what we end, so it goes first; what it keeps is found before.
            end_without_keeper(folder, &mut state, &stop)?;
        }
        state = read(folder, Reason::StopFailed)?.unwrap_or(state);
        end_without_keeper(folder, &mut state, &stop)?;
        if state.phase != Phase::Stopped {
            state.phase = Phase::Stopped;
            state.ready_since = None;
            state.write(folder).map_err(|error| files::failure(Reason::StopFailed, &error, &folder.state()))?;
        }
        Ok(None)
    }

    fn start(&self, folder: &Folder, start: &Start, secrets: &Secrets, patience: &Patience) -> StepResult<()> {
        if let Settled::Record(Some(mut state)) = settled(folder, Reason::StartFailed, patience, &|| false)? {
            super::systemd::check_down(folder, &state)?;
            if runs(&state) {
                if is_same(&state, start) {
                    return attend(folder, Some(secrets), Work::Beside);
                }
                let pid = state.application.as_ref().map_or(0, |application| application.pid);
                let why = format!("another process of this project still runs (pid {pid})");
                return Err(StepFailure::new(Reason::StartFailed, why));
            }
            if state.phase == Phase::Completed && is_same(&state, start) {
                return Ok(());
            }
            // Its keeper starts it as soon as what the run before left has ended.
            let left = state.living_unended();
            if is_same(&state, start) && keeper::is_living(&state).is_some() && !left.is_empty() {
                return Err(keeper::unended(&left));
            }
            // R3, C2: what an earlier run left is ended before another one begins.
            let stop = stop_of(folder, &state);
            end_without_keeper(folder, &mut state, &stop)?;
        }
        let strangers = suspected(&folder.releases(), &[]);
        if !strangers.is_empty() {
            return Err(suspicion(strangers));
        }
        if let Some(key) = keeper::missing_secret(&start.config, Some(secrets)) {
            let why = format!("the secret value {key} is not on the host; the operator brings it");
            return Err(StepFailure::new(Reason::AwaitingSecrets, why));
        }
        check_port(&start.config)?;
        configuration::store(folder, &start.config, secrets)?;
        shared::prepare(folder, &start.config, secrets)?;
        let order =
            Order { work: Work::Start, start: start.clone(), uid: owner_uid(folder), secrets: Some(secrets.clone()) };
        keeper::start(folder, &order)
    }

    fn wait_ready(&self, folder: &Folder, timeout: Duration, cancelled: IsCancelled<'_>) -> StepResult<Waited> {
        let end = clock::monotonic() + timeout;
        let mut watch = Watch::new(folder);
        loop {
            let Some(state) = read(folder, Reason::NotReady)? else {
                return Err(StepFailure::new(Reason::NotReady, "nothing was started in this folder"));
            };
            match state.phase {
                Phase::Completed => return Ok(Waited::Reached),
                Phase::Running if runs(&state) => {}
                Phase::Running => {
                    // Its keeper is about to say how it ended; without one nobody will.
                    if keeper::is_living(&state).is_none() && is_settled(folder, &state) {
                        return Err(died(&state));
                    }
                }
                Phase::Waiting { .. } | Phase::Ended | Phase::Stopped => return Err(died(&state)),
            }
            if !state.strangers.is_empty() {
                let why = state.probe_failure.clone().unwrap_or_default();
                let mut failure = StepFailure::new(Reason::PortInUse, why);
                failure.strangers.clone_from(&state.strangers);
                return Err(failure);
            }
            if state.phase == Phase::Running && state.is_ready() && runs(&state) {
                return Ok(Waited::Reached);
            }
            if cancelled() {
                return Ok(Waited::Cancelled);
            }
            // Nobody else would ask its probe.
            attend(folder, None, Work::Beside)?;
            let left = end.saturating_duration_since(clock::monotonic());
            if left.is_zero() {
                return Err(not_ready(folder, &state, timeout));
            }
            watch.wait(&state, left);
        }
    }

    fn min_ready(&self, folder: &Folder, time: Duration, cancelled: IsCancelled<'_>) -> StepResult<Waited> {
        let needed = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let patience = Patience::default();
        let mut watch = Watch::new(folder);
        loop {
            let Some(state) = read(folder, Reason::NotReady)? else {
                return Err(StepFailure::new(Reason::NotReady, "nothing was started in this folder"));
            };
            let left = match (&state.phase, state.ready_since) {
                (Phase::Completed, _) => return Ok(Waited::Reached),
                (Phase::Running, Some(since)) if runs(&state) => {
                    let ready = clock::uptime_millis().saturating_sub(since);
                    if ready >= needed {
                        return Ok(Waited::Reached);
                    }
                    Duration::from_millis(needed - ready)
                }
                (Phase::Running, None) if runs(&state) => return Err(not_ready(folder, &state, time)),
                (Phase::Running, _) if keeper::is_living(&state).is_some() => {
                    patience.left(|| until_said(folder, &state)).min(LOOK_INTERVAL)
                }
                (Phase::Running, _) if !is_settled(folder, &state) => LOOK_INTERVAL,
                _ => return Err(died(&state)),
            };
            if cancelled() {
                return Ok(Waited::Cancelled);
            }
            if left.is_zero() {
                return Err(died(&state));
            }
            attend(folder, None, Work::Beside)?;
            watch.wait(&state, left);
        }
    }
}

fn read(folder: &Folder, reason: Reason) -> StepResult<Option<State>> {
    State::read(folder).map_err(|error| files::failure(reason, &error, &folder.state()))
}

enum Settled {
    /// `None`: nothing was ever started.
    Record(Option<Box<State>>),
    Cancelled,
}

/// The record, once it says what became of the application: its keeper ends what it left before it writes that. A keeper that is stuck is
/// waited for as long as there is patience.
fn settled(folder: &Folder, reason: Reason, patience: &Patience, cancelled: IsCancelled<'_>) -> StepResult<Settled> {
    let mut watch = Watch::new(folder);
    loop {
        let Some(state) = read(folder, reason)? else { return Ok(Settled::Record(None)) };
        let is_said = state.phase != Phase::Running || runs(&state);
        if is_said || keeper::is_living(&state).is_none() && is_settled(folder, &state) {
            return Ok(Settled::Record(Some(Box::new(state))));
        }
        if cancelled() {
            return Ok(Settled::Cancelled);
        }
        let left = patience.left(|| until_said(folder, &state));
        if left.is_zero() {
            return Ok(Settled::Record(Some(Box::new(state))));
        }
        watch.wait(&state, left);
    }
}

/// Within this time a keeper has ended what its application left, and said so.
fn until_said(folder: &Folder, state: &State) -> Duration {
    keeper::grace(&stop_of(folder, state)) + STAND_DOWN_TIMEOUT
}

/// The record is still this one: nobody wrote it between our two looks.
fn is_settled(folder: &Folder, state: &State) -> bool {
    State::read(folder).is_ok_and(|now| now.is_some_and(|now| now.counter == state.counter))
}

/// What is on record is what is to be started.
pub(super) fn is_same(state: &State, start: &Start) -> bool {
    state.digest == start.digest
        && state.config.as_ref() == Some(&start.config.hash)
        && state.revision == start.revision
        && state.redeploys == start.redeploys
}

/// The recorded application lives, or its keeper is about to start it.
pub(super) fn lives(state: &State) -> bool {
    runs(state) || keeper::is_living(state).is_some()
}

/// The recorded application lives.
fn runs(state: &State) -> bool {
    state.phase == Phase::Running
        && state.application.as_ref().is_some_and(|application| !matches!(find(application), Found::Dead))
}

fn run_as_of(folder: &Folder, state: &State) -> Option<RunAs> {
    known_run_as_of(folder, state).ok().flatten()
}

/// The error says that it can't be known.
pub(super) fn known_run_as_of(folder: &Folder, state: &State) -> Result<Option<RunAs>, String> {
    let Some(hash) = &state.config else {
        let of_shell = |(method, user): (String, String)| {
            let method = if method == "Su" { RunAsMethod::Su } else { RunAsMethod::Sudo };
            RunAs { method, user }
        };
        return Ok(shell::user(folder).map(of_shell));
    };
    match configuration::load(folder, hash) {
        Ok(Some(kept)) => Ok(kept.configuration.run_as),
        Ok(None) => Err("its configuration is not on the host any more".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn stop_of(folder: &Folder, state: &State) -> Stop {
    let kept = state.config.as_ref().and_then(|hash| configuration::load(folder, hash).ok().flatten());
    match kept.map(|kept| kept.configuration.runtime) {
        Some(Kind::Process(process)) => process.stop,
        _ => Stop::default(),
    }
}

/// By what processes of the recorded start are found without its keeper. Its session proves something only while its first process lives:
/// nobody saw it since.
fn belonging(state: &State) -> Belonging {
    let application = state.application.as_ref();
    let start_time_now = start_time_now();
    let lives = application.is_some_and(|application| matches!(find(application), Found::Alive(_)));
    let keeper = keeper::is_living(state);
    Belonging {
        instance: if state.application.as_ref().is_some_and(|application| application.boot_id == boot_id()) {
            state.instance.clone()
        } else {
            String::new()
        },
        session: application.filter(|_| lives).cloned(),
        session_seen: if lives { start_time_now } else { 0 },
        below: match &keeper {
            Some(keeper) => vec![keeper.identity().clone()],
            None => application.filter(|_| lives).cloned().into_iter().collect(),
        },
        except: keeper.iter().map(|keeper| keeper.identity().pid).collect(),
        known: state.living_unended(),
        apart: state.apart.clone(),
    }
}

/// Every living process that is proved to be of the recorded start, its keeper included.
pub(super) fn everything(state: &State) -> Vec<Identity> {
    let mut all = belonging(state).living();
    all.extend(state.application.iter().filter(|application| matches!(find(application), Found::Alive(_))).cloned());
    all.extend(keeper::is_living(state).map(|keeper| keeper.identity().clone()));
    all
}

/// Ends what lives of the recorded start, a stuck keeper first. What can't be ended is on record then.
fn end_without_keeper(folder: &Folder, state: &mut State, stop: &Stop) -> StepResult<()> {
    // Its keeper gave it its time.
    let had_its_time = state.phase == Phase::Stopped;
    let stop = Stop { grace_seconds: if had_its_time { 0 } else { stop.grace_seconds }, ..stop.clone() };
    let of = belonging(state);
    let before = everything(state);
    if let Some(keeper) = keeper::is_living(state) {
        let killed = keeper.signal(Signal::KILL).is_ok() && keeper.wait(STAND_DOWN_TIMEOUT);
        if !killed {
            return Err(keeper::unended(&[keeper.identity().clone()]));
        }
    }
    let run_as = run_as_of(folder, state);
    let mut hands = keeper::hands_of(run_as.as_ref(), &folder.log(0));
    let mut left = match keeper::end(hands.as_mut(), state.application.as_ref(), &of, &stop, &mut || None) {
        Ok(_) => Vec::new(),
        Err(Unended(left)) => left,
    };
    // What the keeper alone could find was seen before it went.
    let lives = |process: &Identity| matches!(find(process), Found::Alive(_));
    let more = || -> Vec<Identity> { before.iter().filter(|process| lives(process)).cloned().collect() };
    // Another user's are ended with his rights, never with ours: what he says may be a stranger.
    if run_as.is_none() && left.is_empty() && !crate::process::end_all(more, STAND_DOWN_TIMEOUT) {
        left = more();
    }
    if left.is_empty() && state.unended.is_empty() {
        return Ok(());
    }
    state.set_unended(left);
    let written = state.write(folder);
    if !state.unended.is_empty() {
        return Err(keeper::unended(&state.unended));
    }
    written.map_err(|error| files::failure(Reason::StopFailed, &error, &folder.state()))
}

/// The first few in words.
fn named(strangers: &[landfall_host_protocol::StrangerFacts]) -> String {
    let named = strangers.iter().map(|stranger| match stranger.pid {
        0 => stranger.what.clone(),
        pid => format!("{pid} ({})", stranger.what),
    });
    named.collect::<Vec<_>>().join(", ")
}

pub(super) fn suspicion(strangers: Vec<landfall_host_protocol::StrangerFacts>) -> Box<StepFailure> {
    let why = format!(
        "processes run from below the releases of this project and can't be proved to be ours; end them by hand: {}",
        named(&strangers)
    );
    let mut failure = StepFailure::new(Reason::LeftoverSuspected, why);
    failure.strangers = strangers;
    failure
}

pub(super) fn check_mount(folder: &Folder) -> StepResult<()> {
    let place = folder.releases();
    let existing = place.ancestors().find(|path| path.exists()).unwrap_or(folder.root());
    let noexec = rustix::fs::statvfs(existing).is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::NOEXEC));
    if noexec {
        let why = format!("{} is mounted noexec: no program of a release can run there", existing.display());
        return Err(StepFailure::new(Reason::HostUnsupported, why));
    }
    Ok(())
}

/// A program in the release is of this machine. One that is looked up in PATH, or is not there yet, is judged when it is started.
pub(super) fn check_program(folder: &Folder, start: &Start, command: &[String]) -> StepResult<()> {
    let Some(program) = command.first() else {
        return Err(StepFailure::new(Reason::StartFailed, "run.command is empty"));
    };
    let release = folder.release(&start.release);
    if program.contains('/')
        && let Some(why) = keeper::foreign_machine(&release.join(Path::new(program)))
    {
        return Err(StepFailure::new(Reason::ExecFormat, why));
    }
    Ok(())
}

/// Nobody else has the port that the application is asked on.
pub(super) fn check_port(configuration: &Configuration) -> StepResult<()> {
    let Some((address, port)) = configuration.readiness.as_ref().and_then(probe::target) else { return Ok(()) };
    if !address.is_loopback() {
        return Ok(());
    }
    let sockets = listening(address, port).unwrap_or_default();
    if sockets.is_empty() {
        return Ok(());
    }
    let strangers = whose(&sockets);
    let named = strangers.first().map_or_else(
        || "a process that may not be seen".to_owned(),
        |stranger| format!("pid {} ({})", stranger.pid, stranger.what),
    );
    let mut failure = StepFailure::new(Reason::PortInUse, format!("port {port} is in use by {named}"));
    failure.strangers = strangers;
    Err(failure)
}

/// uid of the Deployment that the folder belongs to.
pub(super) fn owner_uid(folder: &Folder) -> String {
    let owner: Option<landfall_host_protocol::Owner> = files::read_record(&folder.owner()).ok().flatten();
    owner.map(|owner| owner.uid).unwrap_or_default()
}

fn died(state: &State) -> Box<StepFailure> {
    let Some(ended) = &state.last_end else {
        return StepFailure::new(Reason::ProcessDied, "the application ended, and nobody saw how");
    };
    let mut why = format!("the application {}", ended.in_words());
    if state.left > 0 && !state.unended.is_empty() {
        why.push_str(&format!("; {}", keeper::unended(&state.unended).why));
    } else if state.left > 0 {
        why.push_str(&format!(
            " and left {} processes, which were ended; run it in the foreground, without & and nohup",
            state.left
        ));
    }
    let mut failure = StepFailure::new(Reason::ProcessDied, why);
    failure.lines.clone_from(&ended.lines);
    failure.ended = Some(Ended { lines: Vec::new(), ..ended.clone() });
    failure
}

fn not_ready(folder: &Folder, state: &State, timeout: Duration) -> Box<StepFailure> {
    let said = state.probe_failure.clone().unwrap_or_else(|| "its readiness probe was not answered".to_owned());
    let why = if state.was_ready {
        format!("the application was ready and is not any more: {said}")
    } else {
        format!("the application was not ready within {} s: {said}", timeout.as_secs())
    };
    let mut failure = StepFailure::new(Reason::NotReady, why);
    failure.lines = keeper::tail(folder);
    failure
}

pub(super) fn clear_data(folder: &Folder) -> StepResult<()> {
    let Some(state) = read(folder, Reason::Internal)? else { return Ok(()) };
    shared::clear_data(folder, run_as_of(folder, &state).as_ref())
}

/// Puts a keeper beside what runs without one.
pub(super) fn attend(folder: &Folder, secrets: Option<&Secrets>, work: Work) -> StepResult<()> {
    let Some(state) = read(folder, Reason::StartFailed)? else { return Ok(()) };
    if !runs(&state) || keeper::is_living(&state).is_some() {
        return Ok(());
    }
    let Some(hash) = &state.config else { return Ok(()) };
    let path = folder.config(hash);
    let kept = configuration::load(folder, hash).map_err(|error| files::failure(Reason::StartFailed, &error, &path))?;
    let Some(kept) = kept else { return Ok(()) };
    let secrets = secrets.cloned().or(kept.secrets);
    let start = Start {
        release: state.release.clone(),
        digest: state.digest.clone(),
        config: kept.configuration,
        revision: state.revision,
        redeploys: state.redeploys,
        attempt: state.attempt,
    };
    keeper::start(folder, &Order { work, start, uid: state.uid, secrets })
}

fn observe(folder: &Folder, state: &State, facts: &mut FolderFacts) {
    let mut keeper = keeper::is_living(state);
    // A keeper that has nothing more to do writes what became of its application, and ends: the record may be older than that.
    let again = match keeper.is_none() && matches!(state.phase, Phase::Running | Phase::Waiting { .. }) {
        true => read(folder, Reason::Internal).ok().flatten(),
        false => None,
    };
    let state = again.as_ref().unwrap_or(state);
    if again.is_some() {
        keeper = keeper::is_living(state);
    }
    let runs = runs(state);
    facts.keeper = keeper.as_ref().zip(state.keeper.as_ref()).map(|(handle, record)| KeeperFacts {
        pid: handle.identity().pid,
        start: handle.identity().start,
        program: record.program.clone(),
        parent: record.parent,
    });
    let process_state = match &state.phase {
        Phase::Running if runs => ProcessState::Running,
        // Its keeper is about to say what follows.
        Phase::Running if keeper.is_some() => ProcessState::Waiting { until_millis: 0, reason: state.waiting },
        Phase::Waiting { at } if keeper.is_some() => ProcessState::Waiting { until_millis: *at, reason: state.waiting },
        Phase::Running | Phase::Waiting { .. } | Phase::Ended => ProcessState::Ended,
        Phase::Completed => ProcessState::Completed,
        Phase::Stopped => ProcessState::Stopped,
    };
    let completed = process_state == ProcessState::Completed;
    let ready = state.is_ready() && (runs || completed);
    // A walk through all of /proc, which a look at an application that runs is spared; an update looks before it acts.
    if !runs && keeper.is_none() {
        let everything = everything(state);
        facts.survivors = crate::process::describe_all(&everything);
        facts.suspected = suspected(&folder.releases(), &everything);
    } else if !state.unended.is_empty() {
        facts.survivors = crate::process::describe_all(&state.living_unended());
    }
    let kept = state.config.as_ref().and_then(|hash| configuration::load(folder, hash).ok().flatten());
    let needs = kept.is_some_and(|kept| keeper::missing_secret(&kept.configuration, kept.secrets.as_ref()).is_some());
    facts.awaiting_secrets = state.awaiting_secrets || needs && process_state == ProcessState::Ended;
    let mut process = facts_of(state, process_state, ready);
    if matches!(state.phase, Phase::Running) && matches!(process.state, ProcessState::Waiting { .. }) {
        // What is on record is the end of a run before this one.
        process.last_end = None;
    }
    facts.process = Some(process);
}

/// What is on record, with what is true of it now.
pub(super) fn facts_of(state: &State, process_state: ProcessState, ready: bool) -> ProcessFacts {
    let runs = process_state == ProcessState::Running;
    let nobody = Identity { pid: 0, start: 0, boot_id: String::new() };
    let identity = state.application.as_ref().unwrap_or(&nobody);
    ProcessFacts {
        pid: identity.pid,
        start: identity.start,
        boot_id: identity.boot_id.clone(),
        release: state.release.clone(),
        digest: state.digest.clone(),
        config: state.config.clone(),
        uid: state.uid.clone(),
        revision: state.revision,
        redeploys: state.redeploys,
        attempt: state.attempt,
        state: process_state,
        ready,
        ready_since: state.ready_since.filter(|_| ready),
        unready_since: state.unready_since.filter(|_| runs && !ready),
        was_ready: state.was_ready,
        restarts: state.restarts,
        last_end: state.last_end.clone(),
        probe_failure: state.probe_failure.clone(),
    }
}

/// Wakes when the record changes or the keeper dies.
struct Watch {
    changes: Option<std::os::fd::OwnedFd>,
}

impl Watch {
    fn new(folder: &Folder) -> Self {
        let watch = || {
            let changes = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
            inotify::add_watch(&changes, folder.dot(), inotify::WatchFlags::MOVED_TO)?;
            rustix::io::Result::Ok(changes)
        };
        Self { changes: watch().ok() }
    }

    fn wait(&mut self, state: &State, left: Duration) {
        let keeper = keeper::is_living(state);
        let mut fds = Vec::new();
        if let Some(changes) = &self.changes {
            fds.push(PollFd::from_borrowed_fd(changes.as_fd(), PollFlags::IN));
        }
        if let Some(pidfd) = keeper.as_ref().and_then(|keeper| keeper.pidfd()) {
            fds.push(PollFd::from_borrowed_fd(pidfd, PollFlags::IN));
        }
        // A cancel and a change between two looks are seen this late at most.
        let _ = poll(&mut fds, Some(&timespec(left.min(LOOK_INTERVAL))));
        drop(fds);
        if let Some(changes) = &self.changes {
            let mut buffer = [0u8; 4096];
            while matches!(rustix::io::read(changes, &mut buffer), Ok(read) if read > 0) {}
        }
    }
}
