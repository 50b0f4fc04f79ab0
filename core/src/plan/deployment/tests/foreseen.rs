//! What is foreseen against what is done.

use super::*;

/// Hosts that run v1.
fn deployed(hosts: usize, max_unavailable: i32) -> Simulation {
    let mut simulation = Simulation::new(&vec![HostOutcome::Ready; hosts], max_unavailable, 0);
    settled(&mut simulation);
    simulation.updates.clear();
    simulation
}

fn foreseen(simulation: &Simulation) -> Foreseen {
    let before = simulation.observed.clone();
    let foreseen = foresee(&simulation.observed, simulation.now);
    assert_eq!(simulation.observed, before);
    foreseen
}

fn hosts(foreseen: &Foreseen) -> Vec<Vec<&str>> {
    foreseen.batches.iter().map(|batch| batch.iter().map(|update| update.host.as_str()).collect()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_foreseen_of_hosts_that_do_as_they_are_told_is_what_is_done(count in 1..12_usize, most in 1..5_i32) {
        let mut simulation = deployed(count, most);
        simulation.want("v2");
        let foreseen = foreseen(&simulation);
        settled(&mut simulation);
        prop_assert_eq!(hosts(&foreseen).concat(), simulation.updates.iter().map(String::as_str).collect::<Vec<_>>());
        prop_assert!(foreseen.is_ready());
        let most = usize::try_from(most).unwrap();
        prop_assert_eq!(foreseen.batches.len(), count.div_ceil(most));
        prop_assert_eq!(foreseen.rollout.as_deref(), Some("2.0"));
    }
}

#[test]
fn each_update_says_what_runs_there_and_why_it_is_replaced() {
    let mut simulation = deployed(2, 2);
    simulation.want("v2");
    let update = |host: &str, from: Option<&str>, to: &str, cause| ForeseenUpdate {
        host: host.into(),
        from: from.map(str::to_owned),
        to: to.into(),
        cause,
    };
    simulation.observed.hosts.get_mut("web-01").unwrap().check = FolderCheck::Facts(Box::default());
    assert_eq!(
        foreseen(&simulation).batches,
        [[
            update("web-01", None, "v2", UpdateCause::Nothing),
            update("web-00", Some("v1"), "v2", UpdateCause::Version)
        ]]
    );

    let mut simulation = deployed(1, 1);
    simulation.observed.spec.env =
        vec![serde_json::from_value(serde_json::json!({ "name": "A", "value": "1" })).unwrap()];
    simulation.observed.generation += 1;
    let changed = update("web-00", Some("v1"), "v1", UpdateCause::Configuration);
    assert_eq!(foreseen(&simulation).batches, [[changed.clone()]]);

    let mut simulation = deployed(1, 1);
    simulation.observed.annotations.insert(verbs::REDEPLOY.into(), "1".into());
    assert_eq!(foreseen(&simulation).batches, [[changed]]);
}

#[test]
fn pauses_between_batches_are_passed_and_a_canary_that_waits_for_a_person_is_where_it_ends() {
    let mut simulation = deployed(3, 1);
    simulation.want("v2");
    simulation.observed.spec.strategy.rolling_update.pause_seconds = 600;
    assert_eq!(hosts(&foreseen(&simulation)), [["web-00"], ["web-01"], ["web-02"]]);
    let canary = serde_json::json!({ "hosts": { "names": ["web-01"] } });
    simulation.observed.spec.strategy.canary = Some(serde_json::from_value(canary).unwrap());
    let waiting = foreseen(&simulation);
    assert_eq!(hosts(&waiting), [["web-01"]]);
    assert_eq!(waiting.status.conditions[0].reason, "AwaitingPromotion");
}

#[test]
fn where_nothing_differs_nothing_is_done() {
    let foreseen = foreseen(&deployed(3, 1));
    assert_eq!(foreseen.batches, Vec::<Vec<ForeseenUpdate>>::new());
    assert!(foreseen.is_ready() && !foreseen.is_cut);
}

#[test]
fn what_holds_the_rollout_is_the_reason_where_it_rests() {
    let mut simulation = deployed(3, 1);
    simulation.want("v2");
    simulation.observed.spec.paused = true;
    let paused = foreseen(&simulation);
    assert_eq!(paused.batches, Vec::<Vec<ForeseenUpdate>>::new());
    assert_eq!(paused.status.conditions[0].reason, "Paused");
    simulation.observed.spec.paused = false;
    simulation.observed.hosts.get_mut("web-01").unwrap().check =
        FolderCheck::Failed(Failure::waiting(Reason::Unreachable, "no answer"));
    let held = foreseen(&simulation);
    assert!(!held.is_ready());
    assert!(held.left_out().any(|one| (one.host.as_str(), one.reason.as_str()) == ("web-01", "Unreachable")));
}

#[test]
fn a_large_rollout_is_foreseen_up_to_a_number_of_batches() {
    let mut simulation = deployed(205, 205);
    simulation.observed.spec.strategy.rolling_update.max_unavailable = IntOrString::Int(1);
    simulation.want("v2");
    let foreseen = foreseen(&simulation);
    assert!(foreseen.is_cut && foreseen.batches.len() == 200);
}
