//! What an object's conditions amount to, by the rules of kstatus, as `kubectl wait`, Flux and Argo CD read them. It looks at plain JSON, so that
//! an object of a later version is judged as well.

use serde_json::{Value, json};

use super::error::ExitStatus;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Ready,
    InProgress,
    Failed,
}

impl State {
    /// The word in `-o json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::InProgress => "InProgress",
            Self::Failed => "Failed",
        }
    }

    /// The word on a screen.
    pub fn words(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::InProgress => "in progress",
            Self::Failed => "failed, needs action",
        }
    }

    pub fn exit(self) -> ExitStatus {
        match self {
            Self::Ready => ExitStatus::Done,
            Self::InProgress => ExitStatus::InProgress,
            Self::Failed => ExitStatus::Failed,
        }
    }
}

/// The state with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub state: State,
    pub reason: String,
    pub message: String,
    /// Whether the operator has observed the current spec.
    pub observed: bool,
}

/// The verdict on one object. Nothing is taken for done that the operator has not observed in its current generation.
pub fn verdict(object: &Value) -> Verdict {
    let status = &object["status"];
    let generation = object["metadata"]["generation"].as_i64().unwrap_or_default();
    let observed = status["observedGeneration"].as_i64().is_some_and(|observed| observed >= generation);
    let condition = |kind: &str| status["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind);
    let is = |kind: &str, value: &str| condition(kind).is_some_and(|condition| condition["status"] == value);
    let text = |field: &str, default: &str| {
        condition("Ready").and_then(|ready| ready[field].as_str()).unwrap_or(default).to_owned()
    };
    let state = if !observed || object["metadata"]["deletionTimestamp"].is_string() {
        State::InProgress
    } else if is("Stalled", "True") {
        State::Failed
    } else if is("Ready", "True") && !is("Reconciling", "True") {
        State::Ready
    } else {
        State::InProgress
    };
    Verdict {
        state,
        reason: text("reason", "Pending"),
        message: text("message", "waiting for the operator; if this lasts, check that it runs"),
        observed,
    }
}

/// The shape of `landfall status -o json`: the verdict, and the status as the API server has it.
pub(crate) fn to_json(kind: &str, object: &Value) -> Value {
    let Verdict { state, reason, message, observed } = verdict(object);
    json!({
        "kind": kind,
        "namespace": object["metadata"]["namespace"],
        "name": object["metadata"]["name"],
        "state": state.name(),
        "reason": reason,
        "message": message,
        "observed": observed,
        "exitCode": state.exit().code(),
        "status": object["status"],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(generation: i64, seen: i64, conditions: &[(&str, &str)]) -> Value {
        let conditions: Vec<_> = conditions
            .iter()
            .map(|(kind, status)| json!({ "type": kind, "status": status, "reason": "Why", "message": "text" }))
            .collect();
        json!({
            "metadata": { "namespace": "shop", "name": "web", "generation": generation },
            "status": { "observedGeneration": seen, "conditions": conditions },
        })
    }

    #[test]
    fn a_script_tells_ready_failed_and_in_progress_by_the_exit_code() {
        for (exit, object) in [
            (0, object(2, 2, &[("Ready", "True")])),
            (1, object(2, 2, &[("Ready", "False"), ("Stalled", "True")])),
            (3, object(2, 2, &[("Ready", "False"), ("Reconciling", "True")])),
            (3, object(2, 2, &[("Ready", "Unknown")])),
            (3, object(1, -1, &[])),
            (3, json!({ "metadata": { "generation": 1 } })),
        ] {
            assert_eq!(verdict(&object).state.exit().code(), exit, "{object}");
        }
    }

    #[test]
    fn a_verdict_on_an_older_spec_is_no_verdict() {
        for kind in ["Ready", "Stalled"] {
            let verdict = verdict(&object(3, 2, &[(kind, "True")]));
            assert_eq!((verdict.state, verdict.observed), (State::InProgress, false));
        }
    }

    #[test]
    fn an_object_that_is_being_deleted_is_not_ready() {
        let mut object = object(2, 2, &[("Ready", "True")]);
        object["metadata"]["deletionTimestamp"] = json!("2026-11-26T00:00:00Z");
        assert_eq!(verdict(&object).state, State::InProgress);
    }

    #[test]
    fn the_json_shape_has_the_verdict_and_the_whole_status() {
        let shape = to_json("Deployment", &object(2, 2, &[("Ready", "False"), ("Stalled", "True")]));
        assert_eq!(
            shape,
            json!({
                "kind": "Deployment", "namespace": "shop", "name": "web",
                "state": "Failed", "reason": "Why", "message": "text", "observed": true, "exitCode": 1,
                "status": {
                    "observedGeneration": 2,
                    "conditions": [
                        { "type": "Ready", "status": "False", "reason": "Why", "message": "text" },
                        { "type": "Stalled", "status": "True", "reason": "Why", "message": "text" },
                    ],
                },
            })
        );
    }
}
