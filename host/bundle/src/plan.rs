//! For which earlier releases a bundle is made. What hosts say they hold is a stranger's claim: it orders at most [`MOST`] bundles of a
//! release, however many hosts say what, and none of a release that the operator has no bytes of.
//!
//! No I/O.

use std::collections::BTreeMap;

use landfall_host_protocol::Digest;

/// Bundles with a base that one release gets at most.
const MOST: usize = 2;
/// Releases of one host that count.
const COUNTED: usize = 16;
/// Bytes that a base has to save, of all its hosts together.
const WORTH: u64 = 1 << 20;

/// What one host holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// Digests of whole releases, what runs first.
    pub releases: Vec<Digest>,
}

/// Which base each host gets its bundle against, in the order of `hosts`; `None`: every file.
///
/// `made`: bases that bundles of this release were made for already; they cost nothing, and count. `size`: bytes of the release. `known`:
/// whether the operator has a release's bytes. The commonest base first, then the commonest of the hosts that are left; of two that are
/// as common, the one that runs on more hosts.
pub fn plan(hosts: &[Holding], made: &[Digest], size: u64, known: impl Fn(&Digest) -> bool) -> Vec<Option<Digest>> {
    let mut bases: Vec<Digest> = made.iter().filter(|base| known(base)).take(MOST).cloned().collect();
    let mut answered: BTreeMap<&Digest, bool> = BTreeMap::new();
    let mut is_known = |base| *answered.entry(base).or_insert_with(|| known(base));
    for _ in made.len()..MOST {
        // How many hosts hold it, and run it.
        let mut counts: BTreeMap<&Digest, (u64, u64)> = BTreeMap::new();
        for host in hosts.iter().filter(|host| chosen(host, &bases).is_none()) {
            for (n, release) in held(host).enumerate() {
                let (hold, run) = counts.entry(release).or_default();
                *hold += 1;
                *run += u64::from(n == 0);
            }
        }
        let worth = |hold: u64| hold.saturating_mul(size) >= WORTH;
        let candidates = counts.into_iter().filter(|(base, (hold, _))| worth(*hold) && is_known(base));
        // Of equals the first by digest, so that the answer depends on nothing else.
        let best = candidates.max_by(|(a, a_count), (b, b_count)| a_count.cmp(b_count).then(b.cmp(a)));
        let Some((base, _)) = best else { break };
        bases.push(base.clone());
    }
    hosts.iter().map(|host| chosen(host, &bases).cloned()).collect()
}

fn held(host: &Holding) -> impl Iterator<Item = &Digest> {
    let counted = host.releases.get(..COUNTED.min(host.releases.len())).unwrap_or_default();
    let first = |(n, release): &(usize, &Digest)| !counted.iter().take(*n).any(|before| before == *release);
    counted.iter().enumerate().filter(first).map(|(_, release)| release)
}

/// The first of the bases that a host holds.
fn chosen<'a>(host: &Holding, bases: &'a [Digest]) -> Option<&'a Digest> {
    bases.iter().find(|base| held(host).any(|held| held == *base))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const JAR: u64 = 37 << 20;

    fn release(n: u8) -> Digest {
        Digest::from_bytes([n; 32])
    }

    fn hosts(held: &[&[u8]]) -> Vec<Holding> {
        held.iter().map(|held| Holding { releases: held.iter().map(|n| release(*n)).collect() }).collect()
    }

    fn planned(held: &[&[u8]], made: &[u8], size: u64) -> Vec<Option<Digest>> {
        let made: Vec<_> = made.iter().map(|n| release(*n)).collect();
        plan(&hosts(held), &made, size, |base| base.to_bytes()[0] < 100)
    }

    fn bases(wanted: &[u8]) -> Vec<Option<Digest>> {
        wanted.iter().map(|n| (*n != 0).then(|| release(*n))).collect()
    }

    #[test]
    fn the_two_commonest_bases_get_a_bundle_and_the_other_hosts_every_file() {
        let held: &[&[u8]] = &[&[2, 1], &[2, 1], &[2], &[3], &[3, 1], &[4], &[]];
        // 1 and 2 are as common, 2 runs on more.
        assert_eq!(planned(held, &[], JAR), bases(&[2, 2, 2, 3, 3, 0, 0]));
    }

    #[test]
    fn a_second_base_is_chosen_for_the_hosts_that_the_first_does_not_help() {
        let held: &[&[u8]] = &[&[1, 2], &[1, 2], &[1, 2], &[4]];
        assert_eq!(planned(held, &[], JAR), bases(&[1, 1, 1, 4]));
    }

    #[test]
    fn hosts_that_come_later_order_no_more_than_two_in_all() {
        let held: &[&[u8]] = &[&[5], &[5], &[6], &[7], &[1]];
        assert_eq!(planned(held, &[1, 2], JAR), bases(&[0, 0, 0, 0, 1]));
        assert_eq!(planned(held, &[1], JAR), bases(&[5, 5, 0, 0, 1]));
    }

    #[test]
    fn a_release_that_the_operator_has_no_bytes_of_is_no_base() {
        assert_eq!(planned(&[&[100, 1], &[100, 1], &[101]], &[], JAR), bases(&[1, 1, 0]));
        assert_eq!(planned(&[&[100]], &[100], JAR), bases(&[0]));
    }

    #[test]
    fn what_saves_next_to_nothing_is_not_computed() {
        assert_eq!(planned(&[&[1]], &[], 10_000), bases(&[0]));
        assert_eq!(planned(&[[1u8].as_slice(); 200], &[], 10_000), bases(&[1; 200]));
    }

    #[test]
    fn a_host_that_claims_thousands_counts_like_any_other() {
        let many: Vec<Digest> = (0..5000u32).map(|n| Digest::from_bytes([(n % 90) as u8; 32])).collect();
        let mut fleet = hosts(&[&[50], &[50], &[60], &[60]]);
        fleet.push(Holding { releases: many });
        let planned = plan(&fleet, &[], JAR, |_| true);
        assert_eq!(planned[..4], bases(&[50, 50, 60, 60]));
    }

    proptest! {
        #[test]
        fn no_claims_order_more_than_two_bundles(
            held in prop::collection::vec(prop::collection::vec(0u8..120, 0..40), 0..60),
            made in prop::collection::vec(0u8..120, 0..4),
        ) {
            let held: Vec<&[u8]> = held.iter().map(Vec::as_slice).collect();
            let planned = planned(&held, &made, JAR);
            let mut bases: Vec<_> = planned.iter().flatten().collect();
            bases.sort();
            bases.dedup();
            prop_assert!(bases.len() <= MOST);
            prop_assert!(bases.iter().all(|base| base.to_bytes()[0] < 100));
            for (host, base) in hosts(&held).iter().zip(&planned) {
                prop_assert!(base.iter().all(|base| host.releases.contains(base)));
            }
        }
    }
}
