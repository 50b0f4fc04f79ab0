//! Which hosts of a group a Deployment selects.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::api::{deployment::HostSelection, hostgroup::Host};

/// A selection that can't be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unselectable {
    /// These names are not in the group.
    NotFound(Vec<String>),
    /// It selects no host.
    None,
    /// An operator that Kubernetes does not have.
    Operator(String),
}

/// The selected hosts in the group's order. Nothing given means all; a selection of none is an error, never "all".
pub fn select<'a>(selection: Option<&HostSelection>, hosts: &'a [Host]) -> Result<Vec<&'a Host>, Unselectable> {
    let targets: Vec<&Host> = match selection {
        None => hosts.iter().collect(),
        Some(HostSelection { names: Some(names), .. }) => {
            let missing: Vec<String> =
                names.iter().filter(|name| !hosts.iter().any(|host| host.name == **name)).cloned().collect();
            if !missing.is_empty() {
                return Err(Unselectable::NotFound(missing));
            }
            hosts.iter().filter(|host| names.contains(&host.name)).collect()
        }
        Some(HostSelection { selector: Some(selector), .. }) => {
            let mut targets = Vec::new();
            for host in hosts {
                if matches(selector, &host.labels)? {
                    targets.push(host);
                }
            }
            targets
        }
        Some(HostSelection { .. }) => hosts.iter().collect(),
    };
    if targets.is_empty() { Err(Unselectable::None) } else { Ok(targets) }
}

fn matches(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> Result<bool, Unselectable> {
    let wanted = selector.match_labels.iter().flatten();
    if !wanted.into_iter().all(|(key, value)| labels.get(key) == Some(value)) {
        return Ok(false);
    }
    for rule in selector.match_expressions.iter().flatten() {
        let value = labels.get(&rule.key);
        let listed = value.is_some_and(|value| rule.values.iter().flatten().any(|one| one == value));
        let fits = match rule.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            other => return Err(Unselectable::Operator(other.to_owned())),
        };
        if !fits {
            return Ok(false);
        }
    }
    Ok(true)
}
