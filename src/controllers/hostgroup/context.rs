//! What HostGroups touch. It decides nothing.

use std::sync::Arc;

use crate::{
    controllers::{
        frame::{Context, Shared},
        hosts::Hosts,
        secrets::SecretReader,
    },
    effects::store::Store,
};

/// One for all of them, made by the wiring in `runtime`.
pub struct HostGroupContext {
    pub shared: Arc<Shared>,
    pub hosts: Arc<Hosts>,
    pub secrets: SecretReader,
    pub store: Store,
}

impl Context for HostGroupContext {
    fn shared(&self) -> &Shared {
        &self.shared
    }
}
