//! Retention of the logs of rollouts.

use std::collections::BTreeSet;

pub use crate::model::rollout::RolloutAttempt;
use crate::model::rollout::RolloutId;

/// Attempts outside the newest `rollouts` rollouts. A rollout keeps the logs of all its attempts, or of none.
pub fn outdated_attempts(attempts: impl IntoIterator<Item = RolloutAttempt>, rollouts: usize) -> Vec<RolloutAttempt> {
    let attempts: BTreeSet<RolloutAttempt> = attempts.into_iter().collect();
    let all: BTreeSet<RolloutId> = attempts.iter().map(RolloutAttempt::rollout).collect();
    let kept: BTreeSet<RolloutId> = all.into_iter().rev().take(rollouts).collect();
    attempts.into_iter().filter(|attempt| !kept.contains(&attempt.rollout())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(text: &str) -> RolloutAttempt {
        text.parse().unwrap()
    }

    #[test]
    fn a_redeploy_is_a_rollout_and_a_retry_is_none() {
        let all = ["1.0.1", "2.0.1", "2.0.2", "2.1.1", "10.0.1"].map(attempt);
        assert_eq!(outdated_attempts(all, 3), [attempt("1.0.1")]);
        assert_eq!(outdated_attempts(all, 2), ["1.0.1", "2.0.1", "2.0.2"].map(attempt));
        assert_eq!(outdated_attempts(all, 4), []);
        assert_eq!(outdated_attempts([], 0), []);
    }
}
