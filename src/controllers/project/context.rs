//! What Projects touch. It decides nothing.

use std::sync::Arc;

use super::Registry;
use crate::{
    controllers::{
        builds,
        frame::{Context, Shared},
        secrets::SecretReader,
        tasks::Tasks,
    },
    effects::{executor::Executor, git::Git, store::Store},
};

/// One for all of them, made by the wiring in `runtime`.
pub struct ProjectContext {
    pub shared: Arc<Shared>,
    pub builds: builds::Registry,
    pub executor: Arc<dyn Executor>,
    pub git: Git,
    pub secrets: SecretReader,
    pub sources: Registry,
    pub store: Store,
    pub tasks: Tasks,
}

impl Context for ProjectContext {
    fn shared(&self) -> &Shared {
        &self.shared
    }
}
