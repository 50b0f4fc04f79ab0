//! A unit, and how it is reached: its manager, its file, what is wrong with either. Nothing is started or stopped here.

use std::time::Duration;

use landfall_host_protocol::{Reason, SystemdRuntime};

use super::{
    systemctl::{self, CallError, Manager, Shown},
    unit::{self, OnDisk, Place},
};
use crate::{
    failure::{StepFailure, StepResult},
    folder::Folder,
};

/// A unit, and how it is reached.
pub(super) struct Unit {
    pub(super) name: String,
    pub(super) manager: Manager,
    /// Written by us.
    pub(super) is_own: bool,
}

impl Unit {
    pub(super) fn named(folder: &Folder, name: String) -> Self {
        let is_own = name == unit::name(folder.name());
        Self { name, manager: unit::manager_of(is_own), is_own }
    }

    pub(super) fn of(folder: &Folder, runtime: &SystemdRuntime) -> Self {
        Self::named(folder, runtime.unit.clone().unwrap_or_else(|| unit::name(folder.name())))
    }

    pub(super) fn show(&self) -> Result<Shown, CallError> {
        self.show_within(systemctl::QUESTION_TIMEOUT)
    }

    pub(super) fn show_within(&self, timeout: Duration) -> Result<Shown, CallError> {
        if !systemctl::is_booted() {
            return Err(CallError::Failed("systemd does not run this machine".to_owned()));
        }
        self.manager.show(&self.name, timeout)
    }

    pub(super) fn place(&self) -> StepResult<Place> {
        let unknown = "the SSH user's home is not known (HOME): his units can't be written";
        Place::of(self.manager).ok_or_else(|| StepFailure::new(Reason::HostUnsupported, unknown))
    }

    /// What is wrong with a file of our unit's name, where something is.
    pub(super) fn check_file(&self, place: &Place, folder: &Folder) -> StepResult<()> {
        let path = place.path(&self.name);
        let path = path.display();
        let why = match place.look(&self.name, folder) {
            OnDisk::None | OnDisk::Ours => return Ok(()),
            OnDisk::Edited => format!(
                "{path} was edited by hand; move the change into a drop-in (systemctl edit {}) and remove the file",
                self.name
            ),
            OnDisk::Foreign => format!("{path} is not a unit of this project's folder; remove or rename it by hand"),
            OnDisk::Masked => self.masked(),
        };
        Err(StepFailure::new(Reason::HostUnsupported, why))
    }

    /// An administrator's says itself whose it is: what is something else's has nobody to stop or start it from here.
    pub(super) fn check_names(&self, folder: &Folder, reason: Reason) -> StepResult<()> {
        if self.is_own {
            return Ok(());
        }
        let path = folder.path();
        let mut places = vec![path.clone()];
        places.extend(std::fs::canonicalize(&path));
        match self.manager.names(&self.name, &places, systemctl::QUESTION_TIMEOUT) {
            Ok(true) => Ok(()),
            Ok(false) => {
                let why = format!(
                    "unit {} does not name the folder of this project and is not touched; the administrator adds to its [Service] \
                     EnvironmentFile=-{} (or WorkingDirectory={}/current)",
                    self.name,
                    unit::environment_path(folder).display(),
                    path.display()
                );
                Err(StepFailure::new(reason, why))
            }
            Err(error) => Err(StepFailure::new(reason, error.to_string())),
        }
    }

    pub(super) fn masked(&self) -> String {
        format!("unit {} is masked; it can be started after systemctl unmask {}", self.name, self.name)
    }
}
