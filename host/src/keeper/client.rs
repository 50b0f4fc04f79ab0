//! The other end of a keeper: it is started, told to stand down or to go on as a newer program, and put beside what lost its own.

use std::{
    io::{Read, Write},
    os::{fd::AsFd, unix::process::CommandExt},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use landfall_host_protocol::{Failure, Reason};
use rustix::event::{PollFd, PollFlags, poll};

use super::{
    environment::PATH,
    order::{Act, LaterOrder, Order},
    signals::ORDER,
    state::State,
};
use crate::{
    clock, core_dumps,
    failure::{StepFailure, StepResult},
    files,
    folder::Folder,
    process::{Found, Handle, find, timespec},
    program,
};

/// A keeper answers as soon as the application runs; a disk may be slow.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// The signal is sent again, for the first one may come to a keeper that just becomes a newer program.
const SIGNAL_INTERVAL: Duration = Duration::from_secs(1);
/// Until it listens.
const LISTEN_INTERVAL: Duration = Duration::from_millis(20);
/// Of the environment the login's alone goes on to a keeper, and what the tests of a debug build set.
const ENVIRONMENT: [&str; 3] = ["HOME", "USER", "LOGNAME"];
const DEBUG_PREFIX: &str = "LANDFALL_HOST_";

/// The keeper of this record, where it lives.
pub fn is_living(state: &State) -> Option<Handle> {
    match find(&state.keeper.as_ref()?.identity) {
        Found::Alive(handle) => Some(handle),
        Found::Dead | Found::Hidden => None,
    }
}

/// Starts a keeper and waits for its answer. It leaves our session, and ends with its application only.
pub fn start(folder: &Folder, order: &Order) -> StepResult<()> {
    let failed = |what: &str, error: std::io::Error| StepFailure::new(Reason::StartFailed, format!("{what}: {error}"));
    let mut command = Command::new(program::path());
    command.arg0(format!("landfall-keeper {}", folder.name()));
    command.arg("keep").arg(folder.root()).arg(folder.name().as_str());
    command.env_clear().env("PATH", PATH);
    let passed = |name: &str| ENVIRONMENT.contains(&name) || cfg!(debug_assertions) && name.starts_with(DEBUG_PREFIX);
    command.envs(std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(passed)));
    command.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child =
        core_dumps::as_before(|| command.spawn()).map_err(|error| failed("no keeper could be started", error))?;
    let text = serde_json::to_vec(order).map_err(|error| failed("order", error.into()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A keeper that died says so by its answer.
        let _ = stdin.write_all(&text);
    }
    let answer = answer(&mut child, ANSWER_TIMEOUT);
    match serde_json::from_slice::<Option<Failure>>(&answer) {
        Ok(None) => Ok(()),
        Ok(Some(Failure { step: _, reason, why, lines, ended, full, strangers })) => {
            let _ = child.wait();
            Err(Box::new(StepFailure { reason, why, lines, ended, full, strangers }))
        }
        Err(_) => Err(StepFailure::new(Reason::StartFailed, "the keeper ended without an answer")),
    }
}

/// What a keeper answers; one that does not in time is ended, so that it starts nothing later.
fn answer(child: &mut Child, timeout: Duration) -> Vec<u8> {
    let answer = child.stdout.take().map(|stdout| read_answer(stdout, timeout)).unwrap_or_default();
    if !answer.ends_with(
        b"
",
    ) {
        let _ = child.kill();
        let _ = child.wait();
    }
    answer
}

/// To its end, or as long as there is time.
fn read_answer(mut stdout: ChildStdout, timeout: Duration) -> Vec<u8> {
    let end = clock::monotonic() + timeout;
    let mut answer = Vec::new();
    let mut buffer = [0u8; 4096];
    loop {
        let left = end.saturating_duration_since(clock::monotonic());
        if left.is_zero() {
            return answer;
        }
        let mut fds = [PollFd::from_borrowed_fd(stdout.as_fd(), PollFlags::IN)];
        if matches!(poll(&mut fds, Some(&timespec(left))), Ok(ready) if ready > 0) {
            match stdout.read(&mut buffer) {
                Ok(0) | Err(_) => return answer,
                Ok(read) => answer.extend_from_slice(buffer.get(..read).unwrap_or_default()),
            }
        }
    }
}

/// Tells the keeper to end its application and itself. True: it is gone.
pub fn stand_down(folder: &Folder, state: &State, timeout: Duration) -> StepResult<bool> {
    let Some(keeper) = is_living(state) else { return Ok(true) };
    let order = LaterOrder { instance: state.instance.clone(), act: Act::StandDown };
    order.write(folder).map_err(|error| files::failure(Reason::StopFailed, &error, &folder.dot()))?;
    let gone = signal_until(&keeper, timeout, |left| keeper.wait(left));
    if gone {
        let _ = LaterOrder::remove(folder);
    }
    Ok(gone)
}

/// Tells the keeper to go on as this program; same pid, same children. True: it does.
pub fn upgrade(folder: &Folder, program: &Path, timeout: Duration) -> StepResult<bool> {
    let failed = |error: std::io::Error| files::failure(Reason::Internal, &error, &folder.dot());
    let Some(state) = State::read(folder).map_err(failed)? else { return Ok(false) };
    let Some(keeper) = is_living(&state) else { return Ok(false) };
    let order = LaterOrder { instance: state.instance.clone(), act: Act::Upgrade { program: program.to_owned() } };
    order.write(folder).map_err(failed)?;
    let wanted = std::fs::canonicalize(program).map_err(failed)?;
    let runs = || std::fs::read_link(format!("/proc/{}/exe", keeper.identity().pid)).is_ok_and(|exe| exe == wanted);
    Ok(signal_until(&keeper, timeout, |left| {
        let end = clock::monotonic() + left;
        // Its record is its first act as the new program.
        let done = || runs() && State::read(folder).is_ok_and(|now| now.is_some_and(|now| now.counter > state.counter));
        while !done() {
            if clock::monotonic() >= end || keeper.wait(Duration::from_millis(5)) {
                return false;
            }
        }
        true
    }))
}

/// Does a process take the signal? One that just became a newer program would be ended by it.
fn listens(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    caught & (1 << (ORDER.as_raw() - 1)) != 0
}

fn signal_until(keeper: &Handle, timeout: Duration, mut wait: impl FnMut(Duration) -> bool) -> bool {
    let end = clock::monotonic() + timeout;
    loop {
        let listens = listens(keeper.identity().pid);
        if listens {
            let _ = keeper.signal(ORDER);
        }
        // One that is stopped hears it as well.
        let _ = keeper.signal(rustix::process::Signal::CONT);
        let left = end.saturating_duration_since(clock::monotonic());
        let pause = if listens { SIGNAL_INTERVAL } else { LISTEN_INTERVAL };
        if wait(left.min(pause)) {
            return true;
        }
        if left.is_zero() {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keeper_that_does_not_answer_is_ended() {
        let mut child = Command::new("sleep").arg("1000").stdout(Stdio::piped()).spawn().unwrap();
        let identity = crate::process::Identity::of(i32::try_from(child.id()).unwrap()).unwrap();
        assert!(answer(&mut child, Duration::from_millis(20)).is_empty());
        assert!(matches!(find(&identity), Found::Dead));
    }
}
