//! Secret variables of a script, on their way from the operator to it: through pipes alone, never on a disk or a command line.
//!
//! The runner gets them once, at its start, and keeps them as long as the script runs: an operator that comes later need not know them.

use std::{
    fmt,
    io::{self, Read, Write},
};

use serde::{Deserialize, Serialize};

/// The longest value, in bytes.
pub const VALUE_MAX: usize = 64 * 1024;

/// Name and value of each. Values are UTF-8 without NUL.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secrets(pub Vec<(String, String)>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().map(|(name, _)| (name, "***"))).finish()
    }
}

impl Secrets {
    pub(super) fn values(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(_, value)| value.as_str())
    }

    /// Tells the runner.
    pub(super) fn send(&self, mut pipe: impl Write) -> io::Result<()> {
        pipe.write_all(&serde_json::to_vec(self)?)
    }

    /// Reads what the operator sends; an error where the operator died in the middle of it.
    pub(super) fn receive(pipe: impl Read) -> io::Result<Self> {
        serde_json::from_reader(pipe)
            // The text of the error could quote what was read.
            .map_err(|_| io::Error::other("the operator did not send the whole environment"))
    }
}
