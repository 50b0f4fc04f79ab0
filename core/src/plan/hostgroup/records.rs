//! What the store has on record about a group.

use serde::{Deserialize, Serialize};

/// What is on record of the machine that a stamp names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostKeyRecord {
    /// A key is kept.
    pub key: bool,
    /// This very stamp had one forgotten.
    pub forgotten: bool,
}
