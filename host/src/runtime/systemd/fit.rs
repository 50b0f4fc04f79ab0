//! Whether this machine, user and unit can do what a start needs, before anything stops. Nothing is changed here.

use std::path::Path;

use landfall_host_protocol::{Configuration, Reason, Runtime as Kind, Secrets, Start, SystemdRuntime};

use super::{
    VERSION_MIN, process,
    reach::Unit,
    systemctl::{self, Manager, Shown},
    unit,
};
use crate::{
    as_user,
    facts::own_name,
    failure::{StepFailure, StepResult},
    folder::Folder,
    keeper,
};

pub(super) fn runtime_of(start: &Start) -> StepResult<&SystemdRuntime> {
    match &start.config.runtime {
        Kind::Systemd(runtime) => Ok(runtime),
        _ => Err(StepFailure::new(Reason::Internal, "this is the runtime of systemd")),
    }
}

/// systemd is there, the user may have units that stay, and the unit is one that he may start and stop.
pub(super) fn check_manager(unit: &Unit, start: &Start) -> StepResult<()> {
    let unsupported = |why: String| Err(StepFailure::new(Reason::HostUnsupported, why));
    if !systemctl::is_booted() {
        return unsupported(
            "systemd does not run this machine (no /run/systemd/system); use runtime process".to_owned(),
        );
    }
    match (unit.manager, &start.config.run_as) {
        (Manager::System, Some(run_as)) if unit.is_own => {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
            if !run_as.user.bytes().all(plain) || run_as.user.is_empty() {
                return unsupported(format!("{:?} can't be a user of a unit", run_as.user));
            }
            as_user::try_become(run_as).or_else(unsupported)
        }
        (Manager::User, Some(run_as)) => unsupported(format!(
            "only root can write a unit that runs as {}: let the administrator install one (run.systemd.unit)",
            run_as.user
        )),
        (Manager::User, None) => check_lingering(),
        (Manager::System | Manager::Sudo, _) => Ok(()),
    }
}

/// The SSH user's manager runs, and goes on when he is signed out.
pub(super) fn check_lingering() -> StepResult<()> {
    let name = own_name().unwrap_or_default();
    let lingers = !name.is_empty() && !name.contains('/') && Path::new("/var/lib/systemd/linger").join(&name).exists();
    if !lingers {
        let why = format!(
            "the manager of user {name} ends when he signs out: loginctl enable-linger {name} keeps it, or let the \
             administrator install a unit (run.systemd.unit)"
        );
        return Err(StepFailure::new(Reason::HostUnsupported, why));
    }
    let socket = Path::new(&systemctl::runtime_folder()).join("systemd/private");
    if !socket.exists() {
        let why = format!("the manager of user {name} does not run ({} is missing)", socket.display());
        return Err(StepFailure::new(Reason::HostUnsupported, why));
    }
    Ok(())
}

/// systemd reads secret values from a file, or the application would not come back without us.
pub(super) fn check_secrets(start: &Start) -> StepResult<()> {
    match keeper::missing_secret(&start.config, None) {
        Some(key) if !start.config.keep_secrets_on_host => {
            let why = format!(
                "runtime systemd reads the secret value {key} from a file: set keepSecretsOnHost, or use runtime process"
            );
            Err(StepFailure::new(Reason::HostUnsupported, why))
        }
        _ => Ok(()),
    }
}

/// The environment with something in the place of each secret value.
pub(super) fn plain_environment(start: &Start) -> StepResult<Vec<(String, String)>> {
    let mut config: Configuration = start.config.clone();
    for variable in &mut config.env {
        if let landfall_host_protocol::EnvValue::Secret(_) = variable.value {
            variable.value = landfall_host_protocol::EnvValue::Plain(String::new());
        }
    }
    keeper::environment(&config, &Secrets::default(), "").map_err(|why| StepFailure::new(Reason::StartFailed, why))
}

/// Our own unit can be written and started.
pub(super) fn check_own(
    folder: &Folder,
    start: &Start,
    runtime: &SystemdRuntime,
    unit: &Unit,
    shown: &Shown,
) -> StepResult<()> {
    process::check_mount(folder)?;
    process::check_program(folder, start, &runtime.command)?;
    let version = version(unit)?;
    if runtime.memory_max_bytes.is_some() && !systemctl::limits_memory(unit.manager) {
        let whose = if unit.manager == Manager::User { "the SSH user's manager" } else { "systemd" };
        let why =
            format!("no limit of memory would hold: {whose} has no memory controller (cgroup version 2 delegates it)");
        return Err(StepFailure::new(Reason::HostUnsupported, why));
    }
    let place = unit.place()?;
    unit.check_file(&place, folder)?;
    if !shown.fragment.is_empty() && Path::new(&shown.fragment) != place.path(&unit.name) {
        let why = format!("unit {} is somebody else's: {}", unit.name, shown.fragment);
        return Err(StepFailure::new(Reason::HostUnsupported, why));
    }
    unit::text(folder, start, runtime, unit.manager, version).map(|_| ())
}

pub(super) fn version(unit: &Unit) -> StepResult<u32> {
    let unsupported = |why: String| StepFailure::new(Reason::HostUnsupported, why);
    let version = unit.manager.version().map_err(|error| unsupported(error.to_string()))?;
    if version < VERSION_MIN {
        return Err(unsupported(format!(
            "systemd {version} is too old for a unit of landfall's ({VERSION_MIN} is needed); let the administrator install one \
             (run.systemd.unit), or use runtime process"
        )));
    }
    Ok(version)
}

/// The administrator's unit is there, and sudo lets us start and stop it.
pub(super) fn check_administrators(folder: &Folder, unit: &Unit, shown: &Shown) -> StepResult<()> {
    let unsupported = |why: String| StepFailure::new(Reason::HostUnsupported, why);
    if shown.load != "loaded" {
        return Err(unsupported(format!("unit {} is {}: the administrator installs it", unit.name, shown.load)));
    }
    for verb in ["start", "stop"] {
        unit.manager.is_allowed(verb, &unit.name).map_err(|error| {
            let user = own_name().unwrap_or_else(|| "USER".to_owned());
            unsupported(format!(
                "sudo does not allow systemctl {verb} {name}: {error}; in sudoers: {user} ALL=(root) NOPASSWD: \
                 /usr/bin/systemctl start {name}, /usr/bin/systemctl stop {name}, /usr/bin/systemctl show {name}",
                name = unit.name
            ))
        })?;
    }
    unit.check_names(folder, Reason::HostUnsupported)
}
