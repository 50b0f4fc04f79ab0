//! How a group is reached: its spec and its Secrets, read into one configuration; or why it can't be.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use kube::ResourceExt;

use super::super::{
    frame::ReconcileError,
    hosts::{GroupConfig, GroupKey, HostKeyStore, credentials_failure},
    secrets::NoSecret,
};
use super::context::HostGroupContext;
use crate::{
    api::{
        HostGroup, Reason,
        hostgroup::{HostGroupSpec, HostKeyPolicy},
    },
    effects::ssh::{Credentials, HostTrust, Identity, SshError, SshTarget},
    model::Failure,
    plan::{
        hostgroup::dialled,
        secret_use::{Purpose, SecretUse, is_withdrawn, is_withdrawn_since},
    },
};

/// How the group is reached; and a failure, where no new connection to its hosts can be made.
pub async fn config(
    namespace: &str,
    group: &HostGroup,
    context: &HostGroupContext,
) -> Result<(GroupConfig, Option<Failure>), ReconcileError> {
    let (spec, uid) = (&group.spec, group.uid().unwrap_or_default());
    let dialled = dialled(&spec.ssh.jump, &spec.hosts).into_iter();
    let mut hosts: BTreeMap<String, String> = dialled.map(|host| (host.name.clone(), host.address.clone())).collect();
    let (key, failure) = match key(namespace, group, context).await? {
        Ok(key) => (Some(key), None),
        Err(failure) => (kept_key(namespace, group, context, &failure, &mut hosts), Some(failure)),
    };
    let deleting = group.metadata.deletion_timestamp.is_some();
    let is_withdrawn = key.is_none() && failure.as_ref().is_some_and(|why| is_withdrawn(why.reason, deleting));
    let mut access = DefaultHasher::new();
    format!("{:?}", (&spec.ssh, &spec.r#become, &spec.root)).hash(&mut access);
    key.as_ref().map(|key| key.hash).hash(&mut access);
    // A host that joins or leaves the group is no reason to sign in again on all the others.
    let mut whole = access.clone();
    format!("{:?}", (&uid, &spec.probe, &spec.upload, &hosts, is_withdrawn)).hash(&mut whole);
    let config = GroupConfig {
        uid,
        config_hash: whole.finish(),
        access_hash: access.finish(),
        user: spec.ssh.user.clone(),
        port: port(spec.ssh.port),
        connect_timeout: seconds(spec.ssh.connect_timeout_seconds),
        max_connections: spec.ssh.max_concurrent_connections.map(|most| usize::try_from(most).unwrap_or(1)),
        root: spec.root.clone(),
        least_rate: u64::try_from(spec.upload.min_bytes_per_second).ok().filter(|rate| *rate > 0),
        period: seconds(spec.probe.period_seconds),
        key,
        is_withdrawn,
        jumps: jumps(spec, seconds(spec.ssh.connect_timeout_seconds)),
        r#become: spec.r#become.clone(),
        hosts,
    };
    Ok((config, failure))
}

fn seconds(n: i64) -> Duration {
    Duration::from_secs(u64::try_from(n).unwrap_or(1).max(1))
}

/// The key that the Secrets have now, or why there is none.
async fn key(
    namespace: &str,
    group: &HostGroup,
    context: &HostGroupContext,
) -> Result<Result<GroupKey, Failure>, ReconcileError> {
    let (name, spec) = (group.name_any(), &group.spec);
    let secrets = match secrets(namespace, &name, spec, context).await? {
        Ok(secrets) => secrets,
        Err(failure) => return Ok(Err(failure)),
    };
    let credentials = match credentials(namespace, &name, spec, &secrets, context) {
        Ok(credentials) => credentials,
        Err(error) => return Ok(Err(credentials_failure(&error))),
    };
    let mut hash = DefaultHasher::new();
    secrets.hash(&mut hash);
    Ok(Ok(GroupKey { credentials, hash: hash.finish(), ssh: spec.ssh.clone() }))
}

/// The key that was read before, where nobody took it away and the spec still has the same use for it. It is for the machines that it was
/// used on: of `hosts` those alone are left.
fn kept_key(
    namespace: &str,
    group: &HostGroup,
    context: &HostGroupContext,
    failure: &Failure,
    hosts: &mut BTreeMap<String, String>,
) -> Option<GroupKey> {
    let (name, deleting) = (group.name_any(), group.metadata.deletion_timestamp.is_some());
    let elapsed = context.hosts.secret_refused_for(namespace, &name, failure.reason);
    if is_withdrawn_since(failure.reason, deleting, elapsed) {
        return None;
    }
    let (key, known) = context.hosts.key(namespace, &name, &group.uid().unwrap_or_default())?;
    if key.ssh != group.spec.ssh {
        return None;
    }
    hosts.retain(|name, address| known.get(name) == Some(address));
    Some(key)
}

/// The keys of a group that were trusted on first use.
pub(crate) fn kept_refs(context: &HostGroupContext, namespace: &str, group: &str) -> HostKeyStore {
    HostKeyStore {
        store: context.store.clone(),
        gate: context.shared.gate.clone(),
        namespace: namespace.to_owned(),
        group: group.to_owned(),
    }
}

/// What the Secrets hold.
#[derive(Hash)]
struct Secrets {
    key: KeyText,
    known_hosts: Option<String>,
}

#[derive(Hash)]
enum KeyText {
    Identity(String),
    Authority(String),
}

async fn secrets(
    namespace: &str,
    group: &str,
    spec: &HostGroupSpec,
    context: &HostGroupContext,
) -> Result<Result<Secrets, Failure>, ReconcileError> {
    let wanted = SecretUse { namespace, purpose: Purpose::Ssh, user: group };
    let credentials = &spec.ssh.credentials_ref.name;
    let secret = match context.secrets.labelled(credentials, &wanted).await {
        Ok(secret) => secret,
        Err(why) => return secret_failure(why).map(Err),
    };
    let texts =
        secret.text(credentials, "identity").and_then(|identity| Ok((identity, secret.text(credentials, "ca")?)));
    let key = match texts {
        Ok((Some(_), Some(_))) => {
            let message = format!("the Secret {credentials} has both `identity` and `ca`; take one of them away");
            return Ok(Err(Failure::terminal(Reason::SecretInvalid, message)));
        }
        Ok((Some(identity), None)) => KeyText::Identity(identity.expose().to_owned()),
        Ok((None, Some(authority))) => KeyText::Authority(authority.expose().to_owned()),
        Ok((None, None)) => {
            let message =
                format!("the Secret {credentials} has neither the key \"identity\" nor \"ca\"; add one of them");
            return Ok(Err(Failure::waiting(Reason::SecretKeyMissing, message)));
        }
        Err(why) => return secret_failure(why).map(Err),
    };
    let known_hosts = match &spec.ssh.host_keys.known_hosts_ref {
        Some(known) => match context.secrets.secret(&known.name, "known_hosts", &wanted).await {
            Ok(text) => Some(text.expose().to_owned()),
            Err(why) => return secret_failure(why).map(Err),
        },
        None => None,
    };
    Ok(Ok(Secrets { key, known_hosts }))
}

fn credentials(
    namespace: &str,
    name: &str,
    spec: &HostGroupSpec,
    secrets: &Secrets,
    context: &HostGroupContext,
) -> Result<Credentials, SshError> {
    let identity = match &secrets.key {
        KeyText::Identity(text) => Identity::key(text)?,
        KeyText::Authority(text) => {
            Identity::authority(text, &format!("{namespace}/{name}"), spec.ssh.certificate_principal.as_deref())?
        }
    };
    // The schema allows no knownHostsRef with TrustOnFirstUse alone, which needs none.
    let known_hosts = Arc::from(secrets.known_hosts.as_deref().unwrap_or_default());
    let trust = match spec.ssh.host_keys.policy {
        HostKeyPolicy::Strict => HostTrust::Pinned(known_hosts),
        HostKeyPolicy::CertificateAuthority => HostTrust::Authority(known_hosts),
        HostKeyPolicy::TrustOnFirstUse => HostTrust::FirstUse(Arc::new(kept_refs(context, namespace, name))),
    };
    Ok(Credentials::of(identity, trust))
}

fn jumps(spec: &HostGroupSpec, connect_timeout: Duration) -> Vec<SshTarget> {
    let target = |jump: &crate::api::hostgroup::Jump| SshTarget {
        address: jump.address.clone(),
        port: port(jump.port),
        user: jump.user.clone().unwrap_or_else(|| spec.ssh.user.clone()),
        connect_timeout,
    };
    spec.ssh.jump.iter().map(target).collect()
}

fn port(port: i32) -> u16 {
    u16::try_from(port).unwrap_or(22)
}

fn secret_failure(why: NoSecret) -> Result<Failure, ReconcileError> {
    let message = why.to_string();
    let reason = match why {
        NoSecret::NotFound { .. } => Reason::SecretNotFound,
        NoSecret::KeyMissing { .. } => Reason::SecretKeyMissing,
        NoSecret::Invalid { .. } => {
            return Ok(Failure::terminal(Reason::SecretInvalid, message));
        }
        NoSecret::Forbidden { .. } => Reason::SecretForbidden,
        NoSecret::NotForThis { .. } => Reason::SecretNotForThis,
        NoSecret::Api(error) => return Err(error.into()),
    };
    Ok(Failure::waiting(reason, message))
}
