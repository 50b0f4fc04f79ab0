//! Applications, keepers and runners of the folders, held by a pidfd so that the session hears of their end at once. Where there is no pidfd
//! to be had, they are looked at. It signals nothing.

use std::{collections::BTreeMap, os::fd::BorrowedFd};

use landfall_host_protocol::{FolderFacts, FolderName, ProcessState};

use crate::process::{Found, Handle, Identity, boot_id, find};

/// Processes that a session holds by a pidfd, at most; others are looked at.
const MAX_HELD: usize = 256;

#[derive(Debug)]
struct Watched {
    folder: FolderName,
    identity: Identity,
    /// It runs the folder's task.
    is_runner: bool,
    /// With a pidfd.
    held: Option<Handle>,
}

#[derive(Debug, Default)]
pub(super) struct Processes {
    watched: Vec<Watched>,
    /// Those that were gone already when they were to be watched.
    missed: BTreeMap<FolderName, Identity>,
}

impl Processes {
    /// Watches what these facts name, and who runs their task, instead of what was watched for the folder. True: one of them ended since the
    /// facts were read, and they are to be read again; it is said once of each.
    pub(super) fn replace(
        &mut self,
        folder: &FolderName,
        facts: Option<&FolderFacts>,
        runner: Option<Identity>,
    ) -> bool {
        self.watched.retain(|watched| watched.folder != *folder);
        let Some(facts) = facts else { return false };
        // (Nothing that can be held stands for an application that commands started, or for files.)
        let process =
            facts.process.as_ref().filter(|process| process.state == ProcessState::Running && process.pid > 0);
        let process =
            process.map(|found| Identity { pid: found.pid, start: found.start, boot_id: found.boot_id.clone() });
        let keeper = facts.keeper.as_ref();
        let keeper = keeper.map(|found| Identity { pid: found.pid, start: found.start, boot_id: boot_id().to_owned() });
        let mut ended = false;
        for identity in process.into_iter().chain(keeper) {
            ended |= self.watch(folder, identity, false);
        }
        if let Some(runner) = runner {
            ended |= self.watch(folder, runner, true);
        }
        ended
    }

    /// Watches one. True: it is gone, which was not said before.
    pub(super) fn watch(&mut self, folder: &FolderName, identity: Identity, is_runner: bool) -> bool {
        let held = match find(&identity) {
            Found::Dead => {
                let known = self.missed.insert(folder.clone(), identity.clone());
                return known != Some(identity);
            }
            Found::Hidden => None,
            Found::Alive(handle) => Some(handle).filter(|handle| handle.pidfd().is_some() && self.has_room()),
        };
        self.watched.push(Watched { folder: folder.clone(), identity, is_runner, held });
        false
    }

    fn has_room(&self) -> bool {
        self.watched.iter().filter(|watched| watched.held.is_some()).count() < MAX_HELD
    }

    /// The end of who runs the folder's task will be heard of.
    pub(super) fn has_runner(&self, folder: &FolderName) -> bool {
        self.watched.iter().any(|watched| watched.is_runner && watched.folder == *folder)
    }

    /// Those with a pidfd: their index, and the pidfd, which becomes readable at their end.
    pub(super) fn fds(&self) -> impl Iterator<Item = (usize, BorrowedFd<'_>)> {
        self.watched.iter().enumerate().filter_map(|(index, watched)| Some((index, watched.held.as_ref()?.pidfd()?)))
    }

    /// No longer watched; the folder it belongs to.
    pub(super) fn forget(&mut self, index: usize) -> Option<FolderName> {
        (index < self.watched.len()).then(|| self.watched.swap_remove(index).folder)
    }

    /// Folders of those without a pidfd that are gone.
    pub(super) fn ended_unseen(&mut self) -> Vec<FolderName> {
        let gone = |watched: &Watched| watched.held.is_none() && matches!(find(&watched.identity), Found::Dead);
        let (ended, watched): (Vec<_>, Vec<_>) = std::mem::take(&mut self.watched).into_iter().partition(gone);
        self.watched = watched;
        ended.into_iter().map(|watched| watched.folder).collect()
    }
}
