//! A command of the user's: run with its output as events, ended with its process group when its time is over. It gets nothing of ours
//! but what it is given here.

use std::{
    collections::VecDeque,
    fs::File,
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::process::CommandExt as _,
        unix::process::ExitStatusExt as _,
    },
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use landfall_host_protocol::{EventKind, RunAs};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, Signal, kill_process_group},
};

use super::{
    Context,
    left::{self, Running},
    lines::{Line, Lines},
};
use crate::{
    as_user::AsUser,
    clock, core_dumps,
    keeper::{self, Exit, Hands as _, launch::Launch},
    mask::mask,
    process::{Found, Identity, MARK, find, signal_name},
};

/// Last lines that a failure shows.
const SHOWN_LINES: usize = 20;
const PIECE: usize = 16 << 10;
/// How long output is read on once the command has ended: what it left running may hold the pipe for ever.
const DRAIN_TIME: Duration = Duration::from_millis(200);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// After KILL.
const KILL_TIME: Duration = Duration::from_secs(10);

/// What is run.
pub(super) struct Spec<'a> {
    pub(super) command: &'a [String],
    /// Where it is run.
    pub(super) folder: &'a Path,
    pub(super) environment: Vec<(String, String)>,
    pub(super) run_as: Option<&'a RunAs>,
    pub(super) timeout: Duration,
}

/// Why a command did not do its work.
pub(super) struct Failed {
    pub(super) why: String,
    /// Last lines of its output.
    pub(super) lines: Vec<String>,
}

/// Runs a command to its end.
pub(super) fn run(context: &Context<'_>, spec: &Spec<'_>) -> Result<(), Failed> {
    let mut output = Output { context, last: VecDeque::new(), streams: [Lines::default(), Lines::default()] };
    let mut running = Running::begin(context.folder, spec.timeout);
    let ended = match spec.run_as {
        Some(run_as) => run_as_user(spec, run_as, &mut running, &mut output),
        None => run_as_we_are(spec, &mut running, &mut output),
    };
    left::forget(context.folder);
    output.finish();
    let why = match ended {
        Ok(Some(Exit { status: Some(0), .. })) => return Ok(()),
        Ok(Some(exit)) => shown(exit),
        Ok(None) => format!("not done within {} s; it was ended", spec.timeout.as_secs()),
        Err(error) => error.to_string(),
    };
    let name = spec.command.first().map_or("", String::as_str);
    Err(Failed { why: format!("{name}: {why}"), lines: output.last.into() })
}

fn exit_of(status: ExitStatus) -> Exit {
    Exit { status: status.code(), signal: status.signal() }
}

fn shown(exit: Exit) -> String {
    match (exit.status, exit.signal) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("ended by SIG{}", signal_name(signal)),
        (None, None) => "ended, and nobody saw how".to_owned(),
    }
}

fn run_as_we_are(spec: &Spec<'_>, running: &mut Running, output: &mut Output<'_>) -> io::Result<Option<Exit>> {
    let child = spawn(spec, &running.mark)?;
    running.is(output.context.folder, i32::try_from(child.id()).ok().and_then(Identity::of));
    Ok(wait(child, spec.timeout, output)?.map(exit_of))
}

/// The same as another user, and never as ours instead.
fn run_as_user(
    spec: &Spec<'_>,
    run_as: &RunAs,
    running: &mut Running,
    output: &mut Output<'_>,
) -> io::Result<Option<Exit>> {
    let (mut reader, writer) = io::pipe()?;
    let mut hands = AsUser::to_pipe(run_as, File::from(OwnedFd::from(writer.try_clone()?)));
    let process = hands.prepare(&File::from(OwnedFd::from(writer)))?;
    running.is(output.context.folder, Some(process.clone()));
    let launch =
        Launch { command: spec.command.to_vec(), env: spec.environment.clone(), folder: spec.folder.to_owned() };
    hands.go(&launch).map_err(|error| io::Error::other(error.why))?;
    let since = clock::monotonic();
    loop {
        let is_dead = matches!(find(&process), Found::Dead);
        // The pipe is open as long as these hands live, so its end is never seen.
        let mut open = [PollFd::from_borrowed_fd(reader.as_fd(), PollFlags::IN)];
        let wait = if is_dead { Timespec::default() } else { Timespec { tv_sec: 0, tv_nsec: 5_000_000 } };
        if poll(&mut open, Some(&wait)).is_ok_and(|ready| ready > 0) {
            output.read(0, &mut reader)?;
        } else if is_dead {
            return Ok(Some(hands.reap(process.pid).unwrap_or(Exit { status: None, signal: None })));
        }
        if !is_dead && since.elapsed() >= spec.timeout {
            let started = hands.started();
            hands.end_all(&started, KILL_TIME);
            return Ok(None);
        }
    }
}

fn spawn(spec: &Spec<'_>, mark: &str) -> io::Result<Child> {
    let Some((program, arguments)) = spec.command.split_first() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the command is empty"));
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(spec.folder)
        .env_clear()
        .envs(keeper::login())
        .envs(spec.environment.iter().map(|(name, value)| (name, value)))
        .env(MARK, mark)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    core_dumps::as_before(|| command.spawn())
}

/// Waits for the end, or ends the whole group after `timeout` (`None`).
fn wait(mut child: Child, timeout: Duration, output: &mut Output<'_>) -> io::Result<Option<ExitStatus>> {
    let since = clock::monotonic();
    let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
    let mut ended: Option<(Option<ExitStatus>, std::time::Instant)> = None;
    loop {
        let mut open = Vec::new();
        open.extend(stdout.as_ref().map(|pipe| PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN)));
        open.extend(stderr.as_ref().map(|pipe| PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN)));
        let first = usize::from(stdout.is_some());
        let wait = Timespec::try_from(POLL_INTERVAL).ok();
        match poll(&mut open, wait.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let is_ready = |index: usize| open.get(index).is_some_and(|pipe| !pipe.revents().is_empty());
        let (out_ready, err_ready) = (stdout.is_some() && is_ready(0), stderr.is_some() && is_ready(first));
        drop(open);
        if out_ready && !stdout.as_mut().map_or(Ok(false), |pipe| output.read(0, pipe))? {
            stdout = None;
        }
        if err_ready && !stderr.as_mut().map_or(Ok(false), |pipe| output.read(1, pipe))? {
            stderr = None;
        }
        if ended.is_none() {
            if let Some(status) = child.try_wait()? {
                ended = Some((Some(status), clock::monotonic()));
            } else if since.elapsed() >= timeout {
                end_group(&child);
                child.wait()?;
                ended = Some((None, clock::monotonic()));
            }
        }
        if let Some((status, at)) = ended
            && ((stdout.is_none() && stderr.is_none()) || at.elapsed() > DRAIN_TIME)
        {
            return Ok(status);
        }
    }
}

/// The leader of the group is our child and not reaped, so its number is nobody else's.
fn end_group(child: &Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

struct Output<'a> {
    context: &'a Context<'a>,
    last: VecDeque<String>,
    streams: [Lines; 2],
}

impl Output<'_> {
    /// Reads what is there; false: it is the end.
    fn read(&mut self, stream: usize, pipe: &mut impl io::Read) -> io::Result<bool> {
        let mut piece = vec![0; PIECE];
        let read = pipe.by_ref().read(&mut piece)?;
        let Self { context, last, streams } = self;
        if let Some(lines) = streams.get_mut(stream) {
            lines.push(piece.get(..read).unwrap_or_default(), |line| say(context, last, stream, line));
        }
        Ok(read > 0)
    }

    fn finish(&mut self) {
        let Self { context, last, streams } = self;
        for (stream, lines) in streams.iter_mut().enumerate() {
            if let Some(line) = lines.finish() {
                say(context, last, stream, line);
            }
        }
    }
}

fn say(context: &Context<'_>, last: &mut VecDeque<String>, stream: usize, mut line: Line) {
    mask(context.secrets, &mut line.text);
    if last.len() == SHOWN_LINES {
        last.pop_front();
    }
    last.push_back(line.text.chars().take(1000).collect());
    context.say(EventKind::Line { stream: if stream == 0 { 1 } else { 2 }, text: line.text });
    if line.cut > 0 {
        context.say(EventKind::Cut { bytes: line.cut });
    }
}
