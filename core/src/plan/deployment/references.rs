//! Values that an application takes from Secrets and ConfigMaps: which fields name them, and what was seen of them. No value comes here, its
//! keyed hash alone.

use std::collections::BTreeMap;

use super::{
    observed::{Group, Observed},
    value::{self, Reference, ValueSeen, effective_env},
};
use crate::{
    api::{EnvVar, Reason, deployment::DeploymentSpec},
    model::{Class, Failure, keyed::KeyedHash, version::VersionRecord},
};

/// Failures that one message names.
const NAMED: usize = 3;

/// Every value that the version needs there. What is overridden is not needed.
pub fn references(spec: &DeploymentSpec, group: &Group, version: &VersionRecord) -> Vec<Reference> {
    let has = |env: &[EnvVar], name: &str| env.iter().any(|one| one.name == name);
    let field = |name: &str| match () {
        () if has(&spec.env, name) => format!("spec.env, variable {name}"),
        () if has(&group.env, name) => format!("HostGroup {}, spec.env, variable {name}", spec.host_group_ref.name),
        () => format!("version {}, run.env, variable {name}", version.version),
    };
    let env = effective_env(&version.run.env, &group.env, &spec.env);
    value::all(&env, &version.run.files, field, |name| format!("version {}, run.files, file {name}", version.version))
}

/// The keyed hashes of all values, by place; those that can't be used are left out.
pub(crate) fn hashes(observed: &Observed, references: &[Reference]) -> BTreeMap<String, KeyedHash> {
    let seen = |reference: &Reference| match observed.values.get(&reference.place())? {
        ValueSeen::Hash(hash) => Some((reference.place(), hash.clone())),
        ValueSeen::Missing(_) => None,
    };
    references.iter().filter_map(seen).collect()
}

/// Why not every value can be had: no update begins before. A Secret may come later, what is wrong with one a person mends.
pub(crate) fn unusable(observed: &Observed, references: &[Reference]) -> Option<Failure> {
    let failure = |reference: &Reference| match observed.values.get(&reference.place()) {
        Some(ValueSeen::Hash(_)) => None,
        Some(ValueSeen::Missing(failure)) => Some((reference.field.clone(), failure.clone())),
        None => {
            let text = format!("{} was not looked at yet", reference.place());
            Some((reference.field.clone(), Failure::waiting(Reason::SecretNotFound, text)))
        }
    };
    let failures: Vec<(String, Failure)> = references.iter().filter_map(failure).collect();
    let first = failures.first().map(|(_, failure)| failure)?;
    let named: Vec<String> =
        failures.iter().take(NAMED).map(|(field, failure)| format!("{field}: {}", failure.message)).collect();
    let more = match failures.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    let may_come = matches!(first.reason, Reason::SecretNotFound | Reason::ConfigMapNotFound);
    let class = if may_come { Class::Waiting } else { Class::Terminal };
    let message = format!("{}{more}. No update begins meanwhile", named.join("; "));
    Some(Failure::new(first.reason, class, message))
}
