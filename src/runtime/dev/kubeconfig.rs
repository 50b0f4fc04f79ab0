//! Kubeconfigs with a client certificate in them.

use std::path::Path;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;

use super::{error::DevError, files, pki::Leaf};

/// Writes a kubeconfig (mode 0600) for that client. `namespace` is where its commands go when they name none.
pub fn write(
    path: &Path,
    server: &str,
    authority: &str,
    user: &str,
    client: &Leaf,
    namespace: &str,
) -> Result<(), DevError> {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "landfall-dev", "cluster": {
            "server": server,
            "certificate-authority-data": STANDARD.encode(authority),
        }}],
        "users": [{ "name": user, "user": {
            "client-certificate-data": STANDARD.encode(&client.certificate),
            "client-key-data": STANDARD.encode(client.key.pem()),
        }}],
        "contexts": [{ "name": "landfall-dev", "context": { "cluster": "landfall-dev", "user": user, "namespace": namespace }}],
        "current-context": "landfall-dev",
    });
    let text = serde_saphyr::to_string(&config).map_err(|error| DevError::Kubeconfig(error.to_string()))?;
    files::write_private(path, &text)
}
