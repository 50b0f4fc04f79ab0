//! What can be done about a Project. Doing any of it twice is doing it once.

use std::fmt;

use super::{Denied, Head, QueuePosition};
use crate::api::project::ActiveBuild;

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// In the background: fetch and list the branches. `again`: requested by a person, so a listing that is running already does not count.
    List { again: bool },
    /// Claim the number and freeze the build's plan, both create-only.
    Grant(ActiveBuild),
    /// Requeue the builds whose position changed, and the granted one.
    Announce(Vec<QueuePosition>),
    /// Record which heads exist when the trigger is declared; the record of an earlier trigger is deleted.
    RecordBaseline { baseline: String, heads: Vec<Head> },
    /// In the background: collect what retention no longer keeps.
    CollectGarbage,
    /// There is no trigger: the record of heads is deleted.
    DeleteBaselines,
    /// Create the Build of each of these new heads, and its record.
    Trigger(Vec<Head>),
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::List { again } => write!(f, "List{}", if *again { " again" } else { "" }),
            Self::RecordBaseline { baseline, heads } => write!(f, "RecordBaseline {baseline} {} heads", heads.len()),
            Self::CollectGarbage => f.write_str("CollectGarbage"),
            Self::DeleteBaselines => f.write_str("DeleteBaselines"),
            Self::Trigger(heads) => {
                let each = |head: &Head| format!("{} of {}", head.sha, head.branch);
                write!(f, "Trigger {}", heads.iter().map(each).collect::<Vec<_>>().join(", "))
            }
            Self::Grant(active) => write!(f, "Grant {} number {}", active.name, active.number),
            Self::Announce(places) => {
                let each = |place: &QueuePosition| match &place.denied {
                    None => format!("{} {}", place.position, place.name),
                    Some(Denied::ForbiddenBy(other)) => format!("{} (forbidden by {other})", place.name),
                    Some(Denied::SupersededBy(other)) => format!("{} (superseded by {other})", place.name),
                };
                write!(f, "Announce {}", places.iter().map(each).collect::<Vec<_>>().join(", "))
            }
        }
    }
}
