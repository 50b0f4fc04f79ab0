//! The garbage collector: everything that builds and projects make and that has to go again. Pure; what can't be told for sure is kept.
//!
//! [`Collectable`] is the list: each kind of thing, what keeps it alive, and its collector. `leftovers` decides about what Builds
//! and Projects that are deleted left, `retention` about what `spec.retention` of a Project no longer keeps, `releases` about the bytes of
//! releases. `controllers/gc` and `controllers/project/retention` carry it out. What lies around is always listed before its owners
//! are: then it had its owner by the time of that list, or has none.

pub mod leftovers;
pub mod releases;
pub mod retention;

/// A kind of thing that is collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Collectable {
    /// Checkout of an attempt; kept until that has ended.
    Checkout,
    /// The executor's folder of a Build; kept while the Build exists.
    BuildFolder,
    /// Plan, ends of attempts, release record and logs of a Build in the store; kept while the Build exists.
    BuildRecords,
    /// Ref that keeps a Build's commit in a mirror; kept while the Build exists and its version is not published, as it may be tried again.
    Pin,
    /// Bare repository in the data folder; kept while a Project names it, a pin is in it, or it was fetched within the hour.
    Mirror,
    /// Folders that survive between the builds of a Project; kept while the Project exists.
    Caches,
    /// Heads of branches that `build.trigger` has observed; kept while the Project exists.
    PushRecords,
    /// Build object; kept while it runs, waits or came back, is one of the newest, or a Deployment needs its version.
    Build,
    /// Right of a version to be deployed; kept while it is one of the newest, or a Deployment wants, runs or could go back to it. Its
    /// record stays, so that its name is never given to another.
    Version,
    /// Bytes of a release in the store; kept while a version that is not expired has them, or a Build that has not published them yet.
    Release,
    /// Output of one attempt; kept while the Build has not ended, or while it is young and all logs of the Project together are small.
    Log,
    /// File that a killed writer left half done; kept for an hour, as its writer may live.
    PartialFile,
}

/// Part of landfall that collects things of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collector {
    /// The Build's planner, once the Build has ended.
    Build,
    /// The run at start and every six hours, and the controller of an object that is deleted.
    Leftovers,
    /// The Project's retention: when a Build ends, when the rules change, and every hour.
    Retention,
}

impl Collectable {
    pub const ALL: [Self; 12] = [
        Self::Checkout,
        Self::BuildFolder,
        Self::BuildRecords,
        Self::Pin,
        Self::Mirror,
        Self::Caches,
        Self::PushRecords,
        Self::Build,
        Self::Version,
        Self::Release,
        Self::Log,
        Self::PartialFile,
    ];

    pub fn collector(self) -> Collector {
        match self {
            Self::Checkout => Collector::Build,
            Self::BuildFolder
            | Self::BuildRecords
            | Self::Pin
            | Self::Mirror
            | Self::Caches
            | Self::PushRecords
            | Self::PartialFile => Collector::Leftovers,
            Self::Build | Self::Version | Self::Release | Self::Log => Collector::Retention,
        }
    }
}
