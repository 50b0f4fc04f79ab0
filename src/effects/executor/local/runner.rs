//! The runner: the process that lives as long as one script does, whatever becomes of the operator. It must not retry anything.
//!
//! Order: lock, own identity on record, uid, sandbox, "go". So there is never a script without a recorded runner; and when the runner
//! is killed, the kernel kills the sandbox (parent death signals), so there is never a script without a living one.

use std::{
    fs::{self, File, TryLockError},
    io::{self, BufRead, BufReader},
    os::unix::fs::lchown,
    path::Path,
    process::{Child, ChildStdout, Stdio},
    sync::mpsc,
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::{
    secrets::Secrets,
    types::{Exit, ExitReason, Isolation},
};
use super::{
    cache,
    capture::{self, Captured, LastOutput},
    end::End,
    files,
    identity::Identity,
    limits::ActiveLimits,
    masks::Masks,
    sandbox, script, slot, trusted,
    watch::{StepFile, Watch},
};
use crate::effects::{clock, remove};

/// A sandbox that is not ready by then is not coming.
const SETUP_TIMEOUT: Duration = Duration::from_secs(30);

/// `pid`: who runs it, written before the script begins.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct RunnerFile {
    pub(super) runner: Identity,
    pub(super) started_at: Timestamp,
}

/// Runs the attempt in `dir`, if nobody does or did. Errors before the record of the runner are returned; later ones are recorded.
pub(super) fn run(dir: &Path) -> io::Result<()> {
    let lock = File::options().create(true).append(true).open(dir.join(files::LOCK))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(()),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let Some(asked) = files::read_json::<StepFile>(&dir.join(files::STEP))? else {
        return Err(io::Error::other("there is no step.json here"));
    };
    keep_private()?;
    // Told before the record is written: a runner that does not know everything never began.
    let secrets = Secrets::receive(io::stdin().lock())?;
    let record = RunnerFile { runner: Identity::own()?, started_at: clock::now() };
    match files::write_new(&dir.join(files::PID), &serde_json::to_vec(&record)?) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        written => written?,
    }
    let (end, captured) = attempt(dir, &asked, &secrets)
        .unwrap_or_else(|error| (End::not_started(error.to_string()), Captured::default()));
    for name in [files::HOME, files::TMP, files::IN, files::ROOT] {
        let _ = remove::tree(&dir.join(name));
    }
    record_exit(dir, &record, end, captured)
}

/// The record decides what is known of this attempt, so a full disk is waited for.
fn record_exit(dir: &Path, record: &RunnerFile, end: End, captured: Captured) -> io::Result<()> {
    let exit = Exit {
        reason: end.reason,
        code: end.code,
        message: end.message,
        started_at: record.started_at,
        at: clock::now(),
        log_bytes: captured.bytes,
        log_cut: captured.cut,
    };
    let mut tries = 0;
    loop {
        match files::write_json(&dir.join(files::EXIT), &exit) {
            Err(error) if tries < 600 && error.kind() != io::ErrorKind::NotFound => tries += 1,
            written => return written,
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// No dump of this process may come to lie on a disk, and nobody but root looks into it.
fn keep_private() -> io::Result<()> {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

fn attempt(dir: &Path, asked: &StepFile, secrets: &Secrets) -> io::Result<(End, Captured)> {
    if dir.join(files::CANCEL).exists() {
        return Ok((End::killed(ExitReason::Cancelled), Captured::default()));
    }
    for name in [files::HOME, files::TMP, files::IN, files::ROOT] {
        fs::create_dir_all(dir.join(name))?;
    }
    let last = LastOutput::new();
    let (reader, writer) = io::pipe()?;
    let (of, limit, heard) = (dir.to_owned(), asked.max_log_bytes, last.clone());
    File::options().create(true).append(true).open(dir.join(files::LOG))?;
    let (done, captured) = mpsc::channel();
    let masks = Masks::of(secrets.values());
    std::thread::spawn(move || done.send(capture::capture(reader, &of, limit, &heard, masks)));
    let limits = ActiveLimits::new(asked.step.limits, asked.isolation == Isolation::Sandboxed);
    let watch = Watch { dir, asked, secrets, limits: &limits, last };
    let mut notes: u64 = limits.shortcomings().iter().map(|line| files::add_note(dir, line)).sum();
    let end = match (cache::fetch(&watch, &mut notes)?, asked.isolation) {
        (Some(reason), _) => {
            drop(writer);
            End::killed(reason)
        }
        (None, Isolation::Sandboxed) => sandboxed(&watch, writer)?,
        (None, Isolation::Trusted) => trusted::run(&watch, writer)?,
    };
    // Every writer is dead by now, so the end of the output comes at once.
    let mut captured = captured.recv_timeout(Duration::from_secs(10)).unwrap_or_default();
    let end = limits.judge(end);
    if end.succeeded() {
        cache::keep(&watch, &mut notes);
    }
    captured.bytes += notes;
    Ok((end, captured))
}

fn sandboxed(watch: &Watch<'_>, output: io::PipeWriter) -> io::Result<End> {
    let slot = slot::take(watch.dir)?;
    script::write(&watch.dir.join(files::IN), &watch.asked.step, sandbox::BUILD, sandbox::HOME)?;
    for name in [files::SRC, files::HOME, files::TMP, files::IN] {
        give(&watch.dir.join(name), slot.uid)?;
    }
    let mut command = sandbox::command(watch.dir, slot.uid, &watch.asked.hidden, &watch.limits.arguments());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(output).spawn()?;
    drop(command); // it holds a writer of the output
    let words = listen(child.stdout.take());
    if words.recv_timeout(SETUP_TIMEOUT).ok().as_deref() != Some("ready") {
        kill_sandbox(&mut child)?;
        let why = crate::model::text::last_lines(&fs::read(watch.dir.join(files::RUNNER_LOG)).unwrap_or_default(), 2)
            .join(" / ");
        return Ok(End::not_started(format!("the sandbox could not be made: {why}")));
    }
    if let Some(inner) = process_one(&child) {
        watch.limits.take(inner)?;
    }
    let begun = clock::monotonic();
    watch.send(&mut child, b"go\n");
    match watch.until_end(&mut child, begun)? {
        Err(reason) => {
            kill_sandbox(&mut child)?;
            Ok(End::killed(reason))
        }
        Ok(_) => {
            let word = words.recv_timeout(Duration::from_secs(5)).unwrap_or_default();
            let code = word.strip_prefix("exit ").and_then(|code| code.parse().ok());
            Ok(match code {
                Some(code) => End::completed(Some(code)),
                None => End { message: Some("the sandbox was killed from outside".into()), ..End::completed(None) },
            })
        }
    }
}

/// The lines that process 1 says.
fn listen(stdout: Option<ChildStdout>) -> mpsc::Receiver<String> {
    let (sender, words) = mpsc::channel();
    std::thread::spawn(move || {
        for line in stdout.map(BufReader::new).into_iter().flat_map(BufRead::lines).map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    words
}

/// Process 1 of the sandbox, the one child of `unshare`, which is ours.
fn process_one(child: &Child) -> Option<i32> {
    let parent = i32::try_from(child.id()).ok()?;
    super::identity::processes().find(|(_, stat)| stat.parent == parent).map(|(pid, _)| pid)
}

/// Kills process 1 of the namespace. The kernel then ends all the others before `unshare`, our child, can end: when this returns, nobody
/// of the sandbox is left.
fn kill_sandbox(child: &mut Child) -> io::Result<()> {
    let killed = process_one(child).and_then(rustix::process::Pid::from_raw).map(|pid| {
        let handle = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
        // Opened after it was seen as our grandchild and before anybody could have reaped it: unshare lives as long as it does.
        rustix::process::pidfd_send_signal(&handle, rustix::process::Signal::KILL)
    });
    if !matches!(killed, Some(Ok(()))) {
        child.kill()?;
    }
    child.wait().map(|_| ())
}

/// Makes a tree the script's own, without following links.
fn give(path: &Path, uid: u32) -> io::Result<()> {
    for entry in walkdir::WalkDir::new(path) {
        lchown(entry?.path(), Some(uid), Some(uid))?;
    }
    Ok(())
}
