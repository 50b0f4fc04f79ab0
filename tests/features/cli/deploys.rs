//! `landfall deploy`: which Deployment is set or created, and what git owns.

use super::*;
use landfall::api::{HostGroup, Project};

async fn project_and_group(space: &TestNamespace) {
    let project: Project = serde_json::from_value(json!({
        "apiVersion": "landfall.dev/v1alpha1", "kind": "Project", "metadata": { "name": "hello" },
        "spec": {
            "source": { "url": "https://git.invalid/hello.git" },
            "build": { "script": "true", "artifacts": [{ "path": "app" }] },
            "run": { "process": { "command": ["./app"] } },
        },
    }))
    .unwrap();
    space.api::<Project>().create(&PostParams::default(), &project).await.unwrap();
    let group: HostGroup = serde_json::from_value(json!({
        "apiVersion": "landfall.dev/v1alpha1", "kind": "HostGroup", "metadata": { "name": "prod" },
        "spec": {
            "ssh": { "user": "deploy", "credentialsRef": { "name": "a" }, "hostKeys": { "knownHostsRef": { "name": "b" } } },
            "hosts": [{ "name": "web-01", "address": "198.18.0.1" }],
        },
    }))
    .unwrap();
    space.api::<HostGroup>().create(&PostParams::default(), &group).await.unwrap();
}

async fn version(example: &Example, name: &str) -> String {
    example.api.get(name).await.unwrap().spec.version
}

#[tokio::test]
async fn deploy_sets_the_version_of_the_one_deployment_and_says_what_it_was() {
    let example = Example::new().await;
    project_and_group(&example.space).await;
    let done = example.run(&["deploy", "hello", "v3", "--to", "prod"]).await;
    let said = format!(
        "deployment/web: v2 → v3. To watch it: landfall status -n {} deployment/web --watch\n",
        example.space.name
    );
    assert_eq!((code(&done), out(&done)), (0, said), "{}", err(&done));
    assert!(err(&done).contains("v3 is not among the newest 0 versions of project hello"), "{}", err(&done));
    assert_eq!(version(&example, "web").await, "v3");
    let object = example.api.get("web").await.unwrap();
    let writers = object.metadata.managed_fields.unwrap_or_default();
    let owns = |fields: &Value| fields["f:spec"]["f:version"].is_object();
    let owner = writers.iter().find(|entry| entry.fields_v1.as_ref().is_some_and(|fields| owns(&fields.0)));
    assert_eq!(owner.unwrap().manager.as_deref(), Some("landfall-cli"));
    let again = example.run(&["deploy", "hello", "v3", "--to", "prod"]).await;
    assert!(out(&again).contains("v3 is its version already; nothing was written"), "{}", out(&again));
}

#[tokio::test]
async fn deploy_creates_the_first_deployment_of_a_project_on_a_group_and_takes_no_foreign_name() {
    let example = Example::new().await;
    project_and_group(&example.space).await;
    let group = example.run(&["deploy", "hello", "v1", "--to", "nowhere"]).await;
    assert_eq!(code(&group), 2);
    assert!(err(&group).contains("HostGroup ") && err(&group).contains("does not exist"), "{}", err(&group));
    let named = example.run(&["deploy", "hello", "v1", "--to", "prod", "--name", "second"]).await;
    assert_eq!(code(&named), 0, "{}", err(&named));
    assert!(
        out(&named).starts_with("deployment/second: created, for v1 of project hello on all hosts of host group prod")
    );
    assert_eq!(version(&example, "second").await, "v1");
    let both = example.run(&["deploy", "hello", "v3", "--to", "prod"]).await;
    assert_eq!(code(&both), 2);
    assert!(err(&both).contains("second, web; say which one with --name"), "{}", err(&both));
    let invalid = example.run(&["deploy", "hello", "no version", "--to", "prod", "--name", "web"]).await;
    assert_eq!(code(&invalid), 2);
    assert!(err(&invalid).contains("spec.version"), "{}", err(&invalid));
    assert_eq!(version(&example, "web").await, "v2");
}

#[tokio::test]
async fn what_git_owns_is_said_and_written_with_force_alone() {
    let example = Example::new().await;
    project_and_group(&example.space).await;
    let labels = json!({ "labels": { "kustomize.toolkit.fluxcd.io/name": "shop" } });
    let merge = Patch::Merge(json!({ "metadata": labels }));
    example.api.patch("web", &PatchParams::default(), &merge).await.unwrap();
    let refused = example.run(&["deploy", "hello", "v3", "--to", "prod"]).await;
    assert_eq!((code(&refused), out(&refused)), (2, String::new()));
    let said = "landfall: deployment/web is kept as git has it by Flux (Kustomization shop), as its label kustomize.toolkit.fluxcd.io/name \
                shows; nothing was written. Commit spec.version: v3 to git, or write it until the next sync with --force\n";
    assert!(err(&refused).ends_with(said), "{}", err(&refused));
    assert_eq!(version(&example, "web").await, "v2");
    let forced = example.run(&["deploy", "hello", "v3", "--to", "prod", "--force"]).await;
    assert_eq!(code(&forced), 0, "{}", err(&forced));
    assert!(err(&forced).contains("its next sync may set the version back to v2"), "{}", err(&forced));
    assert_eq!(version(&example, "web").await, "v3");
}

#[tokio::test]
async fn a_version_that_argo_cd_wrote_is_known_by_its_field_manager() {
    let example = Example::new().await;
    project_and_group(&example.space).await;
    let apply = json!({
        "apiVersion": "landfall.dev/v1alpha1", "kind": "Deployment", "metadata": { "name": "web" }, "spec": { "version": "v4" },
    });
    let by_argo = PatchParams::apply("argocd-controller").force();
    example.api.patch("web", &by_argo, &Patch::Apply(apply)).await.unwrap();
    let refused = example.run(&["deploy", "hello", "v3", "--to", "prod"]).await;
    assert_eq!(code(&refused), 2);
    assert!(
        err(&refused).contains("Argo CD, as its field manager argocd-controller of spec.version shows"),
        "{}",
        err(&refused)
    );
}
