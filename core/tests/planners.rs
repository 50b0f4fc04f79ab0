//! Golden cases of the planners: `tests/cases/<kind>/<case>.yaml` holds `now` and `observed` and, below a line `# expected`, the `actions`,
//! `status`, `events` and `next` (seconds) that follow. `observed` is laid over that of `_base.yaml` in the same folder (null takes a
//! field away). `LANDFALL_WRITE_CASES=1` writes what is expected anew; read the difference before you commit it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{fmt::Display, fs, path::Path};

use jiff::Timestamp;
use landfall_core::plan::{Plan, build, deployment, hostgroup, project, retention};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

const EXPECTED: &str = "\n# expected\n";

/// Lays `over` on `base`: maps are merged, null takes away, anything else replaces.
fn lay(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                if value.is_null() {
                    base.remove(key);
                } else {
                    lay(base.entry(key.clone()).or_insert(Value::Null), value);
                }
            }
        }
        (base, over) => *base = over.clone(),
    }
}

fn read(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap();
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn answer<S: Serialize, A: Display>(plan: &Plan<S, A>) -> Value {
    let event = |event: &landfall_core::plan::EventDraft| {
        let kind = if event.warning { "Warning" } else { "Normal" };
        format!("{kind} {} {}: {}", event.reason, event.action, event.note)
    };
    json!({
        "finalizer": plan.finalizer,
        "actions": plan.actions.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "events": plan.events.iter().map(event).collect::<Vec<_>>(),
        "next": plan.next.map(|next| next.as_secs()),
        "status": serde_json::to_value(&plan.status).unwrap(),
    })
}

/// Runs every case of a kind; all that differ are told at once.
fn check<O: DeserializeOwned, S: Serialize, A: Display>(kind: &str, plan: impl Fn(&O, Timestamp) -> Plan<S, A>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases").join(kind);
    let base = folder.join("_base.yaml");
    let base = if base.exists() { read(&base)["observed"].clone() } else { json!({}) };
    let mut cases: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.extension().is_some_and(|ext| ext == "yaml") && !path.ends_with("_base.yaml"));
    cases.sort();
    assert!(!cases.is_empty(), "no cases in {}", folder.display());
    let mut wrong = Vec::new();
    for path in cases {
        let case = read(&path);
        let mut observed = base.clone();
        lay(&mut observed, &case["observed"]);
        let observed: O =
            serde_json::from_value(observed).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let now: Timestamp = case["now"].as_str().expect("now").parse().unwrap();
        let got = answer(&plan(&observed, now));
        if std::env::var_os("LANDFALL_WRITE_CASES").is_some() {
            let text = fs::read_to_string(&path).unwrap();
            let given = text.split(EXPECTED).next().unwrap().trim_end();
            let expected = serde_saphyr::to_string(&got).unwrap();
            fs::write(&path, format!("{given}\n{EXPECTED}{expected}")).unwrap();
            continue;
        }
        for field in ["finalizer", "actions", "events", "next", "status"] {
            if got[field] != case[field] {
                let show = |value: &Value| serde_json::to_string_pretty(value).unwrap();
                wrong.push(format!(
                    "{}: {field} is\n{}\nexpected\n{}",
                    path.display(),
                    show(&got[field]),
                    show(&case[field])
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn the_planner_of_a_host_group_answers_as_its_cases_say() {
    check("hostgroup", hostgroup::plan);
}

#[test]
fn the_planner_of_a_deployment_answers_as_its_cases_say() {
    check("deployment", deployment::plan);
}

#[test]
fn the_planner_of_a_project_answers_as_its_cases_say() {
    check("project", project::plan);
}

#[test]
fn what_is_kept_no_longer_is_as_its_cases_say() {
    check("retention", |observed: &retention::Observed, now| Plan {
        finalizer: false,
        status: (),
        actions: retention::plan(observed, now),
        events: vec![],
        next: None,
    });
}

#[test]
fn the_planner_of_a_build_answers_as_its_cases_say() {
    check("build", build::plan);
}
