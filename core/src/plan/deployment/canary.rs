//! The canary of one decision, as holds, strategies and status read it. It must not know how it comes about.

use std::time::Duration;

use jiff::Timestamp;

use crate::{api::deployment::CanaryRecord, model::Failure};

/// The canary of the current rollout.
#[derive(Debug, Default)]
pub(crate) struct Canary {
    /// For the record; `None` where the rollout has no canary.
    pub record: Option<CanaryRecord>,
    pub stage: Stage,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) enum Stage {
    /// There is none, or the others may follow: every host may be updated.
    #[default]
    Over,
    /// No host can be the canary: none is updated.
    Unmet(Failure),
    /// The canary hosts alone are updated, until all of them are ready.
    UnderWay,
    /// They are all ready, and the others wait: for a person, or until this time.
    AwaitsPromotion { until: Option<Timestamp> },
}

impl Canary {
    /// Whether this host may be updated, as far as the canary is concerned.
    pub fn allows(&self, host: &str) -> bool {
        match &self.stage {
            Stage::Over => true,
            Stage::UnderWay => self.has(host),
            Stage::Unmet(_) | Stage::AwaitsPromotion { .. } => false,
        }
    }

    /// Whether the host is one of the canary hosts, which the others still wait for.
    pub fn awaits(&self, host: &str) -> bool {
        self.stage != Stage::Over && self.has(host)
    }

    fn has(&self, host: &str) -> bool {
        self.record.as_ref().is_some_and(|record| record.hosts.iter().any(|name| name == host))
    }

    /// How long until time alone promotes it.
    pub fn due_in(&self, now: Timestamp) -> Option<Duration> {
        let Stage::AwaitsPromotion { until: Some(until) } = self.stage else { return None };
        Some(Duration::from_secs(u64::try_from(until.duration_since(now).as_secs()).unwrap_or(0).max(1)))
    }
}
