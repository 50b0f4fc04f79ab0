//! `landfall run` as a process: who may act, and how it ends. The real object of leaders of a real API server.

use std::{collections::BTreeMap, time::Duration};

use crate::support::{
    plane::{self, Dev, Operator, OperatorPlan, TestNamespace, leader, leadership, namespace},
    wait::{find, until},
};
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ObjectMeta, Patch, PatchParams, PostParams},
};
use landfall::model::leading::{FENCE_COUNTER, OBJECT, SCOPES, Term};
use serde_json::json;
use tokio::time::Instant;

/// The only term of an operator that leads by the object in its namespace.
async fn term(space: &TestNamespace) -> Option<Term> {
    leadership(&space.client, &space.name).await?.terms.pop()
}

async fn until_led(space: &TestNamespace, fits: impl Fn(&Term) -> bool) -> Term {
    let fits = &fits;
    let look = || async move {
        match term(space).await {
            Some(term) if fits(&term) => Ok(term),
            other => Err(other),
        }
    };
    find("led", look, |term| format!("the term is {term:?}")).await
}

/// A Project whose repository can't be reached: whoever acts says so in its status.
async fn project(space: &TestNamespace, name: &str) -> Api<DynamicObject> {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("landfall.dev", "v1alpha1", "Project"));
    let api: Api<DynamicObject> = Api::namespaced_with(space.client.clone(), &space.name, &kind);
    let object = json!({
        "apiVersion": "landfall.dev/v1alpha1", "kind": "Project", "metadata": { "name": name },
        "spec": {
            "source": { "url": "file:///nowhere/at/all.git" },
            "build": { "script": "true", "artifacts": [{ "path": "x" }] },
            "run": { "process": { "command": ["x"] } },
        },
    });
    api.patch(name, &PatchParams::apply("test"), &Patch::Apply(object)).await.unwrap();
    api
}

async fn observed(api: &Api<DynamicObject>, name: &str) -> bool {
    api.get(name).await.unwrap().data["status"]["observedGeneration"] == 1
}

fn with_lease(space: &TestNamespace, seconds: u64) -> OperatorPlan {
    Operator::of(&[&space.name]).flag(format!("--lease-seconds={seconds}"))
}

#[tokio::test]
async fn a_second_operator_stands_by_and_leads_within_a_lease_of_a_kill() {
    const LEASE: u64 = 10;
    let space = namespace("lease").await;
    let first = with_lease(&space, LEASE).start().await;
    let one = until_led(&space, |_| true).await;
    let second = with_lease(&space, LEASE).start().await;
    until("standing by", || async { second.output().contains("stands by") }).await;
    // Longer than it lasts without being renewed.
    until("renewed for long", || async { term(&space).await.is_some_and(|now| now.renewals > one.renewals + 3) }).await;
    let now = term(&space).await.unwrap();
    assert_eq!((now.holder, now.fence), (one.holder.clone(), one.fence), "the first one renews its term and keeps it");
    first.kill9().await;
    let killed = Instant::now();
    let next = until_led(&space, |now| now.holder != one.holder).await;
    let took = killed.elapsed();
    println!("killed: led again {took:?} later, with a lease of {LEASE} s");
    // It is looked at eight times a lease; the rest is for a machine with other work.
    assert!(took < Duration::from_secs(LEASE * 2), "{took:?}");
    assert!(next.fence > one.fence, "a new holder has a higher fence token");
    let api = project(&space, "shop").await;
    until("decided on: the second operator acts", || observed(&api, "shop")).await;
}

#[tokio::test]
async fn an_operator_that_is_told_to_stop_hands_over_at_once() {
    const LEASE: u64 = 60;
    let space = namespace("stop").await;
    let operator = with_lease(&space, LEASE).start().await;
    let one = until_led(&space, |_| true).await;
    let asked = Instant::now();
    operator.stop().await;
    // So long a cluster waits before it kills.
    assert!(asked.elapsed() < Duration::from_secs(30), "{:?}", asked.elapsed());
    assert_eq!(term(&space).await, None, "nobody leads now");
    let begun = Instant::now();
    let _next = with_lease(&space, LEASE).start().await;
    let next = until_led(&space, |_| true).await;
    println!("given back {:?} after the signal, led again {:?} after the next start", asked.elapsed(), begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(LEASE / 2), "{:?}", begun.elapsed());
    assert!(next.fence > one.fence);
}

#[tokio::test]
async fn an_operator_that_slept_longer_than_its_lease_ends_when_another_has_it() {
    let space = namespace("sleeper").await;
    let sleeper = Operator::start(&[&space.name]).await;
    let holder = until_led(&space, |_| true).await.holder;
    sleeper.signal(rustix::process::Signal::STOP);
    let _second = Operator::start(&[&space.name]).await;
    let other = until_led(&space, |now| now.holder != holder).await.holder;
    sleeper.signal(rustix::process::Signal::CONT);
    // To begin anew behind the other.
    sleeper.wait().await;
    assert_eq!(term(&space).await.unwrap().holder, other);
}

/// F19: as two scopes, by one object, as operators of a control plane have it.
#[tokio::test]
async fn overlapping_scopes_are_refused_with_a_sentence_and_others_lead_side_by_side() {
    let (shared, one, two, three) =
        (namespace("leaders").await, namespace("one").await, namespace("two").await, namespace("three").await);
    let of = |names: &[&TestNamespace]| {
        let names: Vec<&str> = names.iter().map(|space| space.name.as_str()).collect();
        Operator::of(&names).flag(format!("--lease-namespace={}", shared.name))
    };
    let first = of(&[&one, &two]).start().await;
    until("led", || async { !leader(&shared.client, &shared.name).await.is_empty() }).await;
    let held = leadership(&shared.client, &shared.name).await.unwrap().terms.pop().unwrap();
    for overlapping in [of(&[&two, &three]), of(&[&two])] {
        let refused = overlapping.start().await;
        assert!(!refused.wait().await.success());
        let said = refused.output();
        let names = format!("{} leads namespaces {}, {} since", held.holder, one.name, two.name);
        for part in [names.as_str(), "can't be led by this operator", "--namespaces", "kubectl -n"] {
            assert!(said.contains(part), "{part} in {said}");
        }
    }
    let beside = of(&[&three]).start().await;
    let terms = async || leadership(&shared.client, &shared.name).await.unwrap().terms;
    until("both lead", || async { terms().await.len() == 2 }).await;
    let before = terms().await;
    until("both are renewed", || async {
        terms().await.iter().zip(&before).all(|(now, before)| now.renewals > before.renewals + 3)
    })
    .await;
    for space in [&one, &three] {
        let api = project(space, "shop").await;
        until("decided on", || observed(&api, "shop")).await;
    }
    assert!(first.is_running() && beside.is_running());
    let shown = Api::<Lease>::namespaced(shared.client.clone(), &shared.name).get(OBJECT).await.unwrap();
    let holders = shown.spec.unwrap().holder_identity.unwrap();
    assert!(before.iter().all(|term| holders.contains(&term.holder)), "kubectl get lease shows {holders}");
}

#[tokio::test]
async fn the_context_of_a_kubeconfig_makes_no_second_leader() {
    let dev = Dev::start(&["--ephemeral", "--no-operator"]).await;
    let client = dev.client().await;
    let elsewhere = plane::named_namespace_on(client.clone(), "elsewhere").await;
    let text = std::fs::read_to_string(dev.operator_kubeconfig()).unwrap();
    let mut config: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
    config["contexts"][0]["context"]["namespace"] = json!(elsewhere.name);
    let other = dev.folder().join("elsewhere.kubeconfig");
    std::fs::write(&other, config.to_string()).unwrap();
    let first = Operator::of(&[]).kubeconfig(&dev.operator_kubeconfig()).start().await;
    let lead = async || leader(&client, "landfall-system").await;
    until("led", || async { !lead().await.is_empty() }).await;
    let holder = lead().await;
    let second = Operator::of(&[]).kubeconfig(&other).start().await;
    until("standing by", || async { second.output().contains("stands by") }).await;
    assert_eq!(leadership(&client, "elsewhere").await, None);
    assert_eq!(lead().await, holder);
    // And a part of it is refused.
    let part = Operator::of(&["elsewhere"]).flag("--lease-namespace=landfall-system").kubeconfig(&other).start().await;
    assert!(!part.wait().await.success());
    assert!(part.output().contains("leads the whole control plane since"), "{}", part.output());
    first.kill9().await;
    until("taken over", || async { lead().await != holder }).await;
    assert!(second.is_running());
}

/// Keeps the Lease of an operator from before, until it is dropped.
struct FromBefore(tokio::task::JoinHandle<()>);

impl FromBefore {
    async fn lead(space: &TestNamespace) -> Self {
        let leases: Api<Lease> = space.api();
        let (mut n, name) = (0, "landfall".to_owned());
        let metadata = ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() };
        let spec = LeaseSpec {
            holder_identity: Some("from-before".to_owned()),
            lease_duration_seconds: Some(4),
            lease_transitions: Some(0),
            ..LeaseSpec::default()
        };
        leases.create(&PostParams::default(), &Lease { metadata, spec: Some(spec) }).await.unwrap();
        Self(tokio::spawn(async move {
            loop {
                n += 1;
                let renewed = json!({ "spec": { "renewTime": MicroTime(jiff::Timestamp::from_second(n).unwrap()) } });
                leases.patch(&name, &PatchParams::default(), &Patch::Merge(renewed)).await.unwrap();
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }))
    }
}

impl Drop for FromBefore {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[tokio::test]
async fn an_operator_from_before_and_one_of_now_never_lead_side_by_side() {
    let space = namespace("before").await;
    let before = FromBefore::lead(&space).await;
    let operator = Operator::start(&[&space.name]).await;
    until("waiting", || async { operator.output().contains("from-before leads by the Lease") }).await;
    // Longer than that one's lease.
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(term(&space).await, None, "that one still renews its Lease");
    drop(before);
    let held = until_led(&space, |_| true).await;
    // Which an operator from before honours, from when it has seen it for as long as it says.
    let leases: Api<Lease> = space.api();
    let lease = leases.get("landfall").await.unwrap();
    let spec = lease.spec.unwrap();
    assert_eq!(spec.holder_identity.as_deref(), Some(held.holder.as_str()));
    assert_eq!(spec.lease_transitions, Some(1));
    let lasts = u64::try_from(spec.lease_duration_seconds.unwrap()).unwrap();
    let (since, version) = (Instant::now(), lease.metadata.resource_version);
    until("renewed", || async { leases.get("landfall").await.unwrap().metadata.resource_version != version }).await;
    assert!(since.elapsed() < Duration::from_secs(lasts), "{:?} of {lasts} s", since.elapsed());
    operator.stop().await;
    let holder = leases.get("landfall").await.unwrap().spec.unwrap().holder_identity;
    assert_eq!(holder.as_deref(), Some(""), "nobody need wait for it");
}

#[tokio::test]
async fn a_fence_never_goes_back_also_where_the_object_is_deleted_or_an_old_one() {
    let space = namespace("fences").await;
    let leases: Api<Lease> = space.api();
    let mut operator = Operator::start(&[&space.name]).await;
    let first = until_led(&space, |_| true).await;

    leases.delete(OBJECT, &DeleteParams::default()).await.unwrap();
    assert!(!operator.wait().await.success());
    assert!(operator.output().contains("was deleted while this operator led by it"), "{}", operator.output());
    operator.restart().await;
    let second = until_led(&space, |_| true).await;
    assert!(second.fence > first.fence, "{} after {}", second.fence, first.fence);
    operator.kill9().await;

    // etcd is restored from a backup: the store knows better.
    let old = BTreeMap::from([(FENCE_COUNTER, "7"), (SCOPES, "[]")]);
    let ahead = second.fence + 1_000_000;
    std::fs::write(operator.data.join("store/fences").join(ahead.to_string()), "{}").unwrap();
    let patch = Patch::Merge(json!({ "metadata": { "annotations": old } }));
    leases.patch(OBJECT, &PatchParams::default(), &patch).await.unwrap();
    operator.restart().await;
    let third = until_led(&space, |_| true).await;
    assert_eq!(third.fence, ahead + 1);
    let recorded =
        || std::fs::read_dir(operator.data.join("store/fences")).unwrap().flatten().map(|one| one.file_name());
    until("on record, and alone", || async { recorded().eq([(ahead + 1).to_string().as_str()]) }).await;
    operator.stop().await;

    // Installed again, with another store. Claims of one second count on beyond the clock, so it must have come that far.
    let seconds = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    until("the clock is past the fence", || async { seconds() > u64::try_from(second.fence).unwrap() }).await;
    leases.delete(OBJECT, &DeleteParams::default()).await.unwrap();
    let _other = Operator::start(&[&space.name]).await;
    let fourth = until_led(&space, |_| true).await;
    let made = leases.get(OBJECT).await.unwrap().metadata.creation_timestamp.unwrap().0.as_second();
    assert!(fourth.fence > made && fourth.fence > second.fence, "{} of an object of {made}", fourth.fence);
}

#[tokio::test]
async fn an_object_that_cannot_be_read_is_not_written_over() {
    let space = namespace("unreadable").await;
    let leases: Api<Lease> = space.api();
    let annotations = Some(BTreeMap::from([(SCOPES.to_owned(), "by a later version".to_owned())]));
    let metadata = ObjectMeta { name: Some(OBJECT.to_owned()), annotations, ..ObjectMeta::default() };
    leases.create(&PostParams::default(), &Lease { metadata, spec: None }).await.unwrap();
    let operator = Operator::start(&[&space.name]).await;
    assert!(!operator.wait().await.success());
    let said = operator.output();
    assert!(said.contains(SCOPES) && said.contains("delete lease landfall-scopes"), "{said}");
    assert_eq!(leases.get(OBJECT).await.unwrap().metadata.annotations.unwrap()[SCOPES], "by a later version");
}

#[tokio::test]
async fn an_operator_with_the_store_of_another_control_plane_ends_and_touches_nothing() {
    let space = namespace("stores").await;
    let mut operator = Operator::start(&[&space.name]).await;
    let first = until_led(&space, |_| true).await;
    let owner = operator.data.join("store/control-plane");
    until("on record", || async { owner.exists() }).await;
    operator.stop().await;
    let ours = std::fs::read_to_string(&owner).unwrap();
    let kept = operator.data.join("executor/0f0f0f0f-0000-4000-8000-000000000000/1");
    std::fs::create_dir_all(&kept).unwrap();
    std::fs::write(&owner, r#"{"format":1,"controlPlaneId":"elsewhere"}"#).unwrap();
    operator.restart().await;
    assert!(!operator.wait().await.success());
    let said = operator.output();
    assert!(said.contains("belongs to control plane elsewhere") && said.contains("--data-dir"), "{said}");
    assert!(kept.exists() && term(&space).await.is_none());
    std::fs::write(&owner, ours).unwrap();
    operator.restart().await;
    assert!(until_led(&space, |_| true).await.fence > first.fence);
}

#[tokio::test]
async fn a_namespace_for_the_object_that_is_not_there_is_named() {
    let space = namespace("nowhere").await;
    let admin = plane::kubeconfig().await;
    let operator = Operator::of(&[&space.name]).flag("--lease-namespace=not-there").kubeconfig(&admin).start().await;
    assert!(!operator.wait().await.success());
    assert!(operator.output().contains("kubectl create namespace not-there"), "{}", operator.output());
}
