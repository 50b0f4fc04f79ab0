//! One command of an application, run to its end or asked for its answer, as the application's user. All of a command that takes too long is
//! ended; what one that came to its end leaves running stays. What it prints is the application's log, within the log's limits.

use std::time::{Duration, Instant};

use landfall_host_protocol::{EnvValue, EnvVar, Reason, Secrets};

use super::{Command, Record};
use crate::{
    clock,
    failure::{StepFailure, StepResult},
    files,
    folder::Folder,
    gate,
    keeper::{self, Belonging, Executed, Exit, Hands, hands_of, launch::Launch},
    mask::mask,
    probe::Tried,
    process::{Found, Identity, find, signal_name},
};

/// Between two looks at a command that may not be seen.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Between two looks at the log's length while a command prints.
const ROTATE_INTERVAL: Duration = Duration::from_millis(250);
/// After KILL.
const END_TIMEOUT: Duration = Duration::from_secs(10);
/// Exit statuses by which a shell says that it could not run the command.
const NOT_RUN: [i32; 2] = [126, 127];

/// What the status command says of the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Runs {
    Yes,
    No(String),
    /// It did not come to an answer.
    Unknown(String),
}

/// What a command is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    Start,
    Stop,
    Reload,
}

impl For {
    fn gate(self) -> &'static str {
        match self {
            Self::Start => "script.start",
            Self::Stop => "script.stop",
            Self::Reload => "static.reload",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Reload => "reload",
        }
    }

    fn reason(self) -> Reason {
        match self {
            Self::Start | Self::Reload => Reason::StartFailed,
            Self::Stop => Reason::StopFailed,
        }
    }
}

/// What carries this mark is of a stop command, and not of the application.
pub(super) fn stop_mark(record: &Record) -> String {
    format!("{}.stop", record.state.instance)
}

/// The same of what is asked.
pub(super) fn asking_mark(record: &Record) -> String {
    format!("{}.status", record.state.instance)
}

/// What commands are run with. A start brings all secret values; who only looks or stops has those that are kept on the host.
pub(super) struct Surroundings<'a> {
    pub(super) folder: &'a Folder,
    pub(super) record: &'a Record,
    pub(super) secrets: &'a Secrets,
}

impl Surroundings<'_> {
    pub(super) fn hands(&self) -> Box<dyn Hands> {
        hands_of(self.record.config().run_as.as_ref(), &self.folder.log(0))
    }

    fn launch(&self, command: &[String], mark: &str) -> Result<Launch, String> {
        let is_here = |variable: &EnvVar| match &variable.value {
            EnvValue::Plain(_) => true,
            EnvValue::Secret(key) => self.secrets.0.contains_key(key),
        };
        let mut config = self.record.config().clone();
        config.env.retain(is_here);
        let env = keeper::environment(&config, self.secrets, mark)?;
        Ok(Launch { command: command.to_vec(), env, folder: self.folder.release(&self.record.state.release) })
    }

    /// Runs a command to its end.
    pub(super) fn run(&self, command: &Command, what: For) -> StepResult<()> {
        let mut came = Ok(());
        let passed = gate::pass(what.gate(), || {
            came = self.run_now(command, what);
            Ok(())
        });
        passed.map_err(|error| files::failure(what.reason(), &error, &self.folder.path()))?;
        came
    }

    fn run_now(&self, command: &Command, what: For) -> StepResult<()> {
        let reason = what.reason();
        let path = self.folder.log(0);
        let io_failed = |error: std::io::Error| files::failure(reason, &error, &path);
        let mark = match what {
            For::Start | For::Reload => self.record.state.instance.clone(),
            For::Stop => stop_mark(self.record),
        };
        let mut hands = self.hands();
        if what == For::Stop {
            // One that lost its runner, or it would run beside itself.
            let of = Belonging { instance: mark.clone(), ..Belonging::default() };
            hands.end_all(&of, END_TIMEOUT);
        }
        let log = gate::pass("log.begin", || {
            use std::io::Write as _;
            let mut log = keeper::open_log(self.folder)?;
            let _ = keeper::rotate_log(self.folder, &self.record.config().log);
            let state = &self.record.state;
            let (release, revision, redeploys) = (&state.release, state.revision, state.redeploys);
            // (What is told of an output begins behind such a line.)
            writeln!(
                log,
                "=== landfall starts {release}, rollout {revision}.{redeploys}: its {} command",
                what.name()
            )?;
            Ok(log)
        })
        .map_err(io_failed)?;
        let failed = |why: String| {
            let mut failure = StepFailure::new(reason, format!("{} ({}): {why}", what.name(), command.shown()));
            failure.lines = keeper::told_lines(self.folder, self.record.config(), Some(self.secrets));
            failure
        };
        let launch = self.launch(&command.words, &mark).map_err(&failed)?;
        let process = hands.prepare(&log).map_err(|error| failed(error.to_string()))?;
        drop(log);
        hands.go(&launch).map_err(|error| failed(error.why))?;
        if !self.wait(&process, command.limit) {
            let of = Belonging { session: Some(process), instance: mark, ..Belonging::default() };
            let is_gone = hands.end_all(&of, END_TIMEOUT);
            let ended = if is_gone { "it was ended" } else { "not all of it can be ended" };
            return Err(failed(format!("not done within {} s; {ended}", command.limit.as_secs())));
        }
        match hands.reap(process.pid) {
            Some(Exit { status: Some(0), .. }) => Ok(()),
            Some(Exit { status: Some(status), .. }) => Err(failed(format!("exit status {status}"))),
            Some(Exit { signal: Some(signal), .. }) => Err(failed(format!("killed by SIG{}", signal_name(signal)))),
            Some(_) | None => Err(failed("ended, and nobody saw how".to_owned())),
        }
    }

    /// False: it has not ended in time.
    fn wait(&self, process: &Identity, limit: Duration) -> bool {
        let end = clock::monotonic() + limit;
        loop {
            let left = end.saturating_duration_since(clock::monotonic());
            match find(process) {
                Found::Dead => return true,
                _ if left.is_zero() => return false,
                Found::Alive(handle) => {
                    handle.wait(left.min(ROTATE_INTERVAL));
                }
                Found::Hidden => std::thread::sleep(LOOK_INTERVAL.min(left)),
            }
            let _ = keeper::rotate_log(self.folder, &self.record.config().log);
        }
    }

    /// Asks whether it runs.
    pub(super) fn runs(&self, hands: &mut dyn Hands, status: &Command, limit: Duration) -> Runs {
        let limit = limit.min(status.limit);
        let launch = match self.launch(&status.words, &asking_mark(self.record)) {
            Ok(launch) => launch,
            Err(why) => return Runs::Unknown(why),
        };
        let executed = hands.execute(&launch, limit, &[]);
        if executed == Executed::TimedOut {
            self.end_asked(hands);
        }
        // One that was killed, or that a shell did not find, has answered nothing.
        let is_answer = matches!(&executed, Executed::Ended { exit: Exit { status: Some(status), .. }, .. } if !NOT_RUN.contains(status));
        match self.told(executed).tried(&status.words, limit).masked(self.secrets) {
            Tried::Yes => Runs::Yes,
            Tried::No(why) if is_answer => Runs::No(why),
            Tried::No(why) | Tried::Unasked(why) => Runs::Unknown(why),
            Tried::Interrupted => Runs::Unknown("interrupted".to_owned()),
        }
    }

    /// One try of a probe's command.
    pub(super) fn try_command(&self, hands: &mut dyn Hands, command: &[String], limit: Duration) -> Tried {
        let launch = match self.launch(command, &asking_mark(self.record)) {
            Ok(launch) => launch,
            Err(why) => return Tried::Unasked(format!("its probe can't be asked: {why}")),
        };
        let executed = hands.execute(&launch, limit, &[]);
        if executed == Executed::TimedOut {
            self.end_asked(hands);
        }
        self.told(executed).tried(command, limit)
    }

    /// What a command printed is told where every value that may be in it can be masked.
    fn told(&self, executed: Executed) -> Executed {
        match keeper::missing_secret(self.record.config(), Some(self.secrets)) {
            Some(_) => executed.silent(),
            None => executed,
        }
    }

    /// What left the group of a question that was not answered.
    pub(super) fn end_asked(&self, hands: &mut dyn Hands) {
        let of = Belonging { instance: asking_mark(self.record), ..Belonging::default() };
        hands.end_all(&of, END_TIMEOUT);
    }

    pub(super) fn masked(&self, mut text: String) -> String {
        mask(self.secrets, &mut text);
        text
    }
}

/// Asks a second time before a no is believed: a status command may fail in the moment in which the application writes its files.
pub(super) fn confirmed(pause: Duration, mut ask: impl FnMut() -> Runs) -> Runs {
    match ask() {
        Runs::No(_) => {
            std::thread::sleep(pause);
            ask()
        }
        other => other,
    }
}

/// Asks until it does not run any more, or the time is over; what was said last. `had_answered`: without an answer it is asked again, for the
/// command has given some.
pub(super) fn until_down(end: Instant, pause: Duration, had_answered: bool, mut ask: impl FnMut() -> Runs) -> Runs {
    loop {
        let said = ask();
        let left = end.saturating_duration_since(clock::monotonic());
        let again = match said {
            Runs::Yes => true,
            Runs::No(_) => false,
            Runs::Unknown(_) => had_answered,
        };
        if !again || left.is_zero() {
            return said;
        }
        std::thread::sleep(pause.min(left));
    }
}
