//! Zones: hosts with one value of the label `rollingUpdate.spreadBy`. Either no two hosts of a zone are updated at once while another zone has
//! hosts to go, or a zone is finished before the next one begins. It must not know why a host waits.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    api::deployment::UpdateOrder,
    plan::deployment::{host_state::HostState, view::View},
};

/// The zones of one decision; used up by it.
pub(crate) struct Zones<'a> {
    order: UpdateOrder,
    /// Zone of each host, by its index; `None`: the spec names no label.
    of: Option<Vec<&'a str>>,
    /// Number of hosts that wait for their update, of the zones that have any.
    to_go: BTreeMap<&'a str, usize>,
    /// Zones with an open update.
    open: BTreeSet<&'a str>,
    /// Number of unavailable hosts.
    away: BTreeMap<&'a str, usize>,
    /// The zone that is to be finished first, with `ByZone`.
    current: Option<&'a str>,
}

impl<'a> Zones<'a> {
    /// `waiting`: hosts that could begin now, by index; `begun`: hosts whose update begins in this decision.
    pub fn new(view: &View<'a>, waiting: &[usize], begun: &[usize]) -> Self {
        let rolling = &view.observed.spec.strategy.rolling_update;
        let (to_go, open, away) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
        let mut zones = Self { order: rolling.order, of: None, to_go, open, away, current: None };
        let Some(label) = &rolling.spread_by else { return zones };
        // Hosts without the label are a zone of their own.
        let of: Vec<&str> =
            view.targets.hosts.iter().map(|host| host.labels.get(label).map_or("", String::as_str)).collect();
        for index in waiting {
            *zones.to_go.entry(of[*index]).or_default() += 1;
        }
        for (index, host) in view.hosts.iter().enumerate() {
            if matches!(host.state, HostState::Updating { .. }) || begun.contains(&index) {
                zones.open.insert(of[index]);
            }
            *zones.away.entry(of[index]).or_default() += usize::from(!host.is_available());
        }
        let is_open = |zone: &&&str| zones.open.contains(**zone);
        let has_hosts_to_go = |zone: &&&str| zones.to_go.contains_key(**zone);
        // Hosts where nothing serves would use up `maxUnavailable` as long as they wait for another zone.
        let of_idle = || waiting.iter().find(|index| !view.hosts[**index].is_available()).map(|index| &of[*index]);
        let first = of.iter().find(is_open).or_else(of_idle).or_else(|| of.iter().find(has_hosts_to_go));
        zones.current = first.copied();
        zones.of = Some(of);
        zones
    }

    fn of(&self, host: usize) -> Option<&'a str> {
        self.of.as_ref().map(|of| of[host])
    }

    /// Number of unavailable hosts in the zone of a host: a zone with fewer of them goes first.
    pub fn away(&self, host: usize) -> usize {
        match (self.of(host), self.order) {
            (Some(zone), UpdateOrder::Spread) => self.away.get(zone).copied().unwrap_or(0),
            (Some(_), UpdateOrder::ByZone) | (None, _) => 0,
        }
    }

    /// Whether its zone lets a host begin now. `serves`: its update takes it away; one that is away already is no loss for its zone.
    pub fn allows(&self, host: usize, serves: bool) -> bool {
        let Some(zone) = self.of(host) else { return true };
        match self.order {
            UpdateOrder::ByZone => self.current.is_none_or(|current| current == zone),
            UpdateOrder::Spread => {
                let others_wait = self.to_go.keys().any(|other| *other != zone);
                !serves || !others_wait || !self.open.contains(zone)
            }
        }
    }

    /// The update of this host begins.
    pub fn begin(&mut self, host: usize) {
        let Some(zone) = self.of(host) else { return };
        self.open.insert(zone);
        if let Some(waiting) = self.to_go.get_mut(zone) {
            *waiting = waiting.saturating_sub(1);
            if *waiting == 0 {
                self.to_go.remove(zone);
            }
        }
    }
}
