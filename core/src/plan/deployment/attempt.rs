//! The attempts of rollouts by name and order, and whose logs are kept.

use std::{collections::BTreeSet, fmt, str::FromStr};

/// One attempt of one rollout: `2.0.1` is the first attempt of rollout `2.0`. A later one is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RolloutAttempt {
    revision: i64,
    redeploys: i64,
    attempt: i64,
}

impl RolloutAttempt {
    /// `rollout` is `<revision>.<redeploys>`; `None` where it is not.
    pub fn new(rollout: &str, attempt: i64) -> Option<Self> {
        let (revision, redeploys) = rollout.split_once('.')?;
        Some(Self { revision: revision.parse().ok()?, redeploys: redeploys.parse().ok()?, attempt })
    }
}

impl FromStr for RolloutAttempt {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (rollout, attempt) = text.rsplit_once('.').ok_or(())?;
        Self::new(rollout, attempt.parse().map_err(|_| ())?).ok_or(())
    }
}

impl fmt::Display for RolloutAttempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.revision, self.redeploys, self.attempt)
    }
}

/// Of these attempts those of other rollouts than the newest ones. A rollout keeps all its attempts, or none.
pub fn outdated(attempts: impl IntoIterator<Item = RolloutAttempt>, rollouts: usize) -> Vec<RolloutAttempt> {
    let rollout = |attempt: &RolloutAttempt| (attempt.revision, attempt.redeploys);
    let attempts: BTreeSet<RolloutAttempt> = attempts.into_iter().collect();
    let all: BTreeSet<(i64, i64)> = attempts.iter().map(rollout).collect();
    let kept: BTreeSet<(i64, i64)> = all.into_iter().rev().take(rollouts).collect();
    attempts.into_iter().filter(|attempt| !kept.contains(&rollout(attempt))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(text: &str) -> RolloutAttempt {
        text.parse().unwrap()
    }

    #[test]
    fn attempts_are_ordered_by_number_not_by_text() {
        assert!(attempt("10.0.1") > attempt("9.3.2"));
        assert!(attempt("2.0.11") > attempt("2.0.2"));
        assert_eq!(RolloutAttempt::new("2.1", 3).unwrap().to_string(), "2.1.3");
        assert!("2.0".parse::<RolloutAttempt>().is_err() && "../x".parse::<RolloutAttempt>().is_err());
    }

    #[test]
    fn a_redeploy_is_a_rollout_and_a_retry_is_none() {
        let all = ["1.0.1", "2.0.1", "2.0.2", "2.1.1", "10.0.1"].map(attempt);
        assert_eq!(outdated(all, 3), [attempt("1.0.1")]);
        assert_eq!(outdated(all, 2), ["1.0.1", "2.0.1", "2.0.2"].map(attempt));
        assert_eq!(outdated(all, 4), []);
        assert_eq!(outdated([], 0), []);
    }
}
