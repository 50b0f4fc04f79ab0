//! A push becomes a Build: one for each new head of the branches that `build.trigger` names, whatever happens on the way.
//!
//! What was there when the trigger was declared is written down first (the baseline) and is not built. A head that is in no baseline
//! and has no record gets a Build whose name follows from project and commit, so that creating it twice is creating it once; then
//! its record, which outlives the Build.

use std::{collections::BTreeSet, fmt::Write};

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::{Action, Head, Observed};
use crate::api::{
    Reason,
    conditions::Extra,
    project::{ProjectSpec, TRIGGERED},
};

/// New heads of one listing that get their Builds at once; the others follow at the next ones.
const AT_ONCE: usize = 20;
/// The longest name that the API takes.
const NAME: usize = 63;
const SHORT: usize = 12;
/// How the names of baselines begin; commits have no `-`.
pub const BASELINE: &str = "baseline-";

#[derive(Default)]
pub(super) struct Pushed {
    pub(super) actions: Vec<Action>,
    pub(super) condition: Option<Extra>,
    /// When a Build that could not be created is tried again.
    pub(super) retry_at: Option<Timestamp>,
}

pub(super) fn decide(observed: &Observed, now: Timestamp) -> Pushed {
    let Some(trigger) = &observed.object.spec.build.trigger else {
        // What is pushed while there is none is not made up for when there is one again.
        let delete = (!observed.pushes.baselines.is_empty()).then_some(Action::DeleteBaselines);
        return Pushed { actions: delete.into_iter().collect(), ..Pushed::default() };
    };
    let mut pushed = Pushed::default();
    if let Some(listing) = observed.listing.as_ref().filter(|_| observed.retry_state.is_none()) {
        let baseline = baseline(&observed.object.spec, &trigger.on_push);
        if observed.pushes.baselines.contains(&baseline) {
            build(observed, &listing.heads, now, &mut pushed);
        } else {
            pushed.actions.push(Action::RecordBaseline { baseline, heads: listing.heads.clone() });
        }
    }
    pushed.condition = Some(condition(observed, &trigger.on_push));
    pushed
}

fn build(observed: &Observed, heads: &[Head], now: Timestamp, pushed: &mut Pushed) {
    let mut met = BTreeSet::new();
    let news: Vec<Head> = heads
        .iter()
        .filter(|head| !observed.pushes.known.contains(&head.sha) && met.insert(&head.sha))
        .take(AT_ONCE)
        .cloned()
        .collect();
    if news.is_empty() {
        return;
    }
    if let Some(backoff) =
        observed.pushes.retry_state.as_ref().map(|retry_state| retry_state.backoff()).filter(|wait| !wait.is_over(now))
    {
        pushed.retry_at = Some(backoff.retry_at.0);
        return;
    }
    pushed.actions.push(Action::Trigger(news));
}

fn condition(observed: &Observed, patterns: &[String]) -> Extra {
    match &observed.pushes.retry_state {
        None => Extra {
            kind: TRIGGERED,
            status: Some(true),
            reason: Reason::Watching,
            message: format!("new heads of {} are built", patterns.join(", ")),
        },
        Some(retry_state) => Extra {
            kind: TRIGGERED,
            status: Some(false),
            reason: Reason::TriggerFailed,
            message: format!("{}; tried again", retry_state.message),
        },
    }
}

/// The name of the record of the heads that were there when this trigger was declared on this source: another trigger, another record.
pub fn baseline(spec: &ProjectSpec, patterns: &[String]) -> String {
    let mut hasher = Sha256::new();
    for part in std::iter::once(&spec.source.url).chain(&spec.source.branches).chain(patterns) {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    format!("{BASELINE}{}", hex(&hasher.finalize(), 8))
}

/// The name of the Build of a pushed commit: the same for the same.
pub fn build_name(project: &str, sha: &str) -> String {
    let short = sha.get(..SHORT).unwrap_or(sha);
    let room = NAME - SHORT - 1;
    if project.len() <= room {
        return format!("{project}-{short}");
    }
    // Cut names must not meet.
    let digest = hex(&Sha256::digest(project), 4);
    let cut = project.get(..room - digest.len() - 1).unwrap_or(project).trim_end_matches('-');
    format!("{cut}-{digest}-{short}")
}

fn hex(bytes: &[u8], most: usize) -> String {
    bytes.iter().take(most).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_triggered_build_always_fits_and_long_ones_do_not_meet() {
        let sha = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(build_name("shop", sha), "shop-0123456789ab");
        let (one, two) = (format!("{}a", "x".repeat(62)), format!("{}b", "x".repeat(62)));
        assert!(build_name(&one, sha).len() <= NAME && build_name(&one, sha) != build_name(&two, sha));
        let dashes = format!("{}{}a", "x".repeat(40), "-".repeat(20));
        assert!(build_name(&dashes, sha).bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
    }
}
