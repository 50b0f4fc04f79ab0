//! Which hosts of a group a Deployment selects.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Expression, Selector, SelectorExt};

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
            let selector = Selector::try_from(selector.clone()).map_err(|_| unreadable(selector))?;
            hosts.iter().filter(|host| selector.matches(&host.labels)).collect()
        }
        Some(HostSelection { .. }) => hosts.iter().collect(),
    };
    if targets.is_empty() { Err(Unselectable::None) } else { Ok(targets) }
}

/// The operator of the rule that Kubernetes could not read either.
fn unreadable(selector: &LabelSelector) -> Unselectable {
    let rules = selector.match_expressions.iter().flatten();
    let unreadable = rules.into_iter().find(|rule| Expression::try_from((*rule).clone()).is_err());
    Unselectable::Operator(unreadable.map(|rule| rule.operator.clone()).unwrap_or_default())
}
