//! What pauses a rollout: `spec.paused`, which git may own, or the annotation `landfall.dev/pause` while it is there; and what ends that.

use super::observed::Observed;
use crate::api::{conditions::clip, verbs};

/// Bytes of a reason that messages show.
const REASON_BYTES: usize = 200;

pub(crate) fn is_paused(observed: &Observed) -> bool {
    observed.spec.paused || reason(observed).is_some()
}

/// Why a person paused it with the annotation, in brackets for a message; empty where no reason was given, `None` where it is absent.
pub(crate) fn reason(observed: &Observed) -> Option<String> {
    let given = observed.annotations.get(verbs::PAUSE)?;
    let reason: String = given.trim().chars().filter(|c| !c.is_control()).collect();
    Some(if reason.is_empty() { reason } else { format!(" ({})", clip(&reason, REASON_BYTES)) })
}

/// What ends the pause, for messages.
pub(crate) fn until(observed: &Observed) -> &'static str {
    match (observed.spec.paused, reason(observed).is_some()) {
        (true, true) => "until spec.paused is false and the annotation landfall.dev/pause is removed",
        (_, true) => "until the annotation landfall.dev/pause is removed",
        (_, false) => "until spec.paused is false",
    }
}

/// The commands that end it.
pub(crate) fn remedy(observed: &Observed) -> String {
    let Observed { namespace, name, .. } = observed;
    let patch = observed.spec.paused.then(|| {
        format!(
            "kubectl -n {namespace} patch deployments.landfall.dev {name} --type=merge -p '{{\"spec\":{{\"paused\":false}}}}'"
        )
    });
    let remove = reason(observed)
        .map(|_| format!("kubectl -n {namespace} annotate deployments.landfall.dev/{name} {}-", verbs::PAUSE));
    let commands: Vec<String> = patch.into_iter().chain(remove).collect();
    commands.join("; ")
}
