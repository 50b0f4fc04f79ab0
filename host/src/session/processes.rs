//! Applications and keepers of the folders, held by a pidfd so that the session hears of their end at once. It signals nothing.

use std::{collections::BTreeMap, os::fd::BorrowedFd};

use landfall_host_protocol::{FolderFacts, FolderName, ProcessState};

use crate::process::{Found, Handle, Identity, boot_id, find};

/// Processes that a session watches, at most.
const MAX_HELD: usize = 256;

#[derive(Debug)]
struct Held {
    folder: FolderName,
    process: Handle,
}

#[derive(Debug, Default)]
pub(super) struct Processes {
    held: Vec<Held>,
    /// Those that were gone already when they were to be watched.
    missed: BTreeMap<FolderName, Identity>,
}

impl Processes {
    /// Watches what these facts name instead of what was watched for the folder. True: one of them ended since the facts were read, and they
    /// are to be read again; it is said once of each.
    pub(super) fn replace(&mut self, folder: &FolderName, facts: Option<&FolderFacts>) -> bool {
        self.held.retain(|held| held.folder != *folder);
        let Some(facts) = facts else { return false };
        let process = facts.process.as_ref().filter(|process| process.state == ProcessState::Running);
        let process =
            process.map(|found| Identity { pid: found.pid, start: found.start, boot_id: found.boot_id.clone() });
        let keeper = facts.keeper.as_ref();
        let keeper = keeper.map(|found| Identity { pid: found.pid, start: found.start, boot_id: boot_id().to_owned() });
        let mut ended = false;
        for identity in process.into_iter().chain(keeper) {
            match find(&identity) {
                Found::Alive(process) if self.held.len() < MAX_HELD => {
                    self.held.push(Held { folder: folder.clone(), process });
                }
                Found::Alive(_) | Found::Hidden => {}
                Found::Dead => {
                    let known = self.missed.insert(folder.clone(), identity.clone());
                    ended |= known != Some(identity);
                }
            }
        }
        ended
    }

    /// Those with a pidfd: their index, and the pidfd, which becomes readable at their end.
    pub(super) fn fds(&self) -> impl Iterator<Item = (usize, BorrowedFd<'_>)> {
        self.held.iter().enumerate().filter_map(|(index, held)| Some((index, held.process.pidfd()?)))
    }

    /// No longer watched; the folder it belongs to.
    pub(super) fn forget(&mut self, index: usize) -> Option<FolderName> {
        (index < self.held.len()).then(|| self.held.swap_remove(index).folder)
    }

    /// Folders of those without a pidfd that are gone.
    pub(super) fn ended_unseen(&mut self) -> Vec<FolderName> {
        let gone = |held: &Held| held.process.pidfd().is_none() && !held.process.is_alive();
        let folders = self.held.iter().filter(|held| gone(held)).map(|held| held.folder.clone()).collect();
        self.held.retain(|held| !gone(held));
        folders
    }
}
