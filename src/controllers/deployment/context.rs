//! Dependencies of the Deployments' controller. It decides nothing.

use std::sync::Arc;

use super::SiblingSelections;
use crate::{
    controllers::{
        frame::{Context, Shared},
        hosts::Fleet,
        tasks::Tasks,
    },
    effects::{host::Bundles, rollout_logs::RolloutLogs, store::Store},
};

/// One for all of them, made by the wiring in `runtime`.
pub struct DeploymentContext {
    pub shared: Arc<Shared>,
    pub fleet: Arc<Fleet>,
    pub store: Store,
    pub rollout_logs: RolloutLogs,
    pub bundles: Bundles,
    pub siblings: SiblingSelections,
    pub tasks: Tasks,
}

impl Context for DeploymentContext {
    fn shared(&self) -> &Shared {
        &self.shared
    }
}
