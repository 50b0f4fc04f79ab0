//! A keeper goes on as a newer program: same pid, same children. What it knows passes in sealed memory.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use landfall_host_protocol::FolderName;
use rustix::fs::{MemfdFlags, SealFlags};
use serde::{Deserialize, Serialize};

use super::{
    Keeper,
    begin::{close_pipes, prepare_own},
};
use crate::{
    as_user::AsUser,
    clock, core_dumps,
    failure::StepResult,
    folder::Folder,
    keeper::{order::Order, restart::Backoff, state::State},
    program,
};

/// A program that is asked whether it can go on is given this long.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);

/// What outlives an exec.
#[derive(Serialize, Deserialize)]
pub(super) struct Memory {
    order: Order,
    state: State,
    backoff: Backoff,
    /// Milliseconds since boot at which this run began.
    run_began: u64,
}

/// Goes on after an exec of this program by an earlier one: same pid, same children; what it knew is on stdin, its lock on stdout.
pub fn run_upgraded(root: &Path, name: FolderName) -> u8 {
    core_dumps::refuse();
    let mut text = Vec::new();
    if std::io::stdin().read_to_end(&mut text).is_err() {
        return 1;
    }
    let Ok(memory) = serde_json::from_slice::<Memory>(&text) else { return 1 };
    let Ok(lock) = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3) else { return 1 };
    let run_as = memory.order.start.config.run_as.clone();
    let connection = run_as.as_ref().and_then(|_| rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), 3).ok());
    if prepare_own().is_err() || close_pipes().is_err() {
        return 1;
    }
    let folder = Folder::new(root, name);
    let log = folder.log(0);
    match Keeper::recalled(folder, memory, lock) {
        Ok(mut keeper) => {
            if let Some((run_as, connection)) = run_as.zip(connection) {
                keeper.hands = Box::new(AsUser::resumed(&run_as, &log, connection));
            }
            keeper.keep()
        }
        Err(_) => 1,
    }
}

/// `landfall-host can-keep-on`: whether this program understands what an earlier one knew, which is on stdin.
pub fn run_check() -> u8 {
    core_dumps::refuse();
    let mut text = Vec::new();
    let read = std::io::stdin().read_to_end(&mut text);
    u8::from(read.is_err() || serde_json::from_slice::<Memory>(&text).is_err())
}

/// Asks the other program.
fn can_go_on(program: &Path, memory: &File, mut meanwhile: impl FnMut()) -> io::Result<bool> {
    let mut child = Command::new(program)
        .arg0("landfall-keeper")
        .arg("can-keep-on")
        .stdin(memory.try_clone()?)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let end = clock::monotonic() + CHECK_TIMEOUT;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        if clock::monotonic() >= end {
            child.kill()?;
            child.wait()?;
            return Ok(false);
        }
        meanwhile();
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl Keeper {
    pub(super) fn recalled(folder: Folder, memory: Memory, lock: OwnedFd) -> StepResult<Self> {
        let Memory { order, state, backoff, run_began } = memory;
        let mut keeper = Self::with(folder, order, state, backoff, lock)?;
        let ago = Duration::from_millis(clock::uptime_millis().saturating_sub(run_began));
        keeper.started = clock::monotonic().checked_sub(ago).unwrap_or_else(clock::monotonic);
        if let Some(record) = &mut keeper.state.keeper {
            record.program = program::digest();
        }
        keeper.hold_application();
        keeper.watch_from(keeper.started);
        if let (Some(asked), true) = (&mut keeper.readiness, keeper.state.is_ready()) {
            asked.tries.answer = Some(true);
        }
        keeper.write();
        Ok(keeper)
    }

    pub(super) fn become_program(&mut self, program: &Path) -> io::Result<()> {
        // Nobody would hear what they come to.
        self.give_up_tries();
        let ago = clock::monotonic().saturating_duration_since(self.started);
        let memory = Memory {
            order: self.order.clone(),
            state: self.state.clone(),
            backoff: self.backoff,
            run_began: clock::uptime_millis().saturating_sub(u64::try_from(ago.as_millis()).unwrap_or(u64::MAX)),
        };
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut sealed = File::from(rustix::fs::memfd_create("landfall-keeper", flags)?);
        sealed.write_all(&serde_json::to_vec(&memory)?)?;
        io::Seek::rewind(&mut sealed)?;
        let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&sealed, seals)?;
        // After an exec there is no way back.
        if !can_go_on(program, &sealed, || {
            self.rotation.turn();
        })? {
            return Err(io::Error::other(format!("{} can't go on with what this keeper knows", program.display())));
        }
        io::Seek::rewind(&mut sealed)?;
        rustix::stdio::dup2_stdin(&sealed)?;
        rustix::stdio::dup2_stdout(self.lock.as_fd())?;
        if let Some(connection) = self.hands.connection() {
            rustix::stdio::dup2_stderr(connection)?;
        }
        let mut command = Command::new(program);
        command.arg0(format!("landfall-keeper {}", self.folder.name())).arg("keep-on");
        command.arg(self.folder.root()).arg(self.folder.name().as_str());
        let error = core_dumps::as_before(|| command.exec());
        close_pipes()?;
        Err(error)
    }
}
