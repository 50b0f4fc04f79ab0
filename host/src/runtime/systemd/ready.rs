//! Whether the application of a unit is ready: its readiness probe, answered by that very application where that can be seen.
//!
//! The command of an exec probe is no process of the unit. It carries a mark of its own, by which it is known and ended when who asked is
//! gone; the application's mark would not do, for what carries that is not ended while the application lives.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use landfall_host_protocol::{Configuration, Probe, ProbeAction, Reason, Secrets};

use crate::{
    failure::{StepFailure, StepResult},
    folder::Folder,
    keeper::{self, Belonging, Hands, Own, State, hands_of, launch::Launch},
    probe::{self, Tried},
    process::{Identity, descendants, listening, marked, owns, whose},
};

/// Folders below a unit's cgroup that are looked into.
const CGROUPS_MAX: usize = 1000;
/// How long what is killed may take to be gone.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// One try. `Err`: somebody else answers on the application's port.
pub(super) fn ask(
    folder: &Folder,
    state: &State,
    config: &Configuration,
    secrets: &Secrets,
    control_group: &str,
    main: Option<&Identity>,
) -> StepResult<Tried> {
    let Some(readiness) = &config.readiness else { return Ok(Tried::Yes) };
    let timeout = probe::timeout(readiness);
    if let ProbeAction::Exec { command } = &readiness.action {
        return Ok(execute(folder, state, config, secrets, command, timeout).masked(secrets));
    }
    let tried = probe::connect(&readiness.action, timeout, &[]).masked(secrets);
    if tried == Tried::Yes
        && let Some(main) = main
    {
        check_listener(readiness, control_group, main)?;
    }
    Ok(tried)
}

fn execute(
    folder: &Folder,
    state: &State,
    config: &Configuration,
    secrets: &Secrets,
    command: &[String],
    timeout: Duration,
) -> Tried {
    let env = match keeper::environment(config, secrets, &mark(state)) {
        Ok(env) => env,
        Err(why) => return Tried::Unasked(format!("its probe can't be asked: {why}")),
    };
    let launch = Launch { command: command.to_vec(), env, folder: folder.release(&state.release) };
    let executed = hands_of(config.run_as.as_ref(), &folder.log(0)).execute(&launch, timeout, &[]);
    executed.tried(command, timeout)
}

/// What processes of a probe of this start carry as [`crate::process::MARK`].
fn mark(state: &State) -> String {
    format!("{}.probe", state.instance)
}

/// The watcher of a unit, and the processes of probes of this start, as far as they can be seen.
pub(super) fn probes(state: &State) -> Vec<Identity> {
    let mut found = marked(&mark(state));
    if let Some(watcher) = keeper::is_living(state) {
        found.extend(descendants(watcher.identity().pid));
        found.push(watcher.identity().clone());
    }
    found
}

/// Ends the processes of a probe whose asker is gone: what carries the mark, and what was seen below him. What can't be ended is told
/// by whoever looks for leftovers.
pub(super) fn end_probes(folder: &Folder, state: &State, config: &Configuration, known: Vec<Identity>) {
    let is_exec = |probe: &Probe| matches!(probe.action, ProbeAction::Exec { .. });
    if !config.readiness.as_ref().is_some_and(is_exec) {
        return;
    }
    let of = Belonging { instance: mark(state), known, ..Belonging::default() };
    match &config.run_as {
        Some(run_as) if !rustix::process::getuid().is_root() => {
            hands_of(Some(run_as), &folder.log(0)).end_all(&of, END_TIMEOUT);
        }
        _ => {
            Own::default().end_all(&of, END_TIMEOUT);
        }
    }
}

/// The socket that answers is held by a process of the unit, as far as can be seen.
fn check_listener(readiness: &Probe, control_group: &str, main: &Identity) -> StepResult<()> {
    let Some((address, port)) = probe::target(readiness).filter(|(address, _)| address.is_loopback()) else {
        return Ok(());
    };
    let sockets = listening(address, port).unwrap_or_default();
    let mut processes = members(control_group);
    processes.push(main.clone());
    if sockets.is_empty() || owns(&processes, &sockets) != Some(false) {
        return Ok(());
    }
    let strangers = whose(&sockets);
    if strangers.iter().any(|stranger| processes.iter().any(|process| process.pid == stranger.pid)) {
        return Ok(());
    }
    let Some(stranger) = strangers.first() else { return Ok(()) };
    let why = format!("port {port} is answered by pid {} ({}), which is none of the unit", stranger.pid, stranger.what);
    let mut failure = StepFailure::new(Reason::PortInUse, why);
    failure.strangers = strangers;
    Err(failure)
}

/// Living processes of a unit: those of its cgroup and of all below it.
pub(super) fn members(control_group: &str) -> Vec<Identity> {
    let inside = control_group.trim_start_matches('/');
    // An empty one would be every process of the machine.
    if inside.is_empty() || inside.split('/').any(|part| part == "..") {
        return Vec::new();
    }
    let places = ["/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"];
    let mut open: Vec<_> = places.iter().map(|place| Path::new(place).join(inside)).collect();
    let mut pids = BTreeSet::new();
    let mut seen = 0;
    while let Some(folder) = open.pop() {
        seen += 1;
        let listed = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
        pids.extend(listed.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
        if seen < CGROUPS_MAX {
            let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
            open.extend(entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|e| e.path()));
        }
    }
    let living = |identity: &Identity| matches!(crate::process::find(identity), crate::process::Found::Alive(_));
    pids.into_iter().filter_map(Identity::of).filter(living).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_control_group_has_no_members() {
        for nothing in ["", "/", "/../..", "/no-such.slice/no-such.service"] {
            assert!(members(nothing).is_empty(), "{nothing}");
        }
    }
}
