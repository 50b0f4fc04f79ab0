//! What a keeper is told: at its start over a pipe, later by a file in `.landfall` and a signal.

use std::{io, path::PathBuf};

use landfall_host_protocol::{Secrets, Start};
use serde::{Deserialize, Serialize};

use crate::{files, folder::Folder, gate};

/// What a new keeper is told. It holds secret values and passes through pipes and sealed memory only.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    pub work: Work,
    /// What is started, or runs.
    pub start: Start,
    /// uid of the Deployment.
    pub uid: String,
    /// `None`: nobody here has them.
    pub secrets: Option<Secrets>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Work {
    Start,
    /// Watches what runs without a keeper, for the task that asks.
    Beside,
    /// The same for who acts on nothing: where no task is at work.
    Mend,
}

/// What a living keeper is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LaterOrder {
    /// Of the application that it is about; one of an earlier start is none.
    pub(super) instance: String,
    pub(super) act: Act,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Act {
    /// An act ends the application: it is not started again, and the keeper ends with it.
    StandDown,
    /// Goes on as this program.
    Upgrade { program: PathBuf },
}

impl LaterOrder {
    pub(super) fn read(folder: &Folder) -> Option<Self> {
        files::read_record(&path(folder)).ok().flatten()
    }

    pub(super) fn write(&self, folder: &Folder) -> io::Result<()> {
        gate::pass("order.write", || files::write_record(&path(folder), self))
    }

    pub(super) fn remove(folder: &Folder) -> io::Result<()> {
        gate::pass("order.remove", || files::remove_file(&path(folder)))
    }
}

fn path(folder: &Folder) -> PathBuf {
    folder.dot().join("order")
}
