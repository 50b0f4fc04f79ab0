//! The small process beside an application that no keeper stands above: how it is put there, and how it knows that it is wanted. What it does
//! is its runtime's; it is on record as the keeper.

use std::{
    io::{self, Read, Write},
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
};

use landfall_host_protocol::Reason;

use crate::{
    core_dumps,
    failure::{StepFailure, StepResult},
    folder::Folder,
    keeper::{self, KeeperRecord},
    process::Identity,
    program,
};

/// Of the environment the login's alone goes on, and what the tests of a debug build set.
const ENVIRONMENT: [&str; 3] = ["HOME", "USER", "LOGNAME"];
const DEBUG_PREFIX: &str = "LANDFALL_HOST_";
const WORD: &[u8] = b"go\n";

/// One that waits for the word.
struct Watcher {
    child: Child,
    identity: Identity,
}

/// Puts one there. It is on record, by `record`, before it gets the word; without the word it ends.
pub(super) fn put(folder: &Folder, record: impl FnOnce(KeeperRecord) -> StepResult<()>) -> StepResult<()> {
    let failed = |error: io::Error| StepFailure::new(Reason::StartFailed, format!("no watcher: {error}"));
    let watcher = spawn(folder).map_err(failed)?;
    record(KeeperRecord { identity: watcher.identity.clone(), program: program::digest(), parent: false })?;
    watcher.go().map_err(failed)
}

fn spawn(folder: &Folder) -> io::Result<Watcher> {
    let mut command = Command::new(program::path());
    command.arg0(format!("landfall-watcher {}", folder.name()));
    command.arg("watch-unit").arg(folder.root()).arg(folder.name().as_str());
    let passed = |name: &str| ENVIRONMENT.contains(&name) || cfg!(debug_assertions) && name.starts_with(DEBUG_PREFIX);
    command.env_clear().env("PATH", keeper::PATH);
    command.envs(std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(passed)));
    command.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = core_dumps::as_before(|| command.spawn())?;
    let identity = i32::try_from(child.id()).ok().and_then(Identity::of);
    match identity {
        Some(identity) => Ok(Watcher { child, identity }),
        None => Err(io::Error::other("it ended at once")),
    }
}

impl Watcher {
    /// The word.
    fn go(mut self) -> io::Result<()> {
        self.child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(WORD))
    }
}

/// The other side: waits for the word, and leaves the session of who started it. `None`: it is not wanted.
pub(super) fn wait_for_word() -> Option<Identity> {
    core_dumps::refuse();
    let mut word = Vec::new();
    if io::stdin().take(16).read_to_end(&mut word).is_err() || word != WORD {
        return None;
    }
    let _ = rustix::process::setsid();
    Identity::own()
}
