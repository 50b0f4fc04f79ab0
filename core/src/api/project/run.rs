//! `Project.spec.run`: how a version runs on a host. It is frozen into the version when its build is granted, so its older forms stay
//! readable for as long as such versions are on record ([`Run::frozen`]).

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error};
use serde_json::Value;

use crate::api::{EnvVar, common::USER_NAME, common::USER_NAME_RULE};

/// Way in which a version runs. It is a part of the version: copied into the release when its build is granted, so that a later edit
/// changes later versions only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.process)].exists_one(set, set)").message("run has exactly one of: process"))]
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
    /// Process that runs in the foreground, started in the folder of the release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// How the process is asked to end.
    #[serde(default)]
    pub stop: Stop,
    /// Seconds the process may take to end after the signal, before it is killed. Default: 10.
    #[serde(default = "ten_seconds")]
    #[schemars(range(min = 0, max = 3600))]
    pub termination_grace_period_seconds: i64,
    /// Check of whether the process is ready to serve: either `httpGet` or `tcpSocket`, asked at 127.0.0.1 on the host. It succeeds only
    /// where that very process holds the port. Default: none; a process that runs counts as ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness_probe: Option<ReadinessProbe>,
    /// Seconds a started process may take to become ready, before its host counts as failed. Default: 300.
    #[serde(default = "five_minutes")]
    #[schemars(range(min = 1, max = 86400))]
    pub healthy_deadline_seconds: i64,
}

impl Run {
    /// The command of what runs; empty where the version is of a runtime that this operator does not know.
    pub fn command(&self) -> &[String] {
        self.process.as_ref().map(|process| process.command.as_slice()).unwrap_or_default()
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

/// Process that runs in the foreground, started in the folder of the release.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// Program and arguments; no shell is involved. A relative program is looked for in the release, then in PATH. Example:
    /// `[java, -jar, app.jar]`.
    #[schemars(length(min = 1, max = 100), inner(length(min = 1, max = 4096)))]
    #[x_kube(validation = Rule::new(r"!self.exists(word, word.contains('\x00'))").message("command has a NUL character, which no argument can hold"))]
    pub command: Vec<String>,
}

/// How the process is asked to end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Stop {
    /// Signal that is sent first; KILL follows when the grace period is over. Default: `TERM`.
    #[serde(default)]
    pub signal: StopSignal,
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

/// Check of whether the process is ready to serve. It goes to 127.0.0.1 on the host, through the SSH connection.
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
    #[x_kube(validation = Rule::new("self.matches('^/[!-~]*$')").message("path begins with '/' and has printable ASCII characters only, without blanks: percent-encode the others"))]
    pub path: String,
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
    fn a_run_of_a_runtime_of_a_later_landfall_is_readable_and_no_process() {
        let later = r#"{ "systemd": {}, "stop": { "signal": "TERM", "to": "Group" } }"#;
        let run = Run::frozen(&mut serde_json::Deserializer::from_str(later)).unwrap();
        assert_eq!(run.process, None);
        assert!(run.command().is_empty());
    }
}
