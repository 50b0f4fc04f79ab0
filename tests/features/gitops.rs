//! What `docs/gitops.md` promises, with the real kubectl, kustomize and API server: names carry through overlays, and Argo CD's health check
//! agrees with kstatus.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use crate::support::plane::{kubeconfig, namespace};
use landfall::runtime::dev::Binaries;
use serde_json::{Value, json};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn yaml(path: &Path) -> Value {
    serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn kubectl(arguments: &[&str], kubeconfig: Option<&Path>) -> Output {
    let program = Binaries::find_or_build(&|_| {}).unwrap().program("kubectl");
    let mut command = Command::new(program);
    if let Some(kubeconfig) = kubeconfig {
        command.env("KUBECONFIG", kubeconfig);
    }
    command.args(arguments).current_dir(root()).output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A folder with the examples, the component, and an overlay of this text.
struct Overlay(tempfile::TempDir);

impl Overlay {
    fn new(kustomization: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for part in ["examples", "manifests/kustomize"] {
            let copy = folder.path().join(part);
            fs::create_dir_all(&copy).unwrap();
            for file in fs::read_dir(root().join(part)).unwrap().map(|entry| entry.unwrap().path()) {
                if file.is_file() {
                    fs::copy(&file, copy.join(file.file_name().unwrap())).unwrap();
                }
            }
        }
        let overlay = folder.path().join("overlay");
        fs::create_dir(&overlay).unwrap();
        fs::write(overlay.join("kustomization.yaml"), format!("resources: [../examples]\n{kustomization}")).unwrap();
        Self(folder)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("overlay")
    }

    /// The objects that it stands for.
    fn objects(&self) -> Vec<Value> {
        objects(&self.path())
    }
}

fn objects(kustomization: &Path) -> Vec<Value> {
    let built = kubectl(&["kustomize", kustomization.to_str().unwrap()], None);
    assert!(built.status.success(), "{}", said(&built));
    let text = String::from_utf8(built.stdout).unwrap();
    text.split("\n---\n").map(|one| serde_saphyr::from_str(one).unwrap()).collect()
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    objects.iter().find(|object| object["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"))
}

/// The paths of all fields below `schema` that refer to another object by its name.
fn references(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let here = format!("{path}/{name}");
        if name.ends_with("Ref") && !field["properties"]["name"].is_null() {
            found.insert(format!("{here}/name"));
        }
        references(field, &here, found);
    }
    if schema["items"].is_object() {
        references(&schema["items"], path, found);
    }
}

#[test]
fn kustomize_knows_every_reference_of_the_schema() {
    let mut wanted = BTreeSet::new();
    for file in fs::read_dir(root().join("crds")).unwrap().map(|entry| entry.unwrap().path()) {
        let crd = yaml(&file);
        let Some(kind) = crd["spec"]["names"]["kind"].as_str() else { continue };
        let mut paths = BTreeSet::new();
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        references(schema, "spec", &mut paths);
        wanted.extend(paths.into_iter().map(|path| format!("{kind} {path}")));
    }
    let shipped = yaml(&root().join("manifests/kustomize/namereference.yaml"));
    let fields =
        shipped["nameReference"].as_array().unwrap().iter().flat_map(|one| one["fieldSpecs"].as_array().unwrap());
    let known: BTreeSet<String> = fields
        .map(|field| format!("{} {}", field["kind"].as_str().unwrap(), field["path"].as_str().unwrap()))
        .collect();
    assert!(wanted.len() >= 6, "{wanted:?}");
    assert_eq!(known, wanted, "manifests/kustomize/namereference.yaml and crds/ differ");
}

#[tokio::test]
async fn a_name_prefix_carries_to_every_reference_and_labels_leave_the_spec_alone() {
    let overlay = root().join("docs/gitops/dev");
    let built = objects(&overlay);
    let deployment = of_kind(&built, "Deployment");
    assert_eq!(deployment["metadata"]["name"], "dev-hello");
    assert_eq!(deployment["spec"]["projectRef"]["name"], "dev-hello");
    assert_eq!(deployment["spec"]["hostGroupRef"]["name"], "dev-web");
    let label = "app.kubernetes.io/part-of";
    assert!(built.iter().all(|object| object["metadata"]["labels"][label] == "hello"), "{built:#?}");
    // Secrets that are not part of the overlay keep their names.
    assert_eq!(of_kind(&built, "HostGroup")["spec"]["ssh"]["credentialsRef"]["name"], "deploy-key");

    let space = namespace("gitops").await;
    let config = kubeconfig().await;
    let arguments = ["apply", "--server-side", "-n", &space.name, "-k", overlay.to_str().unwrap()];
    for _ in 0..2 {
        let applied = kubectl(&arguments, Some(&config));
        assert!(applied.status.success(), "{}", said(&applied));
    }
    let version =
        kubectl(&["get", "-n", &space.name, "lfd/dev-hello", "-o", "jsonpath={.spec.version}"], Some(&config));
    assert_eq!(said(&version), "v2");
}

#[test]
fn a_generated_secret_is_referred_to_by_its_generated_name() {
    let overlay = Overlay::new(
        "namePrefix: dev-\nsecretGenerator: [{ name: deploy-key, literals: [identity=x] }, { name: known-hosts, literals: [known_hosts=x] }]\n",
    );
    let built = overlay.objects();
    let ssh = &of_kind(&built, "HostGroup")["spec"]["ssh"];
    for name in [&ssh["credentialsRef"]["name"], &ssh["hostKeys"]["knownHostsRef"]["name"]] {
        assert!(built.iter().any(|object| object["kind"] == "Secret" && object["metadata"]["name"] == *name), "{name}");
    }
    assert_ne!(ssh["credentialsRef"]["name"], "deploy-key");
}

#[tokio::test]
async fn common_labels_and_replicas_are_refused_by_the_name_of_the_field() {
    let space = namespace("gitops-refused").await;
    let config = kubeconfig().await;
    // commonLabels adds two fields, and the API server names one of them.
    for (kustomization, fields) in [
        ("commonLabels: { team: shop }\n", [".spec.selector", ".spec.template"].as_slice()),
        ("replicas: [{ name: hello, count: 3 }]\n", &[".spec.replicas"]),
    ] {
        let overlay = Overlay::new(kustomization);
        let path = overlay.path();
        let arguments = ["apply", "--server-side", "-n", &space.name, "-k", path.to_str().unwrap()];
        let applied = kubectl(&arguments, Some(&config));
        let named = fields.iter().any(|field| said(&applied).contains(field));
        assert!(!applied.status.success() && named, "{}", said(&applied));
    }
}

/// A value as Lua would write it.
fn lua(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("nil"),
        Value::Bool(_) | Value::Number(_) => _ = write!(out, "{value}"),
        Value::String(text) => {
            out.push('"');
            text.bytes().for_each(|byte| _ = write!(out, "\\{byte:03}"));
            out.push('"');
        }
        Value::Array(items) => {
            out.push('{');
            for item in items {
                lua(item, out);
                out.push(',');
            }
            out.push('}');
        }
        Value::Object(fields) => {
            out.push('{');
            for (name, field) in fields {
                let _ = write!(out, "[\"{name}\"]=");
                lua(field, out);
                out.push(',');
            }
            out.push('}');
        }
    }
}

/// What the shipped check says of each object. It gets no more of Lua than Argo CD gives it.
fn argo_health(objects: &[Value]) -> Vec<String> {
    let mut program = String::from("local health = assert(loadfile(arg[1]))\n");
    for object in objects {
        // A block each: a Lua function has at most 200 local variables.
        program.push_str("do setfenv(health, { ipairs = ipairs, pairs = pairs, obj = ");
        lua(object, &mut program);
        program.push_str(" })\nlocal hs = health()\nassert(type(hs.message) == 'string')\nprint(hs.status) end\n");
    }
    let mut child = Command::new("lua5.1")
        .args(["-", "manifests/argocd/health.lua"])
        .current_dir(root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("lua5.1; scripts/install-test-tools.sh installs it");
    // Where Lua refuses the program it stops reading, and its own words are the better message.
    let written = child.stdin.take().unwrap().write_all(program.as_bytes());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && written.is_ok(), "{written:?} {}", said(&output));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn condition(kind: &str, status: &str, reason: &str) -> Value {
    json!({ "type": kind, "status": status, "reason": reason, "message": "text" })
}

#[test]
fn argo_cd_sees_an_object_as_kubectl_and_flux_do() {
    let object = |generation: i64, status: Value| json!({ "metadata": { "generation": generation }, "status": status });
    let with =
        |seen: i64, conditions: Vec<Value>| object(2, json!({ "observedGeneration": seen, "conditions": conditions }));
    let samples = [
        ("Progressing", json!({ "metadata": { "generation": 1 } })),
        ("Progressing", object(1, json!({ "observedGeneration": -1 }))),
        ("Progressing", with(1, vec![condition("Ready", "True", "Deployed")])),
        ("Progressing", with(2, vec![condition("Ready", "False", "X"), condition("Reconciling", "True", "X")])),
        ("Progressing", with(2, vec![condition("Ready", "Unknown", "X")])),
        ("Degraded", with(2, vec![condition("Ready", "False", "X"), condition("Stalled", "True", "X")])),
        ("Suspended", with(2, vec![condition("Ready", "False", "Paused"), condition("Reconciling", "True", "Paused")])),
        (
            "Suspended",
            with(
                2,
                vec![
                    condition("Ready", "False", "AwaitingPromotion"),
                    condition("Reconciling", "True", "AwaitingPromotion"),
                ],
            ),
        ),
        ("Healthy", with(2, vec![condition("Ready", "True", "Deployed"), condition("Tagged", "False", "X")])),
    ];
    let (wanted, objects): (Vec<_>, Vec<_>) = samples.into_iter().unzip();
    assert_eq!(argo_health(&objects), wanted);
}

#[test]
fn argo_cd_agrees_with_kstatus_on_every_golden_status() {
    let (mut objects, mut wanted) = (Vec::new(), Vec::new());
    for kind in ["project", "builds", "hostgroup", "deployment"] {
        for entry in fs::read_dir(root().join("core/tests/cases").join(kind)).unwrap() {
            let case = fs::read_to_string(entry.unwrap().path()).unwrap();
            let Some((_, expected)) = case.split_once("\n# expected\n") else { continue };
            let expected: Value = serde_saphyr::from_str(expected).unwrap();
            let status = expected["status"].clone();
            let Some(seen) = status["observedGeneration"].as_i64() else { continue };
            let find = |kind: &str| status["conditions"].as_array()?.iter().find(|one| one["type"] == kind);
            let is = |kind: &str, value: &str| find(kind).is_some_and(|one| one["status"] == value);
            wanted.push(if is("Stalled", "True") {
                "Degraded"
            } else if find("Ready")
                .is_some_and(|ready| ready["reason"] == "Paused" || ready["reason"] == "AwaitingPromotion")
            {
                "Suspended"
            } else if !is("Reconciling", "True") && is("Ready", "True") {
                "Healthy"
            } else {
                "Progressing"
            });
            objects.push(json!({ "metadata": { "generation": seen }, "status": status }));
        }
    }
    for word in ["Degraded", "Healthy", "Progressing", "Suspended"] {
        assert!(wanted.contains(&word), "no golden status is {word}");
    }
    assert_eq!(argo_health(&objects), wanted);
}
