//! What HostGroups touch. It decides nothing.

use std::sync::Arc;

use crate::{
    controllers::{
        frame::{Context, Shared},
        hosts::Fleet,
        secrets::SecretReader,
        tasks::Tasks,
    },
    effects::store::Store,
};

/// One for all of them, made by the wiring in `runtime`.
pub struct HostGroupContext {
    pub shared: Arc<Shared>,
    pub fleet: Arc<Fleet>,
    pub secrets: SecretReader,
    pub store: Store,
    pub tasks: Tasks,
}

impl Context for HostGroupContext {
    fn shared(&self) -> &Shared {
        &self.shared
    }
}
