//! Why something did not succeed, for planners, statuses and people.

use serde::{Deserialize, Serialize};

use crate::{api::Reason, model::Class};

/// One failure: a reason of the closed list, whether trying again may help, and a message that says what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    pub reason: Reason,
    #[serde(default = "may_pass")]
    pub class: Class,
    pub message: String,
    /// The last lines of what ran, cleaned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<String>,
}

fn may_pass() -> Class {
    Class::Transient
}

impl Failure {
    pub fn new(reason: Reason, class: Class, message: impl Into<String>) -> Self {
        Self { reason, class, message: message.into(), lines: Vec::new() }
    }

    /// An error of an effect, in its own words.
    pub fn of(reason: Reason, class: Class, error: &impl ToString) -> Self {
        Self::new(reason, class, error.to_string())
    }

    /// Something is not there yet, and may come.
    pub fn waiting(reason: Reason, message: impl Into<String>) -> Self {
        Self::new(reason, Class::Waiting, message)
    }

    /// The same input gives the same answer until something is changed.
    pub fn terminal(reason: Reason, message: impl Into<String>) -> Self {
        Self::new(reason, Class::Terminal, message)
    }

    pub fn is_terminal(&self) -> bool {
        self.class == Class::Terminal
    }
}
