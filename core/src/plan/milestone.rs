//! Where a build or a rollout begins or ends: one line of the log each. Pure; read from two statuses of one object.

/// A beginning or an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Milestone {
    /// `id` is the attempt of a build, or `<revision>.<serial>` of a rollout with its attempt.
    Begun {
        what: &'static str,
        id: String,
        version: String,
        /// User who asked for it; `None` where that is unknown.
        by: Option<String>,
    },
    Ended {
        what: &'static str,
        id: String,
        version: String,
        /// `Succeeded`, or the reason in one word.
        outcome: String,
        /// Duration; `None` where nothing had begun.
        seconds: Option<i64>,
    },
}
