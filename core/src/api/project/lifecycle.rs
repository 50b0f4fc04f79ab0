//! Life of a Project's builds: what survives between them, which of two may run, what starts one, what is kept.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::common::{BRANCH_GLOBS, BRANCH_GLOBS_RULE, BYTES, BYTES_RULE, LABEL, LABEL_RULE};

/// Folder that a build finds as the last successful build of its project left it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CacheRule {
    /// Name of the cache. Another name is another, empty cache; the old one is removed with the next build. Example: `m2`.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new(LABEL_RULE).message(LABEL))]
    pub name: String,
    /// Path of the folder: `~/…` in the home of the build, or relative to the checkout. Examples: `~/.m2`, `node_modules`.
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = Rule::new("self.matches('^(~/)?[A-Za-z0-9_.@+-]+(/[A-Za-z0-9_.@+-]+)*$') && !self.split('/').exists(part, part == '.' || part == '..')").message("path begins with ~/ (the build's home) or is relative to the checkout; it has no '.' or '..' as a part, no blanks and no '/' at its end"))]
    pub path: String,
    /// Size in bytes beyond which the cache is not kept: `500Mi`, `5Gi`. Default: `5Gi`.
    #[serde(default = "five_gibibytes")]
    #[schemars(length(min = 1, max = 20))]
    #[x_kube(validation = Rule::new(BYTES_RULE).message(BYTES))]
    pub max_bytes: String,
}

fn five_gibibytes() -> String {
    "5Gi".to_owned()
}

/// Treatment of a Build that comes while another of its Project is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConcurrencyPolicy {
    #[default]
    Queue,
    Forbid,
    Replace,
}

/// Events that create a Build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Trigger {
    /// Globs over the branches that `source.branches` allows: each new head of one of them is built. Heads that exist when the trigger is
    /// declared or changed are not. Example: `[main]`.
    #[schemars(length(min = 1, max = 50), inner(length(min = 1, max = 250)))]
    #[x_kube(validation = Rule::new(BRANCH_GLOBS_RULE).message(BRANCH_GLOBS))]
    pub on_push: Vec<String>,
}

/// How many builds, versions and logs are kept. Beside these, everything is kept that runs or waits, and that a Deployment wants, runs or
/// has in its history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retention {
    /// Number of published Builds, and of versions with their releases, that are kept, the newest. Default: 50.
    #[serde(default = "fifty")]
    #[schemars(range(min = 1, max = 1000))]
    pub succeeded_limit: i64,
    /// Number of Builds without a published version that are kept, the newest. Default: 20.
    #[serde(default = "twenty")]
    #[schemars(range(min = 0, max = 1000))]
    pub failed_limit: i64,
    /// Number of releases that stay on a host, the running one included. Default: 5.
    #[serde(default = "five")]
    #[schemars(range(min = 1, max = 50))]
    pub releases_per_host: i64,
    /// How long and how much of the output of builds is kept.
    #[serde(default)]
    pub logs: LogRetention,
}

/// How long and how much of the output of builds is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LogRetention {
    /// Age beyond which a log is removed: `90d`, `12h`, `1h30m`. Default: `90d`.
    #[serde(default = "ninety_days")]
    #[schemars(length(min = 1, max = 20))]
    #[x_kube(validation = Rule::new("self.matches('^([1-9][0-9]{0,5}(s|m|h|d))+$')").message("maxAge is a time in days, hours, minutes and seconds: 90d, 12h, 1h30m"))]
    pub max_age: String,
    /// Size in bytes of the logs of all builds of the project together, beyond which the oldest are removed: `100Mi`, `5Gi`. Default:
    /// `100Mi`.
    #[serde(default = "hundred_mebibytes")]
    #[schemars(length(min = 1, max = 20))]
    #[x_kube(validation = Rule::new(BYTES_RULE).message(BYTES))]
    pub max_bytes: String,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            succeeded_limit: fifty(),
            failed_limit: twenty(),
            releases_per_host: five(),
            logs: LogRetention::default(),
        }
    }
}

impl Default for LogRetention {
    fn default() -> Self {
        Self { max_age: ninety_days(), max_bytes: hundred_mebibytes() }
    }
}

fn fifty() -> i64 {
    50
}

fn twenty() -> i64 {
    20
}

fn five() -> i64 {
    5
}

fn ninety_days() -> String {
    "90d".to_owned()
}

fn hundred_mebibytes() -> String {
    "100Mi".to_owned()
}
