//! Project: a git repository, how it is built and how it runs.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    common::{Backoff, EnvVar, LocalRef},
    lifecycle::{CacheRule, ConcurrencyPolicy, Retention, Trigger},
    verbs::LastHandled,
};

/// Whether what `build.trigger` asks for can be done; only where there is one.
pub const TRIGGERED: &str = "Triggered";
/// True while something that `retention` does not keep can't be removed.
pub const RETENTION_FAILED: &str = "RetentionFailed";

#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "landfall.dev",
    version = "v1alpha1",
    kind = "Project",
    namespaced,
    status = "ProjectStatus",
    shortname = "lfp",
    category = "landfall",
    derive = "PartialEq",
    doc = "A git repository, how it is built, and how its versions run.",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Newest", type_ = "string", json_path = ".status.versions[0].version"),
    printcolumn(name = "Building", type_ = "string", json_path = ".status.activeBuild.name"),
    printcolumn(name = "Queued", type_ = "integer", json_path = ".status.queuedBuilds"),
    printcolumn(name = "URL", type_ = "string", json_path = ".spec.source.url", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= 63").message("metadata.name of a Project takes at most 63 of a-z 0-9 -, and no dot: it is a part of folder names on hosts")
)]
#[serde(rename_all = "camelCase")]
pub struct ProjectSpec {
    pub source: Source,
    pub build: BuildRecipe,
    pub run: Run,
    #[serde(default)]
    pub retention: Retention,
}

/// Where the code is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(r"self.url.matches(r'^(https://[A-Za-z0-9\[][A-Za-z0-9._:\[\]-]*|ssh://([A-Za-z0-9._][A-Za-z0-9._-]*@)?[A-Za-z0-9\[][A-Za-z0-9._:\[\]-]*|file://)/[^\s?#\\\x00-\x20\x7f]*$') && !self.url.matches(r'/(-|[.][.]?(/|$))')").message("url is written https://host/path or ssh://user@host/path (or file:///path): without a password (that belongs into the Secret of secretRef), '?', '#', blanks or control characters, and no part of its path is '.', '..' or begins with '-'").field_path(".url"))]
#[x_kube(validation = Rule::new("!self.url.startsWith('ssh://') || has(self.secretRef)").message("git over ssh needs a Secret with the keys identity and known_hosts; name it in secretRef").field_path(".secretRef"))]
#[x_kube(validation = Rule::new("!self.url.startsWith('file://') || !has(self.secretRef)").message("file:// takes no Secret; leave secretRef out").field_path(".secretRef"))]
#[x_kube(validation = Rule::new(r"!self.path.startsWith('/') && !self.path.matches(r'(^|/)[.][.](/|$)') && !self.path.matches(r'[\x00-\x1f\x7f\\]')").message("path is a folder within the repository, relative to its root: without '..', a leading '/', backslashes or control characters").field_path(".path"))]
pub struct Source {
    /// The repository: `https://host/path`, `ssh://user@host/path`, or `file:///path` where the operator's configuration allows it.
    #[schemars(length(min = 1, max = 2048))]
    pub url: String,
    /// A Secret with Flux' key names: `username` and `password`, or `bearerToken`, and `ca.crt`, for https; `identity` and `known_hosts`
    /// for ssh. It is labelled `landfall.dev/use: git` and annotated `landfall.dev/git-host: <host>`, else it is not used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalRef>,
    /// The folder of the repository that this project is, where it holds many: the script runs there, and artifacts are relative to it.
    #[serde(default = "whole")]
    #[schemars(length(min = 1, max = 255))]
    pub path: String,
    /// Globs over branch names: what is listed and may be built. Default: every branch.
    #[serde(default = "every_branch")]
    #[schemars(length(min = 1, max = 50), inner(length(min = 1, max = 250)))]
    pub branches: Vec<String>,
    /// How often the repository is looked at: `30s`, `1m`, `1h30m`.
    #[serde(default = "one_minute")]
    #[schemars(length(max = 20), regex(pattern = r"^([0-9]{1,6}(s|m|h))+$"))]
    pub interval: String,
}

fn whole() -> String {
    ".".to_owned()
}

fn every_branch() -> Vec<String> {
    vec!["**".to_owned()]
}

fn one_minute() -> String {
    "1m".to_owned()
}

/// How a commit becomes a release.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.trigger) || !has(self.parameters) || self.parameters.all(one, has(one.default))").message("with a trigger every parameter needs a default: nobody is there to give a value"))]
pub struct BuildRecipe {
    /// Where the script runs.
    #[serde(default)]
    pub executor: Executor,
    /// What a Build may set, and nothing else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub parameters: Vec<Parameter>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub env: Vec<BuildEnvVar>,
    /// Run by `/bin/sh -e` in the checkout, or by itself where it begins with `#!`. Parameters are environment variables.
    #[schemars(length(min = 1, max = 65536))]
    pub script: String,
    /// What the release holds.
    #[schemars(length(min = 1, max = 100))]
    pub artifacts: Vec<ArtifactRule>,
    /// Folders that survive between the builds of this project.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[x_kube(validation = Rule::new("self.all(a, self.all(b, a.name == b.name || (a.path != b.path && !b.path.startsWith(a.path + '/'))))").message("two caches have one path, or one lies within the other"))]
    pub caches: Vec<CacheRule>,
    /// After so many seconds the script is killed.
    #[serde(default = "half_an_hour")]
    #[schemars(range(min = 1, max = 86400))]
    pub timeout_seconds: i64,
    /// No output for so many seconds means hung.
    #[serde(default = "ten_minutes")]
    #[schemars(range(min = 1, max = 86400))]
    pub idle_timeout_seconds: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    #[serde(default)]
    pub tag: TagRule,
    #[serde(default)]
    pub concurrency_policy: ConcurrencyPolicy,
    /// Without one only a person, or a tool, creates Builds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<Trigger>,
}

/// What a script, with all its children, may take of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    pub limits: Limits,
}

/// Without an entry there is no limit, but that of 4,096 processes in a sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.cpu) || (type(self.cpu) == int ? self.cpu > 0 && self.cpu <= 1024 : self.cpu.matches('^([1-9][0-9]{1,6}m|[0-9]{1,4}([.][0-9]{1,3})?)$') && self.cpu.matches('[1-9]'))").message("cpu is a number of processors, at least 0.01: 2, 0.5 or 500m"))]
#[x_kube(validation = Rule::new("!has(self.memory) || self.memory.matches('^[1-9][0-9]{0,14}(Ki|Mi|Gi|Ti)?$')").message("memory is written as 512Mi, 4Gi; at least 16Mi"))]
pub struct Limits {
    /// Processors: `2`, `0.5`, `500m`. More time than this it does not get.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    /// `512Mi`, `4Gi`. Beyond it the script is ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20))]
    pub memory: Option<String>,
    /// Processes and threads at one time. Beyond it no more can be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 16, max = 4194304))]
    pub pids: Option<i64>,
}

/// A number of processors, as Kubernetes writes it: a whole number, or a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Cpu {
    Whole(i64),
    Text(String),
}

impl JsonSchema for Cpu {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Cpu".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "x-kubernetes-int-or-string": true,
            "anyOf": [{ "type": "integer" }, { "type": "string" }],
            "maxLength": 10,
        })
    }
}

impl Cpu {
    /// In thousandths of a processor; `None` where it is no such number.
    pub fn milli(&self) -> Option<u64> {
        let text = match self {
            Self::Whole(n) => return u64::try_from(*n).ok()?.checked_mul(1000),
            Self::Text(text) => text,
        };
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then_some(());
        if let Some(milli) = text.strip_suffix('m') {
            digits(milli)?;
            return milli.parse().ok();
        }
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        digits(whole).and(digits(part))?;
        let whole: u64 = if whole.is_empty() && !part.is_empty() { 0 } else { whole.parse().ok()? };
        let part = if part.len() <= 3 { format!("{part:0<3}").parse::<u64>().ok()? } else { return None };
        whole.checked_mul(1000)?.checked_add(part)
    }
}

fn half_an_hour() -> i64 {
    1800
}

fn ten_minutes() -> i64 {
    600
}

/// Where builds run. Only on the operator's machine, for now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Executor {
    #[serde(default)]
    pub local: LocalExecutor,
}

/// On the operator's machine, under a user, process and mount namespace of its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LocalExecutor {}

/// A declared parameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!self.name.startsWith('LANDFALL_')").message("LANDFALL_… variables are set by landfall; choose another name"))]
#[x_kube(validation = Rule::new("!has(self.type) || self.type != 'Boolean' || !has(self.default) || self.default in ['true', 'false']").message("the default of a Boolean parameter takes \"true\" or \"false\""))]
#[x_kube(validation = Rule::new("!has(self.enum) || !has(self.default) || self.default in self.enum").message("the default must be one of enum"))]
pub struct Parameter {
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub name: String,
    #[serde(default, rename = "type")]
    pub kind: ParameterType,
    /// A parameter without a default must be given by the Build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub default: Option<String>,
    /// The only values that may be given.
    #[serde(default, rename = "enum", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 50), inner(length(max = 1024)))]
    pub choices: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ParameterType {
    #[default]
    String,
    /// `"true"` or `"false"`.
    Boolean,
}

/// One environment variable of a build's script: a text, or one key of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!self.name.startsWith('LANDFALL_')").message("LANDFALL_… variables are set by landfall; choose another name"))]
#[x_kube(validation = Rule::new("!has(self.value) || !has(self.valueFrom)").message("a variable has either value or valueFrom"))]
pub struct BuildEnvVar {
    /// A letter or `_`, then letters, digits and `_`.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub name: String,
    /// Anything but NUL; at most 8 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8192))]
    pub value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<EnvSource>,
}

/// Where a variable's value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvSource {
    pub secret_key_ref: SecretKeyRef,
}

/// One key of a Secret in the same namespace that is labelled `landfall.dev/use: build`. It is read when an attempt begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

/// Files of the checkout that go into the release.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!self.path.startsWith('/') && !self.path.contains('..')").message("path is relative to the checkout and has no '..'"))]
#[x_kube(validation = Rule::new("!has(self.__as__) || (!self.__as__.startsWith('/') && !self.__as__.contains('..') && self.__as__ != 'run.json')").message("as is a relative path without '..', and not run.json"))]
pub struct ArtifactRule {
    /// A glob; one that matches nothing fails the build.
    #[schemars(length(min = 1, max = 512))]
    pub path: String,
    /// Its name in the release; needs exactly one match. Default: the path in the checkout.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[A-Za-z0-9_][A-Za-z0-9._/+-]*$"))]
    pub rename: Option<String>,
}

/// How the commit of a successful build is tagged. The tag is the version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TagRule {
    /// `{number}`: the build's number in the project. `{date}`: the UTC day of the grant as yyyyMMdd.
    #[serde(default = "tag_template")]
    #[schemars(length(min = 1, max = 80), regex(pattern = r"^[A-Za-z0-9{][A-Za-z0-9._+{}-]*$"))]
    pub template: String,
    /// Whether the tag is pushed to the repository.
    #[serde(default = "yes")]
    pub push: bool,
}

impl Default for TagRule {
    fn default() -> Self {
        Self { template: tag_template(), push: true }
    }
}

fn tag_template() -> String {
    "v{date}-{number}".to_owned()
}

fn yes() -> bool {
    true
}

/// How a version runs. Copied into the release when a build is granted: a later edit changes later versions only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// As whom the process runs; must be among the HostGroup's `become.users`. Default: the SSH user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), regex(pattern = r"^[a-z_][a-z0-9_-]*$"))]
    pub user: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub env: Vec<EnvVar>,
    pub process: Process,
    /// The signal that asks the process to end.
    #[serde(default)]
    pub stop_signal: StopSignal,
    /// So long it may take to end; then KILL.
    #[serde(default = "ten_seconds")]
    #[schemars(range(min = 0, max = 3600))]
    pub termination_grace_period_seconds: i64,
    /// Without one a process that lives counts as ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness_probe: Option<ReadinessProbe>,
    /// A started process that is not ready after so many seconds has failed.
    #[serde(default = "five_minutes")]
    #[schemars(range(min = 1, max = 86400))]
    pub healthy_deadline_seconds: i64,
}

fn ten_seconds() -> i64 {
    10
}

fn five_minutes() -> i64 {
    300
}

/// A process in the foreground, started in the release's folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// The program and its arguments; no shell is involved. A relative program is looked for in the release, then in PATH.
    #[schemars(length(min = 1, max = 100), inner(length(min = 1, max = 4096)))]
    pub command: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum StopSignal {
    #[default]
    Term,
    Int,
    Quit,
    Hup,
    Usr1,
    Usr2,
}

impl StopSignal {
    /// The name as `kill -s` takes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Term => "TERM",
            Self::Int => "INT",
            Self::Quit => "QUIT",
            Self::Hup => "HUP",
            Self::Usr1 => "USR1",
            Self::Usr2 => "USR2",
        }
    }
}

/// How it is seen that the process serves. It goes to 127.0.0.1 on the host, through the SSH connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.httpGet) != has(self.tcpSocket)").message("a readinessProbe has either httpGet or tcpSocket"))]
pub struct ReadinessProbe {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_get: Option<HttpGet>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_socket: Option<TcpSocket>,
    /// The longest interval between two tries; the first come faster.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 300))]
    pub period_seconds: i64,
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 60))]
    pub timeout_seconds: i64,
    /// So many successes in a row.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 100))]
    pub success_threshold: i64,
}

impl ReadinessProbe {
    /// The port that it asks.
    pub fn port(&self) -> Option<u16> {
        let port = self.http_get.as_ref().map(|http| http.port).or(self.tcp_socket.as_ref().map(|tcp| tcp.port))?;
        u16::try_from(port).ok()
    }
}

fn one() -> i64 {
    1
}

fn two() -> i64 {
    2
}

/// Ready is any answer from 200 to 399; redirects are not followed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpGet {
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    #[serde(default = "slash")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^/[!-~]*$"))]
    pub path: String,
}

fn slash() -> String {
    "/".to_owned()
}

/// Ready is an accepted connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TcpSocket {
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProjectStatus {
    /// The generation that this status speaks of; -1: none yet.
    #[serde(default)]
    pub observed_generation: i64,
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Verbs that were acted on: annotation → value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub last_handled: LastHandled,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
    /// At most 20 branches with their newest 20 commits each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub branches: Vec<BranchView>,
    /// The newest 50; the store has all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<VersionView>,
    /// The one build that may run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_build: Option<ActiveBuild>,
    #[serde(default)]
    pub queued_builds: i32,
    /// The highest number that a build of this project was given.
    #[serde(default)]
    pub last_number: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BranchView {
    pub name: String,
    /// Commit id.
    pub head: String,
    #[serde(default)]
    pub commits: Vec<CommitView>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CommitView {
    pub sha: String,
    pub subject: String,
    pub author: String,
    pub time: Time,
    /// The newest version that was built of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VersionView {
    pub version: String,
    pub commit: String,
    /// Name of the Build.
    pub build: String,
    /// `sha256:…` of the release.
    pub digest: String,
    pub built_at: Time,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActiveBuild {
    pub name: String,
    pub uid: String,
    pub number: i64,
    /// When it was granted; `{date}` is its UTC day.
    pub granted_at: Time,
}
