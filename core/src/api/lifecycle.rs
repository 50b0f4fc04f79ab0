//! What a Project says of the life of its builds: what survives between them, which of two may run, what starts one, what is kept.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A folder that a build finds as the last successful build of its project left it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CacheRule {
    /// Another name is another, empty cache; that of the old name goes with the next build.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// `~/…` in the build's home, or relative to the checkout.
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = Rule::new("self.matches('^(~/)?[A-Za-z0-9_.@+-]+(/[A-Za-z0-9_.@+-]+)*$') && !self.split('/').exists(part, part == '.' || part == '..')").message("path begins with ~/ (the build's home) or is relative to the checkout; it has no '.' or '..' as a part, no blanks and no '/' at its end"))]
    pub path: String,
    /// A cache that has grown beyond this is not kept: `500Mi`, `5Gi`.
    #[serde(default = "five_gibibytes")]
    #[schemars(length(max = 20), regex(pattern = r"^[1-9][0-9]{0,14}(Ki|Mi|Gi|Ti)?$"))]
    pub max_bytes: String,
}

fn five_gibibytes() -> String {
    "5Gi".to_owned()
}

/// What happens to a Build that comes while another of its Project is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConcurrencyPolicy {
    /// It waits for its turn; the oldest is next.
    #[default]
    Queue,
    /// It ends at once, and may be retried.
    Forbid,
    /// The newest takes the place of all others: those that wait end, and the script that runs is stopped.
    Replace,
}

/// What starts a Build by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Trigger {
    /// Globs over the branches that `source.branches` allows: a new head of one of these is built. Those that are there when this is
    /// declared or changed are not.
    #[schemars(length(min = 1, max = 50), inner(length(min = 1, max = 250)))]
    pub on_push: Vec<String>,
}

/// What is kept, and how much of it. Never removed: what runs or waits, and what a Deployment wants, runs or has in its history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retention {
    /// So many Builds that were published, and so many versions with their releases: the newest.
    #[serde(default = "fifty")]
    #[schemars(range(min = 1, max = 1000))]
    pub succeeded_limit: i64,
    /// So many Builds that ended otherwise.
    #[serde(default = "twenty")]
    #[schemars(range(min = 0, max = 1000))]
    pub failed_limit: i64,
    /// So many releases stay on a host, the one that runs included.
    #[serde(default = "five")]
    #[schemars(range(min = 1, max = 50))]
    pub releases_per_host: i64,
    #[serde(default)]
    pub logs: LogRetention,
}

/// What builds say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LogRetention {
    /// An older log goes: `90d`, `12h`, `1h30m`.
    #[serde(default = "ninety_days")]
    #[schemars(length(max = 20), regex(pattern = r"^([1-9][0-9]{0,5}(s|m|h|d))+$"))]
    pub max_age: String,
    /// Of all builds of the project together; the oldest go first: `100Mi`, `5Gi`.
    #[serde(default = "hundred_mebibytes")]
    #[schemars(length(max = 20), regex(pattern = r"^[1-9][0-9]{0,14}(Ki|Mi|Gi|Ti)?$"))]
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
