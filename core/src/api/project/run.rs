//! `Project.spec.run`: how a version runs on a host. It is frozen into the version when its build is granted, so its older forms stay
//! readable for as long as such versions are on record ([`Run::frozen`]).

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error};
use serde_json::Value;

use crate::api::{ConfigMapKeyRef, EnvVar, SecretKeyRef, common::USER_NAME, common::USER_NAME_RULE};

const NO_NUL_RULE: &str = r"!self.exists(word, word.contains('\x00'))";
const NO_NUL: &str = "a word of the command has a NUL character, which no argument can hold";
const MEMORY_RULE: &str = "self.matches('^[1-9][0-9]{0,14}(Ki|Mi|Gi|Ti)?$') && quantity(self).compareTo(quantity('16Mi')) >= 0 && \
                           quantity(self).compareTo(quantity('1024Ti')) <= 0";
const MEMORY: &str = "memoryMax is written as 512Mi or 4Gi, and is at least 16Mi and at most 1024Ti";
const PATH_RULE: &str = "self.matches('^/[!-~]*$')";
const PATH: &str =
    "path begins with '/' and has printable ASCII characters only, without blanks: percent-encode the others";

/// Way in which a version runs. It is a part of the version: copied into the release when its build is granted, so that a later edit
/// changes later versions only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.process), has(self.systemd), has(self.script), has(self.static)].exists_one(set, set)").message("run has exactly one of: process, systemd, script, static"))]
#[x_kube(validation = Rule::new("!has(self.systemd) || !has(self.livenessProbe)").message("run.systemd has no livenessProbe: WatchdogSec= in a drop-in of the unit does that").field_path(".livenessProbe"))]
#[x_kube(validation = Rule::new("!has(self.script) || !has(self.livenessProbe)").message("run.script has no livenessProbe: its status command says whether it runs").field_path(".livenessProbe"))]
#[x_kube(validation = Rule::new("!has(self.static) || !has(self.livenessProbe)").message("run.static has no livenessProbe: nothing of it runs").field_path(".livenessProbe"))]
pub struct Run {
    /// User the process runs as; one of `become.users` of the HostGroup. Default: the SSH user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = Rule::new(USER_NAME_RULE).message(USER_NAME))]
    pub user: Option<String>,
    /// Environment variables of the process. Those of the HostGroup and the Deployment take precedence. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub env: Vec<EnvVar>,
    /// Files that are written before the process starts, each from a key of a Secret or a ConfigMap, into `shared/config/` of the project's
    /// folder on the host: `../../shared/config/NAME` for the process. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub files: Vec<RunFile>,
    /// Process that runs in the foreground, started in the folder of the release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// Unit of systemd that the process runs as: it comes up after a reboot of the host without the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub systemd: Option<Systemd>,
    /// Commands of the release that start, stop and look at an application that goes into the background, or that something else runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<Script>,
    /// Files that something else serves, from `current` of the project's folder on the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#static: Option<StaticFiles>,
    /// How the process is asked to end; with `script` what its stop command leaves.
    #[serde(default)]
    pub stop: Stop,
    /// How the process that runs is taken out of service before it is stopped, and back in where its update fails. That of the version
    /// that runs is used, in its release. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<Drain>,
    /// Commands of the release around its update, one after another where several stand at one place. They run in the folder of the version
    /// that the host is updated to, as the run user, with the environment of the process; each once in an attempt, and none when a process
    /// is only started again. One that fails fails the host. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub hooks: Vec<Hook>,
    /// Seconds the process may take to end after the signal, before it is killed. Default: 10.
    #[serde(default = "ten_seconds")]
    #[schemars(range(min = 0, max = 3600))]
    pub termination_grace_period_seconds: i64,
    /// Check of whether the process is ready to serve: either `httpGet` or `tcpSocket`, asked on the host for as long as the process runs. It
    /// succeeds only where that very process holds the port. While it fails the host is not ready (`NotReady`); the process is left alone.
    /// Default: none; a process counts as ready once it has run for a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness_probe: Option<ReadinessProbe>,
    /// Check of whether the process still works: either `httpGet` or `tcpSocket`. One that fails has the process stopped and started again
    /// on its host, with growing pauses. It begins once the process is ready. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness_probe: Option<LivenessProbe>,
    /// Seconds a started process may take to become ready, before its host counts as failed. Default: 300.
    #[serde(default = "five_minutes")]
    #[schemars(range(min = 1, max = 86400))]
    pub healthy_deadline_seconds: i64,
}

impl Run {
    /// The command of what runs; empty where an administrator's unit has it, where several commands or none see to it, or the version is of a
    /// runtime that this operator does not know.
    pub fn command(&self) -> &[String] {
        let of_unit = || self.systemd.as_ref().and_then(|systemd| systemd.command.as_deref());
        self.process.as_ref().map(|process| process.command.as_slice()).or_else(of_unit).unwrap_or_default()
    }

    /// This operator knows how such a version is run.
    pub fn is_known(&self) -> bool {
        let is_known = |systemd: &Systemd| systemd.command.is_some() || systemd.unit.is_some();
        let is_known = self.systemd.as_ref().is_some_and(is_known);
        is_known || self.process.is_some() || self.script.is_some() || self.r#static.is_some()
    }

    /// What is frozen into a version: what an absent field means is written down.
    pub fn granted(&self) -> Run {
        let mut run = self.clone();
        run.stop.to.get_or_insert(StopTo::Main);
        run
    }

    /// Who gets the signal first. Versions from before the field had it sent to all.
    pub fn stop_to(&self) -> StopTo {
        self.stop.to.unwrap_or(StopTo::Group)
    }

    pub fn restart_policy(&self) -> RestartPolicy {
        let of_unit = || self.systemd.as_ref().map(|systemd| systemd.restart_policy);
        self.process.as_ref().map(|process| process.restart_policy).or_else(of_unit).unwrap_or_default()
    }

    /// The hooks of one place, each with its name: that of the place, and from the second on a number.
    pub fn hooks_at(&self, at: HookPoint) -> impl Iterator<Item = (String, &Hook)> {
        self.hooks.iter().filter(move |hook| hook.at == at).enumerate().map(|(n, hook)| match n {
            0 => (hook.at.to_string(), hook),
            n => (format!("{} {}", hook.at, n + 1), hook),
        })
    }

    /// Reads a `run` of a record or a release, whichever version of landfall froze it.
    pub fn frozen<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Run, D::Error> {
        let mut run = Value::deserialize(deserializer)?;
        // Up to 6257386 the signal was `stopSignal`, a field of its own.
        if let Some(fields) = run.as_object_mut()
            && let Some(signal) = fields.remove("stopSignal")
        {
            fields.entry("stop").or_insert_with(|| serde_json::json!({ "signal": signal }));
        }
        serde_json::from_value(run).map_err(D::Error::custom)
    }
}

fn ten_seconds() -> i64 {
    10
}

fn five_minutes() -> i64 {
    300
}

/// File of the process, from a key of a Secret or a ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunFile {
    /// Name of the file. Example: `application.yaml`.
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9_][A-Za-z0-9._-]*$')").message("the name of a file takes A-Z a-z 0-9 . _ -, and begins with a letter, a digit or _"))]
    pub name: String,
    /// Permission bits of the file, which is the user's that the process runs as. A number, so in JSON 420 for 0644. Default: 0600 (384).
    #[serde(default = "owner_alone")]
    #[schemars(range(min = 0, max = 511))]
    pub mode: i32,
    /// Source of the file's bytes.
    pub value_from: FileSource,
}

fn owner_alone() -> i32 {
    0o600
}

/// Source of a file's bytes, at most 512 KiB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.secretKeyRef) != has(self.configMapKeyRef)").message("the source of a file is either secretKeyRef or configMapKeyRef"))]
pub struct FileSource {
    /// Key of a Secret in the same namespace that is labelled `use.landfall.dev/run` with the Project's name as value, or empty for every
    /// Project of the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<SecretKeyRef>,
    /// Key of a ConfigMap in the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<ConfigMapKeyRef>,
}

/// Process that runs in the foreground, started in the folder of the release.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// Program and arguments; no shell is involved. A relative program is looked for in the release, then in PATH. Example:
    /// `[java, -jar, app.jar]`.
    #[schemars(length(min = 1, max = 100), inner(length(min = 1, max = 4096)))]
    #[x_kube(validation = Rule::new(NO_NUL_RULE).message(NO_NUL))]
    pub command: Vec<String>,
    /// When a process that ended is started again on its host: `Always`, or `OnFailure`, where exit status 0 is the end of its work and counts
    /// as ready. Before it was ready for the first time it is not started again, and its host counts as failed. Default: `Always`.
    #[serde(default, skip_serializing_if = "RestartPolicy::is_always")]
    pub restart_policy: RestartPolicy,
}

/// Unit of systemd that the process runs as: one that landfall writes, or one of the administrator's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.command) != has(self.unit)").message("systemd has either command or unit"))]
#[x_kube(validation = Rule::new("!has(self.memoryMax) || has(self.command)").message("memoryMax goes with command; the administrator's unit has its own MemoryMax=").field_path(".memoryMax"))]
#[x_kube(validation = Rule::new("!has(self.restartPolicy) || has(self.command)").message("restartPolicy goes with command; the administrator's unit has its own Restart=").field_path(".restartPolicy"))]
pub struct Systemd {
    /// Program and arguments; no shell is involved. landfall writes the unit, starts it at boot and removes it when the process is stopped: one
    /// of the machine where the SSH user is root, else one of the SSH user, which needs `loginctl enable-linger USER` on the host. A relative
    /// program is looked for in the release, then in PATH. Example: `[java, -jar, app.jar]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100), inner(length(min = 1, max = 4096)))]
    #[x_kube(validation = Rule::new(NO_NUL_RULE).message(NO_NUL))]
    pub command: Option<Vec<String>>,
    /// Unit that the administrator of the host installs, and that landfall starts, stops and shows only: as root, or by sudo. The unit names
    /// the folder of the Project by `EnvironmentFile=-FOLDER/.landfall/unit.env`, by `WorkingDirectory=`, or by a program of it in
    /// `ExecStart=`; any other is refused. Example: `petclinic.service`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 255))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9_@:][A-Za-z0-9_@:.-]*[.]service$') && !self.startsWith('landfall-')").message("unit is the name of a service as systemd takes it, ends in .service and does not begin with landfall-"))]
    pub unit: Option<String>,
    /// Bytes of memory that the process and its children may have together, at least 16Mi: `512Mi`, `4Gi`. Beyond it the kernel ends one of them. A host
    /// whose systemd can't limit memory is refused. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20))]
    #[x_kube(validation = Rule::new(MEMORY_RULE).message(MEMORY))]
    pub memory_max: Option<String>,
    /// When systemd starts a process again that ended: `Always`, or `OnFailure`, where exit status 0 is the end of its work and counts as
    /// ready. Before it was ready for the first time it is not started again, and its host counts as failed. Default: `Always`.
    #[serde(default, skip_serializing_if = "RestartPolicy::is_always")]
    pub restart_policy: RestartPolicy,
}

/// Commands of the release that start, stop and look at an application. They run in the folder of the release, as the run user, with the
/// environment of the process; no shell is involved. `stop` and `status` have values of Secrets only with `keepSecretsOnHost`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Script {
    /// Starts the application and comes to its end, with exit status 0. Example: `{ command: [./bin/ctl, start] }`.
    pub start: StartCommand,
    /// Ends the application. Where it fails, what is left of the application is ended as `run.stop` says, and the next version is started once
    /// the status command says that nothing runs. Example: `{ command: [./bin/ctl, stop] }`.
    pub stop: StopCommand,
    /// Says whether the application runs: exit status 0, it does; any other, it does not. It is asked every 5 seconds on the host; what ended is
    /// started again by the operator. A command that does not end in time says nothing: its host is not ready. Example:
    /// `{ command: [./bin/ctl, status] }`.
    pub status: StatusCommand,
}

/// Command that starts an application.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StartCommand {
    /// Program and arguments. A relative program is looked for in the release, then in PATH.
    #[schemars(length(min = 1, max = 100), inner(length(min = 1, max = 4096)))]
    #[x_kube(validation = Rule::new(NO_NUL_RULE).message(NO_NUL))]
    pub command: Vec<String>,
    /// Seconds after which it is ended, with what it started, and has failed. Default: 60.
    #[serde(default = "sixty_seconds")]
    #[schemars(range(min = 1, max = 3600))]
    pub timeout_seconds: i64,
}

/// Command that ends an application.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StopCommand {
    /// Program and arguments. A relative program is looked for in the release, then in PATH.
    #[schemars(length(min = 1, max = 100), inner(length(min = 1, max = 4096)))]
    #[x_kube(validation = Rule::new(NO_NUL_RULE).message(NO_NUL))]
    pub command: Vec<String>,
    /// Seconds after which it is ended and has failed. Default: 60.
    #[serde(default = "sixty_seconds")]
    #[schemars(range(min = 1, max = 3600))]
    pub timeout_seconds: i64,
}

/// Command that says whether an application runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatusCommand {
    /// Program and arguments. A relative program is looked for in the release, then in PATH.
    #[schemars(length(min = 1, max = 100), inner(length(min = 1, max = 4096)))]
    #[x_kube(validation = Rule::new(NO_NUL_RULE).message(NO_NUL))]
    pub command: Vec<String>,
    /// Seconds after which it is ended and has said nothing. Default: 10.
    #[serde(default = "ten_seconds")]
    #[schemars(range(min = 1, max = 60))]
    pub timeout_seconds: i64,
}

/// Files that something else serves: `current` of the project's folder leads to those of the version. `{}`: nothing has to be told when it does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StaticFiles {
    /// Command that tells the server of them once `current` leads to the new version. Default: none. Example:
    /// `{ command: [sudo, -n, systemctl, reload, nginx] }`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reload: Option<ReloadCommand>,
}

/// Command that tells a server of new files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReloadCommand {
    /// Program and arguments, run in the folder of the release, as the run user, with `run.env`; no shell is involved. A relative program is
    /// looked for in the release, then in PATH. Exit status 0 means done.
    #[schemars(length(min = 1, max = 100), inner(length(min = 1, max = 4096)))]
    #[x_kube(validation = Rule::new(NO_NUL_RULE).message(NO_NUL))]
    pub command: Vec<String>,
    /// Seconds after which it is ended and has failed, and with it its host. Default: 30.
    #[serde(default = "thirty_seconds")]
    #[schemars(range(min = 1, max = 3600))]
    pub timeout_seconds: i64,
}

fn thirty_seconds() -> i64 {
    30
}

/// When a process that ended is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RestartPolicy {
    #[default]
    Always,
    OnFailure,
}

impl RestartPolicy {
    #[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
    fn is_always(&self) -> bool {
        *self == Self::Always
    }
}

/// How the process is asked to end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Stop {
    /// Signal that is sent first; KILL follows when the grace period is over. Default: `TERM`.
    #[serde(default)]
    pub signal: StopSignal,
    /// Receiver of the signal: `Main`, the process that was started, or `Group`, all of its processes at once. What `Main` leaves behind gets
    /// the signal when it has ended; KILL goes to all that is left. Default: `Main`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<StopTo>,
}

/// Receiver of the signal that asks a process to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StopTo {
    Main,
    Group,
}

/// How the process that runs is taken out of service before it is stopped, and back in where its update fails.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.exec) != has(self.http)").message("a drain has either exec or http"))]
#[x_kube(validation = Rule::new("!has(self.undoExec) || has(self.exec)").message("undoExec goes with exec; the undo of http is http.undoPath").field_path(".undoExec"))]
pub struct Drain {
    /// Program and arguments, run in the folder of the release that runs, as the run user; no shell is involved. Exit status 0 means drained.
    /// Example: `[./bin/drain]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100), inner(length(min = 1, max = 4096)))]
    #[x_kube(validation = Rule::new(NO_NUL_RULE).message(NO_NUL))]
    pub exec: Option<Vec<String>>,
    /// Program and arguments that bring the process back into service where its update ends before the new process is ready. Default: none.
    /// Example: `[./bin/undrain]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100), inner(length(min = 1, max = 4096)))]
    #[x_kube(validation = Rule::new(NO_NUL_RULE).message(NO_NUL))]
    pub undo_exec: Option<Vec<String>>,
    /// HTTP request to the process, at 127.0.0.1 on its host; any status from 200 to 299 means drained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<DrainRequest>,
    /// Seconds after which a drain without an end has failed, and with it its host. Default: 10.
    #[serde(default = "ten_seconds")]
    #[schemars(range(min = 1, max = 3600))]
    pub timeout_seconds: i64,
}

/// HTTP request that takes a process out of service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrainRequest {
    /// Method of the request, and of its undo. Default: `POST`.
    #[serde(default)]
    pub method: DrainMethod,
    /// Scheme of the request; with `HTTPS` the certificate is not verified. Default: `HTTP`.
    #[serde(default, skip_serializing_if = "Scheme::is_http")]
    pub scheme: Scheme,
    /// Port on the host. Example: `8081`.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// Path and query of the request. Example: `/admin/drain`.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new(PATH_RULE).message(PATH))]
    pub path: String,
    /// Path and query of the request that brings the process back into service where its update ends before the new process is ready.
    /// Default: none. Example: `/admin/undrain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new(PATH_RULE).message(PATH))]
    pub undo_path: Option<String>,
    /// Headers of the request. They are a part of the version and no place for secrets. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub http_headers: Vec<HttpHeader>,
}

/// Method of the request of a drain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum DrainMethod {
    Get,
    #[default]
    Post,
    Put,
    Delete,
}

impl DrainMethod {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }
}

/// Command of the release at one place of its update.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Hook {
    /// Place in the update: `BeforeStop` (before the drain, while the old process serves), `AfterStop`, `BeforeStart` (`current` leads to the
    /// new release), `AfterStart` (before the new process is ready), `AfterReady`.
    pub at: HookPoint,
    /// Program and arguments; no shell is involved. A relative program is looked for in the release, then in PATH. Example: `[./bin/migrate]`.
    #[schemars(length(min = 1, max = 100), inner(length(min = 1, max = 4096)))]
    #[x_kube(validation = Rule::new(NO_NUL_RULE).message(NO_NUL))]
    pub exec: Vec<String>,
    /// Seconds after which it is ended and has failed. Default: 60.
    #[serde(default = "sixty_seconds")]
    #[schemars(range(min = 1, max = 3600))]
    pub timeout_seconds: i64,
}

/// Place of a hook in an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::Display, Serialize, Deserialize, JsonSchema)]
pub enum HookPoint {
    BeforeStop,
    AfterStop,
    BeforeStart,
    AfterStart,
    AfterReady,
}

/// Signal that asks the process to end.
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

/// Check of whether the process is ready to serve, asked on its host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.httpGet) != has(self.tcpSocket)").message("a readinessProbe has either httpGet or tcpSocket"))]
pub struct ReadinessProbe {
    /// HTTP GET request; any status from 200 to 399 means ready. Redirects are not followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_get: Option<HttpGet>,
    /// TCP connection; ready when it is accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_socket: Option<TcpSocket>,
    /// Seconds between two tries, at most; the first tries follow each other faster. Default: 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 300))]
    pub period_seconds: i64,
    /// Seconds after which a try without an answer fails. Default: 2.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 60))]
    pub timeout_seconds: i64,
    /// Successes in a row after which the process is ready. Default: 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 100))]
    pub success_threshold: i64,
    /// Failures in a row after which a process that was ready is not ready any more. Default: 3.
    #[serde(default = "three", skip_serializing_if = "is_three")]
    #[schemars(range(min = 1, max = 100))]
    pub failure_threshold: i64,
}

impl ReadinessProbe {
    /// The port that it asks.
    pub fn port(&self) -> Option<u16> {
        let port = self.http_get.as_ref().map(|http| http.port).or(self.tcp_socket.as_ref().map(|tcp| tcp.port))?;
        u16::try_from(port).ok()
    }
}

/// Check of whether the process still works, asked on its host. One that fails has it stopped and started again there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.httpGet) != has(self.tcpSocket)").message("a livenessProbe has either httpGet or tcpSocket"))]
pub struct LivenessProbe {
    /// HTTP GET request; any status from 200 to 399 means that it works. Redirects are not followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_get: Option<HttpGet>,
    /// TCP connection; it works when it is accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_socket: Option<TcpSocket>,
    /// Seconds between two tries. Default: 10.
    #[serde(default = "ten_seconds")]
    #[schemars(range(min = 1, max = 300))]
    pub period_seconds: i64,
    /// Seconds after which a try without an answer fails. Default: 2.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 60))]
    pub timeout_seconds: i64,
    /// Failures in a row after which the process is started again. Default: 3.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 100))]
    pub failure_threshold: i64,
}

fn three() -> i64 {
    3
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_three(n: &i64) -> bool {
    *n == 3
}

fn sixty_seconds() -> i64 {
    60
}

fn one() -> i64 {
    1
}

fn two() -> i64 {
    2
}

/// HTTP GET request; any status from 200 to 399 means ready. Redirects are not followed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpGet {
    /// Port on the host. Example: `8080`.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// Path and query of the request. Default: `/`. Example: `/actuator/health/readiness`.
    #[serde(default = "slash")]
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new(PATH_RULE).message(PATH))]
    pub path: String,
    /// Scheme of the request; with `HTTPS` the certificate is not verified. Default: `HTTP`.
    #[serde(default, skip_serializing_if = "Scheme::is_http")]
    pub scheme: Scheme,
    /// Address that is asked instead of 127.0.0.1: an IP address, or a name of `/etc/hosts` on the host; no DNS is asked. A virtual host is
    /// named by the header `Host`. Default: 127.0.0.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9._:-]+$')").message("host of a probe is an IP address without brackets, or a name of /etc/hosts on the host"))]
    pub host: Option<String>,
    /// Headers of the request. They are a part of the version and no place for secrets. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub http_headers: Vec<HttpHeader>,
}

/// Scheme of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Scheme {
    #[default]
    Http,
    Https,
}

impl Scheme {
    #[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
    fn is_http(&self) -> bool {
        *self == Self::Http
    }
}

/// Header of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpHeader {
    /// Name of the header. Example: `Host`.
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9!#$%&*+.^_|~-]+$')").message("the name of a header takes letters, digits and ! # $ % & * + - . ^ _ | ~"))]
    pub name: String,
    /// Value of the header. Default: empty.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    #[x_kube(validation = Rule::new("self.matches('^[ -~]*$')").message("the value of a header has printable ASCII characters only"))]
    pub value: String,
}

fn slash() -> String {
    "/".to_owned()
}

/// TCP connection; ready when it is accepted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TcpSocket {
    /// Port on the host. Example: `8080`.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_an_older_landfall_froze_is_readable() {
        let old = r#"{ "env": [], "process": { "command": ["./app"] }, "stopSignal": "INT",
                       "terminationGracePeriodSeconds": 5, "healthyDeadlineSeconds": 60 }"#;
        let run = Run::frozen(&mut serde_json::Deserializer::from_str(old)).unwrap();
        assert_eq!(run.stop.signal, StopSignal::Int);
        assert_eq!(run.command(), ["./app"]);
        let text = serde_json::to_string(&run).unwrap();
        assert_eq!(Run::frozen(&mut serde_json::Deserializer::from_str(&text)).unwrap(), run);
    }

    #[test]
    fn a_run_from_before_stop_to_keeps_its_signal_to_all_and_a_new_one_has_it_at_the_main_process() {
        let read = |text: &str| Run::frozen(&mut serde_json::Deserializer::from_str(text)).unwrap();
        let text = r#"{"env":[],"process":{"command":["./app"]},"stop":{"signal":"TERM"},"terminationGracePeriodSeconds":10,"healthyDeadlineSeconds":300}"#;
        let old = read(text);
        assert_eq!(old.stop_to(), StopTo::Group);
        let again = serde_json::to_string(&old).unwrap();
        assert_eq!(read(&again), old);
        for new in ["restartPolicy", "hooks", "drain", "liveness", "systemd", "script", "static", "\"to\""] {
            assert!(!again.contains(new), "nothing is added to what is frozen: {again}");
        }
        let granted = read(&serde_json::to_string(&old.granted()).unwrap());
        assert_eq!(granted.stop_to(), StopTo::Main);
    }

    #[test]
    fn commands_and_files_are_runtimes_with_limits_of_their_own() {
        let read = |text: &str| Run::frozen(&mut serde_json::Deserializer::from_str(text)).unwrap();
        let command = |word: &str| format!(r#""{word}": {{ "command": ["./ctl", "{word}"] }}"#);
        let commands = ["start", "stop", "status"].map(command).join(", ");
        let run = read(&format!(r#"{{ "script": {{ {commands} }} }}"#));
        assert!(run.is_known() && run.command().is_empty());
        let script = run.script.as_ref().unwrap();
        let limits = (script.start.timeout_seconds, script.stop.timeout_seconds, script.status.timeout_seconds);
        assert_eq!(limits, (60, 60, 10));
        let run = read(r#"{ "static": {} }"#);
        assert!(run.is_known() && run.r#static.as_ref().unwrap().reload.is_none());
        assert_eq!(read(&serde_json::to_string(&run).unwrap()), run);
        let run = read(r#"{ "static": { "reload": { "command": ["nginx", "-s", "reload"] } } }"#);
        assert_eq!(run.r#static.unwrap().reload.unwrap().timeout_seconds, 30);
    }

    #[test]
    fn hooks_of_one_place_have_names_of_their_own() {
        let hook = |at| Hook { at, exec: vec!["x".to_owned()], timeout_seconds: 1 };
        let text = r#"{ "process": { "command": ["./app"] } }"#;
        let mut run = Run::frozen(&mut serde_json::Deserializer::from_str(text)).unwrap();
        run.hooks = vec![hook(HookPoint::AfterStop), hook(HookPoint::BeforeStop), hook(HookPoint::AfterStop)];
        let names: Vec<String> = run.hooks_at(HookPoint::AfterStop).map(|(name, _)| name).collect();
        assert_eq!(names, ["AfterStop", "AfterStop 2"]);
        assert_eq!(run.hooks_at(HookPoint::AfterReady).count(), 0);
    }

    #[test]
    fn a_run_of_a_runtime_of_a_later_landfall_is_readable_and_no_process() {
        for later in [
            r#"{ "wasm": {}, "stop": { "signal": "TERM", "to": "Group" } }"#,
            r#"{ "systemd": { "container": "x" }, "stop": { "signal": "TERM", "to": "Group" } }"#,
        ] {
            let run = Run::frozen(&mut serde_json::Deserializer::from_str(later)).unwrap();
            assert_eq!(run.process, None);
            assert!(run.command().is_empty() && !run.is_known(), "{later}");
        }
    }
}
