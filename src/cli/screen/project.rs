//! One Project: where it comes from, what is being built, and its newest versions.

use jiff::Timestamp;
use serde_json::Value;

use super::{ago, line, short, state, title};
use crate::{api::Project, model::text::for_terminal};

/// Branches and versions that are shown.
const SHOWN: usize = 5;

pub fn project(raw: &Value, object: &Project, now: Timestamp) -> String {
    let status = object.status.clone().unwrap_or_default();
    let mut out = format!("{}\n", title(raw, "Project"));
    line(&mut out, "source", &object.spec.source.url);
    state(&mut out, raw);
    for (at, branch) in status.branches.iter().take(SHOWN).enumerate() {
        let subject = branch.commits.first().map(|commit| commit.subject.as_str()).unwrap_or_default();
        let text = format!("{:<20} {} {subject}", branch.name, short(&branch.head));
        line(&mut out, if at == 0 { "branches" } else { "" }, &text);
    }
    let building = status.active_build.as_ref().map_or("none".to_owned(), |build| build.name.clone());
    line(&mut out, "builds", &format!("under way: {building}, queued: {}", status.queued_builds));
    for (at, version) in status.versions.iter().take(SHOWN).enumerate() {
        let built = ago(version.built_at.0, now);
        let text = format!("{:<20} {} built {built} by {}", version.version, short(&version.commit), version.build);
        line(&mut out, if at == 0 { "versions" } else { "" }, &text);
    }
    for_terminal(&out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_shows_its_branches_and_its_newest_versions() {
        let raw = serde_json::json!({
            "apiVersion": "landfall.dev/v1alpha1", "kind": "Project",
            "metadata": { "name": "hello", "namespace": "shop", "generation": 1 },
            "spec": {
                "source": { "url": "https://git.example.com/hello.git" },
                "build": { "script": "make", "artifacts": [{ "path": "hello" }], "tag": { "template": "v{number}" } },
                "run": { "process": { "command": ["./hello"] } },
            },
            "status": {
                "observedGeneration": 1, "lastNumber": 1, "queuedBuilds": 0,
                "conditions": [{ "type": "Ready", "status": "True", "reason": "Watching", "message": "2 branches", "lastTransitionTime": "2026-11-24T08:00:00Z" }],
                "branches": [{ "name": "main", "head": "0123456789abcdef0123456789abcdef01234567", "commits": [] }],
                "versions": [{ "version": "v1", "commit": "0123456789abcdef0123456789abcdef01234567", "build": "hello-1", "digest": "sha256:d", "builtAt": "2026-11-24T08:00:00Z" }],
            },
        });
        let object = serde_json::from_value(raw.clone()).unwrap();
        let expected = "\
Project shop/hello
source    https://git.example.com/hello.git
state     ready: Watching
          2 branches
branches  main                 0123456789
builds    under way: none, queued: 0
versions  v1                   0123456789 built 30s ago by hello-1
";
        assert_eq!(project(&raw, &object, "2026-11-24T08:00:30Z".parse().unwrap()), expected);
    }
}
