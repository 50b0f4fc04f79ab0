//! What can be done about a Build. Doing any of it twice is doing it once.

use std::fmt;

use jiff::Timestamp;

use crate::{api::build::Attempt, model::version::VersionRecord};

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Drop what is remembered of failures: a person asked for another try.
    Forget,
    /// In the background: fetch, find out what the revision means, and pin it.
    Resolve,
    /// In the background: see that the tag is free and the executor safe, and check the commit out.
    Prepare { attempt: i64 },
    /// The intent is on record, the checkout is there.
    Start { attempt: i64 },
    /// In the background: look after the script until it ends, and keep its output.
    Watch { attempt: i64 },
    /// In the background: end the script with all its processes.
    Cancel { attempt: i64 },
    /// Put an attempt's end into the store.
    Record(Box<Attempt>),
    /// In the background: pack the release, store it, and put it on record.
    Collect { attempt: i64 },
    /// In the background: push the tag.
    Tag { tagged_at: Timestamp },
    /// Make the version deployable.
    Publish(Box<VersionRecord>),
    /// In the background: it is over, so the checkouts of its attempts up to this one go; and once it is published, its pin.
    Tidy { upto: i64, published: bool },
    /// It goes: stop the background work.
    Abandon,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forget => f.write_str("Forget"),
            Self::Resolve => f.write_str("Resolve"),
            Self::Prepare { attempt } => write!(f, "Prepare {attempt}"),
            Self::Start { attempt } => write!(f, "Start {attempt}"),
            Self::Watch { attempt } => write!(f, "Watch {attempt}"),
            Self::Cancel { attempt } => write!(f, "Cancel {attempt}"),
            Self::Record(end) => write!(f, "Record {} {:?}", end.number, end.outcome),
            Self::Collect { attempt } => write!(f, "Collect {attempt}"),
            Self::Tag { tagged_at } => write!(f, "Tag at {tagged_at}"),
            Self::Publish(record) => write!(f, "Publish {} {}", record.version, record.digest),
            Self::Tidy { upto, published: true } => write!(f, "Tidy {upto} and unpin"),
            Self::Tidy { upto, published: false } => write!(f, "Tidy {upto}"),
            Self::Abandon => f.write_str("Abandon"),
        }
    }
}
