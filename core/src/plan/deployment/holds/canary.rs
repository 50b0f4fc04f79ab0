//! The canary: no host can be it, or it is ready and the others wait for its promotion.

use super::Hold;
use crate::plan::deployment::{canary::Stage, host_state::HostState, view::View};

pub(crate) fn canary(view: &View<'_>) -> Option<Hold> {
    let others_wait = view.hosts.iter().any(|host| host.state != HostState::Ready);
    match &view.canary.stage {
        Stage::Unmet(_) if others_wait => Some(Hold::CanaryUnmet),
        Stage::AwaitsPromotion { .. } if others_wait => Some(Hold::AwaitingPromotion),
        _ => None,
    }
}
