//! Several Deployments on the hosts of one group with a `minAvailable`, their decisions interleaved, hosts that go and return, an operator that
//! is killed between any two steps: never fewer hosts are available by our hand than declared, and every rollout ends.

use std::collections::BTreeSet;

use super::*;
use crate::plan::{
    Plan,
    deployment::in_update::in_update,
    min_available::{Grant, Granted, Grants, kept},
};

/// What is on a host that does not answer, by Deployment.
type Hidden = Vec<Option<FolderCheck>>;

struct SharedGroup {
    deployments: Vec<Simulation>,
    /// In the operator's memory: decisions that are not on record yet, and the ledger, `None` before it was seeded.
    decided: Vec<Option<Plan<DeploymentStatus, Action>>>,
    ledger: Option<Grants>,
    down: BTreeMap<String, Hidden>,
    hosts: Vec<String>,
    most_away: usize,
}

impl SharedGroup {
    fn new(deployments: usize, hosts: usize, min_available: i32, max_unavailable: i32) -> Self {
        let min_available = IntOrString::Int(min_available);
        let make = |n: usize| {
            let mut one = Simulation::new(&vec![HostOutcome::Ready; hosts], max_unavailable, 0);
            one.observed.name = format!("app-{n}");
            one.observed.uid = format!("uid-{n}");
            one.observed.group.as_mut().unwrap().min_available = Some(min_available.clone());
            one
        };
        let deployments: Vec<Simulation> = (0..deployments).map(make).collect();
        Self {
            decided: deployments.iter().map(|_| None).collect(),
            ledger: None,
            down: BTreeMap::new(),
            hosts: deployments[0].outcomes.keys().cloned().collect(),
            most_away: hosts - kept(&min_available, hosts),
            deployments,
        }
    }

    /// Another spec: a decision about the one before is not put on record.
    fn want(&mut self, n: usize, version: &str) {
        self.decided[n] = None;
        self.deployments[n].want(version);
    }

    /// One Deployment decides, on what the ledger has now: a new one is seeded from what is on record.
    fn decide(&mut self, n: usize) {
        let recorded = |one: &Simulation| Grant {
            deployment: one.observed.name.clone(),
            hosts: one.intent().into_iter().collect(),
        };
        let deployments = &self.deployments;
        let ledger = self.ledger.get_or_insert_with(|| {
            let mut ledger = Grants::default();
            deployments.iter().for_each(|one| ledger.seed(&one.observed.uid, recorded(one)));
            ledger
        });
        let Simulation { observed, now, .. } = &mut self.deployments[n];
        observed.updates_elsewhere = ledger.others(&observed.uid);
        self.decided[n] = Some(plan(observed, *now));
    }

    /// Its decision is granted and put on record, or dropped. `dies`: the operator is killed before it does anything.
    fn commit(&mut self, n: usize, dies: bool) {
        let Some(plan) = self.decided[n].take() else { return };
        let observed = &self.deployments[n].observed;
        let grant = Grant { deployment: observed.name.clone(), hosts: in_update(observed, &plan) };
        let counted = observed.updates_elsewhere.clone();
        let Some(ledger) = &mut self.ledger else { return };
        if ledger.request(&observed.uid, grant, Some(&counted)) == Granted::Refused {
            return;
        }
        self.deployments[n].observed.status = Some(plan.status);
        if dies {
            return self.crash();
        }
        for action in plan.actions {
            self.check(n, &action);
            self.deployments[n].action(action);
        }
    }

    /// An update may take a host that serves away only where enough are left; what does not serve is away already.
    fn check(&self, n: usize, action: &Action) {
        let Action::Assign(Assignment { host, goal: Goal::Run { heal: false, .. }, .. }) = action else { return };
        let away = self.away();
        let serves = self.deployments[n].observed.host(host).is_serving();
        let room = !serves || away.contains(host.as_str()) || away.len() < self.most_away;
        assert!(room, "app-{n} takes {host} although {away:?} are away");
    }

    /// Hosts in an update, or in the middle of one that nobody follows, and those that do not answer.
    fn away(&self) -> BTreeSet<&str> {
        let mut away: BTreeSet<&str> = self.down.keys().map(String::as_str).collect();
        for one in &self.deployments {
            let intent = one.intent();
            let updates = |(name, host): &(&String, &HostObserved)| {
                has_update(host) || intent.contains(name) && !host.is_serving()
            };
            away.extend(one.observed.hosts.iter().filter(updates).map(|(name, _)| name.as_str()));
        }
        away
    }

    /// What the operator had in memory is gone; what is on record and on hosts is not. Updates stand where they were: the old process is
    /// stopped.
    fn crash(&mut self) {
        self.ledger = None;
        self.decided.iter_mut().for_each(|decided| *decided = None);
        for one in &mut self.deployments {
            for host in one.observed.hosts.values_mut().filter(|host| has_update(host)) {
                let FolderCheck::Facts(view) = &mut host.check else { continue };
                view.folder.process.iter_mut().for_each(|process| process.alive = false);
            }
            one.restart();
        }
    }

    /// No decision is pending, or it would rest on a host that has gone since, which is not our hand.
    fn toggle(&mut self, host: &str) {
        if self.decided.iter().any(Option::is_some) {
            return;
        }
        match self.down.remove(host) {
            Some(hidden) => {
                for (one, check) in self.deployments.iter_mut().zip(hidden) {
                    one.outcomes.insert(host.to_owned(), HostOutcome::Ready);
                    one.observed.hosts.entry(host.to_owned()).or_default().check = check.unwrap_or_default();
                }
            }
            None => {
                let hide = |one: &mut Simulation| {
                    one.outcomes.insert(host.to_owned(), HostOutcome::Unreachable);
                    let known = one.observed.hosts.get_mut(host)?;
                    known.task = None;
                    let lost = FolderCheck::Failed(Failure::waiting(Reason::Unreachable, "no answer"));
                    let check = std::mem::replace(&mut known.check, lost);
                    (!matches!(check, FolderCheck::Failed(_))).then_some(check)
                };
                let hidden = self.deployments.iter_mut().map(hide).collect();
                self.down.insert(host.to_owned(), hidden);
            }
        }
    }

    /// All that is being staged, else one update.
    fn finish(&mut self, n: usize, index: &prop::sample::Index) {
        let (updating, staging): (Vec<_>, Vec<_>) = {
            let hosts = &self.deployments[n].observed.hosts;
            self.deployments[n].running().into_iter().partition(|host| has_update(&hosts[host]))
        };
        staging.iter().for_each(|host| self.deployments[n].finish(host));
        if staging.is_empty() && !updating.is_empty() {
            let host: &String = index.get(&updating);
            self.deployments[n].finish(host);
        }
    }

    /// Everything goes on until nothing changes; answers the reasons.
    fn settle(&mut self) -> Vec<String> {
        for host in self.down.keys().cloned().collect::<Vec<_>>() {
            self.decided.iter_mut().for_each(|decided| *decided = None);
            self.toggle(&host);
        }
        for _ in 0..1000 {
            let before: Vec<_> = self.deployments.iter().map(|one| one.observed.status.clone()).collect();
            let mut is_quiet = true;
            for n in 0..self.deployments.len() {
                self.decide(n);
                is_quiet &= self.decided[n].as_ref().is_some_and(|plan| plan.actions.is_empty());
                self.commit(n, false);
                let running = self.deployments[n].running();
                is_quiet &= running.is_empty();
                running.iter().for_each(|host| self.deployments[n].finish(host));
            }
            if is_quiet && self.deployments.iter().zip(before).all(|(one, before)| one.observed.status == before) {
                break;
            }
        }
        self.deployments.iter().map(Simulation::reason).collect()
    }
}

fn has_update(host: &HostObserved) -> bool {
    host.task.as_ref().is_some_and(|task| task.goal.kind == GoalKind::Run)
}

#[derive(Clone, Debug)]
enum Event {
    Decide(usize),
    Commit(usize),
    CommitAndDie(usize),
    Finish(usize, prop::sample::Index),
    Toggle(prop::sample::Index),
    NewVersion(usize),
    Crash,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (0..4_usize).prop_map(Event::Decide),
        8 => (0..4_usize).prop_map(Event::Commit),
        1 => (0..4_usize).prop_map(Event::CommitAndDie),
        6 => (0..4_usize, any::<prop::sample::Index>()).prop_map(|(n, index)| Event::Finish(n, index)),
        1 => any::<prop::sample::Index>().prop_map(Event::Toggle),
        1 => (0..4_usize).prop_map(Event::NewVersion),
        1 => Just(Event::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn deployments_of_one_group_never_leave_fewer_hosts_than_it_keeps(
        deployments in 2..5_usize,
        hosts in 2..6_usize,
        most in 1..4_i32,
        kept in any::<prop::sample::Index>(),
        events in prop::collection::vec(event(), 0..200),
    ) {
        let min_available = i32::try_from(kept.index(hosts - 1)).unwrap() + 1;
        let mut group = SharedGroup::new(deployments, hosts, min_available, most);
        prop_assert!(group.settle().iter().all(|reason| reason == "Deployed"));
        group.deployments.iter_mut().for_each(|one| one.want("v2"));
        for (at, event) in events.into_iter().enumerate() {
            match event {
                Event::Decide(n) => group.decide(n % deployments),
                Event::Commit(n) => group.commit(n % deployments, false),
                Event::CommitAndDie(n) => group.commit(n % deployments, true),
                Event::Finish(n, index) => group.finish(n % deployments, &index),
                Event::Toggle(index) => group.toggle(&index.get(&group.hosts).clone()),
                Event::NewVersion(n) => group.want(n % deployments, &format!("v{}", at + 3)),
                Event::Crash => group.crash(),
            }
        }
        let reasons = group.settle();
        prop_assert!(reasons.iter().all(|reason| reason == "Deployed"), "{reasons:?}");
    }
}
