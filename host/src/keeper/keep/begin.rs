//! How a keeper comes to be: the command that is told what to start, and what it does to itself before and after.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
};

use landfall_host_protocol::{Failure, FolderName, Reason, StepName};
use rustix::io::Errno;

use super::Keeper;
use crate::{
    core_dumps,
    failure::{StepFailure, StepResult},
    folder::Folder,
    keeper::order::{Order, Work},
};

/// `landfall-host keep ROOT FOLDER`: the order comes on stdin; how the start went is answered on stdout.
pub fn run(root: &Path, name: FolderName) -> u8 {
    core_dumps::refuse();
    let mut text = Vec::new();
    if std::io::stdin().read_to_end(&mut text).is_err() {
        return 1;
    }
    let Ok(order) = serde_json::from_slice::<Order>(&text) else { return 1 };
    drop(text);
    let folder = Folder::new(root, name);
    // Fails only for who is the first of a group already, as by hand in a terminal.
    let _ = rustix::process::setsid();
    let started = prepare_own().and_then(|()| Keeper::new(folder, order));
    let (mut keeper, undisturbed) = match started {
        Ok(Some(started)) => started,
        Ok(None) => return answer(None),
        Err(failure) => return answer(Some(*failure)),
    };
    let begun = match keeper.order.work {
        Work::Start => keeper.start(),
        Work::Beside | Work::Mend => keeper.take_over(),
    };
    drop(undisturbed);
    match begun {
        Ok(()) => answer(None),
        Err(failure) => return answer(Some(*failure)),
    };
    keeper.keep()
}

pub(super) fn prepare_own() -> StepResult<()> {
    let failed = |error: Errno| StepFailure::new(Reason::StartFailed, format!("keeper: {}", io::Error::from(error)));
    // Whatever the application leaves behind becomes our child.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).map_err(failed)?;
    rustix::process::chdir("/").map_err(failed)?;
    // Only a name for people.
    let _ = std::fs::write("/proc/self/comm", "landfall-keeper");
    Ok(())
}

/// Answers who started us, and lets go of its pipes: none of them may stay open because of us.
fn answer(failure: Option<StepFailure>) -> u8 {
    let failed = failure.is_some();
    let failure = failure.map(failure_of);
    let mut text = serde_json::to_vec(&failure).unwrap_or_default();
    text.push(b'\n');
    let mut out = std::io::stdout();
    let _ = out.write_all(&text).and_then(|()| out.flush());
    let _ = close_pipes();
    u8::from(failed)
}

fn failure_of(failure: StepFailure) -> Failure {
    let StepFailure { reason, why, lines, ended, full, strangers } = failure;
    Failure { step: StepName::Start, reason, why, lines, ended, full, strangers }
}

pub(super) fn close_pipes() -> io::Result<()> {
    let nothing = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&nothing)?;
    rustix::stdio::dup2_stdout(&nothing)?;
    rustix::stdio::dup2_stderr(&nothing)?;
    Ok(())
}
