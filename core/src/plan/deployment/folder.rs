//! State of the process, as a project's folder on a host shows it. Independent of targets.

use crate::model::facts::{FolderFacts, ProcessFacts};

/// This very process was seen ready.
pub(crate) fn is_marked(folder: &FolderFacts, process: &ProcessFacts) -> bool {
    was_ready(folder, process)
        && folder.ready.as_ref().is_some_and(|mark| mark.pid == process.pid && mark.start == process.start)
}

/// A process of the same rollout was seen ready here once, this one or one before it.
pub(crate) fn was_ready(folder: &FolderFacts, process: &ProcessFacts) -> bool {
    folder.ready.as_ref().is_some_and(|mark| mark.uid == process.uid && mark.rollout == process.rollout)
}

/// Its keeper starts it again, or has just started it: it had been ready, and is not now.
pub(crate) fn is_kept(folder: &FolderFacts) -> bool {
    folder.process.as_ref().is_some_and(|process| {
        was_ready(folder, process) && (process.kept || process.alive && !is_marked(folder, process))
    })
}

/// It ended in this boot of the host, and its keeper, which starts it again, has yet to say how.
pub(crate) fn is_end_untold(folder: &FolderFacts, boot_id: &str) -> bool {
    let of_this_boot = folder.process.as_ref().filter(|process| process.boot_id == boot_id);
    of_this_boot.is_some_and(|process| process.kept && !process.alive && process.end.is_none())
}

/// This very process was ready, and its readiness probe fails now: what the probe said.
pub(crate) fn unready(folder: &FolderFacts) -> Option<&str> {
    let process = folder.process.as_ref().filter(|process| process.alive && is_marked(folder, process))?;
    process.unready.as_deref()
}

/// A process that had been ready has ended.
pub(crate) fn is_down(folder: &FolderFacts) -> bool {
    folder.process.as_ref().is_some_and(|process| !process.alive && was_ready(folder, process))
}
