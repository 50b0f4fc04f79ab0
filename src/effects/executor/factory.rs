//! Which executor runs the scripts of builds. One line for each kind.

use std::sync::Arc;

use super::{Executor, LocalConfig, LocalExecutor};

/// Which executor, and how it works.
#[derive(Clone, Debug)]
pub enum ExecutorConfig {
    Local(LocalConfig),
}

/// The executor that the configuration names. One line for each kind.
pub fn open(config: ExecutorConfig) -> Arc<dyn Executor> {
    match config {
        ExecutorConfig::Local(config) => Arc::new(LocalExecutor::new(config)),
    }
}
