//! How a unit is stopped and ours taken away. Nothing is signalled, and nothing removed that only has our unit's name.

use std::path::Path;

use landfall_host_protocol::Reason;

use super::{
    DEFAULT_GRACE, STOP_TIMEOUT,
    now::Now,
    reach::Unit,
    ready,
    record::Record,
    systemctl::Shown,
    unit::{self, OnDisk, Place},
};
use crate::{
    failure::{StepFailure, StepResult},
    files,
    folder::Folder,
    gate,
    keeper::{self, Phase, State},
    process::describe_all,
};

/// Another runtime starts nothing beside a unit that is on record and up.
pub(in crate::runtime) fn check_down(folder: &Folder, state: &State) -> StepResult<()> {
    let Some(name) = state.unit.clone().filter(|_| state.phase != Phase::Stopped) else { return Ok(()) };
    let unit = Unit::named(folder, name);
    let shown = unit.show().map_err(|error| StepFailure::new(Reason::StartFailed, error.to_string()))?;
    if Now::of(&shown, unit.is_own).is_up() {
        let why = format!("unit {} of this project still runs", unit.name);
        return Err(StepFailure::new(Reason::StartFailed, why));
    }
    Ok(())
}

/// The unit is stopped, and where it is ours it is taken away, so that no boot starts it.
pub(super) fn take_down(folder: &Folder, record: &Record) -> StepResult<()> {
    let failed = |why: String| StepFailure::new(Reason::StopFailed, why);
    let unit = &record.unit;
    let shown = unit.show().map_err(|error| failed(error.to_string()))?;
    let place = if unit.is_own { Some(unit.place()?) } else { None };
    if let Some(place) = &place {
        check_ours(folder, record, place, &shown)?;
    }
    if Now::of(&shown, unit.is_own).is_up() {
        if let Err(failure) = unit.check_names(folder, Reason::StopFailed) {
            // What was stopped for this project may have been given to something else since.
            return if record.state.phase == Phase::Stopped { Ok(()) } else { Err(failure) };
        }
        let grace = record.runtime().map_or(DEFAULT_GRACE, |runtime| keeper::grace(&runtime.stop));
        let limit = grace + STOP_TIMEOUT;
        let mut called = Ok(());
        gate::pass("unit.stop", || {
            called = unit.manager.stop(&unit.name, limit);
            Ok(())
        })
        .map_err(|error| failed(error.to_string()))?;
        called.map_err(|error| failed(format!("systemctl stop {}: {error}", unit.name)))?;
        let shown = unit.show().map_err(|error| failed(error.to_string()))?;
        let left = ready::members(&shown.control_group);
        if Now::of(&shown, unit.is_own).is_up() || !left.is_empty() {
            let mut failure = failed(format!("unit {} is {} after systemctl stop", unit.name, shown.sub));
            failure.strangers = describe_all(&left);
            return Err(failure);
        }
    }
    let Some(place) = place else { return Ok(()) };
    let was_there = place
        .remove(&unit.name, folder)
        .map_err(|error| files::failure(Reason::StopFailed, &error, &place.path(&unit.name)))?;
    let path = unit::environment_path(folder);
    gate::pass("unit.environment", || files::remove_file(&path))
        .map_err(|error| files::failure(Reason::StopFailed, &error, &path))?;
    // systemd may remember one whose files a dead process removed.
    if was_there || shown.load == "loaded" {
        unit.manager.reload().map_err(|error| failed(format!("systemctl daemon-reload: {error}")))?;
    }
    // Else it would be listed as failed for ever. One that is not loaded has nothing to forget.
    let _ = unit.manager.reset_failed(&unit.name);
    Ok(())
}

/// Nothing is stopped or removed that only has our unit's name.
pub(super) fn check_ours(folder: &Folder, record: &Record, place: &Place, shown: &Shown) -> StepResult<()> {
    let unit = &record.unit;
    let on_disk = place.look(&unit.name, folder);
    let path = place.path(&unit.name);
    let elsewhere = !shown.fragment.is_empty() && Path::new(&shown.fragment) != path;
    if elsewhere || matches!(on_disk, OnDisk::Foreign) {
        let what = if elsewhere { shown.fragment.clone() } else { path.display().to_string() };
        let why = format!("unit {} is not touched: {what} is not a unit of this project's folder", unit.name);
        return Err(StepFailure::new(Reason::StopFailed, why));
    }
    Ok(())
}
