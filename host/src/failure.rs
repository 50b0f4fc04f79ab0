//! Why a step failed, as it travels in a task's result.

use landfall_host_protocol::{Ended, Failure, Full, Outcome, Reason, StepName, StrangerFacts};

/// Characters of `why`: with all else a failure fits an event.
const MAX_WHY: usize = 6000;

/// Result of a step.
pub type StepResult<T> = Result<T, Box<StepFailure>>;

/// A step's failure. `why` is for a person and holds no secret value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepFailure {
    pub reason: Reason,
    pub why: String,
    /// Last lines of output, cleaned and cut.
    pub lines: Vec<String>,
    pub ended: Option<Ended>,
    pub full: Option<Full>,
    pub strangers: Vec<StrangerFacts>,
}

impl StepFailure {
    pub fn new(reason: Reason, why: impl Into<String>) -> Box<Self> {
        let mut why = why.into();
        if let Some((end, _)) = why.char_indices().nth(MAX_WHY) {
            why.truncate(end);
        }
        Box::new(Self { reason, why, lines: Vec::new(), ended: None, full: None, strangers: Vec::new() })
    }

    pub fn into_outcome(self, step: StepName) -> Outcome {
        let Self { reason, why, lines, ended, full, strangers } = self;
        Outcome::Failed(Box::new(Failure { step, reason, why, lines, ended, full, strangers }))
    }
}
