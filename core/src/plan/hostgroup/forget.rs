//! The verb `forget-host-key`: which machine a stamp means, and when it is done with. It is done with only when the store says so, not
//! when it was begun: a crash in between forgets nothing half.

use super::{action::Action, observed::Observed, records::HostKeyRecord};
use crate::{
    api::{
        Reason,
        hostgroup::{HostGroupSpec, HostGroupStatus, HostKeyPolicy},
        verbs,
    },
    plan::EventDraft,
};

pub struct Decision {
    pub action: Option<Action>,
    pub event: Option<EventDraft>,
    /// The stamp, if there is one, is done with.
    pub over: bool,
}

/// The host's name in a stamp: what stands after a '/' only makes it new.
fn name_in(stamp: &str) -> &str {
    stamp.split('/').next().unwrap_or_default().trim()
}

/// Address and port of the host, or jump host, that a stamp names.
pub fn machine_of(spec: &HostGroupSpec, stamp: &str) -> Option<(String, u16)> {
    let name = name_in(stamp);
    let host = spec.hosts.iter().find(|host| host.name == name).map(|host| (host.address.clone(), spec.ssh.port));
    let jump = || spec.ssh.jump.iter().find(|jump| jump.address == name).map(|jump| (jump.address.clone(), jump.port));
    let (address, port) = host.or_else(jump)?;
    Some((address, u16::try_from(port).ok()?))
}

pub(crate) fn decide(observed: &Observed, before: &HostGroupStatus) -> Decision {
    let first = observed.status.is_none() || before.observed_generation < 0;
    let Some(stamp) = verbs::asked(verbs::FORGET_HOST_KEY, &observed.annotations, &before.last_handled, first) else {
        return Decision { action: None, event: None, over: true };
    };
    let name = name_in(stamp).to_owned();
    let no = |why: String| {
        let event = EventDraft::warning(Reason::HostKeyNotForgotten, "Forget", why);
        Decision { action: None, event: Some(event), over: true }
    };
    if observed.spec.ssh.host_keys.policy != HostKeyPolicy::TrustOnFirstUse {
        return no("nothing is forgotten: the keys of this group's hosts stand in the Secret of knownHostsRef; change them there".to_owned());
    }
    match observed.kept {
        _ if machine_of(&observed.spec, stamp).is_none() => {
            no(format!("{name:?} is neither a host of this group nor the address of a jump host; nothing is forgotten"))
        }
        Some(HostKeyRecord { forgotten: true, .. }) => {
            let note = format!("the key of {name} is forgotten; the next key seen there is trusted");
            let event = EventDraft::normal(Reason::HostKeyForgotten, "Forget", note);
            Decision { action: None, event: Some(event), over: true }
        }
        Some(HostKeyRecord { key: true, .. }) => {
            let action = Action::ForgetHostKey { name, stamp: stamp.to_owned() };
            Decision { action: Some(action), event: None, over: false }
        }
        _ => no(format!("no key of {name} is kept; the next that is seen there counts anyway")),
    }
}
