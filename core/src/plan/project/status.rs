//! Events of a Project whose status changes.

use crate::{
    api::{
        Reason, Verdict,
        conditions::{Extra, READY},
        project::ProjectStatus,
    },
    plan::EventDraft,
};

/// An event when something beside the listing begins to fail.
pub(super) fn failure_event(before: &ProjectStatus, extra: &Extra) -> Option<EventDraft> {
    let action = match extra.reason {
        Reason::TriggerFailed => "Trigger",
        Reason::RetentionFailed => "CollectGarbage",
        _ => return None,
    };
    let same = before.conditions.iter().any(|old| old.type_ == extra.kind && old.reason == extra.reason.as_str());
    (!same).then(|| EventDraft::warning(extra.reason, action, extra.message.clone()))
}

/// An event when the verdict's reason changed.
pub(super) fn verdict_event(before: &ProjectStatus, verdict: &Verdict) -> Option<EventDraft> {
    let reason = verdict.reason();
    let same = before.conditions.iter().any(|old| old.type_ == READY && old.reason == reason.as_str());
    let warning = match verdict {
        Verdict::Failed { .. } | Verdict::InProgress { known_bad: true, .. } => true,
        Verdict::Done { .. } => false,
        _ => return None,
    };
    (!same).then(|| EventDraft { warning, reason, action: "List", note: verdict.message().to_owned(), host: None })
}
