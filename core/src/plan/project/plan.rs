//! The decision about a Project: each part looks at its own, and what they answer is put together.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    Action, Observed, grant, listing, retention_schedule, spec,
    status::{failure_event, verdict_event},
    trigger,
};
use crate::{
    api::{
        Reason, Verdict, conditions,
        project::ProjectStatus,
        verbs::{self, REFRESH},
    },
    plan::Plan,
};

/// Decides about a Project.
pub fn plan(observed: &Observed, now: Timestamp) -> Plan<ProjectStatus, Action> {
    let before = observed.object.status.clone().unwrap_or_default();
    let asked =
        verbs::asked(REFRESH, &observed.object.annotations, &before.last_handled, observed.object.status.is_none())
            .is_some();
    let mut status = ProjectStatus {
        observed_generation: observed.object.generation,
        last_handled: verbs::handled(&[REFRESH], &observed.object.annotations, &before.last_handled),
        ..before.clone()
    };
    let mut actions = Vec::new();
    let mut look = listing::decide(observed, &mut status, asked, now);
    if let Some(message) = spec::invalid(&observed.object.spec) {
        look.verdict = Verdict::failed(Reason::InvalidSpec, message);
    }
    if look.list && !observed.object.deleting {
        actions.push(Action::List { again: asked });
    }
    let mut events = Vec::new();
    let (mut extras, mut next) = (vec![], look.next);
    if !observed.object.deleting {
        let granted = grant::decide(observed, &mut status, now);
        actions.extend(granted.actions);
        events.extend(granted.events);
        let pushed = trigger::decide(observed, now);
        actions.extend(pushed.actions);
        let retention = retention_schedule::decide(observed, now);
        actions.extend(retention.now.then_some(Action::CollectGarbage));
        extras.extend(pushed.condition.into_iter().chain(retention.condition));
        events.extend(extras.iter().filter_map(|extra| failure_event(&before, extra)));
        for at in [pushed.retry_at, retention.next].into_iter().flatten() {
            next = next.min(Duration::try_from(at.duration_since(now)).unwrap_or_default());
        }
    }
    events.extend(verdict_event(&before, &look.verdict));
    status.conditions =
        conditions::conditions(&before.conditions, observed.object.generation, now, &look.verdict, &extras);
    Plan { finalizer: false, status, actions, events, next: Some(next.max(Duration::from_millis(100))) }
}
