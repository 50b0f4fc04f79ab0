//! The contract that every status of landfall keeps with kubectl, Flux and Argo CD, as a judge from outside.
//!
//! It looks at plain JSON, as those tools do. Of landfall it knows the closed list of reasons and nothing else, so that a fault in
//! `api/conditions.rs` can't hide itself.

use landfall::api::Reason;
use serde_json::Value;

/// What is wrong with the status of one object, in sentences; empty when all is well. An object that nobody has looked at yet
/// (`observedGeneration: -1` and nothing more) is well.
pub fn violations(object: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let status = &object["status"];
    let generation = object["metadata"]["generation"].as_i64();
    let (Some(generation), Some(seen)) = (generation, status["observedGeneration"].as_i64()) else {
        return vec!["metadata.generation and status.observedGeneration are integers".into()];
    };
    if seen > generation {
        wrong.push(format!("status.observedGeneration {seen} is ahead of metadata.generation {generation}"));
    }
    let conditions = status["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    if seen < 0 && conditions.is_empty() {
        return wrong;
    }
    for condition in conditions {
        wrong.extend(of_condition(condition, generation));
    }
    wrong.extend(of_types(conditions));
    wrong.extend(of_verdict(conditions));
    wrong
}

/// A condition by itself.
fn of_condition(condition: &Value, generation: i64) -> Vec<String> {
    let mut wrong = Vec::new();
    let kind = condition["type"].as_str().unwrap_or("a condition without type");
    let status = condition["status"].as_str().unwrap_or_default();
    if !["True", "False", "Unknown"].contains(&status) {
        wrong.push(format!("{kind} has the status {status:?}"));
    }
    if ["Reconciling", "Stalled"].contains(&kind) && status != "True" {
        wrong.push(format!("{kind} is there though it is {status}"));
    }
    let reason = condition["reason"].as_str().unwrap_or_default();
    if !camel_case(reason) {
        wrong.push(format!("{kind} has the reason {reason:?}, which is not CamelCase"));
    } else if condition["reason"]
        .as_str()
        .and_then(|text| text.parse().ok())
        .is_none_or(|known: Reason| known == Reason::Unknown)
    {
        wrong.push(format!("{kind} has the reason {reason}, which is not on the closed list"));
    }
    match condition["observedGeneration"].as_i64() {
        None => wrong.push(format!("{kind} has no observedGeneration")),
        Some(seen) if seen > generation => {
            wrong.push(format!("{kind}.observedGeneration {seen} is ahead of metadata.generation {generation}"));
        }
        Some(_) => {}
    }
    let since = condition["lastTransitionTime"].as_str().unwrap_or_default();
    if since.parse::<jiff::Timestamp>().is_err() {
        wrong.push(format!("{kind} has the lastTransitionTime {since:?}"));
    }
    wrong
}

fn camel_case(reason: &str) -> bool {
    reason.starts_with(|c: char| c.is_ascii_uppercase()) && reason.chars().all(|c| c.is_ascii_alphanumeric())
}

/// No type twice.
fn of_types(conditions: &[Value]) -> Vec<String> {
    let mut kinds: Vec<&str> = conditions.iter().filter_map(|condition| condition["type"].as_str()).collect();
    kinds.sort_unstable();
    kinds.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| format!("{} is there twice", pair[0])).collect()
}

/// The table: Ready, Reconciling and Stalled together.
fn of_verdict(conditions: &[Value]) -> Vec<String> {
    let find = |kind: &str| conditions.iter().find(|condition| condition["type"] == kind);
    let Some(ready) = find("Ready") else {
        return vec!["Ready is absent".into()];
    };
    let (reconciling, stalled) = (find("Reconciling"), find("Stalled"));
    let mut wrong = Vec::new();
    if reconciling.is_some() && stalled.is_some() {
        wrong.push("Reconciling and Stalled are there together".into());
    }
    if let Some(stalled) = stalled {
        if ready["status"] != "False" {
            wrong.push(format!("Stalled, and Ready is {}", ready["status"]));
        }
        if ready["reason"] != stalled["reason"] {
            wrong.push(format!("Stalled for {}, and not Ready for {}", stalled["reason"], ready["reason"]));
        }
    }
    if ready["status"] == "True" && (reconciling.is_some() || stalled.is_some()) {
        wrong.push("Ready, and Reconciling or Stalled".into());
    }
    let alone = reconciling.is_none() && stalled.is_none();
    if alone && ready["status"] != "True" {
        wrong
            .push(format!("Ready is {} for {} with neither Reconciling nor Stalled", ready["status"], ready["reason"]));
    }
    wrong
}
