//! The planner against simulated hosts: whatever happens in whatever order, the rules of a rollout hold.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use proptest::prelude::*;

use super::*;
use crate::model::{
    facts::{FailedAct, OpenAct},
    rollout::HostFailure,
};
use crate::{
    api::{
        Reason,
        deployment::{DeploymentStatus, HostSelection, OnFailure, Phase, Pin, Rollout},
        hostgroup::Host,
        verbs,
    },
    model::{
        Failure,
        facts::{ByHand, FolderFacts, ProcessFacts, ReadyMark},
        ids::Owner,
        keyed::{HashKey, KeyedHash},
        rollout::RolloutRecord,
        version::VersionRecord,
    },
};

mod foreseen;
mod histories;
mod shared_group;

/// How the update of a simulated host ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum HostOutcome {
    Ready,
    FailsToStage,
    FailsToStart,
    Unreachable,
}

fn digest(version: &str) -> String {
    let n = version.trim_start_matches('v').parse::<u64>().unwrap();
    format!("{n:064x}")
}

fn version(name: &str) -> VersionRecord {
    let run = serde_json::json!({ "process": { "command": ["./app"] } });
    VersionRecord {
        format: crate::model::format::FORMAT,
        parameters: None,
        version: name.into(),
        commit: "c".repeat(40),
        build: "b".into(),
        build_uid: "bu".into(),
        digest: digest(name),
        size: 1,
        built_at: Timestamp::UNIX_EPOCH,
        run: serde_json::from_value(run).unwrap(),
    }
}

struct Simulation {
    observed: Observed,
    outcomes: BTreeMap<String, HostOutcome>,
    now: Timestamp,
    /// Hosts whose update began, in order, once for every update.
    updates: Vec<String>,
}

impl Simulation {
    fn new(outcomes: &[HostOutcome], max_unavailable: i32, max_failures: i32) -> Self {
        let name = |n: usize| format!("web-{n:02}");
        let hosts = (0..outcomes.len())
            .map(|n| Host {
                name: name(n),
                address: format!("198.18.{}.{}", n / 256, n % 256),
                labels: BTreeMap::new(),
                suspend: None,
            })
            .collect();
        let mut spec: crate::api::deployment::DeploymentSpec = serde_json::from_value(serde_json::json!({
            "projectRef": { "name": "shop" }, "hostGroupRef": { "name": "prod" }, "version": "v1",
        }))
        .unwrap();
        spec.strategy.rolling_update.max_unavailable = IntOrString::Int(max_unavailable);
        spec.strategy.max_failures = max_failures;
        let observed = Observed {
            values: BTreeMap::new(),
            namespace: "team".into(),
            name: "shop".into(),
            uid: "uid-1".into(),
            generation: 1,
            created: Timestamp::UNIX_EPOCH,
            deleted: None,
            annotations: BTreeMap::new(),
            spec,
            status: None,
            control_plane_id: "plane".into(),
            token: None,
            namespace_terminating: false,
            project: true,
            group: Some(Group {
                annotations: BTreeMap::new(),
                deleting: false,
                keep_secrets_on_host: false,
                env: vec![],
                port: 22,
                jump: vec![],
                hosts,
                suspended: vec![],
                min_available: None,
                r#become: Default::default(),
                secret: None,
                held: true,
            }),
            version: Some(version("v1")),
            pinned: BTreeMap::new(),
            releases_kept: 5,
            version_removed: false,
            updates_elsewhere: BTreeMap::new(),
            hosts: BTreeMap::new(),
            siblings: vec![],
            records: vec![],
            failures: vec![],
            acted: Vec::new(),
            unlisted: vec![],
        };
        let outcomes = outcomes.iter().enumerate().map(|(n, outcome)| (name(n), *outcome)).collect();
        Self { observed, outcomes, now: Timestamp::from_second(1_000_000).unwrap(), updates: vec![] }
    }

    fn want(&mut self, name: &str) {
        self.observed.spec.version = name.into();
        self.observed.version = Some(version(name));
        self.observed.generation += 1;
    }

    /// One reconcile. True if it changed anything.
    fn reconcile(&mut self) -> bool {
        let plan = plan(&self.observed, self.now);
        let again = super::plan(&self.observed, self.now);
        assert_eq!(plan, again, "the same input gives the same plan");
        let changed = self.observed.status.as_ref() != Some(&plan.status) || !plan.actions.is_empty();
        let updating = self.intent();
        self.observed.status = Some(plan.status);
        for action in plan.actions {
            self.check_budget(&action, &updating);
            self.action(action);
        }
        changed
    }

    fn action(&mut self, action: Action) {
        match action {
            Action::Probe(hosts) => {
                for host in hosts {
                    let check = match self.outcomes[&host] {
                        HostOutcome::Unreachable => {
                            FolderCheck::Failed(Failure::waiting(Reason::Unreachable, "no answer"))
                        }
                        _ => FolderCheck::Facts(Box::default()),
                    };
                    self.observed.hosts.entry(host).or_default().check = check;
                }
            }
            Action::Record(record) => self.observed.records.push(*record),
            Action::RecordFailure(verdict) => self.observed.failures.push(verdict),
            Action::Assign(assign) => {
                if matches!(assign.goal, Goal::Run { .. }) {
                    self.updates.push(assign.host.clone());
                }
                let task = Task { goal: assign.key, phase: Phase::Staging };
                self.observed.hosts.get_mut(&assign.host).unwrap().task = Some(task);
            }
            Action::HoldGroup | Action::Forget(_) | Action::KeepLogs(_) | Action::RemoveLogs => {}
        }
    }

    /// The hosts whose update is on record.
    fn intent(&self) -> Vec<String> {
        let rollout = self.observed.status.as_ref().and_then(|status| status.rollout.as_ref());
        rollout.and_then(|rollout| rollout.intent.clone()).unwrap_or_default().updating
    }

    /// Whether one more host that serves may be taken away now; what is away for whatever cause counts.
    fn check_budget(&self, action: &Action, updating: &[String]) {
        let Action::Assign(Assignment { host, goal: Goal::Run { heal: false, .. }, .. }) = action else { return };
        let strategy = &self.observed.spec.strategy;
        let IntOrString::Int(most) = strategy.rolling_update.max_unavailable else { return };
        let (most, allowed) = (usize::try_from(most).unwrap(), self.failures_allowed());
        assert!(self.intent().contains(host), "an update is on record before it is done");
        let suspended = &self.observed.group.as_ref().unwrap().suspended;
        let is_in_service = |name: &str| suspended.iter().all(|one| one.host != name);
        let is_away = |(name, host): &(&String, &HostObserved)| {
            let updates = host.task.as_ref().is_some_and(|task| task.goal.kind == GoalKind::Run);
            is_in_service(name) && (updates || !host.is_serving() || self.has_failed(name))
        };
        if updating.contains(host) || is_away(&(host, &self.observed.hosts[host])) {
            return;
        }
        let away = self.observed.hosts.iter().filter(is_away).count();
        let has_failed = |name: &&String| is_in_service(name) && self.has_failed(name);
        let failed = self.observed.hosts.keys().filter(has_failed).count();
        assert!(away - failed.min(allowed) < most, "{host} is taken away although {away} are away");
    }

    fn failures_allowed(&self) -> usize {
        let strategy = &self.observed.spec.strategy;
        match strategy.on_failure {
            OnFailure::Continue => usize::MAX,
            OnFailure::Stop | OnFailure::RollBack => usize::try_from(strategy.max_failures).unwrap(),
        }
    }

    fn has_failed(&self, host: &str) -> bool {
        let rollout = self.observed.status.as_ref().and_then(|status| status.rollout.as_ref().cloned());
        let Some(rollout) = rollout else { return false };
        let of = |one: &HostFailure| one.rollout == rollout.id && one.attempt == rollout.attempt && one.host == host;
        self.observed.failures.iter().any(of)
    }

    /// Another operator takes over: what was under way in the memory of the old one is gone.
    fn restart(&mut self) {
        for host in self.observed.hosts.values_mut() {
            host.task = None;
            host.healing = None;
        }
    }

    /// Lets one running task end.
    fn finish(&mut self, host: &str) {
        let record = self.observed.records.last().unwrap().on_host(host).unwrap().into_owned();
        let outcome = self.outcomes[host];
        let Some(task) = self.observed.hosts.get_mut(host).unwrap().task.take() else { return };
        let target = Target::new(&self.observed, &record, &task.goal.rollout, task.goal.attempt, 0);
        let one = self.observed.hosts.get_mut(host).unwrap();
        let FolderCheck::Facts(check) = &mut one.check else { return };
        let fail = |reason| HostFailure {
            rollout: target.rollout.clone(),
            attempt: target.attempt,
            host: host.into(),
            reason,
            phase: task.phase,
            message: "it failed".into(),
            at: Timestamp::UNIX_EPOCH,
            process: None,
        };
        match (task.goal.kind, outcome) {
            (GoalKind::Stage, HostOutcome::FailsToStage) => self.observed.failures.push(fail(Reason::DiskFull)),
            (GoalKind::Stage, _) => check.folder.releases.push(target.release.clone()),
            (_, HostOutcome::FailsToStart) => {
                check.folder = run(&target, host, check.folder.clone(), false);
                self.observed.failures.push(fail(Reason::ProcessDied));
            }
            _ => check.folder = run(&target, host, check.folder.clone(), true),
        }
    }

    /// Every host is staged, and the first updates are open.
    fn stage_until_an_update_begins(&mut self) {
        let is_staging = |host: &HostObserved| host.task.as_ref().is_some_and(|task| task.goal.kind == GoalKind::Stage);
        while self.updates_open() == 0 {
            self.reconcile();
            let staging = self.observed.hosts.iter().filter(|(_, host)| is_staging(host));
            let names: Vec<String> = staging.map(|(name, _)| name.clone()).collect();
            names.iter().for_each(|name| self.finish(name));
        }
    }

    fn running(&self) -> Vec<String> {
        self.observed.hosts.iter().filter(|(_, host)| host.task.is_some()).map(|(name, _)| name.clone()).collect()
    }

    fn updates_open(&self) -> usize {
        let turn = |host: &&HostObserved| host.task.as_ref().is_some_and(|task| task.goal.kind == GoalKind::Run);
        self.observed.hosts.values().filter(turn).count()
    }

    fn failed(&self) -> usize {
        let rollout = self.observed.status.as_ref().and_then(|status| status.rollout.as_ref().cloned());
        let Some(rollout) = rollout else { return 0 };
        let of = |one: &&HostFailure| one.rollout == rollout.id && one.attempt == rollout.attempt;
        self.observed.failures.iter().filter(of).count()
    }

    fn reason(&self) -> String {
        self.observed.status.as_ref().unwrap().conditions[0].reason.clone()
    }
}

fn run(target: &Target, host: &str, folder: FolderFacts, ready: bool) -> FolderFacts {
    let owner = Owner {
        control_plane_id: "plane".into(),
        namespace: "team".into(),
        deployment: "shop".into(),
        uid: target.uid.clone(),
        host: host.into(),
    };
    let process = ProcessFacts {
        pid: 7,
        start: 9,
        boot_id: String::new(),
        digest: target.digest.clone(),
        release: Some(target.release.clone()),
        uid: target.uid.clone(),
        revision: target.revision,
        rollout: target.rollout.clone(),
        values: None,
        alive: ready,
        unready: None,
        kept: false,
        restarts: 0,
        survivors: String::new(),
        end: None,
    };
    let mark = ReadyMark { uid: target.uid.clone(), rollout: target.rollout.clone(), pid: 7, start: 9 };
    FolderFacts {
        owner: Some(owner),
        current: Some(target.release.clone()),
        process: Some(process),
        ready: if ready { Some(mark) } else { folder.ready.clone() },
        ..folder
    }
}

fn outcome() -> impl Strategy<Value = HostOutcome> {
    prop_oneof![6 => Just(HostOutcome::Ready), 1 => Just(HostOutcome::FailsToStage), 1 => Just(HostOutcome::FailsToStart), 1 => Just(HostOutcome::Unreachable)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_rollout_keeps_its_budget_and_ends(
        outcomes in prop::collection::vec(outcome(), 1..9),
        most in 1..4_i32,
        failures in 0..3_i32,
        order in prop::collection::vec(any::<prop::sample::Index>(), 200),
        second_at in prop::option::of(0..20_usize),
    ) {
        let mut simulation = Simulation::new(&outcomes, most, failures);
        for (n, index) in order.iter().enumerate() {
            if second_at == Some(n) {
                simulation.want("v2");
            }
            let before = simulation.updates.len();
            let failed = simulation.failed();
            let old = simulation.observed.status.as_ref().and_then(|status| status.rollout.as_ref().cloned()).map(|rollout| rollout.id);
            let changed = simulation.reconcile();
            let same = old == simulation.observed.status.as_ref().and_then(|status| status.rollout.as_ref().cloned()).map(|rollout| rollout.id);
            prop_assert!(simulation.updates_open() <= usize::try_from(most).unwrap(), "too many away");
            if same && failed > usize::try_from(failures).unwrap() {
                prop_assert_eq!(simulation.updates.len(), before, "a host was started although too many had failed");
            }
            let running = simulation.running();
            if !running.is_empty() {
                let host: &String = index.get(&running);
                simulation.finish(host);
            } else if !changed && second_at.is_none_or(|at| at < n) {
                break;
            }
            simulation.now = simulation.now.checked_add(SignedDuration::from_secs(1)).unwrap();
        }
        prop_assert!(simulation.running().is_empty(), "it never ended");
        let failing = outcomes.iter().any(|outcome| matches!(outcome, HostOutcome::FailsToStage | HostOutcome::FailsToStart));
        let away = outcomes.contains(&HostOutcome::Unreachable);
        let wanted = match (failing, away) {
            (true, _) => "HostsFailed",
            (false, true) => "HostsUnreachable",
            (false, false) => "Deployed",
        };
        prop_assert_eq!(simulation.reason(), wanted);
    }
}

fn pin(version: &str, hosts: Vec<String>) -> Pin {
    let hosts = HostSelection { names: Some(hosts), selector: None };
    Pin { version: version.into(), hosts, reason: "a trial".into(), until: None }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn hosts_end_with_the_version_of_their_pin_within_one_budget_and_those_that_have_it_are_left_alone(
        pins in prop::collection::vec(prop::option::of(1..5_usize), 1..9),
        most in 1..4_i32,
        order in prop::collection::vec(any::<prop::sample::Index>(), 300),
        taken_out_at in 0..60_usize,
    ) {
        let mut simulation = Simulation::new(&vec![HostOutcome::Ready; pins.len()], most, 0);
        settled(&mut simulation);
        let ran_v1 = simulation.updates.len();
        let names: Vec<String> = simulation.outcomes.keys().cloned().collect();
        let of_version = |wanted: usize| {
            let hosts = names.iter().zip(&pins).filter(|(_, pin)| **pin == Some(wanted));
            hosts.map(|(name, _)| name.clone()).collect::<Vec<_>>()
        };
        simulation.want("v5");
        for n in 1..5 {
            let (name, hosts) = (format!("v{n}"), of_version(n));
            if !hosts.is_empty() {
                let seen = VersionObserved { record: Some(version(&name)), removed: false };
                simulation.observed.pinned.insert(name.clone(), seen);
                simulation.observed.spec.pins.push(pin(&name, hosts));
            }
        }
        let all = simulation.observed.spec.pins.clone();
        // In the middle somebody takes the last pin out, and later in again.
        for (n, index) in order.iter().enumerate() {
            if n == taken_out_at {
                simulation.observed.spec.pins.pop();
            }
            if n == taken_out_at + 20 {
                simulation.observed.spec.pins.clone_from(&all);
            }
            let changed = simulation.reconcile();
            prop_assert!(simulation.updates_open() <= usize::try_from(most).unwrap(), "too many away");
            let running = simulation.running();
            if !running.is_empty() {
                let host: &String = index.get(&running);
                simulation.finish(host);
            } else if !changed && n > taken_out_at + 20 {
                break;
            }
            simulation.now = simulation.now.checked_add(SignedDuration::from_secs(1)).unwrap();
        }
        settled(&mut simulation);
        prop_assert_eq!(simulation.reason(), "Deployed");
        for (name, pin) in names.iter().zip(&pins) {
            let wanted = pin.map_or("v5".to_owned(), |n| format!("v{n}"));
            let process = simulation.observed.hosts[name].running().cloned();
            prop_assert_eq!(process.map(|process| process.digest), Some(digest(&wanted)));
            let updated = simulation.updates[ran_v1..].iter().filter(|host| *host == name).count();
            let is_taken_out = all.last().is_some_and(|pin| pin.hosts.names.iter().flatten().any(|host| host == name));
            prop_assert!(updated == 0 || *pin != Some(1) || is_taken_out, "{} runs v1 all the time", name);
        }
        let counts = &simulation.observed.status.as_ref().unwrap().hosts;
        prop_assert_eq!(usize::try_from(counts.pinned).unwrap(), pins.iter().flatten().count());
        prop_assert_eq!((counts.total, counts.updated), (counts.ready, counts.ready));
    }
}

fn settled(simulation: &mut Simulation) {
    for _ in 0..1000 {
        let changed = simulation.reconcile();
        let running = simulation.running();
        if running.is_empty() && !changed {
            return;
        }
        // One by one where there are few, so that every moment is seen.
        let at_once = (running.len() / 10).max(1);
        running.iter().take(at_once).for_each(|host| simulation.finish(host));
    }
    panic!("it never ended: {}", simulation.reason());
}

#[test]
fn editing_the_strategy_starts_nothing() {
    let mut simulation = Simulation::new(&[HostOutcome::Ready; 3], 1, 0);
    settled(&mut simulation);
    assert_eq!(simulation.updates.len(), 3);
    simulation.observed.spec.strategy.rolling_update.max_unavailable = IntOrString::Int(2);
    simulation.observed.spec.paused = true;
    simulation.observed.generation += 1;
    settled(&mut simulation);
    assert_eq!(simulation.updates.len(), 3);
    assert_eq!(simulation.observed.status.as_ref().unwrap().rollout.as_ref().unwrap().id, "1.0");
}

#[test]
fn redeploy_takes_all_hosts_again_and_retry_only_those_that_failed() {
    let mut simulation = Simulation::new(&[HostOutcome::Ready, HostOutcome::FailsToStart, HostOutcome::Ready], 1, 0);
    settled(&mut simulation);
    assert_eq!(simulation.updates, ["web-00", "web-01"]);
    assert_eq!(simulation.reason(), "HostsFailed");
    simulation.outcomes.insert("web-01".into(), HostOutcome::Ready);
    simulation.observed.annotations.insert(verbs::RETRY.into(), "1".into());
    settled(&mut simulation);
    assert_eq!(simulation.updates, ["web-00", "web-01", "web-01", "web-02"]);
    assert_eq!(simulation.reason(), "Deployed");
    assert_eq!(simulation.observed.status.as_ref().unwrap().rollout.as_ref().unwrap().attempt, 2);
    simulation.observed.annotations.insert(verbs::REDEPLOY.into(), "1".into());
    settled(&mut simulation);
    assert_eq!(simulation.updates.len(), 7);
    assert_eq!(simulation.observed.status.as_ref().unwrap().rollout.as_ref().unwrap().id, "1.1");
    assert_eq!(simulation.observed.records.len(), 1);
}

#[test]
fn a_process_that_ends_again_and_again_is_started_with_growing_pauses_without_an_end() {
    let mut simulation = Simulation::new(&[HostOutcome::Ready], 1, 0);
    settled(&mut simulation);
    let mut starts = Vec::new();
    for _ in 0..2000 {
        let host = simulation.observed.hosts.get_mut("web-00").unwrap();
        if let FolderCheck::Facts(check) = &mut host.check {
            check.folder.process.as_mut().unwrap().alive = false;
        }
        simulation.reconcile();
        if let Some(task) = simulation.observed.hosts["web-00"].task.clone() {
            assert_eq!(task.goal.kind, GoalKind::Heal);
            starts.push(simulation.now);
            let healing = Healing::after(simulation.observed.hosts["web-00"].healing, 1, simulation.now);
            simulation.observed.hosts.get_mut("web-00").unwrap().healing = Some(healing);
            simulation.finish("web-00");
        }
        simulation.now = simulation.now.checked_add(SignedDuration::from_secs(1)).unwrap();
    }
    let pauses: Vec<i64> = starts.windows(2).map(|pair| pair[1].duration_since(pair[0]).as_secs()).collect();
    assert_eq!(pauses, [10, 20, 40, 80, 160, 300, 300, 300, 300, 300]);
    assert_eq!(simulation.reason(), "Healing");
    assert!(simulation.observed.failures.is_empty());
}

#[test]
fn an_update_is_under_way_until_it_is_seen_to_be_over_whatever_was_cut_and_whoever_leads() {
    let mut simulation = Simulation::new(&[HostOutcome::Ready; 250], 120, 0);
    settled(&mut simulation);
    simulation.want("v2");
    simulation.stage_until_an_update_begins();
    assert_eq!((simulation.updates_open(), simulation.intent().len()), (120, 120));
    assert_eq!(simulation.observed.status.as_ref().unwrap().exceptions.len(), 100, "the list for people is cut");
    let begun = simulation.intent();
    simulation.restart();
    // A hundred of them are lost, 19 are stopped, and one was not touched yet.
    for (n, name) in begun.iter().enumerate() {
        let check = &mut simulation.observed.hosts.get_mut(name).unwrap().check;
        match (n, &mut *check) {
            (0..100, _) => *check = FolderCheck::Failed(Failure::waiting(Reason::Unreachable, "no answer")),
            (119, _) => {}
            (_, FolderCheck::Facts(view)) => view.folder.process.as_mut().unwrap().alive = false,
            _ => unreachable!("every host answers"),
        }
    }
    let updates = simulation.updates.len();
    simulation.reconcile();
    let resumed: Vec<String> = simulation.updates.split_off(updates);
    assert_eq!(resumed[..19], begun[100..119], "those that are stopped go on");
    assert_eq!(resumed.len(), 20, "and one that serves begins in the place of the one that was not touched");
    let updating = simulation.intent();
    assert!(updating.len() == 120 && begun[..119].iter().all(|name| updating.contains(name)), "{updating:?}");
    simulation.restart();
    simulation.reconcile();
    assert!(
        begun[..119].iter().all(|name| simulation.intent().contains(name)),
        "also for the operator after the next one"
    );
    assert_eq!(simulation.intent().len(), 120);
}

#[test]
fn a_world_of_6257386_is_taken_over_without_a_new_revision_or_a_restart() {
    let mut simulation = Simulation::new(&[HostOutcome::Ready; 2], 1, 0);
    // As 6257386 wrote them: no algorithm in the hash, no intent, no wantedHash; the second redeploy of revision 3.
    let hash = "d36d9a4db6fef80e";
    let digest = digest("v1");
    let record = format!(
        r#"{{ "revision": 3, "hash": "{hash}", "version": "v1", "commit": "{}", "digest": "{digest}", "size": 1,
             "env": [{{ "name": "COLOUR", "value": "blue" }}], "run": {{ "process": {{ "command": ["./app"] }} }},
             "startedAt": "1970-01-11T00:00:00Z" }}"#,
        "c".repeat(40)
    );
    let status = format!(
        r#"{{ "observedGeneration": 1, "version": "v1", "revision": 3,
             "conditions": [{{ "type": "Ready", "status": "True", "reason": "Deployed", "message": "all 2 hosts run v1 and are ready",
                "lastTransitionTime": "1970-01-11T00:00:00Z", "observedGeneration": 1 }}],
             "lastHandled": {{ "landfall.dev/redeploy": "2" }},
             "hosts": {{ "total": 2, "updated": 2, "ready": 2, "failed": 0, "unreachable": 0, "pending": 0 }},
             "versions": [{{ "version": "v1", "hosts": 2 }}],
             "rollout": {{ "id": "3.2", "hash": "{hash}", "attempt": 1, "version": "v1", "digest": "sha256:{digest}",
                "startedAt": "1970-01-11T00:00:00Z", "progressedAt": "1970-01-11T00:00:00Z", "batch": 2, "batches": 2 }},
             "history": [{{ "revision": 3, "version": "v1", "commit": "{}", "startedAt": "1970-01-11T00:00:00Z",
                "completedAt": "1970-01-11T00:00:00Z", "outcome": "Succeeded", "failedHosts": 0 }}] }}"#,
        "c".repeat(40)
    );
    simulation.observed.records = vec![serde_json::from_str(&record).unwrap()];
    simulation.observed.status = Some(serde_json::from_str(&status).unwrap());
    simulation.observed.annotations.insert(verbs::REDEPLOY.into(), "2".into());
    simulation.observed.spec.env =
        vec![crate::api::EnvVar { name: "COLOUR".into(), value: "blue".into(), value_from: None }];
    let old = Target::new(&simulation.observed, &simulation.observed.records[0].clone(), "3.2", 1, 0);
    for name in ["web-00", "web-01"] {
        let mut folder = run(&old, name, FolderFacts::default(), true);
        folder.releases = vec![old.release.clone()];
        let check = FolderCheck::Facts(Box::new(FolderView { folder, ..FolderView::default() }));
        simulation.observed.hosts.insert(name.into(), HostObserved { check, ..HostObserved::default() });
    }
    simulation.reconcile();
    assert!(
        simulation.updates.is_empty() && simulation.running().is_empty(),
        "nothing is started: {:?}",
        simulation.updates
    );
    let status = simulation.observed.status.clone().unwrap();
    let rollout = status.rollout.as_ref().unwrap();
    assert_eq!((rollout.id.as_str(), rollout.attempt, status.revision), ("3.2", 1, Some(3)));
    assert_eq!(
        (simulation.reason().as_str(), status.history.len(), simulation.observed.records.len()),
        ("Deployed", 1, 1)
    );
    assert!(status.wanted_hash.unwrap().starts_with("1:"));
    assert!(!simulation.reconcile(), "and nothing more is to be said");
    // A redeploy counts on from there, and takes both.
    simulation.observed.annotations.insert(verbs::REDEPLOY.into(), "3".into());
    settled(&mut simulation);
    assert_eq!(simulation.updates.len(), 2);
    assert_eq!(simulation.observed.status.as_ref().unwrap().rollout.as_ref().unwrap().id, "3.3");
}

#[test]
fn a_host_in_its_update_by_a_status_of_6257386_stays_in_it() {
    let mut simulation = Simulation::new(&[HostOutcome::Ready; 3], 1, 0);
    settled(&mut simulation);
    simulation.want("v2");
    simulation.stage_until_an_update_begins();
    let status = simulation.observed.status.as_mut().unwrap();
    status.wanted_hash = None;
    let rollout = status.rollout.as_ref().cloned().unwrap();
    status.rollout = Rollout { intent: None, ..rollout }.into();
    simulation.restart();
    simulation.observed.hosts.get_mut("web-00").unwrap().check =
        FolderCheck::Failed(Failure::waiting(Reason::Unreachable, "no answer"));
    let updates = simulation.updates.len();
    simulation.reconcile();
    assert_eq!(simulation.updates.len(), updates, "nobody else begins");
    assert_eq!(simulation.intent(), ["web-00"]);
}

#[test]
fn an_interrupted_redeploy_is_finished_also_after_another_version_came_between() {
    let mut simulation = Simulation::new(&[HostOutcome::Ready; 3], 1, 0);
    settled(&mut simulation);
    simulation.observed.annotations.insert(verbs::REDEPLOY.into(), "1".into());
    simulation.reconcile();
    simulation.observed.spec.paused = true;
    simulation.finish("web-00");
    simulation.want("v2");
    simulation.reconcile();
    simulation.observed.spec.paused = false;
    simulation.want("v1");
    let updates = simulation.updates.len();
    settled(&mut simulation);
    assert_eq!(simulation.updates.split_off(updates), ["web-01", "web-02"], "web-00 was redeployed already");
    assert_eq!(simulation.observed.status.as_ref().unwrap().rollout.as_ref().unwrap().id, "3.1", "serials go on");
}

#[test]
fn a_lost_status_is_found_again_in_the_store() {
    let mut simulation = Simulation::new(&[HostOutcome::Ready; 2], 1, 0);
    settled(&mut simulation);
    simulation.want("v2");
    settled(&mut simulation);
    let before = simulation.observed.status.take().unwrap();
    settled(&mut simulation);
    assert_eq!(simulation.updates.len(), 4);
    assert_eq!(
        simulation.observed.status.as_ref().unwrap().rollout.as_ref().unwrap().id,
        before.rollout.as_ref().unwrap().id
    );
}

#[test]
fn a_claim_marks_no_process_that_was_not_seen_ready() {
    let simulation = Simulation::new(&[HostOutcome::Ready], 1, 0);
    let record = records::record(&version("v1"), vec![], "h".into(), 1, simulation.now);
    let target = Target::new(&simulation.observed, &record, "1.0", 1, 0);
    let owned = run(&target, "web-00", FolderFacts::default(), true);
    let step_of = |folder: &FolderFacts| {
        let view = FolderView { folder: folder.clone(), ..FolderView::default() };
        next_step(&view, &Goal::Claim(Box::new(target.clone())), StepProgress::default())
    };
    let unowned = FolderFacts { owner: None, ..owned.clone() };
    assert_eq!(step_of(&unowned), Step::Claim);
    assert_eq!(step_of(&owned), Step::Reached);
    assert_eq!(step_of(&FolderFacts { ready: None, ..unowned.clone() }), Step::Reached);
    let ended = unowned.process.clone().map(|process| ProcessFacts { alive: false, ..process });
    assert_eq!(step_of(&FolderFacts { process: ended, ..unowned }), Step::Reached);
}

#[test]
fn what_a_person_did_since_the_decision_ends_a_run() {
    let simulation = Simulation::new(&[HostOutcome::Ready], 1, 0);
    let record = records::record(&version("v1"), vec![], "h".into(), 1, simulation.now);
    let target = Target::new(&simulation.observed, &record, "1.0", 1, 0);
    let act = ByHand { journal: 4, act: "stop".into(), reason: String::new(), user: None };
    let folder = FolderFacts { releases: vec![target.release.clone()], by_hand: Some(act), ..FolderFacts::default() };
    let view = FolderView { folder, ..FolderView::default() };
    let step = |by_hand, heal| {
        let goal = Goal::Run {
            target: Box::new(target.clone()),
            heal,
            failed_process: None,
            by_hand,
            drain: None,
            skipped_drain: None,
        };
        next_step(&view, &goal, StepProgress::default())
    };
    for heal in [false, true] {
        assert_eq!(step(None, heal), Step::Overtaken);
        assert_eq!(step(Some(2), heal), Step::Overtaken);
        assert_eq!(step(Some(4), heal), Step::Update, "the decision was taken with it in view");
    }
}

#[test]
fn what_ends_right_after_its_update_is_its_keepers() {
    let simulation = Simulation::new(&[HostOutcome::Ready], 1, 0);
    let record = records::record(&version("v1"), vec![], "h".into(), 1, simulation.now);
    let target = Target::new(&simulation.observed, &record, "1.0", 1, 0);
    let releases = vec![target.release.clone()];
    let ready = run(&target, "web-00", FolderFacts { releases, ..FolderFacts::default() }, true);
    let step = |folder: &FolderFacts, updated| {
        let view = FolderView { folder: folder.clone(), ..FolderView::default() };
        let target = Box::new(target.clone());
        let goal =
            Goal::Run { target, heal: false, failed_process: None, by_hand: None, drain: None, skipped_drain: None };
        next_step(&view, &goal, StepProgress { updated, ..StepProgress::default() })
    };
    let kept = ready.process.clone().map(|process| ProcessFacts { alive: false, kept: true, ..process });
    let kept = FolderFacts { process: kept, ..ready };
    assert_eq!(step(&kept, true), Step::Reached);
    assert_eq!(step(&kept, false), Step::Update, "nobody saw an update of it");
    let ended = kept.process.clone().map(|process| ProcessFacts { kept: false, ..process });
    let ended = FolderFacts { process: ended, ..kept.clone() };
    assert_eq!(step(&ended, true), Step::Died, "nobody starts it again, and another update would do so for ever");
    assert_eq!(step(&ended, false), Step::Update);
    let other = Target { digest: "0".repeat(64), ..target.clone() };
    let other = run(&other, "web-00", kept.clone(), true);
    assert_eq!(step(&other, true), Step::Update);
}

#[test]
fn what_was_healed_with_another_value_is_its_target_only_while_it_is_healed() {
    let simulation = Simulation::new(&[HostOutcome::Ready], 1, 0);
    let of_value = |value: &[u8]| [("db/password".to_owned(), HashKey::new([7; 32]).hash("db/password", value))].into();
    let record = RolloutRecord {
        values: of_value(b"first"),
        ..records::record(&version("v1"), vec![], "h".into(), 1, simulation.now)
    };
    let target = Target::new(&simulation.observed, &record, "1.0", 1, 0);
    let releases = vec![target.release.clone()];
    let ready = run(&target, "web-00", FolderFacts { releases, ..FolderFacts::default() }, true);
    let with = |values| FolderFacts {
        process: ready.process.clone().map(|process| ProcessFacts { values, ..process }),
        ..ready.clone()
    };
    let step = |folder: &FolderFacts, heal| {
        let view = FolderView { folder: folder.clone(), ..FolderView::default() };
        let target = Box::new(target.clone());
        next_step(
            &view,
            &Goal::Run { target, heal, failed_process: None, by_hand: None, drain: None, skipped_drain: None },
            StepProgress::default(),
        )
    };
    let first = with(KeyedHash::of_all(&of_value(b"first")));
    let second = with(KeyedHash::of_all(&of_value(b"second")));
    assert_eq!((step(&first, false), step(&first, true)), (Step::Reached, Step::Reached));
    assert_eq!(step(&second, false), Step::Update);
    assert_eq!(step(&second, true), Step::Reached, "it is not healed again and again");
    assert_eq!(step(&ready, false), Step::Reached, "an earlier operator told no values");
    let under_another_key = with(Some(KeyedHash { key: "00000000".into(), hash: "0".repeat(32) }));
    assert_eq!(step(&under_another_key, false), Step::Reached);
}

#[test]
fn an_update_goes_on_where_its_task_died_and_fails_where_it_failed() {
    let simulation = Simulation::new(&[HostOutcome::Ready], 1, 0);
    let record = records::record(&version("v1"), vec![], "h".into(), 1, simulation.now);
    let target = Target::new(&simulation.observed, &record, "1.0", 1, 0);
    let releases = vec![target.release.clone()];
    let ready = run(&target, "web-00", FolderFacts { releases, ..FolderFacts::default() }, true);
    let step = |folder: &FolderFacts, heal| {
        let view = FolderView { folder: folder.clone(), ..FolderView::default() };
        let goal = Goal::Run {
            target: Box::new(target.clone()),
            heal,
            failed_process: None,
            by_hand: None,
            drain: None,
            skipped_drain: None,
        };
        next_step(&view, &goal, StepProgress::default())
    };
    assert_eq!(step(&ready, false), Step::Reached);
    let open = OpenAct {
        uid: target.uid.clone(),
        rollout: target.rollout.clone(),
        attempt: 1,
        n: 3,
        step: "waitReady".into(),
        running: false,
    };
    let cut_off = FolderFacts { open: Some(open), ..ready.clone() };
    assert_eq!(step(&cut_off, false), Step::Verify, "its hooks may not be done");
    assert_eq!(step(&cut_off, true), Step::Reached, "a start for healing has none");

    let failed = FailedAct {
        uid: target.uid.clone(),
        rollout: target.rollout.clone(),
        attempt: 1,
        step: "hook".into(),
        reason: Reason::HookFailed,
        why: "exit status 3".into(),
    };
    let of_attempt = |attempt| FolderFacts { failed: Some(FailedAct { attempt, ..failed.clone() }), ..ready.clone() };
    assert_eq!(step(&of_attempt(1), false), Step::Failed(failed.clone()));
    assert_eq!(step(&of_attempt(1), true), Step::Reached);
    assert_eq!(step(&of_attempt(2), false), Step::Reached, "another attempt's is none of this one");
}

#[test]
fn a_changed_release_is_staged_again_once_its_application_is_stopped() {
    let simulation = Simulation::new(&[HostOutcome::Ready], 1, 0);
    let record = records::record(&version("v1"), vec![], "h".into(), 1, simulation.now);
    let target = Target::new(&simulation.observed, &record, "1.0", 1, 0);
    let changed = FolderFacts { tampered: vec![target.release.clone()], ..FolderFacts::default() };
    let step = |folder: &FolderFacts, target: &Target| {
        let view = FolderView { folder: folder.clone(), ..FolderView::default() };
        let goal = Goal::Run {
            target: Box::new(target.clone()),
            heal: true,
            failed_process: None,
            by_hand: None,
            drain: None,
            skipped_drain: None,
        };
        next_step(&view, &goal, StepProgress::default())
    };
    assert_eq!(step(&changed, &target), Step::Stage, "nothing has it");
    let alive = run(&target, "web-00", changed, true);
    assert_eq!(step(&alive, &target), Step::Reached, "what runs is left");
    let redeployed = Target { redeploy_serial: 1, ..target.clone() };
    assert_eq!(step(&alive, &redeployed), Step::StageAgain);
    let ended = alive.process.clone().map(|process| ProcessFacts { alive: false, ..process });
    let ended = FolderFacts { process: ended, ..alive };
    assert_eq!(step(&ended, &target), Step::StageAgain, "its keeper has it, and starts nothing from it");
    let again = FolderFacts { releases: vec![target.release.clone()], tampered: vec![], ..ended };
    assert_eq!(step(&again, &target), Step::Update);
}

/// The shortest of three plans for so many hosts of which half run another version, a tenth failed, and all are listed by a sibling.
fn time_to_plan(hosts: usize) -> std::time::Duration {
    let mut simulation = Simulation::new(&vec![HostOutcome::Ready; hosts], 10, 5000);
    let record = records::record(&version("v1"), vec![], "h".into(), 1, simulation.now);
    let old = Target::new(&simulation.observed, &record, "1.0", 1, 0);
    simulation.observed.records.push(record);
    let names: Vec<String> = simulation.outcomes.keys().cloned().collect();
    for (n, name) in names.iter().enumerate() {
        let mut folder = run(&old, name, FolderFacts::default(), true);
        folder.releases = vec![old.release.clone()];
        let view = FolderView { folder, ..FolderView::default() };
        let host = HostObserved { check: FolderCheck::Facts(Box::new(view)), ..HostObserved::default() };
        simulation.observed.hosts.insert(name.clone(), host);
        if n % 10 == 0 {
            simulation.observed.failures.push(HostFailure {
                rollout: "2.0".into(),
                attempt: 1,
                host: name.clone(),
                reason: Reason::ProcessDied,
                phase: Phase::Verifying,
                message: "it failed".into(),
                at: simulation.now,
                process: None,
            });
        }
    }
    simulation.observed.siblings.push(SiblingDeployment {
        name: "other".into(),
        uid: "uid-2".into(),
        created: Timestamp::UNIX_EPOCH,
        hosts: names.clone(),
        machines: names.iter().map(|name| format!("{name}:22")).collect(),
        unreadable: false,
    });
    simulation.want("v2");
    simulation.observed.status = Some(plan(&simulation.observed, simulation.now).status);
    // Of this thread, so that it matters little what else runs on the machine.
    let used = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        std::time::Duration::new(u64::try_from(time.tv_sec).unwrap(), u32::try_from(time.tv_nsec).unwrap())
    };
    let time = || {
        let before = used();
        let plan = plan(&simulation.observed, simulation.now);
        assert_eq!(plan.status.hosts.total, i32::try_from(hosts).unwrap());
        used() - before
    };
    (0..3).map(|_| time()).min().unwrap()
}

#[test]
fn planning_ten_times_the_hosts_takes_about_ten_times_as_long() {
    let (few, many) = (time_to_plan(1000), time_to_plan(10_000));
    println!("1,000 hosts: {few:?}; 10,000 hosts: {many:?}");
    // Quadratic would be a hundred times as long.
    assert!(many < few * 30, "1,000 hosts: {few:?}; 10,000 hosts: {many:?}");
}

#[test]
fn each_failed_host_has_one_event_however_many_the_list_for_people_has_room_for() {
    let mut simulation = Simulation::new(&[HostOutcome::FailsToStart; 150], 60, 150);
    let mut told = Vec::new();
    let failed = |simulation: &Simulation| {
        let events = plan(&simulation.observed, simulation.now).events.into_iter();
        events.filter(|event| event.reason == Reason::HostFailed).map(|event| event.note).collect::<Vec<String>>()
    };
    for _ in 0..1000 {
        told.extend(failed(&simulation));
        let changed = simulation.reconcile();
        let running = simulation.running();
        if running.is_empty() && !changed {
            break;
        }
        running.iter().take(20).for_each(|host| simulation.finish(host));
    }
    assert_eq!(simulation.failed(), 150);
    let hosts: std::collections::BTreeSet<&str> = told.iter().filter_map(|note| note.split(':').next()).collect();
    assert_eq!((told.len(), hosts.len()), (150, 150), "each once");

    // One of them is ready again: another moves up in the list, and did not fail for that.
    simulation.observed.failures.retain(|failure| failure.host != "web-00");
    let before = simulation.observed.status.as_ref().unwrap().exceptions.clone();
    assert_eq!(failed(&simulation), Vec::<String>::new());
    simulation.outcomes.insert("web-00".into(), HostOutcome::Ready);
    for _ in 0..10 {
        simulation.reconcile();
        simulation.running().iter().for_each(|host| simulation.finish(host));
        assert_eq!(failed(&simulation), Vec::<String>::new());
    }
    let after = &simulation.observed.status.as_ref().unwrap().exceptions;
    assert!(after.iter().any(|new| before.iter().all(|old| old.host != new.host)), "nobody moved up");
    assert_eq!(failed(&simulation), Vec::<String>::new());
}
