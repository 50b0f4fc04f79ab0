//! Refusals, failures and ends in the words of a person's shell.

use landfall_host_protocol::{Ended, Failure, Refusal};

pub(super) fn ended(end: &Ended) -> String {
    match (end.status, &end.signal) {
        (Some(status), _) => format!("exit status {status}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "unknown".to_owned(),
    }
}

pub(super) fn failure(failure: &Failure) -> String {
    let mut text = format!("{}: {:?}: {}", failure.step.as_str(), failure.reason, failure.why);
    if let Some(end) = &failure.ended {
        text += &format!(" ({})", ended(end));
    }
    for stranger in &failure.strangers {
        text += &format!("\n  process {} {}", stranger.pid, stranger.what);
    }
    for line in &failure.lines {
        text += &format!("\n  {line}");
    }
    text
}

pub(super) fn refusal(refusal: &Refusal) -> String {
    match refusal {
        Refusal::BadInput { field, why } => format!("{field}: {why}"),
        Refusal::Fenced => "a later operator has acted here; look again".to_owned(),
        Refusal::OtherControlPlane { epoch } => format!("control plane {epoch} has acted here"),
        Refusal::Claimed { owner } => {
            format!("the folder belongs to Deployment {}/{} (host {})", owner.namespace, owner.deployment, owner.host)
        }
        Refusal::JournalMoved { .. } => "something else was done just now; look again".to_owned(),
        Refusal::Busy { task, step } => {
            format!("rollout {} is under way (step {step}); try again when it has ended", task.rollout)
        }
        Refusal::NotFound { what } => format!("{what} not found"),
        Refusal::Missing { .. } => "bytes of the release are missing".to_owned(),
        Refusal::DigestMismatch { expected, got } => format!("digest {got} instead of {expected}"),
        Refusal::Full(full) if full.quota => format!("the user's disk quota is used up at {}", full.path),
        Refusal::Full(full) => format!("no space left at {} ({} bytes free)", full.path, full.free_bytes),
        Refusal::Unsupported { why } | Refusal::Failed { why } => why.clone(),
        Refusal::Unknown(later) => format!("refused: {later}"),
    }
}
