//! The loopback ports of a control plane: those of the last start where they are still free, so that addresses stay, else others.

use std::{fs, io, net::TcpListener};

use serde::{Deserialize, Serialize};

use super::{error::DevError, files, folder::Folder};

/// All on 127.0.0.1.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Ports {
    pub apiserver: u16,
    pub etcd: u16,
    pub etcd_peer: u16,
    /// The operator's, for the aggregated API.
    #[serde(default)]
    pub view: u16,
}

impl Ports {
    /// The ports are free at this moment; another process may still be faster than the one that is started for them.
    pub fn choose(folder: &Folder) -> Result<Self, DevError> {
        let last: Option<Self> =
            fs::read(folder.ports()).ok().and_then(|content| serde_json::from_slice(&content).ok());
        // All are held until all are chosen, so that no two are the same.
        let wishes = [
            last.map(|ports| ports.apiserver),
            last.map(|ports| ports.etcd),
            last.map(|ports| ports.etcd_peer),
            last.map(|ports| ports.view),
        ];
        let held = wishes.into_iter().map(free).collect::<io::Result<Vec<_>>>().map_err(DevError::Ports)?;
        let number =
            |listener: &TcpListener| listener.local_addr().map(|address| address.port()).map_err(DevError::Ports);
        let numbers = held.iter().map(number).collect::<Result<Vec<_>, _>>()?;
        let [apiserver, etcd, etcd_peer, view] = numbers[..] else {
            return Err(DevError::Ports(io::Error::other("not as many as were asked for")));
        };
        let ports = Self { apiserver, etcd, etcd_peer, view };
        files::write_private(&folder.ports(), &serde_json::json!(ports).to_string())?;
        Ok(ports)
    }

    /// Forgets the ports of the last start.
    pub fn forget(folder: &Folder) {
        let _ = fs::remove_file(folder.ports());
    }
}

fn free(wish: Option<u16>) -> io::Result<TcpListener> {
    wish.and_then(|port| TcpListener::bind(("127.0.0.1", port)).ok())
        .map_or_else(|| TcpListener::bind(("127.0.0.1", 0)), Ok)
}
