//! A log's way into the store: pieces of 1 MiB, written once.

use super::{AttemptId, ExecutorError, LocalExecutor, StepState, attempt::PIECE};
use crate::effects::{
    gate::Gate,
    store::{Store, keys},
};

pub(super) async fn seal(
    executor: &LocalExecutor,
    gate: &Gate,
    store: &Store,
    attempt: &AttemptId,
) -> Result<u64, ExecutorError> {
    // Asked first: what is read after it is the whole log.
    let ended = !matches!(executor.state(attempt).await?, StepState::Running { .. });
    let mut n = 0;
    loop {
        let piece = executor.log(attempt, n * PIECE).await?;
        let whole = piece.len() as u64 == PIECE;
        if piece.is_empty() || !(whole || ended) {
            return Ok(n);
        }
        let key = keys::log(&attempt.uid, attempt.attempt, None, n).map_err(crate::effects::store::StoreError::from)?;
        // A piece never changes, so one that is there is this one.
        if store.get(&key).await?.is_none() {
            store.create(gate, &key, piece).await?;
        }
        n += 1;
        if !whole {
            return Ok(n);
        }
    }
}

/// Raw bytes of a sealed log from `offset` to the end of its piece; empty at the end.
pub async fn sealed_log(store: &Store, attempt: &AttemptId, offset: u64) -> Result<Vec<u8>, ExecutorError> {
    let key = keys::log(&attempt.uid, attempt.attempt, None, offset / PIECE)
        .map_err(crate::effects::store::StoreError::from)?;
    let piece = store.get(&key).await?.unwrap_or_default();
    let from = usize::try_from(offset % PIECE).unwrap_or(usize::MAX);
    Ok(piece.get(from..).unwrap_or_default().to_vec())
}
