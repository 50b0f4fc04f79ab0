//! The hosts of a group as one plan looks at them. Made once, it only borrows.

use jiff::Timestamp;

use super::{check::HostCheck, observed::Observed, suspend::suspended};
use crate::api::hostgroup::{Host, SuspendedHost};

/// The hosts of the spec, with what is known of each.
pub(super) struct View<'a> {
    pub(super) in_service: Vec<(&'a Host, &'a HostCheck)>,
    pub(super) suspended: usize,
}

impl<'a> View<'a> {
    pub(super) fn new(observed: &'a Observed, by_verb: &[SuspendedHost], now: Timestamp) -> Self {
        let hosts = &observed.spec.hosts;
        let serves = |host: &&Host| suspended(host, by_verb, now).is_none();
        let check = |host: &'a Host| (host, observed.hosts.get(&host.name).unwrap_or(&HostCheck::Unknown));
        let in_service: Vec<_> = hosts.iter().filter(serves).map(check).collect();
        Self { suspended: hosts.len() - in_service.len(), in_service }
    }

    pub(super) fn count(&self, fits: impl Fn(&HostCheck) -> bool) -> usize {
        self.in_service.iter().filter(|(_, check)| fits(check)).count()
    }
}
