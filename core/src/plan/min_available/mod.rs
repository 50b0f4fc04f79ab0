//! `minAvailable` of a HostGroup: how many of its hosts stay available, over all Deployments of the group, and what was granted of the rest.
//! Arithmetic only: it must not know why a host is away.
//!
//! A decision takes hosts out of its [`Room`], which knows every unavailable host of the group; before it is put on record it is granted
//! from [`Grants`], of which there is one for each group. A grant is refused where another Deployment was granted a host since the
//! decision was taken: it is taken again then.

mod grants;
mod room;

pub use self::{
    grants::{Grant, Granted, Grants, HostsInUpdate},
    room::Room,
};
use crate::plan::share::share_up;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Number of hosts that stay available of so many in service: a percentage rounds up, as that of a PodDisruptionBudget.
pub fn kept(min_available: &IntOrString, in_service: usize) -> usize {
    share_up(min_available, in_service)
}

/// No update is ever possible, whatever the other hosts do: all of them have to stay available.
pub fn is_never_met(min_available: &IntOrString, in_service: usize) -> bool {
    in_service > 0 && kept(min_available, in_service) >= in_service
}

/// Which field is wrong, and what would be right. `of`: which hosts these are.
pub(crate) fn never_met(written: &str, hosts: usize, of: &str) -> String {
    let right = match hosts {
        1 => "remove spec.minAvailable, or add a host".to_owned(),
        // The largest percentage that leaves one host, rounded up.
        n => format!("set it to {} or less, or to {}% or less", n - 1, 100 * (n - 1) / n),
    };
    let all = match hosts {
        1 => format!("the only host {of}"),
        n => format!("all {n} hosts {of}"),
    };
    format!("spec.minAvailable {written} keeps {all} available, so that none that serves can ever be updated; {right}")
}

/// `minAvailable` as it is written.
pub fn written(min_available: &IntOrString) -> String {
    match min_available {
        IntOrString::Int(count) => count.to_string(),
        IntOrString::String(percent) => percent.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_is_possible_where_a_host_is_left_for_it() {
        let percent = |text: &str| IntOrString::String(text.to_owned());
        assert_eq!(kept(&percent("50%"), 5), 3);
        assert_eq!(kept(&percent("10%"), 5), 1);
        assert!(is_never_met(&IntOrString::Int(3), 3) && is_never_met(&IntOrString::Int(4), 3));
        assert!(!is_never_met(&IntOrString::Int(2), 3));
        assert!(is_never_met(&percent("1%"), 1), "the only host");
        assert!(is_never_met(&percent("67%"), 3) && !is_never_met(&percent("66%"), 3));
        assert!(never_met("67%", 3, "in service").ends_with("set it to 2 or less, or to 66% or less"));
        assert!(!is_never_met(&IntOrString::Int(1), 0), "there is no host to update");
    }
}
