//! How a script ended, as its runner knows it.

use super::super::types::ExitReason;

/// How a script ended.
pub(super) struct End {
    pub(super) reason: ExitReason,
    pub(super) code: Option<i32>,
    pub(super) message: Option<String>,
}

impl End {
    pub(super) fn not_started(message: impl Into<String>) -> Self {
        Self { reason: ExitReason::NotStarted, code: None, message: Some(message.into()) }
    }

    pub(super) fn succeeded(&self) -> bool {
        self.reason == ExitReason::Completed && self.code == Some(0)
    }

    pub(super) fn completed(code: Option<i32>) -> Self {
        Self { reason: ExitReason::Completed, code, message: None }
    }

    pub(super) fn killed(reason: ExitReason) -> Self {
        Self { reason, code: None, message: None }
    }
}
