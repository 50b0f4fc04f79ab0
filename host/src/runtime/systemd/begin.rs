//! What a start writes and asks of systemd: the environment, our own unit, the call.

use landfall_host_protocol::{Reason, Secrets, Start, SystemdRuntime};

use super::{
    START_TIMEOUT, ended, environment,
    fit::version,
    reach::Unit,
    systemctl::{CallError, Exit, Shown},
    unit,
};
use crate::{
    failure::{StepFailure, StepResult},
    files,
    folder::Folder,
    gate, keeper,
    process::signal_name,
};

/// The application's environment, where systemd reads it; readable for its manager alone.
pub(super) fn write_environment(folder: &Folder, start: &Start, secrets: &Secrets, instance: &str) -> StepResult<()> {
    let failed = |why: String| StepFailure::new(Reason::StartFailed, why);
    let mut variables = keeper::environment(&start.config, secrets, instance).map_err(failed)?;
    if start.config.run_as.is_none() {
        // Of another user's systemd tells them; what the configuration gives goes before.
        variables.splice(0..0, keeper::login());
    }
    let text = environment::text(&variables).map_err(failed)?;
    let path = unit::environment_path(folder);
    gate::pass("unit.environment", || files::write_whole(&path, text.as_bytes(), 0o600))
        .map_err(|error| files::failure(Reason::StartFailed, &error, &path))
}

/// Writes our unit, to be started now and at boot.
pub(super) fn install(folder: &Folder, start: &Start, runtime: &SystemdRuntime, unit: &Unit) -> StepResult<()> {
    let failed = |why: String| StepFailure::new(Reason::StartFailed, why);
    let text = unit::text(folder, start, runtime, unit.manager, version(unit)?)?;
    let place = unit.place()?;
    unit.check_file(&place, folder)?;
    gate::pass("unit.forget", || ended::make(folder))
        .map_err(|error| files::failure(Reason::StartFailed, &error, &ended::path(folder)))?;
    let log = folder.log(0);
    let begin = |mut file: std::fs::File| {
        use std::io::Write as _;
        let Start { release, revision, redeploys, .. } = start;
        writeln!(file, "=== landfall starts {release}, rollout {revision}.{redeploys}")
    };
    gate::pass("log.begin", || keeper::open_log(folder).and_then(begin))
        .map_err(|error| files::failure(Reason::StartFailed, &error, &log))?;
    place.write(&unit.name, &text)?;
    unit.manager.reload().map_err(|error| failed(format!("systemctl daemon-reload: {error}")))
}

pub(super) fn begin(unit: &Unit) -> Result<(), CallError> {
    let mut called = Ok(());
    let passed = gate::pass("unit.start", || {
        called = unit.manager.start(&unit.name, START_TIMEOUT);
        Ok(())
    });
    passed.map_err(|error| CallError::Failed(error.to_string()))?;
    called
}

/// The program ended so, and not systemd on the way to it.
pub(super) fn is_its_own(exit: Exit) -> bool {
    !matches!(exit, Exit::Status(200..=245))
}

/// Why it did not start, with what the number says that systemd gives for an end before the program ran.
pub(super) fn start_failed(unit: &Unit, error: &CallError, shown: Option<&Shown>) -> String {
    let how = match shown.and_then(|shown| shown.exit) {
        Some(Exit::Status(200)) => ": its folder can't be entered (200/CHDIR)".to_owned(),
        Some(Exit::Status(203)) => ": its program can't be executed (203/EXEC)".to_owned(),
        Some(Exit::Status(209)) => ": its log can't be opened (209/STDOUT)".to_owned(),
        Some(Exit::Status(216 | 217)) => ": its user or group is not known (217/USER)".to_owned(),
        Some(Exit::Status(status)) => format!(": exit status {status}"),
        Some(Exit::Signal(signal)) => format!(": killed by SIG{}", signal_name(signal)),
        None => String::new(),
    };
    format!("systemctl start {}{how}: {error}", unit.name)
}
