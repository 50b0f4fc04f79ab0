//! HostGroup: machines reached by plain SSH.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::{
    apis::meta::v1::{Condition, Time},
    util::intstr::IntOrString,
};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    common::{
        EnvVar, LABEL, LABEL_KEY, LABEL_KEYS_RULE, LABEL_RULE, LABEL_VALUE, LABEL_VALUES_RULE, LocalRef, TIME_RULE,
        UNTIL, USER_NAME, USER_NAME_RULE, label_value,
    },
    lenient,
    verbs::LastHandled,
};

/// What looks like `host:port` or `[host]:port`.
const PORT_RULE: &str = r"!self.matches(r'^([^:]+|\[.*\]):[0-9]+$')";
/// An IPv6 address, an IPv4 address or a DNS name; what [`PORT_RULE`] refuses is left to it.
const ADDRESS_RULE: &str = r"self.matches(r'^([^:]+|\[.*\]):[0-9]+$') || (self.contains(':') || self.matches('^[0-9.]+$') ? isIP(self) : self.matches('^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?([.][A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$'))";
const ADDRESS: &str = "address is an IPv4 address, an IPv6 address without brackets and zone, or a DNS name";

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
    printcolumn(name = "Suspended", type_ = "integer", json_path = ".status.hosts.suspended", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", priority = 1),
    validation = Rule::new("!has(self.spec.become) || self.spec.become.method != 'Su' || self.spec.ssh.user == 'root'").message("become.method Su needs ssh.user root; other users take Sudo").field_path(".spec.become.method"),
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= 63").message("the name of a HostGroup takes at most 63 of a-z 0-9 -, and begins and ends with a letter or digit").field_path(".metadata.name")
)]
#[serde(rename_all = "camelCase")]
/// Desired state of the host group.
pub struct HostGroupSpec {
    /// How the hosts are reached and verified.
    pub ssh: Ssh,
    /// Users that applications may run as, other than the SSH user. Default: none.
    #[serde(default, skip_serializing_if = "Become::is_none")]
    pub r#become: Become,
    /// Folder on each host for everything that landfall keeps there: releases, data and logs. Nothing outside it is ever removed. Default: `/srv/landfall`.
    #[serde(default = "srv_landfall")]
    #[schemars(length(min = 2, max = 200))]
    #[x_kube(validation = Rule::new("self.matches('^(/[A-Za-z0-9._-]+)+$') && !self.contains('/../') && !self.endsWith('/..') && !self.contains('/./') && !self.endsWith('/.')").message("root is an absolute path of A-Z a-z 0-9 . _ -, without '.' or '..' as a part and without '/' at its end"))]
    pub root: String,
    /// How often the hosts are checked.
    #[serde(default)]
    pub probe: Probe,
    /// How releases are sent to the hosts.
    #[serde(default)]
    pub upload: Upload,
    /// Hosts that stay available, over all Deployments of the group: a count, or a percentage of the hosts in service, rounded up. A
    /// host is unavailable while it does not answer, is being updated by any Deployment, or does not serve the Deployment that asks; what
    /// other Deployments run there is not looked at. Suspended hosts are not counted. An update that would leave fewer waits
    /// (`TooFewAvailable`); one of a host that does not serve takes none away, and what ended is started again all the same. Default:
    /// none. Examples: `2`, `50%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("type(self) == int ? self >= 1 && self <= 999 : self.matches('^[1-9][0-9]?%$')").message("minAvailable takes a count from 1 to 999 or a percentage from 1% to 99%: with all hosts no update would be possible; leave it out for no limit"))]
    pub min_available: Option<IntOrString>,
    /// Environment variables of every process on the group's hosts. They take precedence over `run.env` of a version; those of a
    /// Deployment take precedence over them. A change rolls out: processes restart within the `strategy` of each Deployment. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub env: Vec<EnvVar>,
    /// Whether values that applications take from Secrets lie in a file on the host, of mode 0600 and of the SSH user. Without it they are in
    /// memory alone: an application with such values is started by the operator only, not by `landfall-host start` on the host. A change
    /// counts from the next start of a process. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep_secrets_on_host: bool,
    /// Machines of the group, at most 1000. A group without hosts is ready, and a Deployment on it has `NoHosts`. Default: none.
    #[serde(default)]
    #[schemars(length(max = 1000))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub hosts: Vec<Host>,
}

fn srv_landfall() -> String {
    "/srv/landfall".to_owned()
}

/// How the hosts are reached and verified.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ssh {
    /// User that signs in on the hosts. Example: `deploy`.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = Rule::new(USER_NAME_RULE).message(USER_NAME))]
    pub user: String,
    /// Port of the SSH server on every host. Default: 22.
    #[serde(default = "twenty_two")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// Secret labelled `use.landfall.dev/ssh` with the HostGroup's name as value, or empty for every HostGroup of the namespace, and with
    /// the key `identity`: a private key in OpenSSH's format, Ed25519 or ECDSA, without passphrase. Or with the key `ca`: such a key of an authority, which signs a certificate of a few minutes for each connection.
    pub credentials_ref: LocalRef,
    /// Principal of the certificates that the key `ca` signs, for hosts with `AuthorizedPrincipalsFile`. Default: the user that signs in.
    /// Example: `landfall`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9_][A-Za-z0-9_.@-]*$')").message("certificatePrincipal takes at most 63 of A-Z a-z 0-9 _ . @ -, and begins with a letter, a digit or _"))]
    pub certificate_principal: Option<String>,
    /// How the identity of a host is verified.
    pub host_keys: HostKeys,
    /// Jump hosts, in connection order. Each shows a host key of its own, verified by the same policy. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5))]
    pub jump: Vec<Jump>,
    /// Seconds that connecting to a host and signing in may take together. Default: 10.
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = 120))]
    pub connect_timeout_seconds: i64,
    /// Number of connections to hosts of this group at one time. Default: one for each host. Example: 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_concurrent_connections: Option<i32>,
}

fn twenty_two() -> i32 {
    22
}

fn ten() -> i64 {
    10
}

/// Jump host. It needs no shell and no session, only forwarding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Jump {
    /// IP address or DNS name, as known_hosts has it, without a port. Example: `bastion.example.com`.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new(PORT_RULE).message("address takes no port; set port beside it"))]
    #[x_kube(validation = Rule::new(ADDRESS_RULE).message(ADDRESS))]
    pub address: String,
    /// User that signs in on the jump host, with the same credentials. Default: `ssh.user`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = Rule::new(USER_NAME_RULE).message(USER_NAME))]
    pub user: Option<String>,
    /// Port of its SSH server. Default: 22.
    #[serde(default = "twenty_two")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}

/// How the identity of a host is verified.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.policy == 'TrustOnFirstUse' ? !has(self.knownHostsRef) : has(self.knownHostsRef)").message("knownHostsRef is required with policy Strict and CertificateAuthority, and must be absent with TrustOnFirstUse"))]
#[x_kube(validation = Rule::new("self.policy != 'TrustOnFirstUse' || oldSelf.policy == 'TrustOnFirstUse'").message("a group whose host keys are checked can't go over to TrustOnFirstUse; make another HostGroup for machines that are enrolled"))]
pub struct HostKeys {
    /// What a host has to show. `Strict`: a key that `knownHostsRef` lists for its address. `CertificateAuthority`: a certificate for its
    /// address, signed by an `@cert-authority` of `knownHostsRef`; plain keys are refused. `TrustOnFirstUse`: the key that was seen
    /// first, and no other; for enrolment, not for production. Default: `Strict`.
    #[serde(default)]
    pub policy: HostKeyPolicy,
    /// Secret labelled like that of `credentialsRef`, with the key `known_hosts`, matched by address (`[address]:port` for other ports than 22),
    /// never by name. Required unless the policy is `TrustOnFirstUse`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_hosts_ref: Option<LocalRef>,
}

/// What a host has to show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HostKeyPolicy {
    #[default]
    Strict,
    CertificateAuthority,
    TrustOnFirstUse,
}

/// Users that applications may run as, other than the SSH user.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.method == 'None' ? !has(self.users) || size(self.users) == 0 : has(self.users) && size(self.users) > 0").message("become.users names the users that method Sudo or Su may become, at least one; method None takes no users"))]
pub struct Become {
    /// How the SSH user becomes another one. `None`: it does not; applications run as the SSH user. `Sudo`: by
    /// `sudo -n -u USER -- /bin/sh`. `Su`: by `su -s /bin/sh USER`, only where the SSH user is root. Default: `None`.
    #[serde(default)]
    pub method: BecomeMethod,
    /// Users that `run.user` of a version may name; at least one where the method is `Sudo` or `Su`. Example: `[app]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), inner(length(min = 1, max = 32)))]
    #[x_kube(validation = Rule::new("self.all(user, user.matches('^[a-z_][a-z0-9_-]*$'))").message(USER_NAME))]
    pub users: Vec<String>,
}

impl Become {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// How the SSH user becomes another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum BecomeMethod {
    #[default]
    None,
    Sudo,
    Su,
}

/// How often the hosts are checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    /// Seconds between two checks of a host. Default: 60.
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

/// How releases are sent to the hosts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Upload {
    /// Bytes a second that the line to a host has to carry while a release is sent. A host whose line is slower is set aside (`UploadTooSlow`):
    /// no other host waits for it, and what arrived is not sent again when it is tried again, after 30 seconds, later every 15 minutes.
    /// 0: no limit. Default: 16384.
    #[serde(default = "sixteen_kib")]
    #[schemars(range(min = 0, max = 1000000000))]
    pub min_bytes_per_second: i64,
}

impl Default for Upload {
    fn default() -> Self {
        Self { min_bytes_per_second: sixteen_kib() }
    }
}

fn sixteen_kib() -> i64 {
    16 << 10
}

/// Machine of the group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Host {
    /// Name of the host, unique in the group. Example: `web-01`.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new(LABEL_RULE).message(LABEL))]
    pub name: String,
    /// IPv4 address, IPv6 address without brackets, or DNS name, without a port. Examples: `10.0.0.1`, `web-01.example.com`.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new(PORT_RULE).message("address takes no port; set ssh.port"))]
    #[x_kube(validation = Rule::new(ADDRESS_RULE).message(ADDRESS))]
    pub address: String,
    /// Labels that selectors of Deployments match, at most 32, written as those of Kubernetes. Example: `{ zone: a }`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = label_value()))]
    #[x_kube(validation = Rule::new(LABEL_KEYS_RULE).message(LABEL_KEY))]
    #[x_kube(validation = Rule::new(LABEL_VALUES_RULE).message(LABEL_VALUE))]
    pub labels: BTreeMap<String, String>,
    /// Suspension of the host: out of service, but in the group. It counts in no total, percentage or budget and is neither updated nor
    /// healed; the process on it is left alone. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<HostSuspension>,
}

/// Suspension of a host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostSuspension {
    /// Cause, shown wherever the host is left out. Example: `disk swap, ticket 4711`.
    #[schemars(length(min = 1, max = 128))]
    pub reason: String,
    /// Time at which the suspension ends by itself. Default: never. Example: `2026-12-01T08:00:00Z`.
    // No `format: date-time`: with it an API server takes `until: []`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", length(min = 20, max = 35))]
    #[x_kube(validation = Rule::new(TIME_RULE).message(UNTIL))]
    pub until: Option<Time>,
}

impl Host {
    /// One text for one machine: an IP address however it is written, names without regard to case.
    pub fn machine(&self) -> String {
        let ip = self.address.parse::<std::net::IpAddr>().map(|ip| ip.to_string());
        ip.unwrap_or_else(|_| self.address.to_ascii_lowercase())
    }
}

/// Last observed state of the host group. Written by the operator.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostGroupStatus {
    /// Generation of the spec that this status is about; -1 until the operator first observes the object.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub observed_generation: i64,
    /// Conditions, as kstatus reads them: `Ready` (at least one host can be used), `AllReachable` (every host answers), and `Reconciling` (the
    /// operator works on it) or `Stalled` (a person must act) while True.
    #[serde(default, deserialize_with = "lenient::list")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Verbs (annotations such as `landfall.dev/retry`) that were acted on, each with the value it had.
    #[serde(default, deserialize_with = "lenient::map", skip_serializing_if = "BTreeMap::is_empty")]
    pub last_handled: LastHandled,
    /// Number of hosts by their last observed state.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub hosts: HostCounts,
    /// Hosts that the annotation `landfall.dev/suspend-host` suspended, until `landfall.dev/resume-host` names them. The list is complete.
    /// Hosts with `spec.hosts[].suspend` are not repeated here.
    #[serde(default, deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub suspended: Vec<SuspendedHost>,
    /// Hosts with a problem, at most 100; most of them can't be used.
    #[serde(default, deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub exceptions: Vec<HostException>,
    /// Projects that run on hosts of the group, each with its versions.
    #[serde(default, deserialize_with = "lenient::list", skip_serializing_if = "Vec::is_empty")]
    pub projects: Vec<ProjectOnHosts>,
}

/// Number of hosts by their last observed state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostCounts {
    /// Hosts of the group.
    #[serde(default)]
    pub total: i32,
    /// Hosts that answered when they were last checked.
    #[serde(default)]
    pub reachable: i32,
    /// Hosts that did not answer, or can't be used.
    #[serde(default)]
    pub unreachable: i32,
    /// Suspended hosts, by the spec or by annotation; counted neither as reachable nor as unreachable.
    #[serde(default)]
    pub suspended: i32,
}

/// Host that an annotation suspended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SuspendedHost {
    /// Name of the host.
    pub host: String,
    /// Text behind the name in the annotation; absent where there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Time since which it is suspended.
    pub since: Time,
}

/// Host with a problem.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostException {
    /// Name of the host.
    pub host: String,
    /// Reason in one word, as in conditions. Example: `HostKeyMismatch`.
    pub reason: String,
    /// Cause in one sentence, and the remedy.
    pub message: String,
    /// Time since which the host has this reason.
    pub since: Time,
}

/// Project that runs on hosts of the group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProjectOnHosts {
    /// Name of the Project.
    pub project: String,
    /// Versions of it that run, each with its number of hosts.
    pub versions: Vec<VersionCount>,
}

/// Version that runs, with its number of hosts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VersionCount {
    /// Name of the version.
    pub version: String,
    /// Number of hosts that run it.
    pub hosts: i32,
}
