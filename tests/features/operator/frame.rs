//! The frame of all kinds, with a kind of the test's own that does what its objects say, against a real API server: what one object
//! does to itself, by a panic or by being unreadable, costs that object alone; and an object goes as it was decided on, or is decided on
//! again. The last test is about landfall's own kinds.

use std::{
    io::Write,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::support::{
    plane::{Dev, TestNamespace, bare_namespace},
    wait,
};
use futures::StreamExt;
use http_body_util::BodyExt;
use jiff::Timestamp;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, CustomResource, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams},
    client::Body,
    runtime::{WatchStreamExt, watcher},
};
use landfall::{
    api::{FIELD_MANAGER, FINALIZER, Project, Reason},
    controllers::{
        frame::{self, Kind, ReconcileError, Shared},
        gc,
    },
    effects::{
        executor::{Isolation, LocalConfig, LocalExecutor},
        gate::Gate,
        git::{Git, GitConfig},
        rollout_logs::RolloutLogs,
        store::Store,
    },
    fleet::Budgets,
    model::ids::FenceToken,
    plan::{EventDraft, Plan},
    runtime::wiring::{self, Contexts, Effects},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::oneshot;

/// It does what it says.
#[derive(CustomResource, Clone, Debug, Serialize, Deserialize)]
#[kube(
    group = "frame.landfall.test",
    version = "v1",
    kind = "Gadget",
    namespaced,
    status = "GadgetStatus",
    schema = "disabled"
)]
struct GadgetSpec {
    does: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct GadgetStatus {
    said: String,
    /// For display alone.
    #[serde(default)]
    shown: usize,
    /// Carried along, as what was begun is.
    #[serde(default)]
    intent: String,
}

/// What was observed of a gadget, and what its planner makes of it.
struct Seen {
    does: String,
    going: bool,
    late: bool,
    /// How often it was observed.
    times: usize,
    intent: String,
}

/// Every look at any gadget: its name, whether it was going, and whether it had the annotation that comes late.
fn looks() -> &'static Mutex<Vec<(String, bool, bool)>> {
    static LOOKS: OnceLock<Mutex<Vec<(String, bool, bool)>>> = OnceLock::new();
    LOOKS.get_or_init(Mutex::default)
}

fn looks_at(name: &str) -> Vec<(bool, bool)> {
    let looks = looks().lock().unwrap();
    looks.iter().filter(|look| look.0 == name).map(|look| (look.1, look.2)).collect()
}

/// What was done to any gadget: its name, and what the decision was about.
fn acts() -> &'static Mutex<Vec<(String, String)>> {
    static ACTS: OnceLock<Mutex<Vec<(String, String)>>> = OnceLock::new();
    ACTS.get_or_init(Mutex::default)
}

impl Kind for Gadget {
    const KIND: &'static str = "Gadget";
    const DISPLAY: &'static [&'static str] = &["/shown"];
    type Observed = Seen;
    type Action = String;
    type Status = GadgetStatus;
    type Context = Shared;

    async fn observe(&self, shared: &Shared) -> Result<Seen, ReconcileError> {
        let observed = Seen {
            does: self.spec.does.clone(),
            going: self.metadata.deletion_timestamp.is_some(),
            late: self.annotations().contains_key("late"),
            times: looks_at(&self.name_any()).len(),
            intent: self.status.clone().unwrap_or_default().intent,
        };
        looks().lock().unwrap().push((self.name_any(), observed.going, observed.late));
        if observed.does == "vanish" {
            let api = shared.api::<Gadget>(&self.namespace().unwrap());
            api.delete(&self.name_any(), &DeleteParams::default()).await?;
        }
        Ok(observed)
    }

    fn plan(observed: &Seen, _: Timestamp) -> Plan<GadgetStatus, String> {
        assert!(observed.does != "panic", "as it was told");
        let holds = ["hold", "leave"].contains(&observed.does.as_str()) && !observed.going;
        let asked = observed.does == "hold" && observed.going || observed.does.starts_with("act ");
        let acts = if asked && !observed.late { vec![observed.does.clone()] } else { vec![] };
        Plan {
            finalizer: holds,
            status: GadgetStatus {
                said: observed.does.clone(),
                shown: shown(observed),
                intent: observed.intent.clone(),
            },
            actions: acts,
            events: events(observed),
            next: (observed.does == "count" && observed.times < COUNTS).then_some(Duration::from_millis(50)),
        }
    }

    /// Somebody else writes to it, between the decision and its end.
    async fn act(&self, action: String, shared: &Arc<Shared>) -> Result<(), ReconcileError> {
        acts().lock().unwrap().push((self.name_any(), action));
        let late = Patch::Merge(json!({ "metadata": { "annotations": { "late": "yes" } } }));
        let api = shared.api::<Gadget>(&self.namespace().unwrap());
        api.patch(&self.name_any(), &PatchParams::default(), &late).await?;
        Ok(())
    }

    fn status(&self) -> Option<&GadgetStatus> {
        self.status.as_ref()
    }

    fn wake_dependents(&self, _: &Shared) {}
}

/// So often one that counts is observed.
const COUNTS: usize = 60;

fn shown(observed: &Seen) -> usize {
    if observed.does == "count" { observed.times.min(COUNTS) } else { 0 }
}

/// What it says at every reconcile: each word of `tell a b c` or `act a`, and one that leaves when it goes.
fn events(observed: &Seen) -> Vec<EventDraft> {
    let told = ["tell ", "act "].into_iter().find_map(|verb| observed.does.strip_prefix(verb));
    let words = told.unwrap_or_default().split_whitespace();
    let mut events: Vec<_> = words.map(|word| EventDraft::warning(Reason::HostFailed, "Deploy", word)).collect();
    if observed.does == "leave" && observed.going {
        events.push(EventDraft::warning(Reason::LeftBehind, "Delete", "left behind"));
    }
    events
}

/// A schema that lets everything through, as one of another version of this program might.
async fn define(client: &Client) {
    let anything = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    let definition: CustomResourceDefinition = serde_json::from_value(json!({
        "metadata": { "name": "gadgets.frame.landfall.test" },
        "spec": {
            "group": "frame.landfall.test", "scope": "Namespaced",
            "names": { "kind": "Gadget", "plural": "gadgets", "singular": "gadget" },
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": { "status": {} },
                "schema": { "openAPIV3Schema": { "type": "object", "properties": { "spec": anything, "status": anything } } },
            }],
        },
    }))
    .unwrap();
    let all = Api::<CustomResourceDefinition>::all(client.clone());
    let apply = PatchParams::apply("frame-test").force();
    all.patch("gadgets.frame.landfall.test", &apply, &Patch::Apply(&definition_with_kind(&definition))).await.unwrap();
    let established = |crd: &CustomResourceDefinition| {
        let conditions = crd.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.into_iter().any(|one| one.type_ == "Established" && one.status == "True")
    };
    until("the kind is established", async || established(&all.get("gadgets.frame.landfall.test").await.unwrap()))
        .await;
}

fn definition_with_kind(definition: &CustomResourceDefinition) -> Value {
    let mut value = serde_json::to_value(definition).unwrap();
    value["apiVersion"] = json!("apiextensions.k8s.io/v1");
    value["kind"] = json!("CustomResourceDefinition");
    value
}

/// A running frame for gadgets of a namespace of their own.
struct Bench {
    space: TestNamespace,
    _stop: oneshot::Sender<()>,
}

impl Bench {
    async fn new() -> Self {
        logged();
        let space = bare_namespace("frame").await;
        let client = space.client.clone();
        Self::over(space, client).await
    }

    /// Its frame writes through `client`.
    async fn over(space: TestNamespace, client: Client) -> Self {
        define(&space.client).await;
        let shared = Arc::new(shared(client));
        let scope = Api::namespaced(space.client.clone(), &space.name);
        let (stop, stopped) = oneshot::channel();
        tokio::spawn(async move {
            let stopped = async move { _ = stopped.await };
            frame::run::<Gadget>(shared, scope, stopped).await;
        });
        Self { space, _stop: stop }
    }

    fn raw(&self) -> Api<DynamicObject> {
        gadgets(&self.space)
    }

    async fn create(&self, name: &str, does: Value) {
        let object = json!({
            "apiVersion": "frame.landfall.test/v1", "kind": "Gadget",
            "metadata": { "name": name }, "spec": { "does": does },
        });
        self.raw().create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
    }

    async fn edit(&self, name: &str, does: &str) {
        let patch = Patch::Merge(json!({ "spec": { "does": does } }));
        self.raw().patch(name, &PatchParams::default(), &patch).await.unwrap();
    }

    async fn until_said(&self, name: &str, said: &str) {
        let says = async || self.raw().get(name).await.unwrap().data["status"]["said"] == said;
        until(&format!("{name} says {said}"), says).await;
    }
}

impl Bench {
    /// The notes of events about a gadget, of those that stand for one occurrence.
    async fn events(&self, name: &str) -> Vec<String> {
        let all = self.space.api::<Event>().list(&ListParams::default()).await.unwrap().items;
        let about = |event: &Event| event.regarding.as_ref().and_then(|object| object.name.as_deref()) == Some(name);
        let mut notes: Vec<_> = all
            .into_iter()
            .filter(|event| about(event) && event.series.is_none())
            .filter_map(|event| event.note)
            .collect();
        notes.sort();
        notes
    }

    async fn until_told(&self, name: &str, wanted: &[&str]) {
        let told = async || {
            let notes = self.events(name).await;
            if notes == wanted { Ok(()) } else { Err(notes) }
        };
        wait::find(&format!("the events of {name} are {wanted:?}"), told, |notes| format!("{notes:?}")).await;
    }

    /// Has it reconciled, without a change of its status.
    async fn touch(&self, name: &str, mark: &str) {
        let patch = Patch::Merge(json!({ "metadata": { "annotations": { "mark": mark } } }));
        let before = looks_at(name).len();
        self.raw().patch(name, &PatchParams::default(), &patch).await.unwrap();
        until(&format!("{name} is reconciled"), async || looks_at(name).len() > before).await;
    }
}

async fn until<F: Future<Output = bool>>(what: &str, mut so: impl FnMut() -> F) {
    let look = || {
        let observed = so();
        async { if observed.await { Ok(()) } else { Err(()) } }
    };
    wait::find(what, look, |()| log()).await;
}

fn gate() -> Gate {
    Gate::open_for(FenceToken { epoch: "frame".into(), created: 1, transitions: 1 })
}

fn shared(client: Client) -> Shared {
    Shared::new(client, gate(), None, Duration::from_secs(600))
}

fn contexts(client: Client, folder: &std::path::Path) -> Contexts {
    let executor = LocalExecutor::new(LocalConfig {
        folder: folder.join("executor"),
        hidden: vec![],
        isolation: Isolation::Trusted,
        runner: "/nowhere".into(),
        max_log_bytes: 1,
    });
    let effects = Effects {
        store: Store::folder(folder.join("store")).unwrap(),
        git: Git::new(GitConfig::new(folder.join("git"))),
        executor: Arc::new(executor),
        rollout_logs: RolloutLogs::new(folder.join("rollouts")),
        budgets: Budgets::default(),
    };
    let identity = wiring::Identity { control_plane_id: "frame".into(), user: None };
    wiring::contexts(client, gate(), Duration::from_secs(600), identity, effects)
}

/// What the tests of this program logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn logged() -> &'static Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    LOG.get_or_init(|| {
        let log = Log::default();
        let writer = log.clone();
        tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).init();
        log
    })
}

fn log() -> String {
    String::from_utf8_lossy(&logged().0.lock().unwrap()).into_owned()
}

#[tokio::test]
async fn a_reconcile_that_panics_and_an_object_that_can_not_be_read_cost_the_others_nothing() {
    let bench = Bench::new().await;
    bench.create("panics", json!("panic")).await;
    bench.create("odd", json!({ "never": 7 })).await;
    until("the panic is met", async || !looks_at("panics").is_empty()).await;
    bench.create("good", json!("work")).await;
    bench.until_said("good", "work").await;
    let log_says = |words: &[&str]| log().lines().any(|line| words.iter().all(|word| line.contains(word)));
    until("the log names it", async || log_says(&["name=\"odd\"", "can't be read"])).await;
    until("the log names it", async || log_says(&["name=\"panics\"", "panicked"])).await;
    // Both are taken up as soon as they are mended.
    bench.edit("panics", "work").await;
    bench.until_said("panics", "work").await;
    let replaced = Patch::Json::<()>(
        serde_json::from_value(json!([{ "op": "replace", "path": "/spec/does", "value": "work" }])).unwrap(),
    );
    bench.raw().patch("odd", &PatchParams::default(), &replaced).await.unwrap();
    bench.until_said("odd", "work").await;
}

#[tokio::test]
async fn an_object_that_can_not_be_read_gets_an_event_with_the_field_and_the_remedy() {
    let bench = Bench::new().await;
    bench.create("unreadable", json!({ "never": 7 })).await;
    let told = async || {
        let notes = bench.events("unreadable").await;
        if notes.is_empty() { Err(notes) } else { Ok(notes) }
    };
    let notes = wait::find("an event about it", told, |notes| format!("{notes:?}")).await;
    let [note] = &notes[..] else { panic!("{notes:?}") };
    for words in [
        "spec.does can't be read, so this object is left alone",
        "expected a string",
        "kubectl edit gadgets.frame.landfall.test unreadable",
        "kubectl explain --api-version=frame.landfall.test/v1 gadget.spec.does",
    ] {
        assert!(note.contains(words), "{words}: {note}");
    }
    let all = bench.space.api::<Event>().list(&ListParams::default()).await.unwrap().items;
    let event = all.iter().find(|event| event.note.as_ref() == Some(note)).unwrap();
    assert_eq!((event.type_.as_deref(), event.reason.as_deref()), (Some("Warning"), Some("ObjectUnreadable")));
    assert_eq!(event.regarding.as_ref().and_then(|object| object.kind.as_deref()), Some("Gadget"));
    // A change elsewhere on it repeats nothing.
    let patch = Patch::Merge(json!({ "metadata": { "annotations": { "mark": "1" } } }));
    bench.raw().patch("unreadable", &PatchParams::default(), &patch).await.unwrap();
    bench.create("beside", json!("work")).await;
    bench.until_said("beside", "work").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(bench.events("unreadable").await, notes);
}

#[tokio::test]
async fn an_object_that_was_written_to_since_the_decision_is_decided_on_again_before_it_is_let_go() {
    let bench = Bench::new().await;
    bench.create("held", json!("hold")).await;
    bench.until_said("held", "hold").await;
    assert_eq!(bench.raw().get("held").await.unwrap().finalizers(), [FINALIZER]);
    bench.raw().delete("held", &DeleteParams::default()).await.unwrap();
    until("it goes", async || bench.raw().get_opt("held").await.unwrap().is_none()).await;
    let mut going: Vec<_> = looks_at("held").into_iter().filter(|look| look.0).collect();
    going.dedup();
    assert_eq!(going, [(true, false), (true, true)], "what came late was seen before it went");
}

#[tokio::test]
async fn an_object_that_goes_while_it_is_looked_at_is_not_looked_at_again() {
    let bench = Bench::new().await;
    bench.create("vanishing", json!("vanish")).await;
    until("it is looked at", async || !looks_at("vanishing").is_empty()).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(looks_at("vanishing").len(), 1);
    assert!(!log().contains("name=\"vanishing\""), "that is no trouble: {}", log());
}

#[tokio::test]
async fn each_event_has_the_words_of_its_own_occurrence_and_none_is_merged() {
    let bench = Bench::new().await;
    bench.create("teller", json!("tell one two three four")).await;
    bench.until_told("teller", &["four", "one", "three", "two"]).await;
    // A plan that repeats itself floods nothing, and what it says beside is told although the status stays.
    bench.touch("teller", "1").await;
    bench.touch("teller", "2").await;
    bench.until_told("teller", &["four", "one", "three", "two"]).await;
    bench.edit("teller", "tell one five").await;
    bench.until_told("teller", &["five", "four", "one", "one", "three", "two"]).await;
}

#[tokio::test]
async fn an_object_that_goes_still_gets_its_event_although_its_status_stays() {
    let bench = Bench::new().await;
    bench.create("leaver", json!("leave")).await;
    bench.until_said("leaver", "leave").await;
    bench.raw().delete("leaver", &DeleteParams::default()).await.unwrap();
    until("it goes", async || bench.raw().get_opt("leaver").await.unwrap().is_none()).await;
    bench.until_told("leaver", &["left behind"]).await;
}

#[tokio::test]
async fn display_is_written_once_in_two_seconds_at_most_and_its_last_state_is_kept() {
    let bench = Bench::new().await;
    let began = std::time::Instant::now();
    let watch = watcher(bench.raw(), watcher::Config::default().fields("metadata.name=counter"));
    let mut states = Box::pin(watch.applied_objects());
    bench.create("counter", json!("count")).await;
    let mut written = Vec::new();
    while written.last() != Some(&COUNTS) {
        let state = tokio::time::timeout(Duration::from_secs(120), states.next()).await.unwrap().unwrap().unwrap();
        let shown = state.data.pointer("/status/shown").and_then(Value::as_u64).unwrap_or_default() as usize;
        if written.last() != Some(&shown) {
            written.push(shown);
        }
    }
    let looks = looks_at("counter").len();
    assert!(looks >= COUNTS, "{looks}");
    let most = began.elapsed().as_secs() as usize / 2 + 3;
    assert!(
        written.len() <= most,
        "{} writes of {looks} reconciles in {:?}: {written:?}",
        written.len(),
        began.elapsed()
    );
}

/// A client that lets something happen just before each of its writes of a status, which it tells of: its number, and its body.
fn interrupted<F>(client: &Client, before: impl Fn(usize, String) -> F + Send + Sync + 'static) -> Client
where
    F: Future<Output = ()> + Send + 'static,
{
    let (inner, before, written) = (client.clone(), Arc::new(before), Arc::new(AtomicUsize::new(0)));
    let service = tower::service_fn(move |request: hyper::Request<Body>| {
        let (inner, before, written) = (inner.clone(), before.clone(), written.clone());
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            if head.method == hyper::Method::PATCH && head.uri.path().ends_with("/status") {
                let nth = written.fetch_add(1, Ordering::SeqCst);
                before(nth, String::from_utf8_lossy(&body).into_owned()).await;
            }
            inner.send(hyper::Request::from_parts(head, Body::from(body.to_vec()))).await
        }
    });
    Client::new(service, client.default_namespace())
}

fn gadgets(space: &TestNamespace) -> Api<DynamicObject> {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("frame.landfall.test", "v1", "Gadget"));
    Api::namespaced_with(space.client.clone(), &space.name, &kind)
}

#[tokio::test]
async fn a_late_display_write_takes_back_no_intent() {
    let space = bare_namespace("frame").await;
    let others = gadgets(&space);
    // The first write is the decision; the leader sleeps before the second, of display alone, and another one leads meanwhile.
    let client = interrupted(&space.client, move |nth, _| {
        let others = others.clone();
        async move {
            if nth == 1 {
                let intent = Patch::Merge(json!({ "status": { "intent": "of the next leader" } }));
                others.patch_status("slow", &PatchParams::default(), &intent).await.unwrap();
            }
        }
    });
    let bench = Bench::over(space, client).await;
    bench.create("slow", json!("count")).await;
    let status = async || bench.raw().get("slow").await.unwrap().data["status"].clone();
    until("its last state is shown", async || status().await["shown"] == COUNTS).await;
    assert_eq!(status().await["intent"], "of the next leader");
}

#[tokio::test]
async fn a_spec_that_changes_under_an_unversioned_write_is_not_acted_on() {
    let space = bare_namespace("frame").await;
    let others = gadgets(&space);
    let edited = Arc::new(AtomicUsize::new(0));
    // A foreign mark before each write of a version, and an edit before the first one without.
    let client = interrupted(&space.client, move |nth, body| {
        let (others, edited) = (others.clone(), edited.clone());
        async move {
            let patch = match body.contains("resourceVersion") {
                true => json!({ "metadata": { "labels": { "mark": nth.to_string() } } }),
                false if edited.fetch_add(1, Ordering::SeqCst) == 0 => json!({ "spec": { "does": "act two" } }),
                false => return,
            };
            others.patch("marked", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
        }
    });
    let bench = Bench::over(space, client).await;
    let object = json!({
        "apiVersion": "frame.landfall.test/v1", "kind": "Gadget", "spec": { "does": "act one" },
        "metadata": { "name": "marked", "annotations": { "note": "<b>\u{2028} & \"ä\"\n\u{1}\u{8}\u{7f}" } },
    });
    bench.raw().create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
    bench.until_said("marked", "act two").await;
    let done = || {
        let acts = acts().lock().unwrap();
        acts.iter().filter(|act| act.0 == "marked").map(|act| act.1.clone()).collect::<Vec<_>>()
    };
    until("it is acted on", async || !done().is_empty()).await;
    bench.until_told("marked", &["two"]).await;
    assert_eq!(done(), ["act two"]);
}

/// A later version is the same manager of fields.
#[tokio::test]
async fn what_a_later_version_wrote_into_a_status_stays() {
    let bench = Bench::new().await;
    bench.create("later", json!("one")).await;
    bench.until_said("later", "one").await;
    let apply = json!({
        "apiVersion": "frame.landfall.test/v1", "kind": "Gadget",
        "status": { "said": "one", "shown": 0, "intent": "", "future": { "of": ["status"] } },
    });
    let ours = PatchParams::apply(FIELD_MANAGER).force();
    bench.raw().patch_status("later", &ours, &Patch::Apply(apply)).await.unwrap();
    bench.edit("later", "two").await;
    bench.until_said("later", "two").await;
    let status = bench.raw().get("later").await.unwrap().data["status"].clone();
    assert_eq!(status["future"], json!({ "of": ["status"] }), "{status}");
}

#[tokio::test]
async fn a_status_that_somebody_else_wrote_over_is_put_right_in_seconds() {
    let bench = Bench::new().await;
    bench.create("forged", json!("one")).await;
    bench.until_said("forged", "one").await;
    let before = looks_at("forged").len();
    let forged = Patch::Merge(json!({ "status": { "said": "two", "shown": 7 } }));
    bench.raw().patch_status("forged", &PatchParams::default(), &forged).await.unwrap();
    bench.until_said("forged", "one").await;
    assert_eq!(bench.raw().get("forged").await.unwrap().data["status"]["shown"], 0);
    // Neither what it wrote itself nor a mark on the object is somebody else's status.
    let label = Patch::Merge(json!({ "metadata": { "labels": { "mark": "1" } } }));
    bench.raw().patch("forged", &PatchParams::default(), &label).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(looks_at("forged").len(), before + 1, "it was decided on once for it");
}

/// What a Build and a Project left that are gone, beside what belongs to those with these uids.
async fn nobodys_leftovers_go_beside([build, project]: [String; 2], client: Client) {
    let folder = tempfile::tempdir().unwrap();
    let gone = "0f0f0f0f-0000-4000-8000-000000000000";
    let folders = |kind: &str, uid: &str| [gone, uid].map(|uid| folder.path().join(kind).join(uid));
    let (builds, caches) = (folders("executor", &build), folders("caches/default", &project));
    for path in builds.iter().chain(&caches) {
        std::fs::create_dir_all(path.join("1")).unwrap();
    }
    let contexts = contexts(client, folder.path());
    let collector = tokio::spawn(gc::keep(contexts.garbage, None));
    let was: Project = serde_json::from_value(json!({
        "metadata": { "name": "gone", "namespace": "default", "uid": gone },
        "spec": {
            "source": { "url": "https://git.invalid/shop.git" }, "build": { "script": "true", "artifacts": [{ "path": "x" }] },
            "run": { "process": { "command": ["x"] } },
        },
    }))
    .unwrap();
    was.on_deleted(&contexts.project);
    for [nobodys, somebodys] in [builds, caches] {
        until(&format!("{} is gone", nobodys.display()), async || !nobodys.exists()).await;
        assert!(somebodys.exists(), "{}", somebodys.display());
    }
    collector.abort();
}

/// Of landfall's own kinds, with schemas as another version might have left them.
#[tokio::test]
async fn builds_and_deployments_that_can_not_be_read_blind_neither_their_projects_nor_each_other() {
    let dev = Dev::start(&["--ephemeral"]).await;
    let client = dev.client().await;
    let crds = Api::<CustomResourceDefinition>::all(client.clone());
    for kind in ["builds", "deployments", "projects"] {
        // What they can be selected by has to stay.
        let named = json!({ "type": "object", "properties": { "name": { "type": "string" } } });
        let anything = json!({
            "type": "object", "x-kubernetes-preserve-unknown-fields": true,
            "properties": { "projectRef": named, "hostGroupRef": named },
        });
        let schema = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
        let operations = json!([{ "op": "replace", "path": schema, "value": anything }]);
        let patch = Patch::Json::<()>(serde_json::from_value(operations).unwrap());
        crds.patch(&format!("{kind}.landfall.dev"), &PatchParams::default(), &patch).await.unwrap();
    }
    let create = async |kind: &str, name: &str, spec: Value| {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("landfall.dev", "v1alpha1", kind));
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), "default", &resource);
        let object = json!({
            "apiVersion": "landfall.dev/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec,
        });
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        // The schema that was replaced is in force for a moment yet.
        until(&format!("{kind} {name} is accepted"), async || {
            match api.create(&PostParams::default(), &object).await {
                Err(kube::Error::Api(status)) if status.code == 422 => false,
                created => created.map(|_| true).unwrap(),
            }
        })
        .await;
        api
    };
    let of_shop = |more: Value| {
        let mut spec = json!({ "projectRef": { "name": "shop" } });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    let odd_build = create("Build", "odd-build", of_shop(json!({ "revision": 7 }))).await;
    create("Deployment", "odd-deployment", of_shop(json!({ "version": ["v1"] }))).await;
    let project = json!({
        "source": { "url": "https://git.invalid/shop.git" }, "build": { "script": "true", "artifacts": [{ "path": "x" }] },
        "run": { "process": { "command": ["x"] } },
    });
    let projects = create("Project", "shop", project).await;
    let deployment = of_shop(json!({ "hostGroupRef": { "name": "prod" }, "version": "v1" }));
    let deployments = create("Deployment", "good", deployment).await;
    let reason = |object: &DynamicObject, kind: &str| {
        let conditions = object.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.into_iter().find(|one| one["type"] == kind).map(|one| one["reason"].as_str().unwrap().to_owned())
    };
    until("the Project is decided on", async || {
        reason(&projects.get("shop").await.unwrap(), "Ready") == Some("SourceUnreachable".to_owned())
    })
    .await;
    until("the other Deployment is decided on", async || {
        reason(&deployments.get("good").await.unwrap(), "Ready") == Some("HostGroupNotFound".to_owned())
    })
    .await;
    let log = dev.folder().join("logs/landfall.log");
    for name in ["odd-build", "odd-deployment"] {
        let named = |line: &str| line.contains(name) && line.contains("can't be read");
        let said = async || std::fs::read_to_string(&log).unwrap().lines().any(named);
        until(&format!("{name} is named in {}", log.display()), said).await;
    }
    let odd_project = create("Project", "odd-project", json!({ "source": { "url": 7 } })).await;
    let uid = |object: DynamicObject| object.uid().unwrap();
    let odd = [uid(odd_build.get("odd-build").await.unwrap()), uid(odd_project.get("odd-project").await.unwrap())];
    nobodys_leftovers_go_beside(odd, client.clone()).await;
    let left_alone = odd_build.get("odd-build").await.unwrap();
    assert_eq!(left_alone.data["status"]["observedGeneration"], -1, "it is left alone");
    assert!(dev.stop().await.success());
}
