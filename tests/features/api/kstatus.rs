//! The contract of every status, rule by rule; and the judgement over all statuses that `make test` produced.

use std::{cell::RefCell, collections::BTreeMap, path::Path};

use crate::support::{
    kstatus::violations,
    plane::{Operator, namespace},
    wait::until,
};
use kube::{Api, api::PostParams};
use landfall::api::Project;
use serde_json::{Value, json};

fn condition(kind: &str, status: &str, reason: &str) -> Value {
    json!({ "type": kind, "status": status, "reason": reason, "message": "", "observedGeneration": 2,
            "lastTransitionTime": "2026-11-24T00:00:00Z" })
}

fn object(conditions: &[(&str, &str, &str)]) -> Value {
    let conditions: Vec<Value> =
        conditions.iter().map(|(kind, status, reason)| condition(kind, status, reason)).collect();
    json!({ "metadata": { "generation": 2 }, "status": { "observedGeneration": 2, "conditions": conditions } })
}

fn refused(object: &Value, because: &str) {
    let found = violations(object);
    assert!(found.iter().any(|text| text.contains(because)), "{because}: {found:?}");
}

#[test]
fn every_row_of_the_contract_is_accepted() {
    for row in [
        &[("Ready", "Unknown", "Building"), ("Reconciling", "True", "Building")][..],
        &[("Ready", "False", "Unreachable"), ("Reconciling", "True", "Unreachable")],
        &[("Ready", "False", "NoHosts"), ("Stalled", "True", "NoHosts")],
        &[("Ready", "False", "Paused"), ("Reconciling", "True", "Paused")],
        &[("Ready", "True", "Deployed")],
        &[("Ready", "True", "Deployed"), ("Drifted", "False", "Deployed")],
    ] {
        assert_eq!(violations(&object(row)), Vec::<String>::new(), "{row:?}");
    }
    let fresh = json!({ "metadata": { "generation": 1 }, "status": { "observedGeneration": -1 } });
    assert_eq!(violations(&fresh), Vec::<String>::new());
}

#[test]
fn ready_is_always_there() {
    refused(&object(&[("Reconciling", "True", "Building")]), "Ready is absent");
    refused(&object(&[]), "Ready is absent");
}

#[test]
fn reconciling_and_stalled_are_there_only_while_true_and_never_both() {
    refused(&object(&[("Ready", "True", "Ready"), ("Stalled", "False", "Ready")]), "though it is False");
    let both = [("Ready", "False", "NoHosts"), ("Reconciling", "True", "NoHosts"), ("Stalled", "True", "NoHosts")];
    refused(&object(&both), "together");
}

#[test]
fn a_reason_is_camel_case_and_on_the_closed_list() {
    refused(&object(&[("Ready", "True", "")]), "not CamelCase");
    refused(&object(&[("Ready", "True", "all good")]), "not CamelCase");
    refused(&object(&[("Ready", "True", "AllGood")]), "closed list");
}

#[test]
fn what_was_observed_is_an_integer_and_not_of_the_future() {
    let mut ahead = object(&[("Ready", "True", "Ready")]);
    ahead["metadata"]["generation"] = json!(1);
    refused(&ahead, "status.observedGeneration 2 is ahead");
    refused(&ahead, "Ready.observedGeneration 2 is ahead");
    let mut text = object(&[("Ready", "True", "Ready")]);
    text["status"]["observedGeneration"] = json!("2");
    refused(&text, "are integers");
}

#[test]
fn stalled_means_not_ready_for_the_same_cause() {
    refused(&object(&[("Ready", "Unknown", "NoHosts"), ("Stalled", "True", "NoHosts")]), "Ready is \"Unknown\"");
    refused(&object(&[("Ready", "False", "Pending"), ("Stalled", "True", "NoHosts")]), "not Ready for");
}

#[test]
fn done_is_neither_reconciling_nor_stalled() {
    refused(&object(&[("Ready", "True", "Ready"), ("Reconciling", "True", "Ready")]), "Ready, and Reconciling");
}

#[test]
fn not_ready_says_whether_it_goes_on_also_while_paused() {
    refused(&object(&[("Ready", "False", "Paused")]), "neither Reconciling nor Stalled");
    refused(&object(&[("Ready", "False", "NoHosts")]), "neither Reconciling nor Stalled");
}

#[test]
fn no_condition_is_there_twice_or_without_its_time() {
    refused(&object(&[("Ready", "True", "Ready"), ("Ready", "True", "Ready")]), "twice");
    let mut timeless = object(&[("Ready", "True", "Ready")]);
    timeless["status"]["conditions"][0]["lastTransitionTime"] = Value::Null;
    refused(&timeless, "lastTransitionTime");
}

/// The objects of a folder of watches: `<plural>.jsonl`, a watch event per line. The last line of a watch that was ended may be cut.
fn watched(folder: &Path) -> Vec<Value> {
    let mut objects = Vec::new();
    for plural in ["projects", "builds", "hostgroups", "deployments"] {
        let file = folder.join(format!("{plural}.jsonl"));
        let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let events: Vec<Value> = text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let of_objects = events.into_iter().filter(|event| event["object"]["kind"] != "Status");
        let before = objects.len();
        objects.extend(of_objects.map(|event| event["object"].clone()));
        println!("{plural}: {} statuses", objects.len() - before);
    }
    objects
}

/// Every status of a Project whose source is not there, from its creation to its backoff.
async fn lived_through() -> Vec<Value> {
    let space = namespace("kstatus").await;
    let projects: Api<Project> = space.api();
    let project = json!({
        "metadata": { "name": "shop" },
        "spec": {
            "source": { "url": "file:///nowhere/at/all.git" },
            "build": { "script": "true", "artifacts": [{ "path": "app" }] },
            "run": { "process": { "command": ["./app"] } },
        },
    });
    let project: Project = serde_json::from_value(project).unwrap();
    projects.create(&PostParams::default(), &project).await.unwrap();
    let seen = RefCell::new(BTreeMap::new());
    let _operator = Operator::start(&[&space.name]).await;
    until("decided", || async {
        let object = serde_json::to_value(projects.get("shop").await.unwrap()).unwrap();
        let decided = object["status"]["backoff"].is_object();
        seen.borrow_mut().insert(object["metadata"]["resourceVersion"].to_string(), object);
        decided
    })
    .await;
    seen.into_inner().into_values().collect()
}

/// `make test` runs this a second time at its end, over what it watched. Alone, it judges a life of its own.
#[tokio::test]
async fn judged_by_the_contract_no_status_that_was_seen_breaks_it() {
    let objects = match std::env::var_os("LANDFALL_WATCHED") {
        Some(folder) => watched(Path::new(&folder)),
        None => lived_through().await,
    };
    let decided = objects.iter().filter(|object| object["status"]["conditions"].is_array()).count();
    println!("judged: {} objects as they were seen, {decided} of them with a verdict", objects.len());
    assert!(decided > 0, "not a single status was seen");
    let mut broken = BTreeMap::<String, (usize, String)>::new();
    for object in &objects {
        for what in violations(object) {
            let kind = object["kind"].as_str().unwrap_or("Project");
            let first = || (0, serde_json::to_string(object).unwrap());
            broken.entry(format!("{kind}: {what}")).or_insert_with(first).0 += 1;
        }
    }
    for (what, (times, first)) in &broken {
        println!("{times} x {what}, first {first}");
    }
    assert!(broken.is_empty(), "{:?}", broken.keys());
}
