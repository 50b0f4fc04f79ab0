//! Dependencies of the Deployments' controller. It decides nothing.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::OnceCell;

use super::{SiblingSelections, orders::Orders, recent_reads::RecentReads, seen_objects::SeenObjects};
use crate::{
    controllers::{
        frame::{Context, Shared},
        hosts::Hosts,
        secrets::SecretReader,
        tasks::Tasks,
    },
    effects::{host::Bundles, rollout_logs::RolloutLogs, store::Store},
    model::{keyed::HashKey, rollout::RolloutAttempt},
};

/// One for all of them, made by the wiring in `runtime`.
pub struct DeploymentContext {
    pub shared: Arc<Shared>,
    pub hosts: Arc<Hosts>,
    pub store: Store,
    pub rollout_logs: RolloutLogs,
    /// By uid of the Deployment: its newest attempt, and of how many rollouts the logs are kept.
    pub log_limits: Mutex<HashMap<String, (RolloutAttempt, usize)>>,
    pub bundles: Bundles,
    pub orders: Orders,
    pub siblings: SiblingSelections,
    pub recent_reads: RecentReads,
    pub tasks: Tasks,
    pub secrets: SecretReader,
    /// Of the store, once a value was hashed.
    pub hash_key: OnceCell<HashKey>,
    pub seen_objects: SeenObjects,
}

impl Context for DeploymentContext {
    fn shared(&self) -> &Shared {
        &self.shared
    }
}
