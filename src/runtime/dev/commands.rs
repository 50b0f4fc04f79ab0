//! The command lines of the control plane. Flags that matter, and why, are documented here and nowhere else.

use std::{ffi::OsString, path::Path, time::Duration};

use super::{binaries::Binaries, folder::Folder, pki::Pki, ports::Ports, service::Service};

const SERVICE_RANGE: &str = "10.0.0.0/24";
/// The first address of [`SERVICE_RANGE`]: `kubernetes.default.svc`.
pub(crate) const SERVICE_ADDRESS: &str = "10.0.0.1";
const GRACE: Duration = Duration::from_secs(10);
/// What landfall's objects, its Jobs and its roles need; there are no nodes and no endpoints.
const CONTROLLERS: [&str; 11] = [
    "namespace-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "root-ca-certificate-publisher-controller",
    "garbage-collector-controller",
    "job-controller",
    "ttl-after-finished-controller",
    "clusterrole-aggregation-controller",
    "validatingadmissionpolicy-status-controller",
    "resourcequota-controller",
    // Else a volume claim, such as that of `manifests/`, is never deleted, and its namespace neither.
    "persistentvolumeclaim-protection-controller",
];

/// All that the command lines are made of.
pub(crate) struct Commands<'a> {
    pub binaries: &'a Binaries,
    pub folder: &'a Folder,
    pub pki: &'a Pki,
    pub ports: Ports,
    /// Whether what was written must survive a power cut.
    pub durable: bool,
}

impl Commands<'_> {
    /// Clients and peers must show a certificate of etcd's own authority: who reaches etcd owns every host.
    pub fn etcd(&self) -> Service {
        let (client, peer) = (local(self.ports.etcd), local(self.ports.etcd_peer));
        let mut flags = Flags::default();
        flags.set("name", "landfall").path("data-dir", &self.folder.etcd());
        flags.set("listen-client-urls", &client).set("advertise-client-urls", &client);
        flags.set("listen-peer-urls", &peer).set("initial-advertise-peer-urls", &peer);
        flags.set("initial-cluster", &format!("landfall={peer}"));
        flags.set("client-cert-auth", "true").set("peer-client-cert-auth", "true");
        flags
            .path("trusted-ca-file", &self.pki.path("etcd-ca.crt"))
            .path("peer-trusted-ca-file", &self.pki.path("etcd-ca.crt"));
        flags.path("cert-file", &self.pki.path("etcd.crt")).path("key-file", &self.pki.path("etcd.key"));
        flags.path("peer-cert-file", &self.pki.path("etcd.crt")).path("peer-key-file", &self.pki.path("etcd.key"));
        flags.set("log-level", "warn");
        if !self.durable {
            flags.set("unsafe-no-fsync", "true");
        }
        self.service("etcd", flags)
    }

    pub fn apiserver(&self) -> Service {
        let pki = |name: &str| self.pki.path(name);
        let mut flags = Flags::default();
        flags.set("bind-address", "127.0.0.1").set("advertise-address", "127.0.0.1");
        flags.set("secure-port", &self.ports.apiserver.to_string());
        flags.set("endpoint-reconciler-type", "none").set("service-cluster-ip-range", SERVICE_RANGE);
        flags.set("authorization-mode", "RBAC").set("anonymous-auth", "false").set("profiling", "false");
        flags.set("etcd-servers", &local(self.ports.etcd)).path("etcd-cafile", &pki("etcd-ca.crt"));
        flags.path("etcd-certfile", &pki("apiserver-etcd.crt")).path("etcd-keyfile", &pki("apiserver-etcd.key"));
        flags.path("tls-cert-file", &pki("apiserver.crt")).path("tls-private-key-file", &pki("apiserver.key"));
        flags.path("client-ca-file", &pki("cluster-ca.crt"));
        // An authority of its own for the front proxy: without it an aggregated API can't tell the API server from other clients.
        flags.path("requestheader-client-ca-file", &pki("front-proxy-ca.crt"));
        flags.set("requestheader-allowed-names", "front-proxy-client");
        flags
            .set("requestheader-username-headers", "X-Remote-User")
            .set("requestheader-group-headers", "X-Remote-Group");
        flags.set("requestheader-extra-headers-prefix", "X-Remote-Extra-");
        flags.path("proxy-client-cert-file", &pki("front-proxy-client.crt"));
        flags.path("proxy-client-key-file", &pki("front-proxy-client.key"));
        flags.set("service-account-issuer", "https://kubernetes.default.svc");
        flags.path("service-account-key-file", &pki("service-account.pub"));
        flags.path("service-account-signing-key-file", &pki("service-account.key"));
        self.service("kube-apiserver", flags)
    }

    pub fn controllers(&self) -> Service {
        let kubeconfig = self.folder.controllers_kubeconfig();
        let mut flags = Flags::default();
        flags.path("kubeconfig", &kubeconfig).set("controllers", &CONTROLLERS.join(","));
        flags.set("use-service-account-credentials", "true").set("leader-elect", "false").set("profiling", "false");
        // No port: nothing asks it, and what listens must be guarded.
        flags.set("secure-port", "0");
        flags.path("root-ca-file", &self.pki.path("cluster-ca.crt"));
        flags.path("service-account-private-key-file", &self.pki.path("service-account.key"));
        self.service("kube-controller-manager", flags)
    }

    fn service(&self, name: &'static str, flags: Flags) -> Service {
        Service {
            name,
            program: self.binaries.program(name),
            arguments: flags.0,
            environment: Vec::new(),
            log: self.folder.logs().join(format!("{name}.log")),
            grace: GRACE,
        }
    }
}

/// `https://127.0.0.1:<port>`
pub fn local(port: u16) -> String {
    format!("https://127.0.0.1:{port}")
}

#[derive(Default)]
struct Flags(Vec<OsString>);

impl Flags {
    fn set(&mut self, name: &str, value: &str) -> &mut Self {
        self.0.push(format!("--{name}={value}").into());
        self
    }

    fn path(&mut self, name: &str, value: &Path) -> &mut Self {
        let mut flag = OsString::from(format!("--{name}="));
        flag.push(value);
        self.0.push(flag);
        self
    }
}
