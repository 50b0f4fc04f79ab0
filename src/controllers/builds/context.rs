//! What Builds touch. It decides nothing.

use std::sync::Arc;

use super::Registry;
use crate::{
    controllers::{
        frame::{Context, Shared},
        secrets::SecretReader,
        tasks::Tasks,
    },
    effects::{executor::Executor, git::Git, store::Store},
};

/// One for all of them, made by the wiring in `runtime`.
pub struct BuildContext {
    pub shared: Arc<Shared>,
    pub builds: Registry,
    pub executor: Arc<dyn Executor>,
    pub git: Git,
    pub secrets: SecretReader,
    pub store: Store,
    pub tasks: Tasks,
}

impl Context for BuildContext {
    fn shared(&self) -> &Shared {
        &self.shared
    }
}
