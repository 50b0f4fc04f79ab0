//! Hosts out of service: by `spec.hosts[].suspend`, which ends by itself at `until`, or by the verbs `suspend-host` and `resume-host`,
//! whose outcome is `status.suspended`. Pure. What a Deployment makes of a suspended host is its own planner's business.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::observed::Observed;
use crate::{
    api::{
        Reason,
        conditions::clip,
        hostgroup::{Host, HostGroupStatus, HostSuspension, SuspendedHost},
        verbs,
    },
    plan::{EventDraft, list_names},
};

/// Bytes of a reason that the status keeps. With 1,000 hosts all of them fit.
const REASON_BYTES: usize = 128;

/// Why a host is out of service now, as messages say it; `None` where it is in service. `by_verb` is the group's `status.suspended`.
pub fn suspended(host: &Host, by_verb: &[SuspendedHost], now: Timestamp) -> Option<String> {
    if let Some(suspend) = host.suspend.as_ref().filter(|suspend| in_force(suspend, now)) {
        let until = suspend.until.as_ref().map(|until| format!(" until {}", until.0)).unwrap_or_default();
        return Some(format!("suspended{until}: {}", suspend.reason));
    }
    let entry = by_verb.iter().find(|entry| entry.host == host.name)?;
    let reason = entry.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    Some(format!("suspended since {}{reason}", entry.since.0))
}

fn in_force(suspend: &HostSuspension, now: Timestamp) -> bool {
    suspend.until.as_ref().is_none_or(|until| now < until.0)
}

/// How long until the next suspension of the spec ends by itself.
pub(crate) fn next_end(hosts: &[Host], now: Timestamp) -> Option<Duration> {
    let ends = hosts.iter().filter_map(|host| host.suspend.as_ref()?.until.as_ref());
    let left = ends.map(|end| end.0).filter(|end| *end > now).min()?.duration_since(now);
    // A second more, so that it has ended by then.
    u64::try_from(left.as_secs()).ok().map(|seconds| Duration::from_secs(seconds + 1))
}

/// What the verbs leave behind.
pub struct Decision {
    /// The next `status.suspended`, in the order of the spec.
    pub suspended: Vec<SuspendedHost>,
    pub events: Vec<EventDraft>,
}

/// Applies the stamps of both verbs. Where both are new and name one host, the order that makes sense is taken: a host in service is
/// suspended and then resumed, a suspended one resumed and then suspended, so that it ends as it was.
pub(crate) fn decide(observed: &Observed, before: &HostGroupStatus, now: Timestamp) -> Decision {
    let first = observed.status.is_none() || before.observed_generation < 0;
    let asked = |verb| verbs::asked(verb, &observed.annotations, &before.last_handled, first);
    let suspend = asked(verbs::SUSPEND_HOST).map(Stamp::parse).unwrap_or_default();
    let resume = asked(verbs::RESUME_HOST).map(Stamp::parse).unwrap_or_default();
    let mut outcome = Outcome::default();
    let mut suspended = Vec::new();
    for host in &observed.spec.hosts {
        let entry = before.suspended.iter().find(|entry| entry.host == host.name).cloned();
        match (entry, suspend.names(host), resume.names(host)) {
            (Some(_), true, true) | (None, true, false) => {
                outcome.suspended.push(host.name.clone());
                let (host, reason) = (host.name.clone(), suspend.reason.clone());
                suspended.push(SuspendedHost { host, reason, since: Time(now) });
            }
            // Since when it is out of service stays; another reason is taken over.
            (Some(entry), true, false) => {
                suspended.push(SuspendedHost { reason: suspend.reason.clone().or(entry.reason), ..entry });
            }
            (Some(entry), false, false) => suspended.push(entry),
            // The spec is its author's: a verb does not undo it.
            (_, _, true) if by_spec(host, now) => outcome.by_spec.push(host.name.clone()),
            (Some(_), false, true) | (None, true, true) => outcome.resumed.push(host.name.clone()),
            (None, false, true) => outcome.in_service.push(host.name.clone()),
            (None, false, false) => {}
        }
    }
    let mut events: Vec<EventDraft> =
        not_found(observed, verbs::SUSPEND_HOST, &suspend, "Suspend").into_iter().collect();
    events.extend(not_found(observed, verbs::RESUME_HOST, &resume, "Resume"));
    events.extend(outcome.events(suspend.reason.as_deref()));
    Decision { suspended, events }
}

/// What the stamps did, by name.
#[derive(Default)]
struct Outcome {
    suspended: Vec<String>,
    resumed: Vec<String>,
    in_service: Vec<String>,
    by_spec: Vec<String>,
}

impl Outcome {
    /// One event for each thing that happened, however many hosts a stamp names.
    fn events(&self, reason: Option<&str>) -> Vec<EventDraft> {
        let mut events = Vec::new();
        if !self.suspended.is_empty() {
            let names = list_names(&self.suspended);
            let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
            let note = format!(
                "out of service{reason}: {names}; neither updated nor healed, and in no total, until {} names it; what runs there is \
                 left alone",
                verbs::RESUME_HOST
            );
            events.push(EventDraft::normal(Reason::HostSuspended, "Suspend", note));
        }
        if !self.resumed.is_empty() {
            let note = format!("back in service: {}", list_names(&self.resumed));
            events.push(EventDraft::normal(Reason::HostResumed, "Resume", note));
        }
        if !self.in_service.is_empty() {
            let note = format!("in service already: {}", list_names(&self.in_service));
            events.push(EventDraft::warning(Reason::HostNotResumed, "Resume", note));
        }
        if !self.by_spec.is_empty() {
            let names = list_names(&self.by_spec);
            let note = format!("still out of service: {names}; spec.hosts has a suspend of its own, remove it there");
            events.push(EventDraft::warning(Reason::HostNotResumed, "Resume", note));
        }
        events
    }
}

fn by_spec(host: &Host, now: Timestamp) -> bool {
    host.suspend.as_ref().is_some_and(|suspend| in_force(suspend, now))
}

/// What is wrong with the stamps that stand there now, for the condition; `None` where every name is one of the group.
pub(crate) fn remark(observed: &Observed) -> Option<String> {
    let stamps = [verbs::SUSPEND_HOST, verbs::RESUME_HOST];
    let remarks = stamps.into_iter().filter_map(|verb| {
        let unknown = Stamp::parse(observed.annotations.get(verb)?).unknown(&observed.spec.hosts);
        (!unknown.is_empty()).then(|| format!("{verb} names {}, not in spec.hosts", unknown.join(", ")))
    });
    let remarks: Vec<String> = remarks.collect();
    (!remarks.is_empty()).then(|| clip(&remarks.join("; "), 400))
}

/// The value of one of the verbs: names, and behind a `/` a reason.
#[derive(Default)]
struct Stamp {
    hosts: Vec<String>,
    reason: Option<String>,
}

impl Stamp {
    fn parse(value: &str) -> Self {
        let (hosts, reason) = value.split_once('/').unwrap_or((value, ""));
        let hosts = hosts.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
        let reason: String = reason.trim().chars().filter(|c| !c.is_control()).collect();
        let reason = (!reason.is_empty()).then(|| clip(&reason, REASON_BYTES));
        Self { hosts, reason }
    }

    fn names(&self, host: &Host) -> bool {
        self.hosts.contains(&host.name)
    }

    /// Names that the group does not have, each quoted and cut: an annotation may be long.
    fn unknown(&self, hosts: &[Host]) -> Vec<String> {
        let unknown = self.hosts.iter().filter(|name| !hosts.iter().any(|host| host.name == **name));
        unknown.map(|name| format!("{:?}", clip(name, 63))).take(5).collect()
    }
}

fn not_found(observed: &Observed, verb: &str, stamp: &Stamp, action: &'static str) -> Option<EventDraft> {
    let unknown = stamp.unknown(&observed.spec.hosts);
    if unknown.is_empty() {
        return None;
    }
    let note = format!(
        "{verb} names {}, which this group does not have; spec.hosts lists its hosts by name, and several are separated by commas",
        unknown.join(", ")
    );
    Some(EventDraft::warning(Reason::HostsNotFound, action, note))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(suspend: Option<(&str, Option<&str>)>) -> Host {
        let suspend = suspend.map(|(reason, until)| HostSuspension {
            reason: reason.to_owned(),
            until: until.map(|until| Time(until.parse().unwrap())),
        });
        Host { name: "web-01".into(), address: "198.18.0.1".into(), labels: Default::default(), suspend }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_suspension_ends_by_itself_at_until() {
        let host = host(Some(("disk swap", Some("2026-12-01T08:00:00Z"))));
        let before = suspended(&host, &[], at("2026-12-01T07:59:59Z"));
        assert_eq!(before.as_deref(), Some("suspended until 2026-12-01T08:00:00Z: disk swap"));
        assert_eq!(suspended(&host, &[], at("2026-12-01T08:00:00Z")), None);
        let hosts = [host];
        assert_eq!(next_end(&hosts, at("2026-12-01T07:59:00Z")), Some(Duration::from_secs(61)));
        assert_eq!(next_end(&hosts, at("2026-12-01T08:00:00Z")), None);
    }

    #[test]
    fn the_verb_suspends_whoever_the_spec_does_not() {
        let now = at("2026-12-01T08:00:00Z");
        let entry = SuspendedHost {
            host: "web-01".into(),
            reason: Some("fan".into()),
            since: Time(at("2026-11-30T00:00:00Z")),
        };
        let why = suspended(&host(None), std::slice::from_ref(&entry), now);
        assert_eq!(why.as_deref(), Some("suspended since 2026-11-30T00:00:00Z: fan"));
        let both = suspended(&host(Some(("disk swap", None))), &[entry], now);
        assert_eq!(both.as_deref(), Some("suspended: disk swap"));
        assert_eq!(suspended(&host(None), &[], now), None);
    }

    #[test]
    fn a_stamp_names_hosts_and_a_reason() {
        let stamp = Stamp::parse("web-01, web-02/disk swap/again\n");
        assert_eq!(stamp.hosts, ["web-01", "web-02"]);
        assert_eq!(stamp.reason.as_deref(), Some("disk swap/again"));
        let long = Stamp::parse(&format!("web-01/{}", "ä".repeat(500)));
        assert!(long.reason.unwrap().len() <= REASON_BYTES);
    }
}
