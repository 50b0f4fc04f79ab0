//! What a unit does now, from what systemd shows. Nothing is asked here.

use super::systemctl::{Active, Shown};
use crate::process::Identity;

/// What a unit does now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Now {
    /// An administrator's may have no main process.
    Running(Option<Identity>),
    Completed,
    /// systemd is about to start it again.
    Waiting,
    /// It starts or stops just now.
    Changing,
    Failed,
    Inactive,
}

impl Now {
    pub(super) fn of(shown: &Shown, is_own: bool) -> Self {
        let main = shown.main();
        match shown.active {
            Active::Up if is_own && shown.sub == "exited" => Self::Completed,
            Active::Up if main.is_none() && is_own => Self::Changing,
            Active::Up => Self::Running(main),
            Active::Activating | Active::Deactivating if main.is_some() => Self::Running(main),
            Active::Activating if shown.sub.starts_with("auto-restart") => Self::Waiting,
            Active::Activating | Active::Deactivating => Self::Changing,
            Active::Failed => Self::Failed,
            Active::Inactive => Self::Inactive,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        !matches!(self, Self::Failed | Self::Inactive)
    }
}

/// It ended by itself, so that being inactive is no stop. systemd keeps no unit of ours inactive that ended by itself: it starts it again,
/// or calls it failed, or active after the end of its work.
pub(super) fn has_ended(shown: &Shown) -> bool {
    !matches!(shown.result.as_str(), "" | "success")
}
