//! The causes that hold a rollout back, by name.

/// A cause that keeps the rollout waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// A person ended the rollout where it was; it goes on after a retry.
    Aborted,
    /// `spec.paused`, or the annotation `landfall.dev/pause`.
    Paused,
    /// The spec can't be met: what it names does not exist, or belongs to another Deployment.
    Unmet,
    /// The intent is missing: it is not known which updates were begun.
    StatusUnreadable,
    /// More hosts failed than `maxFailures`.
    TooManyFailed,
    /// The rollout ended as Failed; it goes on after a retry.
    StillFailed,
    /// No host can be the canary.
    CanaryUnmet,
    /// `pauseSeconds` since the last batch have not passed.
    BatchPause,
    /// The canary is ready, and is not promoted.
    AwaitingPromotion,
    /// With a further update fewer hosts of the group than `minAvailable` would be available.
    TooFewAvailable,
}

impl Hold {
    /// Releases are brought to hosts all the same: that takes none away.
    pub(crate) fn stages(self) -> bool {
        self.is_of_updates()
    }

    /// It holds updates alone: hosts that left the selection are given up all the same.
    pub(crate) fn is_of_updates(self) -> bool {
        matches!(self, Self::TooFewAvailable | Self::AwaitingPromotion | Self::BatchPause)
    }
}
