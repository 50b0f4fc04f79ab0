//! The garbage collector: everything that builds and projects make and that has to go again. Pure; what can't be told for sure is kept.
//!
//! [`Collectable`] is the list: each kind of thing says what keeps it alive and who looks for it. `leftovers` decides about what Builds
//! and Projects that are deleted left, `retention` about what `spec.retention` of a Project keeps no longer, `releases` about the bytes of
//! releases. `controllers/gc` and `controllers/project/retention` carry it out. What lies around is always listed before its owners
//! are: then it had its owner by the time of that list, or has none.

pub mod leftovers;
pub mod releases;
pub mod retention;

/// A kind of thing that is collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Collectable {
    /// Checkouts of attempts that have ended.
    Checkout,
    /// The executor's folder of a Build.
    BuildFolder,
    /// Plan, ends of attempts, release record and logs of a Build in the store.
    BuildRecords,
    /// The ref that keeps a Build's commit in a mirror.
    Pin,
    /// A bare repository in the data folder.
    Mirror,
    /// Folders that survive between the builds of a Project.
    Caches,
    /// Heads of branches that `build.trigger` has seen.
    PushRecords,
    /// A Build object.
    Build,
    /// The right of a version to be deployed. Its record stays, so that its name is never given to something else.
    Version,
    /// The bytes of a release in the store.
    Release,
    /// What one attempt said.
    Log,
    /// A file that a writer who was killed left half done.
    PartialFile,
}

/// Who looks for things of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collector {
    /// The Build's planner, once the Build has ended.
    Build,
    /// The look at start and every six hours, and the controller of an object that is deleted.
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

    /// What keeps it alive.
    pub fn kept_by(self) -> &'static str {
        match self {
            Self::Checkout => "the attempt has not ended",
            Self::BuildFolder | Self::BuildRecords => "the Build exists",
            Self::Pin => "the Build exists and its version is not published: it may be tried again",
            Self::Mirror => "a Project names the repository, a pin is in it, or it was fetched within the hour",
            Self::Caches | Self::PushRecords => "the Project exists",
            Self::Build => "it runs, waits, or came back; it is one of the newest; or a Deployment needs the version",
            Self::Version => "it is one of the newest, or a Deployment wants, runs or could go back to it",
            Self::Release => {
                "a version that is not expired has these bytes, or a Build that has not published them yet"
            }
            Self::Log => "the Build has not ended; or it is young, and all logs of the Project together are small",
            Self::PartialFile => "it is younger than an hour: its writer may live",
        }
    }

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
