//! `landfall dev`: what it leaves behind, what it keeps, and who may do what in it. Real processes, killed for real.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::support::{
    plane::{self, Dev},
    wait::until,
};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::{
    Api, Client, Config,
    api::{ListParams, ObjectMeta, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use landfall::{api::Project, runtime::dev::Binaries};

#[tokio::test]
async fn a_killed_supervisor_leaves_nothing_behind() {
    let dev = Dev::start(&["--ephemeral", "--no-operator"]).await;
    let folder = dev.folder();
    assert!(processes_with(&folder).len() >= 4, "etcd, API server, controllers and their parent run");
    dev.kill9();
    eventually("all its processes are gone", || processes_with(&folder).is_empty()).await;
    // Its folder is the next one's to remove.
    let next = Dev::start(&["--ephemeral", "--no-operator"]).await;
    assert!(!folder.exists(), "the folder of the killed one was swept");
    let folder = next.folder();
    assert!(next.stop().await.success());
    assert!(processes_with(&folder).is_empty(), "a stopped one leaves no process");
    assert!(!folder.exists(), "an ephemeral one forgets");
}

#[tokio::test]
async fn state_addresses_and_identities_last_over_a_restart_and_a_second_supervisor_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--no-operator", "--data-dir", folder.path().to_str().unwrap()];
    let first = Dev::start(&arguments).await;
    let old_kubeconfig = folder.path().join("kept");
    fs::copy(&first.kubeconfig, &old_kubeconfig).unwrap();
    let object = ConfigMap { metadata: named("kept"), ..Default::default() };
    Api::default_namespaced(first.client().await).create(&PostParams::default(), &object).await.unwrap();

    let second = landfall(&["dev", "--data-dir", folder.path().to_str().unwrap()], &[]);
    assert!(second.contains("is in use by another `landfall dev`"), "{second}");
    assert!(second.contains("--data-dir or --ephemeral"), "it says what to do: {second}");

    assert!(first.stop().await.success());
    let again = Dev::start(&arguments).await;
    let kept = plane::client_of(&old_kubeconfig).await;
    Api::<ConfigMap>::default_namespaced(kept).get("kept").await.expect("the old kubeconfig finds the old object");
    assert!(again.stop().await.success());
}

#[tokio::test]
async fn a_killed_api_server_comes_back_with_its_data() {
    let dev = Dev::start(&["--ephemeral", "--no-operator"]).await;
    let object = ConfigMap { metadata: named("kept"), ..Default::default() };
    let maps = Api::<ConfigMap>::default_namespaced(dev.client().await);
    maps.create(&PostParams::default(), &object).await.unwrap();
    let (server, _) =
        processes_with(&dev.folder()).into_iter().find(|(_, line)| line.contains("/kube-apiserver ")).unwrap();
    kill9(server);
    until("back: the API server", || async { maps.get("kept").await.is_ok() }).await;
}

#[tokio::test]
async fn a_killed_operator_is_started_again_and_the_control_plane_stays() {
    let dev = Dev::start(&["--ephemeral"]).await;
    let operator = || {
        let running = processes_with(&dev.folder().join("operator"));
        running.into_iter().find(|(_, line)| line.contains(" run ")).map(|(pid, _)| pid)
    };
    let server = || {
        processes_with(&dev.folder())
            .into_iter()
            .find(|(_, line)| line.contains("/kube-apiserver "))
            .map(|(pid, _)| pid)
    };
    eventually("the operator runs", || operator().is_some()).await;
    let (first, server_before) = (operator().unwrap(), server());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(
        operator(),
        Some(first),
        "it stays up when nobody kills it: {}",
        fs::read_to_string(dev.folder().join("logs/landfall.log")).unwrap()
    );
    kill9(first);
    eventually("another operator runs", || operator().is_some_and(|pid| pid != first)).await;
    assert_eq!(server(), server_before);
    let folder = dev.folder();
    assert!(dev.stop().await.success());
    assert!(processes_with(&folder).is_empty());
}

#[tokio::test]
async fn etcd_answers_nobody_without_a_certificate_of_its_own_authority() {
    let folder = plane::kubeconfig().await.parent().unwrap().to_owned();
    let ports: serde_json::Value = serde_json::from_slice(&fs::read(folder.join("ports.json")).unwrap()).unwrap();
    let pki = folder.join("pki");
    for port in ["etcd", "etcdPeer"] {
        let port = ports[port].as_u64().unwrap();
        assert!(!answers(port, None).await, "without a certificate");
        assert!(
            !answers(port, Some((pki.join("front-proxy-client.crt"), pki.join("front-proxy-client.key")))).await,
            "a foreign one"
        );
        let own = || async { answers(port, Some((pki.join("etcd.crt"), pki.join("etcd.key")))).await };
        until("answered: its own", own).await;
    }
}

#[tokio::test]
async fn all_keys_are_readable_by_their_owner_alone() {
    let folder = plane::kubeconfig().await.parent().unwrap().to_owned();
    for path in [folder.join("pki"), folder.join("etcd"), folder.join("logs"), folder.clone()] {
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700, "{}", path.display());
    }
    let files = fs::read_dir(folder.join("pki")).unwrap().map(|entry| entry.unwrap().path());
    for path in files.chain([folder.join("kubeconfig"), folder.join("operator.kubeconfig")]) {
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600, "{}", path.display());
    }
}

#[tokio::test]
async fn the_operator_reads_a_secret_only_where_it_was_invited_and_lists_none() {
    let operator = plane::client_of(&plane::operator_kubeconfig().await).await;
    let invited = plane::namespace("invited").await;
    let closed = plane::bare_namespace("closed").await;
    for namespace in [&invited, &closed] {
        let secret = Secret { metadata: named("key"), ..Default::default() };
        namespace.api::<Secret>().create(&PostParams::default(), &secret).await.unwrap();
    }
    let secrets = |namespace: &str| Api::<Secret>::namespaced(operator.clone(), namespace);
    // A fresh binding takes a moment until the API server's authoriser knows it.
    let reads = || async { secrets(&invited.name).get("key").await.is_ok() };
    until("allowed to read where landfall-tenant is bound", reads).await;
    assert!(is_forbidden(secrets(&closed.name).get("key").await));
    assert!(is_forbidden(secrets(&invited.name).list(&ListParams::default()).await));
    assert!(is_forbidden(Api::<Secret>::all(operator.clone()).list(&ListParams::default()).await));

    Api::<Project>::all(operator.clone()).list(&ListParams::default()).await.expect("it lists our kinds everywhere");
    assert!(is_forbidden(Api::<ConfigMap>::all(operator.clone()).list(&ListParams::default()).await));
}

#[tokio::test]
async fn kubectl_takes_the_manifests_and_adds_the_operators_deployment_to_what_dev_installs() {
    let (kubeconfig, copy) = (plane::kubeconfig().await, manifests());
    let kubectl = Binaries::find_or_build(&|_| {}).unwrap().program("kubectl");
    let apply = |arguments: &[&str]| {
        let mut command = Command::new(&kubectl);
        command
            .args(["apply", "--dry-run=server", "-o", "name"])
            .args(arguments)
            .env("KUBECONFIG", &kubeconfig)
            .current_dir(copy.path());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let applied = apply(&["-k", "manifests"]);
    for object in [
        "deployment.apps/landfall",
        "serviceaccount/landfall",
        "service/landfall-view",
        "apiservice.apiregistration.k8s.io/v1alpha1.view.landfall.dev",
        "customresourcedefinition.apiextensions.k8s.io/hostgroups.landfall.dev",
        "mutatingadmissionpolicy.admissionregistration.k8s.io/landfall-stamps",
        "validatingadmissionpolicybinding.admissionregistration.k8s.io/landfall-stamps",
    ] {
        assert!(applied.lines().any(|line| line == object), "{object} in {applied}");
    }
    let built = Command::new(&kubectl).args(["kustomize", "manifests"]).current_dir(copy.path()).output().unwrap();
    let built = String::from_utf8(built.stdout).unwrap();
    let first = built.lines().find_map(|line| line.strip_prefix("kind: ")).unwrap();
    assert_eq!(first, "APIService", "uninstalling takes it away before the operator that serves it");
    assert_eq!(
        apply(&["-n", "default", "-k", "manifests/tenant"]).trim(),
        "rolebinding.rbac.authorization.k8s.io/landfall-tenant"
    );
    assert_eq!(
        apply(&["-n", "default", "-k", "manifests/scoped"]).trim(),
        "rolebinding.rbac.authorization.k8s.io/landfall-lease"
    );
}

/// `manifests/` and `crds/` in a folder of their own. The custom resources are generated; whether `crds/` is fresh is another test's.
fn manifests() -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for folder in ["manifests", "manifests/tenant", "manifests/scoped", "manifests/policies", "crds"] {
        fs::create_dir(copy.path().join(folder)).unwrap();
        for file in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).unwrap().map(Result::unwrap) {
            if file.file_type().unwrap().is_file() {
                fs::copy(file.path(), copy.path().join(folder).join(file.file_name())).unwrap();
            }
        }
    }
    for (name, text) in landfall::api::crds::files().unwrap() {
        fs::write(copy.path().join("crds").join(name), text).unwrap();
    }
    copy
}

#[tokio::test]
async fn what_kubectl_installed_it_takes_away_again_and_namespaces_can_be_deleted_afterwards() {
    let dev = Dev::start(&["--ephemeral", "--no-operator"]).await;
    let (client, copy) = (dev.client().await, manifests());
    let program = Binaries::find_or_build(&|_| {}).unwrap().program("kubectl");
    let kubectl = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.args(arguments).env("KUBECONFIG", &dev.kubeconfig).current_dir(copy.path());
        let output = command.output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (installed, said) = kubectl(&["apply", "--server-side", "-k", "manifests"]);
    assert!(installed, "{said}");
    let shop = plane::named_namespace_on(client.clone(), "shop").await;
    let project = serde_json::json!({ "metadata": { "name": "shop" }, "spec": {
        "source": { "url": "https://git.invalid/shop.git" },
        "build": { "script": "true", "artifacts": [{ "path": "app" }] },
        "run": { "process": { "command": ["./app"] } },
    }});
    let project: Project = serde_json::from_value(project).unwrap();
    shop.api().create(&PostParams::default(), &project).await.unwrap();

    // Nobody serves the view here, as where all operators are gone: its APIService would keep every namespace from being deleted.
    let (removed, said) = kubectl(&["delete", "-k", "manifests", "--timeout=120s"]);
    assert!(removed, "{said}");
    let policies = "mutatingadmissionpolicies,mutatingadmissionpolicybindings,validatingadmissionpolicies,validatingadmissionpolicybindings";
    let kinds = format!("namespaces,apiservices,crds,clusterroles,clusterrolebindings,{policies}");
    let (_, left) = kubectl(&["get", &kinds, "-A", "-o", "name"]);
    assert!(!left.contains("landfall"), "{left}");
    shop.delete().await;
    let namespaces = Api::<Namespace>::all(client);
    until("the namespace is gone", async || namespaces.get_opt("shop").await.unwrap().is_none()).await;
    assert!(dev.stop().await.success());
}

#[test]
fn no_role_has_a_wildcard_and_no_cluster_wide_one_has_secrets() {
    let roles: Vec<serde_json::Value> = ["operator-rights.yaml", "user-roles.yaml"]
        .iter()
        .flat_map(|file| {
            let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests").join(file)).unwrap();
            serde_saphyr::from_multiple::<serde_json::Value>(&text).unwrap()
        })
        .collect();
    for object in &roles {
        let (kind, name) = (object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap());
        let rules = object["rules"].to_string();
        assert!(!rules.contains('*'), "{kind} {name}");
        for refused in ["escalate", "bind", "impersonate", "pods/exec", "serviceaccounts/token"] {
            assert!(!rules.contains(&format!("\"{refused}\"")), "{kind} {name} has {refused}");
        }
        // Beside those of tenants the one Secret of its own, by name.
        let own = kind == "Role" && name == "landfall-view" && rules.contains(r#""resourceNames":["landfall-view"]"#);
        let tenants = name == "landfall-tenant" && kind == "ClusterRole";
        assert_eq!(rules.contains("secrets"), tenants || own, "{kind} {name}");
        assert!(
            kind != "ClusterRoleBinding" || object["roleRef"]["name"] == "landfall",
            "only landfall is bound cluster-wide"
        );
    }
    assert!(roles.iter().any(|object| object["kind"] == "ClusterRoleBinding"));
}

#[test]
fn the_users_own_kubeconfig_is_never_written() {
    let home = tempfile::tempdir().unwrap();
    let own = home.path().join(".kube/config");
    let said = landfall(
        &["dev", "--ephemeral", "--kubeconfig", own.to_str().unwrap()],
        &[("HOME", home.path().to_str().unwrap())],
    );
    assert!(said.contains("never writes"), "{said}");
    assert!(!own.exists());
}

#[test]
fn who_has_no_control_plane_and_no_go_that_can_build_it_is_told_what_to_install() {
    let empty = tempfile::tempdir().unwrap();
    let tools = tempfile::tempdir().unwrap();
    let path = |folder: &Path| folder.to_str().unwrap().to_owned();
    let environment =
        [("PATH", &*path(tools.path())), ("XDG_CACHE_HOME", &*path(empty.path())), ("KUBEBUILDER_ASSETS", "")];
    let said = landfall(&["dev", "--ephemeral"], &environment);
    assert!(said.contains("Go is not installed") && said.contains("1.26"), "{said}");

    let go = tools.path().join("go");
    fs::write(&go, "#!/bin/sh\necho go1.21.3\n").unwrap();
    fs::set_permissions(&go, fs::Permissions::from_mode(0o755)).unwrap();
    let said = landfall(&["dev", "--ephemeral"], &environment);
    assert!(said.contains("the Go in PATH is 1.21.3") && said.contains("1.26 or newer"), "{said}");

    let assets = [("KUBEBUILDER_ASSETS", &*path(empty.path()))];
    let said = landfall(&["dev", "--ephemeral"], &assets);
    assert!(said.contains("no etcd") && said.contains("unset KUBEBUILDER_ASSETS"), "{said}");
}

/// Runs `landfall` to its end, which must be a failure; what it said.
fn landfall(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_landfall"));
    let output = command.args(arguments).envs(environment.iter().copied()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{said}");
    said
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), ..Default::default() }
}

fn is_forbidden<T>(answer: kube::Result<T>) -> bool {
    matches!(answer, Err(kube::Error::Api(status)) if status.code == 403)
}

/// Process ids and command lines of all that name this folder.
fn processes_with(folder: &Path) -> Vec<(i32, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else { continue };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(folder.to_str().unwrap()) {
            found.push((pid, line));
        }
    }
    found
}

fn kill9(pid: i32) {
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL).unwrap();
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    until(what, || {
        let holds = holds();
        async move { holds }
    })
    .await;
}

/// Whether an HTTPS server on that loopback port says anything in HTTP to a client with this certificate and key.
async fn answers(port: u64, client: Option<(PathBuf, PathBuf)>) -> bool {
    let user = match client {
        Some((certificate, key)) => serde_json::json!({ "client-certificate": certificate, "client-key": key }),
        None => serde_json::json!({}),
    };
    let config: Kubeconfig = serde_json::from_value(serde_json::json!({
        "clusters": [{ "name": "it", "cluster": { "server": format!("https://127.0.0.1:{port}"), "insecure-skip-tls-verify": true } }],
        "users": [{ "name": "me", "user": user }],
        "contexts": [{ "name": "it", "context": { "cluster": "it", "user": "me" } }],
        "current-context": "it",
    }))
    .unwrap();
    let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.unwrap();
    let request = hyper::http::Request::get("/version").body(Vec::new()).unwrap();
    Client::try_from(config).unwrap().request_text(request).await.is_ok()
}
