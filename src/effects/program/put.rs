//! Bytes to a host: what came before a cut is not sent again, and a line that is too slow is given up. It must not know what they are.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use landfall_host_protocol::{Answer, Digest, FolderName, Request};
use tokio::io::{AsyncReadExt, BufReader};

use super::{
    ProgramError,
    pace::Pace,
    session::{ANSWER_TIMEOUT, Asked, Live},
};
use crate::effects::{clock, payload::Payload};

/// Bytes of a frame: a request that comes meanwhile waits for one of them at most.
const FRAME_BYTES: usize = 64 << 10;
/// Bytes that are read ahead: each read of a file costs a turn of another thread.
const AHEAD_BYTES: usize = 256 << 10;
/// An object below this is sent without asking how much of it is there: that would take longer.
const SMALL: u64 = 128 << 10;
/// Pauses between two questions what the host has, while nothing more arrives.
const ASK_PAUSE: Duration = Duration::from_millis(5);
const ASK_PAUSE_MAX: Duration = Duration::from_millis(500);
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
    let part = Part { folder, sha256, size, from };
    let sent = tokio::select! {
        biased;
        sent = send(live, &asked, &part, payload, options) => {
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

/// Which bytes of which object are sent.
struct Part<'a> {
    folder: &'a FolderName,
    sha256: &'a Digest,
    size: u64,
    from: u64,
}

async fn send(
    live: &Live,
    asked: &Asked,
    part: &Part<'_>,
    payload: &Payload,
    options: &PutOptions,
) -> Result<(), ProgramError> {
    let Part { size, from, .. } = *part;
    let unreadable = |why: String| ProgramError::LocalFile { name: payload.name(), why };
    let stream = payload.open().await.map_err(|error| unreadable(error.to_string()))?;
    let ahead = usize::try_from(size).map_or(AHEAD_BYTES, |size| size.clamp(1, AHEAD_BYTES));
    let mut stream = BufReader::with_capacity(ahead, stream);
    let skipped = tokio::io::copy(&mut (&mut stream).take(from), &mut tokio::io::sink()).await;
    let skipped = skipped.map_err(|error| unreadable(error.to_string()))?;
    let mut buffer = vec![0; FRAME_BYTES];
    let mut acks = options.least_rate.map(|least| Acks::new(live, part, least));
    let mut at = skipped;
    loop {
        let wanted = usize::try_from(size.saturating_sub(at)).unwrap_or(usize::MAX).min(buffer.len());
        let bytes = buffer.get_mut(..wanted).unwrap_or_default();
        let mut filled = 0;
        while filled < bytes.len() {
            let n = stream.read(bytes.get_mut(filled..).unwrap_or_default()).await;
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
            if let Some(acks) = &mut acks {
                acks.pace.granted(asked_at.elapsed());
            }
        }
        match &mut acks {
            Some(acks) => acks.send(asked, bytes, at, last).await?,
            None => asked.send(bytes, last).await?,
        }
        if last {
            return Ok(());
        }
    }
}

/// What the host has of an object that is being sent, asked again and again beside it.
struct Acks<'a> {
    live: &'a Live,
    part: &'a Part<'a>,
    pace: Pace,
    /// Questions that are not answered yet.
    asked: VecDeque<(Asked, Instant)>,
    /// Bytes that were sent when the last one was asked.
    asked_at: u64,
}

impl<'a> Acks<'a> {
    fn new(live: &'a Live, part: &'a Part<'a>, least: u64) -> Self {
        let pace = Pace::new(least, part.from, clock::monotonic());
        Self { live, part, pace, asked: VecDeque::new(), asked_at: part.from }
    }

    /// Sends the bytes that end at `to` once there is room for them on the way.
    async fn send(&mut self, asked: &Asked, bytes: &[u8], to: u64, last: bool) -> Result<(), ProgramError> {
        let sent = to - bytes.len() as u64;
        let mut pause = ASK_PAUSE;
        while self.pace.is_full(sent) {
            if self.asked.is_empty() {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(ASK_PAUSE_MAX);
                self.ask(sent)?;
            }
            if self.answer().await? {
                pause = ASK_PAUSE;
            }
        }
        let taken = tokio::time::timeout(self.pace.window(), asked.send(bytes, last)).await;
        taken.map_err(|_| self.pace.too_slow(0))??;
        if to - self.asked_at >= self.pace.interval() {
            self.ask(to)?;
        }
        Ok(())
    }

    fn ask(&mut self, sent: u64) -> Result<(), ProgramError> {
        let Part { folder, sha256, size, .. } = *self.part;
        let request = Request::Put { folder: folder.clone(), sha256: sha256.clone(), size, from: None };
        self.asked.push_back((self.live.ask(&request)?, clock::monotonic()));
        self.asked_at = sent;
        Ok(())
    }

    /// The oldest answer; whether more has arrived.
    async fn answer(&mut self) -> Result<bool, ProgramError> {
        let Some((mut asked, at)) = self.asked.pop_front() else { return Ok(false) };
        let answer = tokio::time::timeout(self.pace.window(), asked.answer()).await;
        let answer = answer.map_err(|_| self.pace.too_slow(0))??;
        asked.finish();
        match answer {
            Answer::Have { bytes } if bytes <= self.part.size => {
                let now = clock::monotonic();
                self.pace.has(bytes, now.saturating_duration_since(at), now)
            }
            _ => Err(asked.violation("more bytes of an object than there are")),
        }
    }
}
