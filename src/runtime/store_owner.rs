//! Which control plane a store belongs to: the first that leads on it. An operator of another one knows none of its objects, so it would
//! end what runs and collect what is needed. It must not decide what is kept.

use serde::Deserialize;
use serde_json::json;

use crate::{
    effects::{
        gate::Gate,
        store::{Create, Store, StoreError, keys},
    },
    model::format::FORMAT,
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    control_plane_id: String,
}

/// The store can't be worked with.
#[derive(Debug, thiserror::Error)]
pub enum StoreOwnerError {
    #[error(
        "the store in the data folder belongs to control plane {theirs}, and this one is {ours}: its objects are not here, so what they need \
         would be removed. See that KUBECONFIG and its context are right, or name another --data-dir. Where this control plane takes the \
         place of that one, which is gone: remove the file store/control-plane from the data folder"
    )]
    Other { theirs: String, ours: String },
    #[error(
        "store/control-plane in the data folder is no record of a control plane; restore it from a backup, or remove it"
    )]
    Unreadable,
    #[error("the store: {0}")]
    Store(#[from] StoreError),
}

/// Refuses a store of another control plane. Before anything is led.
pub(super) async fn check(store: &Store, control_plane_id: &str) -> Result<(), StoreOwnerError> {
    match store.get(&keys::control_plane().map_err(StoreError::from)?).await? {
        Some(found) => is_ours(&found, control_plane_id),
        None => Ok(()),
    }
}

/// Puts this control plane on record, where none is.
pub(super) async fn claim(store: &Store, gate: &Gate, control_plane_id: &str) -> Result<(), StoreOwnerError> {
    let key = keys::control_plane().map_err(StoreError::from)?;
    if let Some(found) = store.get(&key).await? {
        return is_ours(&found, control_plane_id);
    }
    let record = json!({ "format": FORMAT, "controlPlaneId": control_plane_id });
    match store.create(gate, &key, record.to_string().into_bytes()).await? {
        Create::Created => Ok(()),
        Create::Exists(found) => is_ours(&found, control_plane_id),
    }
}

fn is_ours(record: &[u8], ours: &str) -> Result<(), StoreOwnerError> {
    let record: Record = serde_json::from_slice(record).map_err(|_| StoreOwnerError::Unreadable)?;
    match record.control_plane_id == ours {
        true => Ok(()),
        false => Err(StoreOwnerError::Other { theirs: record.control_plane_id, ours: ours.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::FenceToken;

    #[tokio::test]
    async fn a_store_belongs_to_the_first_control_plane_that_leads_on_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::folder(folder.path().to_owned()).unwrap();
        let gate = Gate::open_for(FenceToken::new("one", 1));
        check(&store, "one").await.unwrap();
        claim(&store, &gate, "one").await.unwrap();
        claim(&store, &gate, "one").await.unwrap();
        check(&store, "one").await.unwrap();
        for refused in [check(&store, "two").await, claim(&store, &gate, "two").await] {
            let said = refused.unwrap_err().to_string();
            assert!(said.contains("belongs to control plane one, and this one is two"), "{said}");
        }
    }
}
