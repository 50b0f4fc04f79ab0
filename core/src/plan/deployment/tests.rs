//! The planner against simulated hosts: whatever happens in whatever order, the rules of a rollout hold.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use proptest::prelude::*;

use super::*;
use crate::model::rollout::HostFailure;
use crate::{
    api::{Reason, deployment::Phase, hostgroup::Host, verbs},
    model::{
        Failure,
        facts::{FolderFacts, ProcessFacts, ReadyMark},
        ids::Owner,
        version::VersionRecord,
    },
};

/// How a simulated host takes its turn.
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
        format: crate::model::version::FORMAT,
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
    fates: BTreeMap<String, HostOutcome>,
    now: Timestamp,
    /// Hosts whose turn began, in order, once for every turn.
    turns: Vec<String>,
}

impl Simulation {
    fn new(fates: &[HostOutcome], max_unavailable: i32, max_failures: i32) -> Self {
        let name = |n: usize| format!("web-{n:02}");
        let hosts = (0..fates.len())
            .map(|n| Host { name: name(n), address: format!("198.18.0.{n}"), labels: BTreeMap::new(), suspend: None })
            .collect();
        let mut spec: crate::api::deployment::DeploymentSpec = serde_json::from_value(serde_json::json!({
            "projectRef": { "name": "shop" }, "hostGroupRef": { "name": "prod" }, "version": "v1",
        }))
        .unwrap();
        spec.strategy.rolling_update.max_unavailable = IntOrString::Int(max_unavailable);
        spec.strategy.max_failures = max_failures;
        let observed = Observed {
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
            project: true,
            group: Some(Group {
                env: vec![],
                port: 22,
                hosts,
                suspended: vec![],
                r#become: Default::default(),
                secret: None,
            }),
            version: Some(version("v1")),
            releases_kept: 5,
            removed: false,
            hosts: BTreeMap::new(),
            others: vec![],
            records: vec![],
            verdicts: vec![],
            left: vec![],
        };
        let fates = fates.iter().enumerate().map(|(n, outcome)| (name(n), *outcome)).collect();
        Self { observed, fates, now: Timestamp::from_second(1_000_000).unwrap(), turns: vec![] }
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
        self.observed.status = Some(plan.status);
        for action in plan.actions {
            self.action(action);
        }
        changed
    }

    fn action(&mut self, action: Action) {
        match action {
            Action::Probe(hosts) => {
                for host in hosts {
                    let look = match self.fates[&host] {
                        HostOutcome::Unreachable => {
                            FolderCheck::Failed(Failure::waiting(Reason::Unreachable, "no answer"))
                        }
                        _ => FolderCheck::Facts(Box::default()),
                    };
                    self.observed.hosts.entry(host).or_default().look = look;
                }
            }
            Action::Record(record) => self.observed.records.push(*record),
            Action::RecordFailure(verdict) => self.observed.verdicts.push(verdict),
            Action::Assign(assign) => {
                if matches!(assign.goal, Goal::Run { .. }) {
                    self.turns.push(assign.host.clone());
                }
                let task = Task { goal: assign.key, phase: Phase::Staging };
                self.observed.hosts.get_mut(&assign.host).unwrap().task = Some(task);
            }
            Action::Forget(_) | Action::KeepLogs(_) | Action::RemoveLogs => {}
        }
    }

    /// Lets one running task end.
    fn finish(&mut self, host: &str) {
        let record = self.observed.records.last().unwrap().clone();
        let outcome = self.fates[host];
        let Some(task) = self.observed.hosts.get_mut(host).unwrap().task.take() else { return };
        let target = Target::new(&self.observed, &record, &task.goal.rollout, task.goal.attempt, 0);
        let one = self.observed.hosts.get_mut(host).unwrap();
        let FolderCheck::Facts(look) = &mut one.look else { return };
        let fail = |reason| HostFailure {
            rollout: target.rollout.clone(),
            attempt: target.attempt,
            host: host.into(),
            reason,
            phase: task.phase,
            message: "it failed".into(),
            at: Timestamp::UNIX_EPOCH,
        };
        match (task.goal.kind, outcome) {
            (GoalKind::Stage, HostOutcome::FailsToStage) => self.observed.verdicts.push(fail(Reason::DiskFull)),
            (GoalKind::Stage, _) => look.folder.releases.push(target.release.clone()),
            (_, HostOutcome::FailsToStart) => {
                look.folder = run(&target, host, look.folder.clone(), false);
                self.observed.verdicts.push(fail(Reason::ProcessDied));
            }
            _ => look.folder = run(&target, host, look.folder.clone(), true),
        }
    }

    fn running(&self) -> Vec<String> {
        self.observed.hosts.iter().filter(|(_, host)| host.task.is_some()).map(|(name, _)| name.clone()).collect()
    }

    fn updating_phase(&self) -> usize {
        let turn = |host: &&HostObserved| host.task.as_ref().is_some_and(|task| task.goal.kind == GoalKind::Run);
        self.observed.hosts.values().filter(turn).count()
    }

    fn failed(&self) -> usize {
        let rollout = self.observed.status.as_ref().and_then(|status| status.rollout.as_ref().cloned());
        let Some(rollout) = rollout else { return 0 };
        let of = |one: &&HostFailure| one.rollout == rollout.id && one.attempt == rollout.attempt;
        self.observed.verdicts.iter().filter(of).count()
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
        uid: "uid-1".into(),
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
        alive: ready,
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
        fates in prop::collection::vec(outcome(), 1..9),
        most in 1..4_i32,
        failures in 0..3_i32,
        order in prop::collection::vec(any::<prop::sample::Index>(), 200),
        second_at in prop::option::of(0..20_usize),
    ) {
        let mut world = Simulation::new(&fates, most, failures);
        for (n, index) in order.iter().enumerate() {
            if second_at == Some(n) {
                world.want("v2");
            }
            let before = world.turns.len();
            let failed = world.failed();
            let old = world.observed.status.as_ref().and_then(|status| status.rollout.as_ref().cloned()).map(|rollout| rollout.id);
            let changed = world.reconcile();
            let same = old == world.observed.status.as_ref().and_then(|status| status.rollout.as_ref().cloned()).map(|rollout| rollout.id);
            prop_assert!(world.updating_phase() <= usize::try_from(most).unwrap(), "too many away");
            if same && failed > usize::try_from(failures).unwrap() {
                prop_assert_eq!(world.turns.len(), before, "a host was started although too many had failed");
            }
            let running = world.running();
            if !running.is_empty() {
                let host: &String = index.get(&running);
                world.finish(host);
            } else if !changed && second_at.is_none_or(|at| at < n) {
                break;
            }
            world.now = world.now.checked_add(SignedDuration::from_secs(1)).unwrap();
        }
        prop_assert!(world.running().is_empty(), "it never ended");
        let failing = fates.iter().any(|outcome| matches!(outcome, HostOutcome::FailsToStage | HostOutcome::FailsToStart));
        let away = fates.contains(&HostOutcome::Unreachable);
        let wanted = match (failing, away) {
            (true, _) => "HostsFailed",
            (false, true) => "HostsUnreachable",
            (false, false) => "Deployed",
        };
        prop_assert_eq!(world.reason(), wanted);
    }
}

fn settled(world: &mut Simulation) {
    for _ in 0..100 {
        let changed = world.reconcile();
        match world.running().first().cloned() {
            Some(host) => world.finish(&host),
            None if !changed => return,
            None => {}
        }
    }
    panic!("it never ended: {:?}", world.observed.status);
}

#[test]
fn editing_the_strategy_starts_nothing() {
    let mut world = Simulation::new(&[HostOutcome::Ready; 3], 1, 0);
    settled(&mut world);
    assert_eq!(world.turns.len(), 3);
    world.observed.spec.strategy.rolling_update.max_unavailable = IntOrString::Int(2);
    world.observed.spec.paused = true;
    world.observed.generation += 1;
    settled(&mut world);
    assert_eq!(world.turns.len(), 3);
    assert_eq!(world.observed.status.as_ref().unwrap().rollout.as_ref().unwrap().id, "1.0");
}

#[test]
fn redeploy_takes_all_hosts_again_and_retry_only_those_that_failed() {
    let mut world = Simulation::new(&[HostOutcome::Ready, HostOutcome::FailsToStart, HostOutcome::Ready], 1, 0);
    settled(&mut world);
    assert_eq!(world.turns, ["web-00", "web-01"]);
    assert_eq!(world.reason(), "HostsFailed");
    world.fates.insert("web-01".into(), HostOutcome::Ready);
    world.observed.annotations.insert(verbs::RETRY.into(), "1".into());
    settled(&mut world);
    assert_eq!(world.turns, ["web-00", "web-01", "web-01", "web-02"]);
    assert_eq!(world.reason(), "Deployed");
    assert_eq!(world.observed.status.as_ref().unwrap().rollout.as_ref().unwrap().attempt, 2);
    world.observed.annotations.insert(verbs::REDEPLOY.into(), "1".into());
    settled(&mut world);
    assert_eq!(world.turns.len(), 7);
    assert_eq!(world.observed.status.as_ref().unwrap().rollout.as_ref().unwrap().id, "1.1");
    assert_eq!(world.observed.records.len(), 1);
}

#[test]
fn a_process_that_ends_again_and_again_is_started_five_times_with_longer_waits() {
    let mut world = Simulation::new(&[HostOutcome::Ready], 1, 0);
    settled(&mut world);
    let mut starts = Vec::new();
    for _ in 0..2000 {
        let host = world.observed.hosts.get_mut("web-00").unwrap();
        if let FolderCheck::Facts(look) = &mut host.look {
            look.folder.process.as_mut().unwrap().alive = false;
        }
        world.reconcile();
        if let Some(task) = world.observed.hosts["web-00"].task.clone() {
            assert_eq!(task.goal.kind, GoalKind::Heal);
            starts.push(world.now);
            let healing = Healing::after(world.observed.hosts["web-00"].healing, 1, world.now);
            world.observed.hosts.get_mut("web-00").unwrap().healing = Some(healing);
            world.finish("web-00");
        }
        world.now = world.now.checked_add(SignedDuration::from_secs(1)).unwrap();
    }
    let waits: Vec<i64> = starts.windows(2).map(|pair| pair[1].duration_since(pair[0]).as_secs()).collect();
    assert_eq!(waits, [10, 20, 40, 80]);
    assert_eq!(world.reason(), "HostsFailed");
    assert_eq!(world.observed.verdicts[0].reason, Reason::RestartedTooOften);
}

#[test]
fn a_lost_status_is_found_again_in_the_store() {
    let mut world = Simulation::new(&[HostOutcome::Ready; 2], 1, 0);
    settled(&mut world);
    world.want("v2");
    settled(&mut world);
    let before = world.observed.status.take().unwrap();
    settled(&mut world);
    assert_eq!(world.turns.len(), 4);
    assert_eq!(
        world.observed.status.as_ref().unwrap().rollout.as_ref().unwrap().id,
        before.rollout.as_ref().unwrap().id
    );
}

/// The shortest of three plans for so many hosts of which half run another version, a tenth failed, and all are listed by a sibling.
fn time_to_plan(hosts: usize) -> std::time::Duration {
    let mut world = Simulation::new(&vec![HostOutcome::Ready; hosts], 10, 5000);
    let record = target::record(&version("v1"), vec![], "h".into(), 1, world.now);
    let old = Target::new(&world.observed, &record, "1.0", 1, 0);
    world.observed.records.push(record);
    let names: Vec<String> = world.fates.keys().cloned().collect();
    for (n, name) in names.iter().enumerate() {
        let mut folder = run(&old, name, FolderFacts::default(), true);
        folder.releases = vec![old.release.clone()];
        let view = FolderView { folder, ..FolderView::default() };
        let host = HostObserved { look: FolderCheck::Facts(Box::new(view)), ..HostObserved::default() };
        world.observed.hosts.insert(name.clone(), host);
        if n % 10 == 0 {
            world.observed.verdicts.push(HostFailure {
                rollout: "2.0".into(),
                attempt: 1,
                host: name.clone(),
                reason: Reason::ProcessDied,
                phase: Phase::Verifying,
                message: "it failed".into(),
                at: world.now,
            });
        }
    }
    world.observed.others.push(SiblingDeployment {
        name: "other".into(),
        uid: "uid-2".into(),
        created: Timestamp::UNIX_EPOCH,
        hosts: names.clone(),
        machines: names.iter().map(|name| format!("{name}:22")).collect(),
        unreadable: false,
    });
    world.want("v2");
    world.observed.status = Some(plan(&world.observed, world.now).status);
    let time = || {
        #[allow(clippy::disallowed_methods, reason = "what is measured here is real time")]
        let began = std::time::Instant::now();
        let plan = plan(&world.observed, world.now);
        assert_eq!(plan.status.hosts.total, i32::try_from(hosts).unwrap());
        began.elapsed()
    };
    (0..3).map(|_| time()).min().unwrap()
}

#[test]
fn planning_ten_times_the_hosts_takes_about_ten_times_as_long() {
    let (few, many) = (time_to_plan(1000), time_to_plan(10_000));
    println!("1,000 hosts: {few:?}; 10,000 hosts: {many:?}");
    // Quadratic would be a hundred times as long.
    assert!(many < few * 40, "1,000 hosts: {few:?}; 10,000 hosts: {many:?}");
}
