//! What can be done about a Build. Doing any of it twice is doing it once.

use std::fmt;

use jiff::Timestamp;

use crate::{api::build::Attempt, model::version::VersionRecord};

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Another attempt was requested: earlier failures no longer count.
    ClearFailures,
    /// In the background: fetch, resolve the revision to a commit, and pin it.
    Resolve,
    /// In the background: check that the tag is free and the executor isolates scripts, then check the commit out.
    Prepare { attempt: i64 },
    /// The intent is on record, the checkout is there.
    Start { attempt: i64 },
    /// In the background: watch the script until it ends, and keep its output.
    Watch { attempt: i64 },
    /// In the background: end the script with all its processes.
    Cancel { attempt: i64 },
    /// Put an attempt's end into the store.
    Record(Box<Attempt>),
    /// In the background: pack the release, store it, and put it on record.
    Pack { attempt: i64 },
    /// In the background: push the tag.
    Tag { tagged_at: Timestamp },
    /// Make the version deployable.
    Publish(Box<VersionRecord>),
    /// In the background: delete the checkouts of ended attempts up to this one and, once the version is published, the pin of its commit.
    DeleteCheckouts { upto: i64, published: bool },
    /// The Build is being deleted: cancel its background tasks.
    CancelTasks,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClearFailures => f.write_str("ClearFailures"),
            Self::Resolve => f.write_str("Resolve"),
            Self::Prepare { attempt } => write!(f, "Prepare {attempt}"),
            Self::Start { attempt } => write!(f, "Start {attempt}"),
            Self::Watch { attempt } => write!(f, "Watch {attempt}"),
            Self::Cancel { attempt } => write!(f, "Cancel {attempt}"),
            Self::Record(end) => write!(f, "Record {} {:?}", end.number, end.outcome),
            Self::Pack { attempt } => write!(f, "Pack {attempt}"),
            Self::Tag { tagged_at } => write!(f, "Tag at {tagged_at}"),
            Self::Publish(record) => write!(f, "Publish {} {}", record.version, record.digest),
            Self::DeleteCheckouts { upto, published: true } => write!(f, "DeleteCheckouts {upto} and the pin"),
            Self::DeleteCheckouts { upto, published: false } => write!(f, "DeleteCheckouts {upto}"),
            Self::CancelTasks => f.write_str("CancelTasks"),
        }
    }
}
