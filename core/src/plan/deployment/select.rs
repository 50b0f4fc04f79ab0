//! Which hosts of a group a Deployment selects.

use kube::core::{Expression, Selector, SelectorExt};

use crate::api::{
    deployment::{HostSelection, HostSelector, Operator, Requirement},
    hostgroup::Host,
};

/// A selection that can't be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unselectable {
    /// These names are not in the group.
    NotFound(Vec<String>),
    /// It selects no host.
    None,
}

/// Selected hosts in the group's order. Without a selection all; a selection of no host is an error, never "all".
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
            let selector = label_selector(selector);
            hosts.iter().filter(|host| selector.matches(&host.labels)).collect()
        }
        Some(HostSelection { .. }) => hosts.iter().collect(),
    };
    if targets.is_empty() { Err(Unselectable::None) } else { Ok(targets) }
}

/// Whether one host is selected.
pub(crate) fn matches(selection: &HostSelection, host: &Host) -> bool {
    match (&selection.names, &selection.selector) {
        (Some(names), _) => names.contains(&host.name),
        (None, Some(selector)) => label_selector(selector).matches(&host.labels),
        (None, None) => true,
    }
}

/// The selector of Kubernetes.
fn label_selector(selector: &HostSelector) -> Selector {
    let labels = selector.match_labels.iter().map(|(key, value)| Expression::Equal(key.clone(), value.clone()));
    labels.chain(selector.match_expressions.iter().map(expression)).collect()
}

fn expression(requirement: &Requirement) -> Expression {
    let key = requirement.key.clone();
    let values = requirement.values.iter().cloned().collect();
    match requirement.operator {
        Operator::In => Expression::In(key, values),
        Operator::NotIn => Expression::NotIn(key, values),
        Operator::Exists => Expression::Exists(key),
        Operator::DoesNotExist => Expression::DoesNotExist(key),
    }
}
