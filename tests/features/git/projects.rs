//! Projects over https and ssh end to end: a real API server, a real operator, real git servers; what their Secrets have to say, and what
//! is told when they don't.

use std::path::Path;

use crate::support::{
    gitserver::GitServer,
    gitsshd::GitSshd,
    plane::{Operator, TestNamespace, bare_namespace, namespace},
    repository::{Repository, git},
    wait::find,
};
use k8s_openapi::{
    api::{core::v1::Secret, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use landfall::api::{Build, Project};
use serde_json::{Value, json};

const PASSWORD: &str = "sword-fish-4711";

struct Bench {
    namespace: TestNamespace,
    operator: Operator,
}

impl Bench {
    async fn new(name: &str) -> Self {
        let namespace = namespace(name).await;
        let operator = Operator::start(&[&namespace.name]).await;
        Self { namespace, operator }
    }

    async fn project(&self, name: &str, source: Value) {
        let script = "printf '#!/bin/sh\\necho %s\\n' \"$LANDFALL_VERSION\" > app && chmod +x app";
        self.project_with(name, source, script).await;
    }

    async fn project_with(&self, name: &str, source: Value, script: &str) {
        let mut source = source;
        source["interval"] = json!("1h");
        let project: Project = serde_json::from_value(json!({
            "metadata": { "name": name },
            "spec": {
                "source": source,
                "build": { "script": script, "artifacts": [{ "path": "app" }], "tag": { "template": "v{number}" } },
                "run": { "process": { "command": ["./app"] } },
            },
        }))
        .unwrap();
        self.namespace.api::<Project>().create(&PostParams::default(), &project).await.unwrap();
    }

    async fn build(&self, project: &str, name: &str) {
        let build =
            json!({ "metadata": { "name": name }, "spec": { "projectRef": { "name": project }, "revision": "main" } });
        let build: Build = serde_json::from_value(build).unwrap();
        self.namespace.api::<Build>().create(&PostParams::default(), &build).await.unwrap();
    }

    async fn secret(&self, name: &str, host: &str, data: Value) {
        let metadata = json!({ "name": name, "labels": { "use.landfall.dev/git": "" }, "annotations": { "landfall.dev/git-host": host } });
        let secret: Secret = serde_json::from_value(json!({ "metadata": metadata, "stringData": data })).unwrap();
        self.namespace.api::<Secret>().create(&PostParams::default(), &secret).await.unwrap();
    }

    async fn patch<K>(&self, name: &str, patch: Value)
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        let api: Api<K> = self.namespace.api();
        api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    async fn stamp<K>(&self, name: &str, verb: &str, value: &str)
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        self.patch::<K>(name, json!({ "metadata": { "annotations": { verb: value } } })).await;
    }

    /// Waits until the project's Ready has this reason.
    async fn project_is(&self, name: &str, reason: &str) -> Condition {
        let api = self.namespace.api::<Project>();
        self.ready(name, reason, async || {
            api.get(name).await.unwrap().status.map(|status| status.conditions).unwrap_or_default()
        })
        .await
    }

    async fn build_is(&self, name: &str, reason: &str) -> Condition {
        let api = self.namespace.api::<Build>();
        self.ready(name, reason, async || {
            api.get(name).await.unwrap().status.map(|status| status.conditions).unwrap_or_default()
        })
        .await
    }

    async fn ready(&self, name: &str, reason: &str, look: impl AsyncFn() -> Vec<Condition>) -> Condition {
        let look = || async {
            let seen = look().await;
            seen.iter().find(|one| one.type_ == "Ready" && one.reason == reason).cloned().ok_or(seen)
        };
        find(&format!("{name} {reason}"), look, |seen| format!("{seen:#?}\n{}", self.operator.tail())).await
    }

    /// Everything that the API server and the operator show and keep, as one text.
    async fn all_that_is_said(&self) -> String {
        let lp = ListParams::default();
        let projects = self.namespace.api::<Project>().list(&lp).await.unwrap().items;
        let builds = self.namespace.api::<Build>().list(&lp).await.unwrap().items;
        let events = self.namespace.api::<Event>().list(&lp).await.unwrap().items;
        let mut all = serde_json::to_string(&(projects, builds, events)).unwrap() + &self.operator.output();
        read_all(&self.operator.data, &mut all);
        all
    }
}

fn read_all(folder: &Path, into: &mut String) {
    // The operator is at work: what goes meanwhile is not kept.
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => read_all(&path, into),
            Ok(kind) if kind.is_file() => {
                into.push_str(&String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()))
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_project_over_https_takes_a_rotated_password() {
    let bench = Bench::new("https").await;
    let repository = Repository::new();
    let server = GitServer::start(repository.root()).await;
    server.login(&format!("ann:{PASSWORD}"));
    let source = json!({ "url": server.url("origin.git"), "secretRef": { "name": "shop-git" } });
    bench.project("shop", source).await;
    let missing = bench.project_is("shop", "SecretNotFound").await;
    assert!(missing.message.contains("shop-git") && missing.status == "False", "{missing:?}");
    let data = json!({ "username": "ann", "password": PASSWORD, "ca.crt": server.ca });
    bench.secret("shop-git", "git.example.com", data).await;
    let other_host = bench.project_is("shop", "SecretNotForThis").await;
    assert!(other_host.message.contains(&format!("landfall.dev/git-host={}", server.host())), "{other_host:?}");
    bench.patch::<Secret>("shop-git", json!({ "metadata": { "labels": { "use.landfall.dev/git": "blog" }, "annotations": { "landfall.dev/git-host": server.host() } } })).await;
    bench.stamp::<Project>("shop", "landfall.dev/refresh", "1").await;
    let unlabelled = || async {
        let found = bench.project_is("shop", "SecretNotForThis").await;
        if found.message.contains("for git of Project blog alone") { Ok(()) } else { Err(found) }
    };
    find("said: it is another's", unlabelled, |found| format!("{found:?}")).await;
    assert_eq!(server.connections(), 0, "nobody was dialled with a Secret that is not for it");
    // It heals by itself: nobody asks for a look.
    bench.patch::<Secret>("shop-git", json!({ "metadata": { "labels": { "use.landfall.dev/git": "shop" } } })).await;
    bench.project_is("shop", "SourceListed").await;
    bench.build("shop", "shop-1").await;
    let ready = bench.build_is("shop-1", "Succeeded").await;
    assert_eq!(ready.status, "True");
    assert_eq!(git(&repository.origin(), &["rev-parse", "v1^{commit}"]), repository.head());
    // The password changes at the server first, then in the Secret.
    server.login("ann:another-one");
    bench.stamp::<Project>("shop", "landfall.dev/refresh", "2").await;
    let refused = bench.project_is("shop", "AuthenticationFailed").await;
    assert!(refused.message.contains("mend the Secret"), "{refused:?}");
    bench.patch::<Secret>("shop-git", json!({ "stringData": { "password": "another-one" } })).await;
    bench.stamp::<Project>("shop", "landfall.dev/refresh", "3").await;
    bench.project_is("shop", "SourceListed").await;
    let said = bench.all_that_is_said().await;
    for secret in [PASSWORD, "another-one", &base64_of(&format!("ann:{PASSWORD}"))] {
        assert!(!said.contains(secret), "{secret} is on disk, in the log, a status or an event");
    }
}

#[tokio::test]
async fn numbers_go_on_above_the_highest_tag_of_the_template_at_the_remote() {
    let (bench, repository) = (Bench::new("tags").await, Repository::new());
    let server = GitServer::start(repository.root()).await;
    for number in 1..=7 {
        let tag = format!("v{number}");
        repository.commit("n", &tag, "another store's");
        git(&repository.work(), &["tag", &tag]);
    }
    // Not of the template.
    for other in ["v007", "w9", "v8-rc1"] {
        git(&repository.work(), &["tag", other]);
    }
    git(&repository.work(), &["push", "-q", "origin", "--tags"]);
    repository.commit("n", "new", "to build");
    server.login(&format!("ann:{PASSWORD}"));
    let data = json!({ "username": "ann", "password": PASSWORD, "ca.crt": server.ca });
    bench.secret("shop-git", &server.host(), data).await;
    bench.project("shop", json!({ "url": server.url("origin.git"), "secretRef": { "name": "shop-git" } })).await;
    bench.build("shop", "shop-1").await;
    assert_eq!(bench.build_is("shop-1", "Succeeded").await.status, "True");
    let build = bench.namespace.api::<Build>().get("shop-1").await.unwrap().status.unwrap();
    assert_eq!((build.number, build.version.as_deref()), (Some(8), Some("v8")));
    // Somebody tags after the last listing (once an hour): the build's own fetch tells.
    git(&repository.work(), &["tag", "v9"]);
    git(&repository.work(), &["push", "-q", "origin", "v9"]);
    repository.commit("n", "newer", "to build");
    bench.build("shop", "shop-2").await;
    assert_eq!(bench.build_is("shop-2", "Succeeded").await.status, "True");
    let build = bench.namespace.api::<Build>().get("shop-2").await.unwrap().status.unwrap();
    assert_eq!(build.version.as_deref(), Some("v10"));
}

fn base64_of(text: &str) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    STANDARD.encode(text)
}

#[tokio::test]
async fn a_refused_tag_over_ssh_waits_for_a_retry() {
    let bench = Bench::new("ssh").await;
    let (repository, server) = (Repository::new(), GitSshd::start().await);
    let data = json!({ "identity": server.identity("bob"), "known_hosts": server.known_hosts("ecdsa") });
    bench.secret("shop-git", &server.host(), data).await;
    bench
        .project("shop", json!({ "url": server.url(&repository.origin()), "secretRef": { "name": "shop-git" } }))
        .await;
    bench.build("shop", "shop-1").await;
    assert_eq!(bench.build_is("shop-1", "Succeeded").await.status, "True");
    repository.hook("pre-receive", "printf 'tags are \\033[1mprotected\\033[0m here\\n' >&2; exit 1");
    bench.build("shop", "shop-2").await;
    let refused = bench.build_is("shop-2", "PushRefused").await;
    assert!(refused.message.contains("tags are protected here"), "{refused:?}");
    let build = bench.namespace.api::<Build>().get("shop-2").await.unwrap();
    let conditions = build.status.clone().unwrap().conditions;
    let standing = |kind: &str| conditions.iter().find(|one| one.type_ == kind).map(|one| one.status.clone());
    for (kind, status) in [("Succeeded", "True"), ("Tagged", "False"), ("Ready", "False"), ("Stalled", "True")] {
        assert_eq!(standing(kind).as_deref(), Some(status), "{kind}");
    }
    assert_eq!(repository.tags(), ["v1"]);
    repository.hook("pre-receive", "exit 0");
    bench.stamp::<Build>("shop-2", "landfall.dev/retry", "1").await;
    assert_eq!(bench.build_is("shop-2", "Succeeded").await.status, "True");
    let build = bench.namespace.api::<Build>().get("shop-2").await.unwrap();
    assert_eq!((build.status.unwrap().attempts.len(), repository.tags()), (1, vec!["v1".to_owned(), "v2".to_owned()]));
    // Another server answers at the address.
    let stale = server.stale_known_hosts();
    bench.patch::<Secret>("shop-git", json!({ "stringData": { "known_hosts": stale } })).await;
    bench.stamp::<Project>("shop", "landfall.dev/refresh", "1").await;
    let changed = bench.project_is("shop", "HostKeyMismatch").await;
    assert!(changed.message.contains("nothing was sent"), "{changed:?}");
    let said = bench.all_that_is_said().await;
    let identity = server.identity("bob");
    let line = identity.lines().nth(2).unwrap();
    assert!(!said.contains(line), "the key is on disk, in the log, a status or an event");
}

#[tokio::test]
async fn where_landfall_may_read_no_secret_the_project_says_with_what_command_it_may() {
    let space = bare_namespace("forbidden").await;
    space.bind_operator("landfall-lease").await;
    let operator = Operator::start(&[&space.name]).await;
    let bench = Bench { namespace: space, operator };
    bench.secret("shop-git", "git.example.com", json!({ "bearerToken": PASSWORD })).await;
    bench.project("shop", json!({ "url": "https://git.example.com/x.git", "secretRef": { "name": "shop-git" } })).await;
    let forbidden = bench.project_is("shop", "SecretForbidden").await;
    assert!(
        forbidden.message.contains("kubectl apply") && forbidden.message.contains(&bench.namespace.name),
        "{forbidden:?}"
    );
    bench.patch::<Project>("shop", json!({ "spec": { "source": { "url": "https://127.0.0.1:1/x.git" } } })).await;
    bench.namespace.bind_operator("landfall-tenant").await;
    bench.project_is("shop", "SecretNotForThis").await;
    bench.stamp::<Secret>("shop-git", "landfall.dev/git-host", "127.0.0.1:1").await;
    let away = bench.project_is("shop", "SourceUnreachable").await;
    assert!(away.message.contains("refused"), "{away:?}");
    assert!(bench.namespace.api::<Project>().get("shop").await.unwrap().finalizers().is_empty());
}

#[tokio::test]
async fn one_repository_holds_many_projects_each_in_a_folder_of_its_own() {
    let bench = Bench::new("paths").await;
    let repository = Repository::new();
    let server = GitServer::start(repository.root()).await;
    bench.secret("shop-git", &server.host(), json!({ "ca.crt": server.ca })).await;
    for (path, text) in [("shared", "common"), ("services/api/src", "api"), ("services/web/src", "web")] {
        repository.commit(path, text, "change");
    }
    let source =
        |path: &str| json!({ "url": server.url("origin.git"), "secretRef": { "name": "shop-git" }, "path": path });
    let script = "test \"$PWD\" = \"${PWD%/services/*}/services/$(cat src)\" && cat src ../../shared > app";
    server.login("ann:x");
    let data = json!({ "stringData": { "username": "ann", "password": "x" } });
    bench.patch::<Secret>("shop-git", data).await;
    for name in ["api", "web"] {
        bench.project_with(name, source(&format!("services/{name}")), script).await;
        bench.build(name, &format!("{name}-1")).await;
    }
    // Each has a number of its own, and so the same tag: the second finds it on its commit.
    for name in ["api", "web"] {
        assert_eq!(bench.build_is(&format!("{name}-1"), "Succeeded").await.status, "True");
        let build = bench.namespace.api::<Build>().get(&format!("{name}-1")).await.unwrap();
        let artifacts = build.status.unwrap().artifacts;
        assert_eq!((artifacts.len(), artifacts[0].name.as_str(), artifacts[0].size), (1, "app", 9));
    }
    for (name, path) in [("gone", "services/none"), ("file", "shared")] {
        bench.project_with(name, source(path), script).await;
        bench.build(name, &format!("{name}-1")).await;
        let refused = bench.build_is(&format!("{name}-1"), "PathNotFound").await;
        assert!(refused.message.contains(path) && refused.message.contains("source.path"), "{refused:?}");
    }
    // A script that puts a link in place of its folder gets nothing of ours.
    let evil = "echo x > app; cd ../.. && mv services/api services/was && ln -s /etc services/api";
    bench.project_with("evil", source("services/api"), evil).await;
    bench.build("evil", "evil-1").await;
    let refused = bench.build_is("evil-1", "ArtifactOutside").await;
    assert!(refused.message.contains("services/api"), "{refused:?}");
}

#[tokio::test]
async fn gits_configuration_on_the_operators_machine_leads_no_secret_elsewhere() {
    let (repository, home) = (Repository::new(), tempfile::tempdir().unwrap());
    let (server, other) = (GitServer::start(repository.root()).await, GitServer::start(repository.root()).await);
    let config = format!(
        "[url \"{}\"]\n\tinsteadOf = {}\n[http]\n\tproxy = http://127.0.0.1:1\n",
        other.url(""),
        server.url("")
    );
    std::fs::write(home.path().join(".gitconfig"), config).unwrap();
    let namespace = namespace("insteadof").await;
    let plan = Operator::of(&[&namespace.name]).env("HOME", home.path().display().to_string());
    let operator = plan.env("GIT_SSL_NO_VERIFY", "1").env("GIT_ASKPASS", "/bin/false").start().await;
    let bench = Bench { namespace, operator };
    bench
        .secret("shop-git", &server.host(), json!({ "username": "ann", "password": PASSWORD, "ca.crt": server.ca }))
        .await;
    bench.project("shop", json!({ "url": server.url("origin.git"), "secretRef": { "name": "shop-git" } })).await;
    let refused = bench.project_is("shop", "SourceUnreachable").await;
    assert!(refused.message.contains("insteadOf"), "{refused:?}");
    assert_eq!((server.connections(), other.connections()), (0, 0));
    // Without that line it is read, and no proxy is asked.
    std::fs::write(home.path().join(".gitconfig"), "[http]\n\tproxy = http://127.0.0.1:1\n").unwrap();
    bench.stamp::<Project>("shop", "landfall.dev/refresh", "1").await;
    bench.project_is("shop", "SourceListed").await;
}
