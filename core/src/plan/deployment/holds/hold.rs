//! The causes that hold a rollout back, by name.

/// A cause that keeps the rollout waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// `spec.paused`.
    Paused,
    /// Something that the spec names does not exist, or can't be had.
    Unmet,
    /// Nobody can tell which updates were begun.
    StatusUnreadable,
    /// More hosts failed than `maxFailures`.
    TooManyFailed,
    /// The rollout ended as Failed; only a retry goes on.
    StillFailed,
}
