//! `Project.spec.source`: which repository, which part of it, and which of its branches.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::common::{BRANCH_GLOBS, BRANCH_GLOBS_RULE, LocalRef};

/// Git repository that the project is built from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(r"self.url.matches(r'^[A-Za-z0-9._-]+@[A-Za-z0-9._-]+:[^:]*$') || (self.url.matches(r'^(https://[A-Za-z0-9\[][A-Za-z0-9._:\[\]-]*|ssh://([A-Za-z0-9._][A-Za-z0-9._-]*@)?[A-Za-z0-9\[][A-Za-z0-9._:\[\]-]*|file://)/[^\s?#\\\x00-\x20\x7f]*$') && !self.url.matches(r'/(-|[.][.]?(/|$))'))").message("url is written https://host/path or ssh://user@host/path (or file:///path): without a password (that belongs into the Secret of secretRef), '?', '#', blanks or control characters, and no part of its path is '.', '..' or begins with '-'").field_path(".url"))]
#[x_kube(validation = Rule::new(r"!self.url.matches(r'^[A-Za-z0-9._-]+@[A-Za-z0-9._-]+:[^:]*$')").message("url has the scp form USER@HOST:PATH, which is not read; write it as ssh://USER@HOST/PATH, for example ssh://git@git.example.com/shop/petclinic.git").field_path(".url"))]
#[x_kube(validation = Rule::new("!self.url.startsWith('ssh://') || has(self.secretRef)").message("git over ssh needs a Secret with the keys identity and known_hosts; name it in secretRef").field_path(".secretRef"))]
#[x_kube(validation = Rule::new("!self.url.startsWith('file://') || !has(self.secretRef)").message("file:// takes no Secret; leave secretRef out").field_path(".secretRef"))]
#[x_kube(validation = Rule::new(r"!self.path.startsWith('/') && !self.path.matches(r'(^|/)[.][.](/|$)') && !self.path.matches(r'[\x00-\x1f\x7f\\]')").message("path is a folder within the repository, relative to its root: without '..', a leading '/', backslashes or control characters").field_path(".path"))]
pub struct Source {
    /// URL of the repository: `https://host/path`, `ssh://user@host/path`, or `file:///path` where the operator is started with
    /// `--allow-file-git`. Example: `https://git.example.com/shop/petclinic.git`.
    #[schemars(length(min = 1, max = 2048))]
    pub url: String,
    /// Secret with the credentials, under the key names that Flux uses: `username` and `password`, or `bearerToken`, and `ca.crt` for
    /// https; `identity` and `known_hosts` for ssh, where it is required. It carries the label `use.landfall.dev/git` with
    /// the Project's name as value, or empty for every Project of the namespace, and the annotation `landfall.dev/git-host` with the
    /// server it is for. Default: no credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalRef>,
    /// Folder of the repository that holds this project, for repositories of many. The script runs there, and artifact paths are
    /// relative to it. Default: `.`, the whole repository. Example: `services/cart`.
    #[serde(default = "whole")]
    #[schemars(length(min = 1, max = 255))]
    pub path: String,
    /// Globs over branch names that are listed and may be built. Default: `**`, every branch. Example: `["main", "release/*"]`.
    #[serde(default = "every_branch")]
    #[schemars(length(min = 1, max = 50), inner(length(min = 1, max = 250)))]
    #[x_kube(validation = Rule::new(BRANCH_GLOBS_RULE).message(BRANCH_GLOBS))]
    pub branches: Vec<String>,
    /// Time between two fetches of the repository, at least one second: `30s`, `1m`, `1h30m`. Default: `1m`.
    #[serde(default = "one_minute")]
    #[schemars(length(min = 1, max = 20))]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]{1,4}h)?([0-9]{1,5}m)?([0-9]{1,6}s)?$') && self.matches('[1-9]')").message("interval is a time of at least one second in hours, minutes and seconds: 30s, 1m, 1h30m"))]
    pub interval: String,
    /// Treatment of submodules in the folder `path`. `Refuse`: a build of a commit that has one fails and names it. `Ignore`: the folder of
    /// the submodule is empty. Default: `Refuse`.
    #[serde(default)]
    pub submodules: ExternalContent,
    /// Treatment of Git LFS pointers in the folder `path`. `Refuse`: a build of a commit that has one fails and names it. `Ignore`: the
    /// script finds the pointer, a text of about 130 bytes, in place of the file. Default: `Refuse`.
    #[serde(default)]
    pub lfs: ExternalContent,
}

/// Treatment of content that a commit refers to and that lies outside of the repository.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ExternalContent {
    #[default]
    Refuse,
    Ignore,
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
