//! How an application runs on a host: what `config/<hash>` holds. The hash covers every field but `hash` itself, and of a secret value its
//! keyed hash; it is computed by the operator, and the host only compares it.

use serde::{Deserialize, Serialize};

use crate::ConfigHash;

/// One application's settings. It holds no secret value: those come beside a task and stay in memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Configuration {
    pub hash: ConfigHash,
    pub runtime: Runtime,
    /// In this order; a later one of the same name wins.
    #[serde(default)]
    pub env: Vec<EnvVar>,
    /// Files below `shared/config/`.
    #[serde(default)]
    pub files: Vec<File>,
    /// User the application, its hooks and `exec` probes run as; `None`: the SSH user.
    #[serde(default)]
    pub run_as: Option<RunAs>,
    #[serde(default)]
    pub readiness: Option<Probe>,
    #[serde(default)]
    pub liveness: Option<Probe>,
    #[serde(default)]
    pub log: LogLimits,
    /// Secret values lie in a file of mode 0600 on the host, so that the application comes back without the operator.
    #[serde(default)]
    pub keep_secrets_on_host: bool,
}

/// What starts, watches and stops the application.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Runtime {
    Process(ProcessRuntime),
    Systemd(SystemdRuntime),
    Script(ScriptRuntime),
    Static(StaticRuntime),
}

/// A process below a keeper.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessRuntime {
    /// Run in the release's folder, without a shell; the first word is looked up in PATH.
    pub command: Vec<String>,
    #[serde(default)]
    pub restart_policy: RestartPolicy,
    #[serde(default)]
    pub stop: Stop,
}

/// A unit of systemd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SystemdRuntime {
    /// Name of a unit that the administrator installed, which landfall only starts, stops and shows; `None`: landfall installs its own.
    #[serde(default)]
    pub unit: Option<String>,
    /// `ExecStart` of landfall's own unit.
    #[serde(default)]
    pub command: Vec<String>,
    /// `MemoryMax=` of landfall's own unit, in bytes.
    #[serde(default)]
    pub memory_max_bytes: Option<u64>,
    #[serde(default)]
    pub restart_policy: RestartPolicy,
    #[serde(default)]
    pub stop: Stop,
}

/// Commands of the release itself, run in its folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScriptRuntime {
    pub start: Vec<String>,
    pub stop: Vec<String>,
    /// Exit status 0: it runs; any other: it does not. One that does not end, or can't be executed, says nothing.
    pub status: Vec<String>,
    /// Time limit of `start`, and of the others where they have none of their own, in seconds.
    pub timeout_seconds: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_timeout_seconds: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_timeout_seconds: Option<u32>,
    /// How what `stop` leaves is asked to end.
    #[serde(default)]
    pub leave: Stop,
}

/// Files that something else serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StaticRuntime {
    /// Run after `current` was switched.
    #[serde(default)]
    pub reload: Vec<String>,
    pub timeout_seconds: u32,
}

/// When an application that ended is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartPolicy {
    #[default]
    Always,
    /// Exit status 0 is the end of its work, and counts as ready.
    OnFailure,
}

/// How an application is asked to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stop {
    /// `TERM`, `INT`, `QUIT`, …, without `SIG`.
    pub signal: String,
    pub to: StopTo,
    /// Seconds until KILL.
    pub grace_seconds: u32,
}

impl Default for Stop {
    fn default() -> Self {
        Self { signal: "TERM".to_owned(), to: StopTo::Main, grace_seconds: 10 }
    }
}

/// Who gets the first signal. KILL at the end of the grace period goes to all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StopTo {
    /// The process that was started.
    #[default]
    Main,
    /// All of its processes.
    Group,
}

/// Another user, and how the SSH user becomes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunAs {
    pub method: RunAsMethod,
    pub user: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RunAsMethod {
    Sudo,
    Su,
}

/// A variable of the environment. Any name that the kernel takes: no shell stands in between.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvVar {
    pub name: String,
    pub value: EnvValue,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum EnvValue {
    Plain(String),
    /// Key of the secret value that comes beside the task.
    Secret(String),
}

/// A file below `shared/config/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// One path component.
    pub name: String,
    /// Permission bits.
    pub mode: u32,
    pub value: FileValue,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum FileValue {
    Plain(String),
    /// Key of the secret value that comes beside the task.
    Secret(String),
}

/// A question asked of the application on its own host, again and again, with kubelet's meaning of its fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    pub action: ProbeAction,
    /// Seconds after the application's start before which nothing is asked.
    pub initial_delay_seconds: u32,
    /// Seconds from the begin of one try to the begin of the next; until the first yes the tries follow each other faster.
    pub period_seconds: u32,
    /// Limit of one try as a whole.
    pub timeout_seconds: u32,
    /// Failures in a row after which the answer is no.
    pub failure_threshold: u32,
    /// Successes in a row after which the answer is yes; of a readiness probe alone, for a liveness probe has one. The default is not
    /// written: a configuration without it keeps the hash that it had before there was this field.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub success_threshold: u32,
}

fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_one(number: &u32) -> bool {
    *number == 1
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum ProbeAction {
    HttpGet(HttpGet),
    TcpSocket { port: u16, host: Option<String> },
    Exec { command: Vec<String> },
}

/// A status from 200 to 399 is a yes; redirects are not followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpGet {
    pub port: u16,
    pub path: String,
    #[serde(default)]
    pub scheme: HttpScheme,
    /// Address that is asked; `None`: 127.0.0.1.
    #[serde(default)]
    pub host: Option<String>,
    #[serde(default)]
    pub headers: Vec<HttpHeader>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum HttpScheme {
    #[default]
    Http,
    /// The certificate is not verified, as kubelet does it.
    Https,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpHeader {
    pub name: String,
    pub value: String,
}

/// Bounds of the application's log file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogLimits {
    /// Bytes after which the file is rotated.
    pub max_bytes: u64,
    /// Rotated files that are kept.
    pub files: u32,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self { max_bytes: 10 << 20, files: 3 }
    }
}
