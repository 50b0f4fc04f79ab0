//! How the bytes of a release come to a host: its manifest, and bundles of what a host lacks. Both ends stand here, the operator's behind
//! the feature `write`.
//!
//! ```text
//! Release (a verified tar) ── write ──► bundle ── incoming/ ──► apply ──► releases/<name>/
//! ```
//!
//! No network, no clock and no decision about hosts. Neither end holds a file in memory, and what comes from the other end is a stranger's
//! input: sizes, names and digests are checked while they are read.

mod apply;
#[cfg(feature = "write")]
mod delta;
mod format;
mod manifest;
#[cfg(feature = "write")]
mod release;
#[cfg(feature = "write")]
mod similar;
mod window;
#[cfg(feature = "write")]
mod write;

pub use apply::{Applied, ApplyError, Files, apply};
pub use manifest::{ManifestError, check, decode, digest, encode};
#[cfg(feature = "write")]
pub use release::{Release, ReleaseError};
#[cfg(feature = "write")]
pub use write::{Written, write};
