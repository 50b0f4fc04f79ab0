//! `switch`: points `current` at a release. It is never absent: the old link is there until the new one is.

use std::{ffi::OsStr, path::Path};

use landfall_host_protocol::{Reason, ReleaseName};

use super::{Done, staged};
use crate::{
    failure::{StepFailure, StepResult},
    files,
    folder::Folder,
    gate,
};

pub(super) fn switch(folder: &Folder, release: &ReleaseName) -> StepResult<Done> {
    if current(folder).as_ref() == Some(release) {
        return Ok(Done::Skipped);
    }
    if staged::digest(folder, release).is_none() {
        return Err(StepFailure::new(Reason::SwitchFailed, format!("{release} is not on the host")));
    }
    let link = folder.current();
    let target = Path::new("releases").join(release.as_str());
    gate::pass("current.switch", || files::switch_link(&link, &target))
        .map_err(|error| files::failure(Reason::SwitchFailed, &error, &link))?;
    match current(folder).as_ref() == Some(release) {
        true => Ok(Done::Ended),
        false => Err(StepFailure::new(Reason::SwitchFailed, "current points elsewhere right after it was switched")),
    }
}

/// The release that `current` points at.
pub(crate) fn current(folder: &Folder) -> Option<ReleaseName> {
    let target = std::fs::read_link(folder.current()).ok()?;
    let (parent, name) = (target.parent()?, target.file_name()?);
    let is_ours = parent == Path::new("releases") || parent == folder.releases();
    is_ours.then(|| name.to_str()).flatten().and_then(ReleaseName::parse)
}

/// What stands there instead, for a person.
pub(super) fn shown(folder: &Folder) -> String {
    let target = std::fs::read_link(folder.current()).ok();
    let name = target.as_deref().and_then(Path::file_name).map(OsStr::to_string_lossy);
    name.map_or_else(|| "nothing".to_owned(), |name| name.chars().filter(|c| !c.is_control()).take(100).collect())
}
