//! Fences on record in the store, created once each: a control plane that was restored from a backup, or whose object of leaders is gone,
//! gives none a second time. Only the highest is kept.

use std::time::Duration;

use serde_json::json;

use crate::{
    effects::{
        gate::Gate,
        store::{Store, StoreError, keys},
    },
    model::{format::FORMAT, leading::Term},
};

/// The highest one; 0 where there is none.
pub(super) async fn highest(store: &Store) -> Result<i64, StoreError> {
    let recorded = store.list(&keys::fences()?).await?;
    Ok(recorded.iter().filter_map(|key| key.name().parse().ok()).max().unwrap_or(0))
}

/// Between two tries.
const RETRY: Duration = Duration::from_secs(30);

/// Puts one on record, however often that takes.
pub(crate) async fn keep_on_record(store: Store, gate: Gate, term: Term) {
    while let Err(error) = record(&store, &gate, &term).await {
        tracing::warn!(%error, fence = term.fence, "the fence can't be put on record in the store; trying again");
        tokio::time::sleep(RETRY).await;
    }
}

/// Puts one on record, and removes those below it.
async fn record(store: &Store, gate: &Gate, term: &Term) -> Result<(), StoreError> {
    let record = json!({ "format": FORMAT, "namespaces": term.scope, "holder": term.holder, "since": term.since });
    // Of one number there may be a record already, where two control planes share a store: it is as high.
    store.create(gate, &keys::fence(term.fence)?, record.to_string().into_bytes()).await?;
    for key in store.list(&keys::fences()?).await? {
        if key.name().parse::<i64>().is_ok_and(|fence| fence < term.fence) {
            store.remove(gate, &key).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use jiff::Timestamp;

    use super::*;
    use crate::model::{ids::FenceToken, leading::Scope};

    #[tokio::test]
    async fn the_highest_fence_stays_on_record_alone() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::folder(folder.path().to_owned()).unwrap();
        let gate = Gate::open_for(FenceToken::new("plane", 1));
        assert_eq!(highest(&store).await.unwrap(), 0);
        for (fence, expected) in [(9, 9), (10, 10), (7, 10), (10, 10), (1_800_000_000, 1_800_000_000)] {
            let term = Term {
                scope: Scope::from(BTreeSet::from(["a".to_owned()])),
                holder: "node".to_owned(),
                since: Timestamp::UNIX_EPOCH,
                renewed: Timestamp::UNIX_EPOCH,
                renewals: 0,
                lease_seconds: 15,
                fence,
                view_address: None,
            };
            record(&store, &gate, &term).await.unwrap();
            assert_eq!(highest(&store).await.unwrap(), expected);
        }
        assert_eq!(store.list(&keys::fences().unwrap()).await.unwrap().len(), 1);
    }
}
