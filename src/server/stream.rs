//! The body of a log's answer: read piece by piece as fast as the reader takes it, and never faster. What waits for a slow reader is one
//! piece, not the log.

use std::{io, time::Duration};

use axum::body::{Body, Bytes};
use tokio::sync::watch;

use super::{followers::Progress, reader_permits::ReaderPermit, stamps::Stamps};
use crate::effects::{
    logs::Log,
    plain::{LOOK_BACK, Plain},
};

/// Bytes read and sent at once.
const PIECE_BYTES: u64 = 64 * 1024;
/// The same where each line gets its time: of lines without text it makes 22 times as much.
const STAMPED_PIECE_BYTES: u64 = 8 * 1024;
/// Tries, each after a pause, to find a log whose file is gone, before its reading fails.
const FIND_TRIES: u32 = 50;

/// How a log is read.
pub(crate) struct Reading {
    log: Log,
    /// The next byte to read.
    at: u64,
    /// Bytes that were read for the filter's sake and are not shown.
    skip: usize,
    plain: Plain,
    until: Until,
    stamps: Option<Stamps>,
    _seat: ReaderPermit,
}

/// Where a reading ends.
pub(crate) enum Until {
    /// There, with what is held back if nothing more can come.
    Offset { end: u64, over: bool },
    /// When the log is over.
    Over(watch::Receiver<Progress>),
    /// There, and not as an end: who reads learns that there is more elsewhere, later.
    Cut(u64),
}

impl Reading {
    /// `stamps`, where there are some, begin at `from` too.
    pub fn new(log: Log, from: u64, until: Until, stamps: Option<Stamps>, permit: ReaderPermit) -> Self {
        let back = from.min(LOOK_BACK);
        let skip = usize::try_from(back).unwrap_or_default();
        Self { log, at: from - back, skip, plain: Plain::default(), until, stamps, _seat: permit }
    }

    pub fn into_body(self) -> Body {
        Body::from_stream(futures::stream::try_unfold(Some(self), |reading| async {
            let Some(mut reading) = reading else { return Ok::<_, io::Error>(None) };
            match reading.next().await? {
                Next::Bytes(bytes) => Ok(Some((bytes, Some(reading)))),
                Next::Last(bytes) => Ok(Some((bytes, None))),
            }
        }))
    }

    async fn next(&mut self) -> io::Result<Next> {
        let mut lost = 0;
        let piece = if self.stamps.is_some() { STAMPED_PIECE_BYTES } else { PIECE_BYTES };
        loop {
            let most = match &self.until {
                Until::Offset { end, .. } | Until::Cut(end) => end.saturating_sub(self.at).min(piece),
                Until::Over(_) => piece,
            };
            let bytes = match most {
                0 => Vec::new(),
                most => self.log.read(self.at, most).await.map_err(io::Error::other)?,
            };
            if !bytes.is_empty() {
                lost = 0;
                self.at += bytes.len() as u64;
                if let Some(stamps) = &mut self.stamps {
                    stamps.read_to(self.at).await;
                }
                let shown = self.plain.push(&bytes);
                match self.shown(shown) {
                    bytes if bytes.is_empty() => continue,
                    bytes => return Ok(Next::Bytes(bytes)),
                }
            }
            match self.wait().await? {
                Wait::More => {}
                Wait::End { over } => {
                    let rest = if over { self.plain.finish() } else { Vec::new() };
                    return Ok(Next::Last(self.shown(rest)));
                }
                Wait::Lost => {
                    lost += 1;
                    if lost > FIND_TRIES {
                        return Err(io::Error::other("the log's file is gone"));
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn shown(&mut self, mut bytes: Vec<u8>) -> Bytes {
        let skip = self.skip.min(bytes.len());
        self.skip -= skip;
        bytes.drain(..skip);
        match &mut self.stamps {
            Some(stamps) => stamps.put(&bytes).into(),
            None => bytes.into(),
        }
    }

    /// Nothing was there to read.
    async fn wait(&mut self) -> io::Result<Wait> {
        match &mut self.until {
            Until::Offset { over, .. } => Ok(Wait::End { over: *over }),
            Until::Cut(_) => Err(io::Error::other("the rest is where the operator was that led")),
            Until::Over(tail) => {
                let now = *tail.borrow_and_update();
                if self.at < now.size {
                    return Ok(Wait::Lost);
                }
                if now.over {
                    return Ok(Wait::End { over: true });
                }
                tail.changed().await.map(|()| Wait::More).map_err(io::Error::other)
            }
        }
    }
}

enum Next {
    Bytes(Bytes),
    Last(Bytes),
}

enum Wait {
    More,
    End { over: bool },
    Lost,
}
