//! One plan: updates by batch, what is left out, and what holds the rollout.

use super::{count, indented, line};
use crate::{
    api::view::{DeploymentPlan, PlannedCause, PlannedUpdate},
    model::text::for_terminal,
};

/// Hosts that are left out and shown; the rest is counted.
const LEFT_OUT: usize = 30;

pub fn plan(namespace: &str, name: &str, plan: &DeploymentPlan) -> String {
    let mut out = format!("Plan of Deployment {namespace}/{name}\n");
    line(
        &mut out,
        "version",
        &format!("{} of project {} on host group {}", plan.version, plan.project, plan.host_group),
    );
    line(&mut out, "updates", &summary(plan));
    for (at, batch) in plan.batches.iter().enumerate() {
        for (n, update) in batch.hosts.iter().enumerate() {
            let batch = if n == 0 { format!("batch {}", at + 1) } else { String::new() };
            line(&mut out, "", &format!("{batch:<10} {:<16} {}", update.host, words(update)));
        }
    }
    if plan.more {
        line(&mut out, "", "… and further batches");
    }
    for (at, host) in plan.given_up.iter().enumerate() {
        let what = if host.removed { "stopped and removed" } else { "released; what runs there is left alone" };
        line(&mut out, if at == 0 { "given up" } else { "" }, &format!("{:<16} {what}", host.host));
    }
    for (at, host) in plan.left_out.iter().take(LEFT_OUT).enumerate() {
        let version = host.version.as_deref().unwrap_or("-");
        let text = format!("{:<16} {version}  {}: {}", host.host, host.reason, indented(&host.message));
        line(&mut out, if at == 0 { "not ready" } else { "" }, &text);
    }
    if plan.left_out.len() > LEFT_OUT {
        line(&mut out, "", &format!("… and {} more", plan.left_out.len() - LEFT_OUT));
    }
    if !plan.more {
        let end = if plan.ready { "ready" } else { "held" };
        line(&mut out, "end", &format!("{end}: {}", plan.reason));
        line(&mut out, "", &indented(&plan.message));
    }
    for_terminal(&out)
}

fn summary(plan: &DeploymentPlan) -> String {
    let hosts: usize = plan.batches.iter().map(|batch| batch.hosts.len()).sum();
    let unchanged = format!("{} unchanged", count(plan.unchanged, "host"));
    match (hosts, &plan.rollout) {
        (0, _) => format!("none; {unchanged}"),
        (_, Some(rollout)) => {
            let batches =
                if plan.batches.len() == 1 { "1 batch".to_owned() } else { format!("{} batches", plan.batches.len()) };
            format!("{} in {batches}, as rollout {rollout}; {unchanged}", count(hosts, "host"))
        }
        (_, None) => count(hosts, "host"),
    }
}

fn words(update: &PlannedUpdate) -> String {
    let PlannedUpdate { from, to, cause, .. } = update;
    let from = from.as_deref().unwrap_or("nothing");
    match cause {
        PlannedCause::New | PlannedCause::Version => format!("{from} → {to}"),
        PlannedCause::Configuration => format!("{from} → {to}: another environment, or a redeploy"),
        PlannedCause::Down => format!("{from} → {to}: its process ended"),
        PlannedCause::Unfinished => format!("{from} → {to}: its update has begun"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_shows_updates_by_batch_who_is_left_out_and_what_holds_it() {
        let shown = serde_json::json!({
            "apiVersion": "view.landfall.dev/v1alpha1", "kind": "DeploymentPlan",
            "project": "hello", "hostGroup": "web", "version": "v2", "rollout": "3.0", "more": false, "unchanged": 4, "ready": false,
            "batches": [
                { "hosts": [{ "host": "web-03", "to": "v2", "cause": "New" }] },
                { "hosts": [
                    { "host": "web-01", "from": "v1", "to": "v2", "cause": "Version" },
                    { "host": "web-02", "from": "v2", "to": "v2", "cause": "Configuration" },
                ] },
            ],
            "leftOut": [{ "host": "web-04", "version": "v1", "reason": "Unreachable", "message": "no answer" }],
            "givenUp": [{ "host": "web-09", "removed": true }],
            "reason": "HostsUnreachable", "message": "v2 runs on 7 of 8 hosts\nno answer from web-04",
        });
        let expected = "\
Plan of Deployment shop/hello
version   v2 of project hello on host group web
updates   3 hosts in 2 batches, as rollout 3.0; 4 hosts unchanged
          batch 1    web-03           nothing → v2
          batch 2    web-01           v1 → v2
                     web-02           v2 → v2: another environment, or a redeploy
given up  web-09           stopped and removed
not ready web-04           v1  Unreachable: no answer
end       held: HostsUnreachable
          v2 runs on 7 of 8 hosts
            no answer from web-04
";
        assert_eq!(plan("shop", "hello", &serde_json::from_value(shown).unwrap()), expected);
    }

    #[test]
    fn a_plan_without_updates_says_so() {
        let shown = serde_json::json!({
            "apiVersion": "view.landfall.dev/v1alpha1", "kind": "DeploymentPlan",
            "project": "hello", "hostGroup": "web", "version": "v2", "rollout": "2.0", "more": false, "unchanged": 1, "ready": true,
            "batches": [], "leftOut": [], "givenUp": [], "reason": "Deployed", "message": "v2 runs on 1 host",
        });
        let expected = "\
Plan of Deployment shop/hello
version   v2 of project hello on host group web
updates   none; 1 host unchanged
end       ready: Deployed
          v2 runs on 1 host
";
        assert_eq!(plan("shop", "hello", &serde_json::from_value(shown).unwrap()), expected);
    }
}
