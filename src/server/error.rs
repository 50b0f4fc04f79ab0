//! Why the aggregated API can't be served (yet), and what to do about it.

use std::net::SocketAddr;

use crate::{
    api::view::{API_SERVICE, VIEW_SECRET},
    effects::api_server::api_message,
};

#[derive(Debug, thiserror::Error)]
pub(crate) enum ViewError {
    #[error(
        "the ConfigMap kube-system/extension-apiserver-authentication can't be read: {}; apply manifests/ again, its RoleBinding landfall-view-authentication gives the right",
        api_message(source)
    )]
    FrontProxyUnread { source: kube::Error },
    #[error(
        "the API server has no front proxy that can be trusted: {key} in kube-system/extension-apiserver-authentication is missing or unreadable; start kube-apiserver with the --requestheader-… flags"
    )]
    FrontProxyUnusable { key: String },
    #[error(
        "the Secret {namespace}/{VIEW_SECRET}: {}; apply manifests/ again, it brings the Secret and the right to it",
        api_message(source)
    )]
    Secret { namespace: String, source: kube::Error },
    #[error(
        "the Secret {namespace}/{VIEW_SECRET} holds no usable authority: {why}; delete its data, the operator fills it again"
    )]
    BadSecret { namespace: String, why: String },
    #[error("the APIService {API_SERVICE}: {}; apply manifests/ again, it brings the right to it", api_message(source))]
    ApiService { source: kube::Error },
    #[error("a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    #[error("TLS: {0}")]
    Tls(String),
    #[error("the time is out of range for certificates: {0}; set the clock of this machine")]
    Time(#[from] jiff::Error),
    #[error("{address} can't be listened on: {source}; name another with --view-address")]
    Listen { address: SocketAddr, source: std::io::Error },
}
