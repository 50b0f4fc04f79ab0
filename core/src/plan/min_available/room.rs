//! Hosts that one decision may still take away. Made for it, and used up by it.

use std::collections::BTreeSet;

/// The unavailable hosts of a group, and how many may be unavailable. One that is unavailable already takes no room; it may be available by
/// now, so where too many are unavailable it is not taken either, unless it does not serve who asks: that update takes nothing away.
pub struct Room<'a> {
    unavailable: BTreeSet<&'a str>,
    not_serving: BTreeSet<&'a str>,
    /// `None`: the group has no `minAvailable`.
    most: Option<usize>,
}

impl<'a> Room<'a> {
    pub fn unlimited() -> Self {
        Self { unavailable: BTreeSet::new(), not_serving: BTreeSet::new(), most: None }
    }

    /// `most`: number of hosts that may be unavailable; `not_serving`: hosts whose update takes nothing away.
    pub fn new(
        most: usize,
        unavailable: impl IntoIterator<Item = &'a str>,
        not_serving: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let (unavailable, not_serving) = (unavailable.into_iter().collect(), not_serving.into_iter().collect());
        Self { unavailable, not_serving, most: Some(most) }
    }

    /// Takes this host away, where it is away already or one more may be.
    pub fn takes(&mut self, host: &'a str) -> bool {
        let Some(most) = self.most else { return true };
        if self.not_serving.contains(host) {
            self.unavailable.insert(host);
            return true;
        }
        let with = self.unavailable.len() + usize::from(!self.unavailable.contains(host));
        if with > most {
            return false;
        }
        self.unavailable.insert(host);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_is_away_already_takes_no_room() {
        let mut room = Room::new(2, ["web-01"], []);
        assert!(room.takes("web-02"));
        assert!(!room.takes("web-03"));
        assert!(room.takes("web-01") && room.takes("web-02"));
        let mut none = Room::new(1, ["web-01", "web-02"], []);
        assert!(!none.takes("web-01") && !none.takes("web-03"), "it may be available again, and the other one is not");
        assert!(Room::unlimited().takes("web-01"));
    }

    #[test]
    fn an_update_of_what_does_not_serve_takes_nothing_away() {
        let mut room = Room::new(1, ["web-01", "web-02"], ["web-02"]);
        assert!(room.takes("web-02"));
        assert!(!room.takes("web-03") && !room.takes("web-01"));
    }
}
