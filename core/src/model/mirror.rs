//! The mirror of a git repository, as it lies in the data folder.

use jiff::Timestamp;

/// The mirror of one repository for one namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    pub name: String,
    /// Where it is known.
    pub namespace: Option<String>,
    /// Names of pins: `<namespace>.<uid>`.
    pub pins: Vec<String>,
    /// When it was fetched last, as far as is known.
    pub touched: Timestamp,
    /// No mirror, but what a crash left of one.
    pub leftover: bool,
}
