//! Keys of hosts that were trusted on first use, in the store: created once, never changed. One that is forgotten stays there, with a
//! record beside it that it no longer counts, so the store tells which keys a machine has had.

use futures::future::BoxFuture;

use crate::effects::{
    gate::Gate,
    ssh::FirstUse,
    store::{Create, Store, keys},
};

/// The kept keys of one group.
pub struct HostKeyStore {
    pub store: Store,
    pub gate: Gate,
    pub namespace: String,
    pub group: String,
}

/// What is on record about one machine.
#[derive(Default)]
struct Records {
    /// The number of the key that counts.
    current: Option<u32>,
    /// Number of keys ever seen.
    count: u32,
}

impl HostKeyStore {
    async fn records(&self, address: &str, port: u16) -> Result<Records, String> {
        let folder = keys::host_keys(&self.namespace, &self.group, address, port).map_err(|error| error.to_string())?;
        let listed = self.store.list(&folder).await.map_err(|error| error.to_string())?;
        let names: Vec<&str> = listed.iter().map(|key| key.name()).collect();
        let count = names.iter().filter_map(|name| name.parse::<u32>().ok()).max().unwrap_or_default();
        let current = (count > 0 && !names.contains(&format!("{count}.forgotten").as_str())).then_some(count);
        Ok(Records { current, count })
    }

    async fn read(&self, address: &str, port: u16, n: u32) -> Result<Option<String>, String> {
        let key = keys::host_key(&self.namespace, &self.group, address, port, n).map_err(|error| error.to_string())?;
        let bytes = self.store.get(&key).await.map_err(|error| error.to_string())?;
        bytes.map(|bytes| String::from_utf8(bytes).map_err(|_| format!("{key} is no text"))).transpose()
    }

    async fn keep_first(&self, address: &str, port: u16, line: &str) -> Result<String, String> {
        let records = self.records(address, port).await?;
        let n = records.current.unwrap_or(records.count + 1);
        let key = keys::host_key(&self.namespace, &self.group, address, port, n).map_err(|error| error.to_string())?;
        let made = self.store.create(&self.gate, &key, line.as_bytes().to_vec()).await;
        match made.map_err(|error| error.to_string())? {
            Create::Created => Ok(line.to_owned()),
            Create::Exists(bytes) => String::from_utf8(bytes).map_err(|_| format!("{key} is no text")),
        }
    }

    /// Whether a key is kept, and whether this very stamp has had one forgotten already.
    pub(crate) async fn forgetting(&self, address: &str, port: u16, stamp: &str) -> Result<(bool, bool), String> {
        let records = self.records(address, port).await?;
        for n in 1..=records.count {
            let key = keys::host_key_forgotten(&self.namespace, &self.group, address, port, n);
            let key = key.map_err(|error| error.to_string())?;
            let by = self.store.get(&key).await.map_err(|error| error.to_string())?;
            if by.as_deref() == Some(stamp.as_bytes()) {
                return Ok((records.current.is_some(), true));
            }
        }
        Ok((records.current.is_some(), false))
    }

    /// From now on the next key that is seen counts.
    pub async fn forget(&self, address: &str, port: u16, stamp: &str) -> Result<(), String> {
        let Some(n) = self.records(address, port).await?.current else { return Ok(()) };
        let key = keys::host_key_forgotten(&self.namespace, &self.group, address, port, n);
        let key = key.map_err(|error| error.to_string())?;
        self.store.create(&self.gate, &key, stamp.as_bytes().to_vec()).await.map_err(|error| error.to_string())?;
        Ok(())
    }
}

impl FirstUse for HostKeyStore {
    fn known<'a>(&'a self, address: &'a str, port: u16) -> BoxFuture<'a, Result<Option<String>, String>> {
        Box::pin(async move {
            match self.records(address, port).await?.current {
                Some(n) => self.read(address, port, n).await,
                None => Ok(None),
            }
        })
    }

    fn keep<'a>(&'a self, address: &'a str, port: u16, key: &'a str) -> BoxFuture<'a, Result<String, String>> {
        Box::pin(self.keep_first(address, port, key))
    }
}
