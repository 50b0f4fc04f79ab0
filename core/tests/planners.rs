//! Golden cases of the planners: each file `tests/cases/<kind>/<case>.yaml` is a test named `<kind>::<case>`. It holds `now` and `observed`
//! and, below a line `# expected`, the `actions`, `status`, `events` and `next` (seconds) that follow.
//!
//! `observed` is laid over that of `_base.yaml` in the same folder: maps are merged, null takes a field away. What recurs has a name in
//! `_presets.yaml`: a map with `preset: <name>` is what stands there under that name, with the other fields of the map laid over it; below
//! `hosts` the name alone is enough (`web-01: ready`). In a preset `{key}` is the key that it was called at, and `{n}` the number at that
//! key's end. A preset replaces what the base has there.
//!
//! `LANDFALL_WRITE_CASES=1` writes what is expected; read the difference before you commit it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fmt::Display,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use jiff::Timestamp;
use landfall_core::plan::{
    Plan, builds,
    deployment::{self, Goal},
    gc::retention,
    hostgroup, project,
};
use libtest_mimic::{Arguments, Failed, Trial};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

const EXPECTED: &str = "\n# expected\n";

/// What the cases of one kind stand on.
struct Ground {
    base: Value,
    presets: Map<String, Value>,
}

impl Ground {
    fn of(folder: &Path) -> Self {
        let base = folder.join("_base.yaml");
        let presets = folder.join("_presets.yaml");
        Self {
            base: if base.exists() { read(&base)["observed"].clone() } else { json!({}) },
            presets: if presets.exists() { read(&presets).as_object().unwrap().clone() } else { Map::new() },
        }
    }

    fn observed(&self, case: &Value) -> Value {
        let mut observed = self.base.clone();
        lay(&mut observed, &self.expand("", &case["observed"]));
        unseal(&mut observed);
        observed
    }

    /// With every preset in its place. A preset is sealed, so that it is not mixed with what the base has there.
    fn expand(&self, key: &str, value: &Value) -> Value {
        match value {
            Value::Object(fields) => {
                let mut rest: Map<String, Value> = Map::new();
                for (name, field) in fields.iter().filter(|(name, _)| *name != "preset") {
                    let named = key == "hosts" && field.is_string();
                    let field = if named { &json!({ "preset": field }) } else { field };
                    rest.insert(name.clone(), self.expand(name, field));
                }
                let Some(preset) = fields.get("preset") else { return Value::Object(rest) };
                let preset = preset.as_str().expect("the name of a preset");
                let found = self.presets.get(preset).unwrap_or_else(|| panic!("no preset {preset} in _presets.yaml"));
                let mut whole = self.expand(key, &filled(found, key));
                unseal(&mut whole);
                lay(&mut whole, &Value::Object(rest));
                json!({ SEAL: whole })
            }
            Value::Array(items) => Value::Array(items.iter().map(|item| self.expand("", item)).collect()),
            other => other.clone(),
        }
    }
}

const SEAL: &str = "(a preset)";

/// Takes the seals off.
fn unseal(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if let Some(whole) = fields.remove(SEAL) {
                *value = whole;
                unseal(value);
            } else {
                fields.values_mut().for_each(unseal);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(unseal),
        _ => (),
    }
}

/// A preset as it was called at a key.
fn filled(preset: &Value, key: &str) -> Value {
    match preset {
        Value::String(text) => {
            let digits = key.len() - key.trim_end_matches(|c: char| c.is_ascii_digit()).len();
            let number = key[key.len() - digits..].trim_start_matches('0');
            Value::String(text.replace("{key}", key).replace("{n}", number))
        }
        Value::Object(fields) => {
            Value::Object(fields.iter().map(|(name, value)| (name.clone(), filled(value, key))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(|item| filled(item, key)).collect()),
        other => other.clone(),
    }
}

/// Lays `over` on `base`: maps are merged, null takes away, anything else replaces.
fn lay(base: &mut Value, over: &Value) {
    match (base, over) {
        (base, Value::Object(over)) if over.contains_key(SEAL) => *base = Value::Object(over.clone()),
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

/// An action as cases write it.
fn text<A: Display>(action: &A) -> Value {
    json!(action.to_string())
}

/// An action of a Deployment's planner as cases write it: its name and what it names. The target of a goal is shown by its version.
fn deployment_action(action: &deployment::Action) -> Value {
    use deployment::Action;
    match action {
        Action::Probe(hosts) => json!({ "probe": hosts }),
        Action::HoldGroup => json!("holdGroup"),
        Action::Record(record) => json!({ "record": record }),
        Action::RecordFailure(failure) => json!({ "recordFailure": failure }),
        Action::Assign(assignment) => json!({ "assign": assigned(assignment) }),
        Action::Forget(hosts) => json!({ "forget": hosts }),
        Action::KeepLogs(rollouts) => json!({ "keepLogs": rollouts }),
        Action::RemoveLogs => json!("removeLogs"),
    }
}

fn assigned(assignment: &deployment::Assignment) -> Value {
    let deployment::Assignment { host, goal, key, replaces } = assignment;
    let mut fields = json!({ "host": host, "goal": key.kind, "rollout": key.rollout, "attempt": key.attempt });
    if let Goal::Stage(target) | Goal::Run { target, .. } | Goal::Prune(target) | Goal::Claim(target) = goal {
        fields["version"] = json!(target.version);
    }
    if let Goal::Run { failed_process: Some(process), .. } = goal {
        fields["failedProcess"] = json!(process);
    }
    if let Goal::Run { drain: Some(drain), .. } | Goal::Remove { drain: Some(drain), .. } = goal {
        fields["drain"] = json!(drain);
    }
    if let Goal::Run { skipped_drain: Some(reason), .. } | Goal::Remove { skipped_drain: Some(reason), .. } = goal {
        fields["skippedDrain"] = json!(reason);
    }
    if let Some(owner) = replaces {
        fields["replaces"] = json!(owner);
    }
    fields
}

fn answer<S: Serialize, A>(plan: &Plan<S, A>, show: fn(&A) -> Value) -> Value {
    let event = |event: &landfall_core::plan::EventDraft| {
        let kind = if event.warning { "Warning" } else { "Normal" };
        format!("{kind} {} {}: {}", event.reason, event.action, event.note)
    };
    json!({
        "finalizer": plan.finalizer,
        "actions": plan.actions.iter().map(show).collect::<Vec<_>>(),
        "events": plan.events.iter().map(event).collect::<Vec<_>>(),
        "next": plan.next.map(|next| next.as_secs()),
        "status": serde_json::to_value(&plan.status).unwrap(),
    })
}

/// One case: everything that differs is told at once.
fn check<O: DeserializeOwned, S: Serialize, A>(
    path: &Path,
    ground: &Ground,
    plan: impl Fn(&O, Timestamp) -> Plan<S, A>,
    show: fn(&A) -> Value,
) -> Result<(), Failed> {
    let case = read(path);
    let observed: O =
        serde_json::from_value(ground.observed(&case)).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let now: Timestamp = case["now"].as_str().expect("now").parse().unwrap();
    let got = answer(&plan(&observed, now), show);
    if std::env::var_os("LANDFALL_WRITE_CASES").is_some() {
        let text = fs::read_to_string(path).unwrap();
        let given = text.split(EXPECTED).next().unwrap().trim_end();
        let expected = folded(&serde_saphyr::to_string(&got).unwrap());
        fs::write(path, format!("{given}\n{EXPECTED}{expected}")).unwrap();
        return Ok(());
    }
    let mut wrong = Vec::new();
    for field in ["finalizer", "actions", "events", "next", "status"] {
        if got[field] != case[field] {
            let show = |value: &Value| serde_json::to_string_pretty(value).unwrap();
            wrong.push(format!("{field} is\n{}\nexpected\n{}", show(&got[field]), show(&case[field])));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(format!("{}: {}", path.display(), wrong.join("\n\n")).into()) }
}

/// Columns up to which a text stands on its line.
const LINE: usize = 100;

/// With long quoted texts as folded blocks, which are read and compared line by line.
fn folded(yaml: &str) -> String {
    yaml.lines().map(|line| fold_line(line).unwrap_or_else(|| line.to_owned()) + "\n").collect()
}

/// `None` where the line stays as it is: short, no quoted text, or a text that a folded block would change.
fn fold_line(line: &str) -> Option<String> {
    let quoted = line.find('"').filter(|_| line.len() > LINE && line.ends_with('"'))?;
    let (before, text) = line.split_at(quoted);
    if !(before.ends_with(": ") || before.trim_start() == "- ") {
        return None;
    }
    let text: String = serde_json::from_str(text).ok()?;
    if text.contains(['\n', '\t']) || text.contains("  ") || text.trim() != text {
        return None;
    }
    let indent = before.len() - before.trim_start().len() + 2;
    let mut block = format!("{before}>-");
    let mut column = LINE;
    for word in text.split(' ') {
        if column + 1 + word.len() > LINE {
            block.push('\n');
            block.push_str(&" ".repeat(indent));
            column = indent;
        } else {
            block.push(' ');
            column += 1;
        }
        block.push_str(word);
        column += word.len();
    }
    Some(block)
}

fn cases_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases")
}

/// The cases of a kind, a test each.
fn cases<O, S, A>(kind: &str, plan: fn(&O, Timestamp) -> Plan<S, A>, show: fn(&A) -> Value) -> Vec<Trial>
where
    O: DeserializeOwned + 'static,
    S: Serialize + 'static,
    A: 'static,
{
    let folder = cases_folder().join(kind);
    let ground = Arc::new(Ground::of(&folder));
    let mut paths: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ext| ext == "yaml") && !is_ground(path));
    paths.sort();
    assert!(!paths.is_empty(), "no cases in {}", folder.display());
    let trial = |path: PathBuf| {
        let ground = ground.clone();
        let name = format!("{kind}::{}", path.file_stem().unwrap().to_str().unwrap());
        Trial::test(name, move || check(&path, &ground, plan, show))
    };
    paths.into_iter().map(trial).collect()
}

/// `_base.yaml`, `_presets.yaml`.
fn is_ground(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('_'))
}

fn retention_plan(observed: &retention::Observed, now: Timestamp) -> Plan<(), retention::Action> {
    Plan { finalizer: false, status: (), actions: retention::plan(observed, now), events: vec![], next: None }
}

/// A folder of cases that no planner answers would be passed over in silence.
fn every_folder_has_a_planner(kinds: &[&str]) -> Result<(), Failed> {
    for entry in fs::read_dir(cases_folder())? {
        let name = entry?.file_name().into_string().unwrap();
        if !kinds.contains(&name.as_str()) {
            return Err(format!("tests/cases/{name} has no planner in tests/planners.rs").into());
        }
    }
    Ok(())
}

/// Commands that a text shows, each from its program's name to the next one or the end.
fn commands(text: &str) -> Vec<&str> {
    let programs = ["kubectl ", "landfall status", "landfall logs", "landfall hosts", "landfall commits"];
    let mut starts: Vec<usize> =
        programs.iter().flat_map(|program| text.match_indices(program)).map(|(at, _)| at).collect();
    starts.sort_unstable();
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    starts.iter().zip(ends).map(|(start, end)| &text[*start..end]).collect()
}

/// Every text below this value.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        Value::Object(fields) => fields.values().flat_map(texts).collect(),
        _ => vec![],
    }
}

/// Whoever copies a command from a message gets the object that the message is about.
fn commands_name_their_namespace() -> Result<(), Failed> {
    let mut found = 0;
    for kind in fs::read_dir(cases_folder())? {
        for entry in fs::read_dir(kind?.path())? {
            let path = entry?.path();
            let case = read(&path);
            for text in [&case["status"], &case["events"]].into_iter().flat_map(texts) {
                for command in commands(text) {
                    found += 1;
                    if !command.contains(" -n ") {
                        return Err(format!("{}: no namespace in {command:?}", path.display()).into());
                    }
                }
            }
        }
    }
    if found == 0 { Err("no case shows a command".into()) } else { Ok(()) }
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let all = [
        ("builds", cases("builds", builds::plan, text)),
        ("deployment", cases("deployment", deployment::plan, deployment_action)),
        ("hostgroup", cases("hostgroup", hostgroup::plan, text)),
        ("project", cases("project", project::plan, text)),
        ("retention", cases("retention", retention_plan, text)),
    ];
    let kinds: Vec<&str> = all.iter().map(|(kind, _)| *kind).collect();
    let whole = every_folder_has_a_planner(&kinds);
    let mut trials: Vec<Trial> = all.into_iter().flat_map(|(_, trials)| trials).collect();
    trials.push(Trial::test("every_folder_of_cases_has_a_planner", move || whole));
    trials.push(Trial::test("commands_in_messages_name_their_namespace", commands_name_their_namespace));
    libtest_mimic::run(&arguments, trials).exit_code()
}
