//! What the garbage collector touches. It decides nothing.

use std::sync::Arc;

use crate::{
    controllers::frame::Shared,
    effects::{executor::Executor, git::Git, store::Store},
};

/// One for each scope, made by the wiring in `runtime`.
pub struct GarbageContext {
    pub shared: Arc<Shared>,
    pub executor: Arc<dyn Executor>,
    pub git: Git,
    pub store: Store,
}
