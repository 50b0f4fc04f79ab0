//! Who may read, and who says who it is.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_who_may_reads_and_only_the_api_server_says_who_he_is() {
    let _turn = TURN.lock().await;
    let bench = Bench::on(shared().await).await;
    bench.build("secret", "echo for viewers only").await;
    bench.until_ended("secret").await;
    let path = bench.log_path("secret");
    let mallory = user(&bench.dev, "mallory").await;
    let forged = hyper::Request::get(&path)
        .header("X-Remote-User", "landfall-dev-admin")
        .header("X-Remote-Group", "system:masters")
        .body(Vec::new())
        .unwrap();
    for request in [get(&path), forged] {
        let refused = mallory.request_text(request).await.unwrap_err();
        assert!(matches!(&refused, kube::Error::Api(status) if status.code == 403), "{refused}");
    }
    let binding = json!({ "metadata": { "name": "viewers" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "vera" }] });
    create::<RoleBinding>(&bench.api(), binding).await;
    let vera = user(&bench.dev, "vera").await;
    let log = eventually("a viewer reads", || async { read(&vera, &path).await.ok() }).await;
    assert_eq!(log, b"for viewers only\n");
    let path_of_commits = view::path(&bench.namespace, "projects", "secret", "commits");
    // Its newest commit is a version as soon as the build has published it.
    let commits = eventually("the version is shown", || async {
        let page: view::CommitPage = vera.request(get(&path_of_commits)).await.unwrap();
        page.commits[0].version.is_some().then_some(page)
    })
    .await;
    let subjects: Vec<_> = commits.commits.iter().map(|commit| commit.subject.as_str()).collect();
    assert_eq!(subjects, ["change 3", "change 2", "change 1"]);
    assert_eq!((commits.branch.as_str(), commits.more), ("main", false));
    let unknown = format!("{}?branch=nope", view::path(&bench.namespace, "projects", "secret", "commits"));
    assert!(vera.request_text(get(&unknown)).await.unwrap_err().to_string().contains("nope"));
    let screen = output(bench.cli(&["commits", "secret"])).await;
    assert_eq!(String::from_utf8_lossy(&screen.stdout).lines().count(), 3);

    // Past the API server, straight to the operator.
    let pki = bench.dev.folder().join("pki");
    let admin = Kubeconfig::read_from(&bench.dev.kubeconfig).unwrap();
    let admin = admin.auth_infos[0].auth_info.clone().unwrap();
    let text = |data: &Option<String>| {
        use base64::Engine;
        String::from_utf8(base64::engine::general_purpose::STANDARD.decode(data.as_ref().unwrap()).unwrap()).unwrap()
    };
    let admin_key = serde_json::to_value(&admin).unwrap()["client-key-data"].as_str().map(str::to_owned);
    assert!(direct(&bench, None, &path, Some("vera")).await.is_err(), "without a certificate");
    let cluster = (text(&admin.client_certificate_data), text(&admin_key));
    assert!(
        direct(&bench, Some(cluster), &path, Some("vera")).await.is_err(),
        "an administrator's certificate is not the front proxy's"
    );
    assert!(direct(&bench, Some(impostor(&pki)), &path, Some("vera")).await.is_err(), "a name that is not allowed");
    let file = |name: &str| fs::read_to_string(pki.join(name)).unwrap();
    let proxy = || Some((file("front-proxy-client.crt"), file("front-proxy-client.key")));
    // A handshake may take longer than the operator waits for it.
    let answer = async |user: Option<&str>| {
        eventually("an answer", || async { direct(&bench, proxy(), &path, user).await.ok() }).await
    };
    assert_eq!(answer(None).await, 401, "nobody");
    assert_eq!(answer(Some("mallory")).await, 403, "asked again, whatever was asked before");
    assert_eq!(answer(Some("vera")).await, 200);
}

/// A certificate of the front proxy's authority for somebody else.
fn impostor(pki: &Path) -> (String, String) {
    let authority = rcgen::KeyPair::from_pem(&fs::read_to_string(pki.join("front-proxy-ca.key")).unwrap()).unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "landfall-dev front-proxy-ca");
    let issuer = rcgen::Issuer::new(params, authority);
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "somebody");
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let key = rcgen::KeyPair::generate().unwrap();
    (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
}

/// The status code of a GET at the operator's own port.
async fn direct(
    bench: &Bench,
    certificate: Option<(String, String)>,
    path: &str,
    user: Option<&str>,
) -> std::io::Result<u16> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let service = Api::<APIService>::all(bench.client.clone()).get(view::API_SERVICE).await.unwrap().spec.unwrap();
    let mut roots = rustls::RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(&service.ca_bundle.unwrap().0) {
        roots.add(root.unwrap()).unwrap();
    }
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match certificate {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
            config.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
        }
    };
    let port = u16::try_from(service.service.unwrap().port.unwrap()).unwrap();
    let tcp = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
    let name = ServerName::try_from("landfall-view.landfall-system.svc").unwrap();
    let mut tls = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
    let user = user.map(|user| format!("X-Remote-User: {user}\r\n")).unwrap_or_default();
    tls.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n{user}Connection: close\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    let _ = tls.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer);
    let code = answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    code.ok_or_else(|| std::io::Error::other("no answer"))
}
