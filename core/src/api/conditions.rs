//! Conditions as kstatus reads them. A planner says a [`Verdict`]; which conditions that makes is decided here, once, so that
//! no kind can break the contract (`tests/features/api/kstatus.rs` checks it from outside).

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::Reason;

pub const READY: &str = "Ready";
pub(crate) const RECONCILING: &str = "Reconciling";
pub const STALLED: &str = "Stalled";

/// What there is to say of an object as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Working, or waiting for something that comes by itself. `Ready` is Unknown until something is known to be wrong.
    InProgress { known_bad: bool, reason: Reason, message: String },
    /// A person must act.
    Failed { reason: Reason, message: String },
    /// Everything is as declared.
    Done { reason: Reason, message: String },
}

impl Verdict {
    pub fn working(reason: Reason, message: impl Into<String>) -> Self {
        Self::InProgress { known_bad: false, reason, message: message.into() }
    }

    /// In progress, with something known to be wrong that may pass.
    pub fn waiting(reason: Reason, message: impl Into<String>) -> Self {
        Self::InProgress { known_bad: true, reason, message: message.into() }
    }

    pub fn failed(reason: Reason, message: impl Into<String>) -> Self {
        Self::Failed { reason, message: message.into() }
    }

    pub fn done(reason: Reason, message: impl Into<String>) -> Self {
        Self::Done { reason, message: message.into() }
    }

    /// Says this as well, at the end of the message.
    pub fn add(&mut self, text: &str) {
        match self {
            Self::InProgress { message, .. } | Self::Failed { message, .. } | Self::Done { message, .. } => {
                message.push_str(text);
            }
        }
    }

    pub fn reason(&self) -> Reason {
        match self {
            Self::InProgress { reason, .. } | Self::Failed { reason, .. } | Self::Done { reason, .. } => *reason,
        }
    }

    pub fn message(&self) -> &str {
        match self {
            Self::InProgress { message, .. } | Self::Failed { message, .. } | Self::Done { message, .. } => message,
        }
    }
}

/// A condition beside the three of the contract (`Succeeded`, `Tagged`, `Drifted`). `None` as status means Unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extra {
    pub kind: &'static str,
    pub status: Option<bool>,
    pub reason: Reason,
    pub message: String,
}

/// Messages of conditions are cut there.
pub const MESSAGE_BYTES: usize = 2048;

/// All conditions of this verdict. Of `before` only the transition times are used.
pub fn conditions(
    before: &[Condition],
    generation: i64,
    now: Timestamp,
    verdict: &Verdict,
    extras: &[Extra],
) -> Vec<Condition> {
    let (ready, other) = match verdict {
        Verdict::InProgress { known_bad, .. } => (known_bad.then_some(false), Some(RECONCILING)),
        Verdict::Failed { .. } => (Some(false), Some(STALLED)),
        Verdict::Done { .. } => (Some(true), None),
    };
    let set = |kind: &str, status: Option<bool>, reason: Reason, message: &str| {
        condition(before, generation, now, kind, status, reason, message)
    };
    let mut all = vec![set(READY, ready, verdict.reason(), verdict.message())];
    all.extend(other.map(|kind| set(kind, Some(true), verdict.reason(), verdict.message())));
    all.extend(extras.iter().map(|extra| set(extra.kind, extra.status, extra.reason, &extra.message)));
    all
}

/// Status of a condition by type; `None` where it is absent or Unknown.
pub fn status_of(conditions: &[Condition], kind: &str) -> Option<bool> {
    let condition = conditions.iter().find(|condition| condition.type_ == kind)?;
    match condition.status.as_str() {
        "True" => Some(true),
        "False" => Some(false),
        _ => None,
    }
}

fn condition(
    before: &[Condition],
    generation: i64,
    now: Timestamp,
    kind: &str,
    status: Option<bool>,
    reason: Reason,
    message: &str,
) -> Condition {
    let status = match status {
        Some(true) => "True",
        Some(false) => "False",
        None => "Unknown",
    };
    let last = before.iter().find(|old| old.type_ == kind && old.status == status);
    Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: reason.to_string(),
        message: clip(message, MESSAGE_BYTES),
        observed_generation: Some(generation),
        last_transition_time: last.map_or(Time(now), |old| old.last_transition_time.clone()),
    }
}

/// Cuts a text to at most `most` bytes at a character's border, and says so.
pub fn clip(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let mut end = most.saturating_sub('…'.len_utf8());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transition_time_moves_only_when_the_status_flips() {
        let early = Timestamp::from_second(10).unwrap();
        let late = Timestamp::from_second(20).unwrap();
        let first = conditions(&[], 1, early, &Verdict::working(Reason::Building, "a"), &[]);
        let second = conditions(&first, 2, late, &Verdict::working(Reason::Tagging, "b"), &[]);
        assert_eq!(second[0].last_transition_time.0, early);
        let third = conditions(&second, 2, late, &Verdict::done(Reason::Ready, "c"), &[]);
        assert_eq!(third[0].last_transition_time.0, late);
        assert_eq!(third.len(), 1);
    }

    #[test]
    fn reconciling_and_stalled_are_never_together() {
        for verdict in [Verdict::working(Reason::Pending, ""), Verdict::failed(Reason::NoHosts, "")] {
            let list = conditions(&[], 1, Timestamp::UNIX_EPOCH, &verdict, &[]);
            assert_eq!(list.len(), 2);
        }
    }

    #[test]
    fn a_clipped_text_ends_at_a_character() {
        assert_eq!(clip("ääää", 6), "ä…");
        assert_eq!(clip("abc", 3), "abc");
    }
}
