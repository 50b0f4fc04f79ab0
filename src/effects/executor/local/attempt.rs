//! An attempt's folder, from the operator's side: start its runner, read its state, ask it to stop. It must not run anything itself.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use jiff::Timestamp;

use super::super::{
    error::ExecutorError,
    secrets::Secrets,
    types::{AttemptId, Exit, StepState},
};
use super::{files, runner::RunnerFile, sandbox, watch::StepFile};
use crate::effects::clock;

const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// The runner has only to write its pid file by then.
const START_TIMEOUT: Duration = Duration::from_secs(15);
/// A runner that ignores a cancel for this long is killed, and the sandbox with it.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(15);
/// The most that one call reads of a log.
pub(super) const PIECE: u64 = 1024 * 1024;

fn failed(what: &'static str) -> impl Fn(io::Error) -> ExecutorError {
    move |error| ExecutorError::io(what, &error)
}

pub(super) fn start(
    dir: &Path,
    id: &AttemptId,
    runner: &Path,
    asked: &StepFile,
    secrets: &Secrets,
) -> Result<(), ExecutorError> {
    if begun(dir) {
        return Ok(());
    }
    let src = dir.join(files::SRC);
    if !src.is_dir() {
        return Err(ExecutorError::NoCheckout { attempt: id.clone(), path: src.display().to_string() });
    }
    files::write_json(&dir.join(files::STEP), asked).map_err(failed("write the build step"))?;
    let log = File::create(dir.join(files::RUNNER_LOG)).map_err(failed("write the runner's log"))?;
    // setsid forks, so that the runner is nobody's child but init's, and this wait is short.
    let mut child = Command::new("setsid")
        .arg("--fork")
        .arg(runner)
        .arg("build-step")
        .arg(dir)
        .env_clear()
        .env("PATH", sandbox::PATH)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(failed("start `setsid` of util-linux"))?;
    // A runner that ended early leaves a pipe without a reader; its output follows below.
    let _ = child.stdin.take().map(|pipe| secrets.send(pipe));
    let status = child.wait().map_err(failed("start `setsid` of util-linux"))?;
    let until = clock::monotonic() + START_TIMEOUT;
    while status.success() && clock::monotonic() < until {
        if begun(dir) {
            return Ok(());
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    let output = fs::read(dir.join(files::RUNNER_LOG)).unwrap_or_default();
    let why = crate::model::text::last_lines(&output, 3).join(" / ");
    Err(ExecutorError::Failed { what: format!("start the runner {}", runner.display()), why })
}

fn begun(dir: &Path) -> bool {
    dir.join(files::PID).exists()
}

pub(super) fn state(dir: &Path) -> Result<StepState, ExecutorError> {
    let read_exit = || files::read_json::<Exit>(&dir.join(files::EXIT)).map_err(failed("read the build's exit record"));
    if let Some(exit) = read_exit()? {
        return Ok(StepState::Exited(exit));
    }
    let record = files::read_json::<RunnerFile>(&dir.join(files::PID)).map_err(failed("read the build's pid file"))?;
    let Some(record) = record else { return Ok(StepState::Absent) };
    if record.runner.alive() {
        let log = fs::metadata(dir.join(files::LOG)).ok();
        let modified = log.as_ref().and_then(|log| log.modified().ok()).and_then(|at| Timestamp::try_from(at).ok());
        return Ok(StepState::Running {
            since: record.started_at,
            last_output_at: modified.unwrap_or(record.started_at).max(record.started_at),
            log_bytes: log.map_or(0, |log| log.len()),
        });
    }
    // It may have ended between the two looks.
    Ok(read_exit()?.map_or(StepState::Lost { since: record.started_at }, StepState::Exited))
}

pub(super) fn cancel(dir: &Path) -> Result<(), ExecutorError> {
    if !matches!(state(dir)?, StepState::Running { .. }) {
        return Ok(());
    }
    files::write_atomic(&dir.join(files::CANCEL), b"").map_err(failed("ask the build to stop"))?;
    let until = clock::monotonic() + CANCEL_TIMEOUT;
    while matches!(state(dir)?, StepState::Running { .. }) {
        if clock::monotonic() >= until {
            return end_runner(dir);
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    Ok(())
}

fn end_runner(dir: &Path) -> Result<(), ExecutorError> {
    use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
    let record = files::read_json::<RunnerFile>(&dir.join(files::PID)).map_err(failed("read the build's pid file"))?;
    let Some(runner) = record.map(|record| record.runner) else { return Ok(()) };
    let Some(pid) = Pid::from_raw(runner.pid) else { return Ok(()) };
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return Ok(()) };
    // The handle stays with the process that had this pid when it was opened; now see that it is the one on record.
    if runner.alive() {
        pidfd_send_signal(&handle, Signal::KILL).map_err(|error| failed("end the runner of a build")(error.into()))?;
    }
    Ok(())
}

pub(super) fn read_log(dir: &Path, offset: u64) -> Result<Vec<u8>, ExecutorError> {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(dir.join(files::LOG))?;
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.take(PIECE).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read.map_err(failed("read a build's log")),
    }
}
