//! Bytes to a host: what came before a cut is not sent again, and a line that is too slow is given up. It must not know what they are.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use landfall_host_protocol::{Answer, Digest, FolderName, Request};
use tokio::io::AsyncReadExt;

use super::{
    ProgramError,
    session::{ANSWER_TIMEOUT, Asked, Live},
};
use crate::effects::{clock, payload::Payload};

/// Bytes of a frame: a request that comes meanwhile waits for one of them at most.
const FRAME_BYTES: usize = 64 << 10;
/// An object below this is sent without asking how much of it is there: that would take longer.
const SMALL: u64 = 128 << 10;
/// Time until the rate is judged: buffers on the way take the first bytes at once.
const RATE_WINDOW: Duration = Duration::from_secs(10);
/// The longest time that the host takes to verify and sync the whole object.
const STORE_TIMEOUT: Duration = Duration::from_secs(120);

/// Who grants bytes to uploads. It must not fail; it may take its time.
pub trait ByteBudget: Send + Sync {
    fn take(&self, bytes: usize) -> BoxFuture<'_, ()>;
}

/// How an upload is bounded.
#[derive(Clone, Default)]
pub struct PutOptions {
    pub budget: Option<Arc<dyn ByteBudget>>,
    /// Bytes a second, not counting the time that the budget takes; a slower line ends the upload, and what arrived stays.
    pub least_rate: Option<u64>,
}

pub(super) async fn have(live: &Live, folder: &FolderName, sha256: &Digest, size: u64) -> Result<u64, ProgramError> {
    let request = Request::Put { folder: folder.clone(), sha256: sha256.clone(), size, from: None };
    let mut asked = live.ask(&request)?;
    let answer = asked.answer_within("telling what it has", ANSWER_TIMEOUT).await?;
    asked.finish();
    match answer {
        Answer::Have { bytes } if bytes <= size => Ok(bytes),
        _ => Err(asked.violation("more bytes of an object than there are")),
    }
}

pub(super) async fn put(
    live: &Live,
    folder: &FolderName,
    sha256: &Digest,
    size: u64,
    payload: &Payload,
    options: &PutOptions,
) -> Result<(), ProgramError> {
    let from = if size > SMALL { have(live, folder, sha256, size).await? } else { 0 };
    if from == size && size > 0 {
        return Ok(());
    }
    let request = Request::Put { folder: folder.clone(), sha256: sha256.clone(), size, from: Some(from) };
    let mut asked = live.ask(&request)?;
    let sent = tokio::select! {
        biased;
        sent = send(&asked, from, size, payload, options) => {
            sent?;
            true
        }
        // A host that has no room says so before the last byte.
        () = asked.arrived() => false,
    };
    if !sent {
        // It reads on to the last frame.
        asked.send(&[], true).await?;
    }
    let answer = asked.answer_within("storing what it was sent", STORE_TIMEOUT).await?;
    asked.finish();
    match answer {
        Answer::Stored => Ok(()),
        _ => Err(asked.violation("another answer than that it is stored")),
    }
}

async fn send(
    asked: &Asked,
    from: u64,
    size: u64,
    payload: &Payload,
    options: &PutOptions,
) -> Result<(), ProgramError> {
    let unreadable = |why: String| ProgramError::LocalFile { name: payload.name(), why };
    let mut stream = payload.open().await.map_err(|error| unreadable(error.to_string()))?;
    let skipped = tokio::io::copy(&mut (&mut stream).take(from), &mut tokio::io::sink()).await;
    let skipped = skipped.map_err(|error| unreadable(error.to_string()))?;
    let mut buffer = vec![0; FRAME_BYTES];
    let mut rate = Rate { began: clock::monotonic(), granted: Duration::ZERO, sent: 0 };
    let mut at = skipped;
    loop {
        let wanted = usize::try_from(size.saturating_sub(at)).unwrap_or(usize::MAX).min(buffer.len());
        let part = buffer.get_mut(..wanted).unwrap_or_default();
        let mut filled = 0;
        while filled < part.len() {
            let n = stream.read(part.get_mut(filled..).unwrap_or_default()).await;
            match n.map_err(|error| unreadable(error.to_string()))? {
                0 => return Err(unreadable(format!("it has {} bytes, {size} were announced", at + filled as u64))),
                n => filled += n,
            }
        }
        at += filled as u64;
        let last = at >= size;
        if let Some(budget) = &options.budget {
            let asked_at = clock::monotonic();
            budget.take(filled).await;
            rate.granted += asked_at.elapsed();
        }
        asked.send(part, last).await?;
        rate.sent += filled as u64;
        if let Some(least) = options.least_rate {
            rate.judge(least)?;
        }
        if last {
            return Ok(());
        }
    }
}

struct Rate {
    began: std::time::Instant,
    /// Time that was spent waiting for the budget.
    granted: Duration,
    sent: u64,
}

impl Rate {
    fn judge(&self, least: u64) -> Result<(), ProgramError> {
        let time = self.began.elapsed().saturating_sub(self.granted);
        let rate = self.sent / time.as_secs().max(1);
        if time >= RATE_WINDOW && rate < least {
            return Err(ProgramError::TooSlow { what: "the upload", rate, least });
        }
        Ok(())
    }
}
