//! The release that a host's delta is made against. What hosts say they hold is a stranger's claim: it orders at most [`MOST`] deltas of a
//! release, however many hosts say what, and none against a release that the operator has no bytes of.

use std::collections::BTreeMap;

use crate::model::{facts::FolderFacts, ids::ReleaseName};

/// Deltas of one release, each against another base.
pub const MOST: usize = 2;
/// Releases of one host that count.
const COUNTED: usize = 16;
/// Bytes of releases that all hosts with one base have to come by: about four hosts, or fewer with a large release.
const WORTH: u64 = 1 << 20;
/// Releases that are looked up in the store for one decision.
const LOOKED_UP: usize = 8;

/// Whole, verified releases of one host, the one that runs first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holding(Vec<ReleaseName>);

impl Holding {
    /// What the facts of a host show; nothing where it has the release already.
    pub fn of(folder: &FolderFacts, wanted: &ReleaseName) -> Self {
        if folder.releases.contains(wanted) {
            return Self::default();
        }
        let runs = folder.process.as_ref().and_then(|process| process.release.as_ref());
        let first = runs.filter(|runs| folder.releases.contains(runs));
        let others = folder.releases.iter().filter(|release| Some(*release) != first);
        Self(first.into_iter().chain(others).take(COUNTED).cloned().collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first of the bases that this host holds.
    pub fn first_of<'a>(&self, bases: &'a [ReleaseName]) -> Option<&'a ReleaseName> {
        bases.iter().find(|base| self.0.contains(base))
    }
}

/// The base that one host's delta is made against; `None`: it gets the whole release.
///
/// `hosts`: all that need the release, this one included. `ordered`: bases of deltas that were ordered before; they cost nothing more, and
/// count. `size`: bytes of the release. `known`: of [`candidates`] those that the operator has the bytes of. The commonest base first, then
/// the commonest of the hosts that are left; of two that are as common the one that runs on more hosts.
pub fn base(
    host: &Holding,
    hosts: &[Holding],
    ordered: &[ReleaseName],
    size: u64,
    known: &[ReleaseName],
) -> Option<ReleaseName> {
    let mut bases: Vec<ReleaseName> = ordered.iter().take(MOST).cloned().collect();
    while host.first_of(&bases).is_none() && bases.len() < MOST {
        let next = ranked(hosts, &bases, size).into_iter().find(|base| known.contains(base))?;
        bases.push(next.clone());
    }
    host.first_of(&bases).cloned()
}

/// The bases that could be chosen, the commonest first: few, so that no claim orders many looks into the store.
pub fn candidates(hosts: &[Holding], ordered: &[ReleaseName], size: u64) -> Vec<ReleaseName> {
    ranked(hosts, ordered, size).into_iter().take(LOOKED_UP).cloned().collect()
}

fn ranked<'a>(hosts: &'a [Holding], bases: &[ReleaseName], size: u64) -> Vec<&'a ReleaseName> {
    // How many hosts hold it, and run it.
    let mut counts: BTreeMap<&ReleaseName, (u64, u64)> = BTreeMap::new();
    for host in hosts.iter().filter(|host| host.first_of(bases).is_none()) {
        for (n, release) in host.0.iter().enumerate() {
            let (hold, run) = counts.entry(release).or_default();
            *hold += 1;
            *run += u64::from(n == 0);
        }
    }
    counts.retain(|_, (hold, _)| hold.saturating_mul(size) >= WORTH);
    let mut ranked: Vec<_> = counts.into_iter().collect();
    // Of equals the first by name, so that the answer depends on nothing else.
    ranked.sort_by(|(a, a_count), (b, b_count)| b_count.cmp(a_count).then(a.cmp(b)));
    ranked.into_iter().map(|(release, _)| release).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::facts::ProcessFacts;

    const JAR: u64 = 37 << 20;

    fn release(n: u8) -> ReleaseName {
        ReleaseName::new(&format!("v{n}"), &format!("{n:02x}").repeat(32))
    }

    fn hosts(held: &[&[u8]]) -> Vec<Holding> {
        let folder = |held: &[u8]| FolderFacts {
            releases: held.iter().map(|n| release(*n)).collect(),
            ..FolderFacts::default()
        };
        held.iter().map(|held| Holding::of(&folder(held), &release(200))).collect()
    }

    /// Releases from 100 on are not in the store.
    fn planned(hosts: &[Holding], ordered: &[u8], size: u64) -> Vec<Option<ReleaseName>> {
        let mut ordered: Vec<_> = ordered.iter().map(|n| release(*n)).collect();
        let mut ask = |host: &Holding| {
            let known = |name: &ReleaseName| (0..100).any(|n| release(n) == *name);
            let known: Vec<_> = candidates(hosts, &ordered, size).into_iter().filter(known).collect();
            let base = base(host, hosts, &ordered, size, &known);
            if let Some(base) = base.as_ref().filter(|base| !ordered.contains(base)) {
                ordered.push(base.clone());
            }
            base
        };
        hosts.iter().map(&mut ask).collect()
    }

    fn bases(wanted: &[u8]) -> Vec<Option<ReleaseName>> {
        wanted.iter().map(|n| (*n != 0).then(|| release(*n))).collect()
    }

    #[test]
    fn the_two_commonest_bases_get_a_delta_and_other_hosts_the_whole_release() {
        let held: &[&[u8]] = &[&[2, 1], &[2, 1], &[2], &[3], &[3, 1], &[4], &[]];
        // 1 and 2 are as common, 2 runs on more.
        assert_eq!(planned(&hosts(held), &[], JAR), bases(&[2, 2, 2, 3, 3, 0, 0]));
    }

    #[test]
    fn a_second_base_is_chosen_for_the_hosts_that_the_first_does_not_help() {
        assert_eq!(planned(&hosts(&[&[1, 2], &[1, 2], &[1, 2], &[4]]), &[], JAR), bases(&[1, 1, 1, 4]));
    }

    #[test]
    fn a_host_with_a_rare_base_that_asks_first_takes_no_place_of_a_common_one() {
        assert_eq!(planned(&hosts(&[&[9], &[8], &[1], &[1], &[2], &[2]]), &[], JAR), bases(&[0, 0, 1, 1, 2, 2]));
    }

    #[test]
    fn hosts_that_come_later_order_no_more_than_two_in_all() {
        let late = hosts(&[&[5], &[5], &[6], &[7], &[1]]);
        assert_eq!(planned(&late, &[1, 2], JAR), bases(&[0, 0, 0, 0, 1]));
        assert_eq!(planned(&late, &[1], JAR), bases(&[5, 5, 0, 0, 1]));
    }

    #[test]
    fn a_release_that_the_operator_has_no_bytes_of_is_no_base() {
        assert_eq!(planned(&hosts(&[&[100, 1], &[100, 1], &[101]]), &[], JAR), bases(&[1, 1, 0]));
    }

    #[test]
    fn what_saves_next_to_nothing_is_not_computed() {
        assert_eq!(planned(&hosts(&[&[1]]), &[], 10_000), bases(&[0]));
        assert_eq!(planned(&hosts(&[[1u8].as_slice(); 200]), &[], 10_000), bases(&[1; 200]));
        // Four hosts of a small release, or one of a large one.
        assert_eq!(planned(&hosts(&[[1u8].as_slice(); 4]), &[], 300 << 10), bases(&[1; 4]));
        assert_eq!(planned(&hosts(&[&[1]]), &[], 2 << 20), bases(&[1]));
    }

    #[test]
    fn a_host_that_claims_hundreds_counts_as_any_other() {
        let many: Vec<u8> = (0..90).collect();
        let planned = planned(&hosts(&[&[50], &[50], &[60], &[60], &many]), &[], JAR);
        assert_eq!(planned[..4], bases(&[50, 50, 60, 60]));
    }

    #[test]
    fn what_runs_comes_first_and_a_host_that_has_the_release_needs_nothing() {
        let process = ProcessFacts { release: Some(release(2)), ..process() };
        let folder =
            FolderFacts { releases: vec![release(1), release(2)], process: Some(process), ..FolderFacts::default() };
        assert_eq!(Holding::of(&folder, &release(3)).0, [release(2), release(1)]);
        assert!(Holding::of(&folder, &release(1)).is_empty());
        let changed = FolderFacts { releases: vec![release(1)], tampered: vec![release(2)], ..folder };
        assert_eq!(Holding::of(&changed, &release(3)).0, [release(1)], "what somebody changed is no base");
    }

    fn process() -> ProcessFacts {
        let process = serde_json::json!({
            "pid": 7, "start": 9, "boot_id": "boot", "digest": "", "release": null, "uid": "", "revision": 1,
            "rollout": "1.0", "alive": true,
        });
        serde_json::from_value(process).unwrap()
    }

    proptest! {
        #[test]
        fn no_claims_order_more_than_two_deltas(
            held in prop::collection::vec(prop::collection::vec(0u8..120, 0..40), 0..60),
            ordered in prop::collection::vec(0u8..100, 0..3),
        ) {
            let held: Vec<&[u8]> = held.iter().map(Vec::as_slice).collect();
            let hosts = hosts(&held);
            let planned = planned(&hosts, &ordered, JAR);
            let mut bases: Vec<_> = planned.iter().flatten().collect();
            bases.sort();
            bases.dedup();
            prop_assert!(bases.len() <= MOST);
            prop_assert!(bases.iter().all(|base| (0..100).any(|n| release(n) == **base)));
            for (host, base) in hosts.iter().zip(&planned) {
                prop_assert!(base.iter().all(|base| host.0.contains(base)));
            }
        }
    }
}
