//! HostGroup: machines reached by plain SSH.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    common::{Backoff, EnvVar, LocalRef},
    verbs::LastHandled,
};

#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "landfall.dev",
    version = "v1alpha1",
    kind = "HostGroup",
    namespaced,
    status = "HostGroupStatus",
    shortname = "lfh",
    category = "landfall",
    derive = "PartialEq",
    doc = "Machines reached by plain SSH, and what runs on them.",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Hosts", type_ = "integer", json_path = ".status.hosts.total"),
    printcolumn(name = "Reachable", type_ = "integer", json_path = ".status.hosts.reachable"),
    printcolumn(name = "Unreachable", type_ = "integer", json_path = ".status.hosts.unreachable"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("!has(self.spec.become) || self.spec.become.method != 'Su' || self.spec.ssh.user == 'root'").message("become.method Su needs ssh.user root; other users take Sudo"),
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= 63").message("metadata.name of a HostGroup takes at most 63 of a-z 0-9 -")
)]
#[serde(rename_all = "camelCase")]
pub struct HostGroupSpec {
    pub ssh: Ssh,
    /// As whom applications may run, other than `ssh.user`.
    #[serde(default, skip_serializing_if = "Become::is_none")]
    pub r#become: Become,
    /// The folder on each host that holds everything of landfall. Nothing outside it is ever removed.
    #[serde(default = "srv_landfall")]
    #[schemars(length(min = 2, max = 200), regex(pattern = r"^(/[A-Za-z0-9._-]+)+$"))]
    #[x_kube(validation = Rule::new("!self.contains('/../') && !self.endsWith('/..') && !self.contains('/./') && !self.endsWith('/.')").message("root has no '.' or '..' in it"))]
    pub root: String,
    #[serde(default)]
    pub probe: Probe,
    /// Over the version's own run.env, on every host of the group.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub env: Vec<EnvVar>,
    /// The machines, each by a name of its own; at most 1,000. A group without hosts is ready, and a Deployment on it has `NoHosts`.
    #[serde(default)]
    #[schemars(length(max = 1000))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub hosts: Vec<Host>,
}

fn srv_landfall() -> String {
    "/srv/landfall".to_owned()
}

/// How the hosts are reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ssh {
    #[schemars(length(min = 1, max = 32), regex(pattern = r"^[a-z_][a-z0-9_-]*$"))]
    pub user: String,
    #[serde(default = "twenty_two")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// A Secret labelled `landfall.dev/use: ssh` with the key `identity`: a private key in OpenSSH's format, Ed25519 or ECDSA. Or with the
    /// key `ca` instead: such a key of an authority, with which a certificate of minutes is signed for each connection.
    pub credentials_ref: LocalRef,
    /// The principal of those certificates; default: the user that signs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[A-Za-z0-9_][A-Za-z0-9_.@-]*$"))]
    pub certificate_principal: Option<String>,
    pub host_keys: HostKeys,
    /// Hosts that the way leads through, from here on. Each shows its own host key, checked by the same policy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5))]
    pub jump: Vec<Jump>,
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = 120))]
    pub connect_timeout_seconds: i64,
    #[serde(default = "sixty_four")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_concurrent_connections: i32,
}

fn twenty_two() -> i32 {
    22
}

fn ten() -> i64 {
    10
}

fn sixty_four() -> i32 {
    64
}

/// One hop. It needs no shell and no session, only forwarding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Jump {
    /// An IP address or a DNS name, as known_hosts has it.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[A-Za-z0-9:]([A-Za-z0-9.:-]*[A-Za-z0-9:])?$"))]
    pub address: String,
    /// Default: `ssh.user`. The credentials are the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), regex(pattern = r"^[a-z_][a-z0-9_-]*$"))]
    pub user: Option<String>,
    #[serde(default = "twenty_two")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}

/// By what a host proves that it is the one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.policy == 'TrustOnFirstUse' ? !has(self.knownHostsRef) : has(self.knownHostsRef)").message("knownHostsRef is required with policy Strict and CertificateAuthority, and must be absent with TrustOnFirstUse"))]
#[x_kube(validation = Rule::new("self.policy != 'TrustOnFirstUse' || oldSelf.policy == 'TrustOnFirstUse'").message("a group whose host keys are checked can't go over to TrustOnFirstUse; make another HostGroup for machines that are enrolled"))]
pub struct HostKeys {
    #[serde(default)]
    pub policy: HostKeyPolicy,
    /// A Secret labelled `landfall.dev/use: ssh` with the key `known_hosts`, matched by address, never by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_hosts_ref: Option<LocalRef>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HostKeyPolicy {
    /// Only keys that `knownHostsRef` lists.
    #[default]
    Strict,
    /// Only certificates for the host's address, signed by an `@cert-authority` of `knownHostsRef`; no plain keys.
    CertificateAuthority,
    /// The key that is seen first, and from then on no other. For enrolment, not for production.
    TrustOnFirstUse,
}

/// How the SSH user becomes another one on the host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.method == 'None' ? !has(self.users) || size(self.users) == 0 : has(self.users) && size(self.users) > 0").message("become.users names whom method Sudo or Su may become, at least one; method None takes no users"))]
pub struct Become {
    #[serde(default)]
    pub method: BecomeMethod,
    /// Whom `run.user` may name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), inner(length(min = 1, max = 32), regex(pattern = r"^[a-z_][a-z0-9_-]*$")))]
    pub users: Vec<String>,
}

impl Become {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum BecomeMethod {
    /// Applications run as the SSH user.
    #[default]
    None,
    /// `sudo -n -u USER -- /bin/sh`.
    Sudo,
    /// `su -s /bin/sh USER`; only where the SSH user is root.
    Su,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    #[serde(default = "sixty")]
    #[schemars(range(min = 1, max = 86400))]
    pub period_seconds: i64,
}

impl Default for Probe {
    fn default() -> Self {
        Self { period_seconds: sixty() }
    }
}

fn sixty() -> i64 {
    60
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Host {
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// An IPv4 or IPv6 address (without brackets) or a DNS name.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[A-Za-z0-9:]([A-Za-z0-9.:-]*[A-Za-z0-9:])?$"))]
    pub address: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32), inner(length(max = 63)))]
    pub labels: BTreeMap<String, String>,
    /// Takes the host out of service without removing it from the group: it counts in no total, percentage or budget, and is neither
    /// updated nor healed. What runs there is left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<HostSuspension>,
}

/// Why a host is out of service, and for how long.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostSuspension {
    /// Shown wherever the host is left out, e.g. `disk swap, ticket 4711`.
    #[schemars(length(min = 1, max = 128))]
    pub reason: String,
    /// When the suspension ends by itself, e.g. `2026-12-01T08:00:00Z`. Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
}

impl Host {
    /// One text for one machine: an IP address however it is written, names without regard to case.
    pub fn machine(&self) -> String {
        let ip = self.address.parse::<std::net::IpAddr>().map(|ip| ip.to_string());
        ip.unwrap_or_else(|_| self.address.to_ascii_lowercase())
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostGroupStatus {
    #[serde(default)]
    pub observed_generation: i64,
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub last_handled: LastHandled,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
    #[serde(default)]
    pub hosts: HostCounts,
    /// Hosts that the annotation `landfall.dev/suspend-host` took out of service, until `landfall.dev/resume-host` names them. Complete.
    /// Hosts with `spec.hosts[].suspend` are not repeated here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suspended: Vec<SuspendedHost>,
    /// Hosts with which something is wrong; at most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exceptions: Vec<HostException>,
    /// Which versions of what run here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub projects: Vec<ProjectOnHosts>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostCounts {
    #[serde(default)]
    pub total: i32,
    #[serde(default)]
    pub reachable: i32,
    #[serde(default)]
    pub unreachable: i32,
    /// Out of service, by the spec or by annotation; counted neither as reachable nor as unreachable.
    #[serde(default)]
    pub suspended: i32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SuspendedHost {
    pub host: String,
    /// What stood behind the host's name in the annotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub since: Time,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostException {
    pub host: String,
    pub reason: String,
    pub message: String,
    pub since: Time,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProjectOnHosts {
    pub project: String,
    pub versions: Vec<VersionCount>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VersionCount {
    pub version: String,
    pub hosts: i32,
}
