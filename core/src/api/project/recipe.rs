//! `Project.spec.build`: how a commit becomes a release.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{
    lifecycle::{CacheRule, ConcurrencyPolicy, Trigger},
    parameter::{BuildEnvVar, Parameter},
    resources::Resources,
};

/// Instructions that make a release out of a commit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.trigger) || !has(self.parameters) || self.parameters.all(one, has(one.default))").message("with a trigger every parameter needs a default: nobody is there to give a value").field_path(".parameters"))]
pub struct BuildRecipe {
    /// Place where the script runs; exactly one of its fields is set. Default: `local`, the operator's machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor: Option<Executor>,
    /// Values that a Build may set, and no others. Each reaches the script as an environment variable. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub parameters: Vec<Parameter>,
    /// Environment variables of the script, beside those of landfall and the parameters. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub env: Vec<BuildEnvVar>,
    /// Script that builds the commit, run in its checkout by `/bin/sh -e`, or by the program that a first line `#!…` names.
    /// Example: `./mvnw -B package -P"$PROFILE"`.
    #[schemars(length(min = 1, max = 65536))]
    #[x_kube(validation = Rule::new(r"!self.contains('\x00')").message("script has a NUL character, which no script can have"))]
    pub script: String,
    /// Files of the checkout that go into the release. Example: `[{ path: "target/*.jar", as: app.jar }]`.
    #[schemars(length(min = 1, max = 100))]
    pub artifacts: Vec<ArtifactRule>,
    /// Folders that a build finds as the last successful build of the project left them. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[x_kube(validation = Rule::new("self.all(a, self.all(b, a.name == b.name || (a.path != b.path && !b.path.startsWith(a.path + '/'))))").message("two caches have one path, or one lies within the other"))]
    pub caches: Vec<CacheRule>,
    /// Seconds the script may run before it is killed. Default: 1800.
    #[serde(default = "half_an_hour")]
    #[schemars(range(min = 1, max = 86400))]
    pub timeout_seconds: i64,
    /// Seconds without output after which the script counts as hung and is killed. Default: 600.
    #[serde(default = "ten_minutes")]
    #[schemars(range(min = 1, max = 86400))]
    pub idle_timeout_seconds: i64,
    /// Limits on what the script, with all its children, takes of the machine. Default: no limit but that of 4096 processes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Name and push of the tag that marks the commit of a successful build. The tag is the version.
    #[serde(default)]
    pub tag: TagRule,
    /// Treatment of a Build that comes while another of the project is under way. `Queue`: it waits; the oldest is next. `Forbid`: it
    /// ends at once and may be retried. `Replace`: the newest takes the place of all others; the script that runs is stopped.
    /// Default: `Queue`.
    #[serde(default)]
    pub concurrency_policy: ConcurrencyPolicy,
    /// Events that create a Build. Default: none; a person or a tool creates Builds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<Trigger>,
}

fn half_an_hour() -> i64 {
    1800
}

fn ten_minutes() -> i64 {
    600
}

/// Place where builds run. No executor at all means `local`.
///
/// A union without inner defaults: a default in the schema would set one member beside the one that somebody wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.local)].exists_one(set, set)").message("executor has exactly one of: local; leave executor out for local"))]
pub struct Executor {
    /// Operator's machine, each build under a user, process and mount namespace of its own. It has no settings: `local: {}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<LocalExecutor>,
}

/// Operator's machine, each build under a user, process and mount namespace of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct LocalExecutor {}

/// Files of the checkout that go into the release.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(r"!self.path.startsWith('/') && !self.path.contains('..') && !self.path.matches(r'[\x00-\x1f\x7f]')").message("path is relative to the checkout, without '..' and control characters").field_path(".path"))]
#[x_kube(validation = Rule::new(r"self.path.matches(r'^([^\[\]{}\\]|\\.|\[[^\[\]]+\]|\{([^\[\]{}\\]|\\.|\[[^\[\]]+\])*\})*$')").message("path is a glob with *, **, ?, [a-z] or {a,b} whose brackets and braces are closed; a backslash before one of them means the character itself").field_path(".path"))]
#[x_kube(validation = Rule::new("!has(self.__as__) || (self.__as__.matches('^[A-Za-z0-9_][A-Za-z0-9._/+-]*$') && !self.__as__.contains('..') && self.__as__ != 'run.json')").message("as is a relative path of A-Z a-z 0-9 . _ / + -, beginning with a letter, digit or _, without '..', and not run.json, which landfall writes").field_path(".as"))]
pub struct ArtifactRule {
    /// Glob over the files of the checkout, relative to `source.path`. One that matches nothing fails the build. Examples:
    /// `target/*.jar`, `dist/**`.
    #[schemars(length(min = 1, max = 512))]
    pub path: String,
    /// Name of the file in the release; the glob then has exactly one match. Default: the path in the checkout. Example: `app.jar`.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub rename: Option<String>,
}

/// Tag that marks the commit of a successful build. The tag is the version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TagRule {
    /// Name of the tag, where a Build gives none. `{number}` stands for the number of the build in the project and is required, so that
    /// every build has a tag of its own; `{date}` for the UTC day of its grant as yyyyMMdd. Default: `v{date}-{number}`.
    #[serde(default = "tag_template")]
    #[schemars(length(min = 1, max = 80))]
    #[x_kube(validation = Rule::new("!self.replace('{number}', '').replace('{date}', '').matches('[{}]')").message("template has an unknown or unclosed placeholder; {number} and {date} are known"))]
    #[x_kube(validation = Rule::new("self.contains('{number}') || self.replace('{date}', '').matches('[{}]')").message("template has no {number}, so the second build would make the same version again; write for example v{date}-{number}"))]
    #[x_kube(validation = Rule::new("self.replace('{number}', '1').replace('{date}', '20260101').matches('[{}]') || (self.replace('{number}', '1').replace('{date}', '20260101').matches('^[A-Za-z0-9][A-Za-z0-9._+-]{0,62}$') && !self.replace('{number}', '1').replace('{date}', '20260101').matches('[.][.]|[.]$|[.]lock$'))").message("template makes no version: a version takes 1 to 63 of A-Z a-z 0-9 . _ + -, begins with a letter or digit, has no '..' and does not end in '.' or '.lock'"))]
    pub template: String,
    /// Whether the tag is pushed to the repository. Default: true.
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
