//! An application's log as it lies on the host, in pieces. The bytes are as the application wrote them: whoever shows them cleans them.
//!
//! The host sends no more than the reader has room for, so a slow reader delays no other request of the session.

use std::sync::Arc;

use bytes::Bytes;
use landfall_host_protocol::{Answer, FolderName, LogFile, LogRequest, Request};

use super::{
    ProgramError,
    inbox::Incoming,
    session::{ANSWER_TIMEOUT, Asked, Live},
};

/// Bytes that may be on the way or wait to be read.
const WINDOW: u64 = 128 << 10;

/// Which part of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogPart {
    /// The last lines; `None`: all that the host has.
    pub last_lines: Option<u32>,
    /// What was written in the last so many seconds, as far as the host knows when that was.
    pub since_seconds: Option<u64>,
    /// And what comes, until the stream is dropped.
    pub follow: bool,
}

/// A log that is read. Dropping it ends the reading on the host as well. It keeps no session alive: it ends with the session.
pub struct LogStream {
    asked: Asked,
    /// Bytes that the host may still send.
    granted: u64,
    ended: bool,
}

impl LogStream {
    pub(super) async fn open(live: &Arc<Live>, folder: FolderName, part: LogPart) -> Result<Self, ProgramError> {
        let LogPart { last_lines, since_seconds, follow } = part;
        let request = LogRequest {
            last_lines,
            since_seconds,
            follow,
            older: true,
            window: Some(WINDOW),
            ..LogRequest::of(folder, LogFile(0))
        };
        let mut asked = live.ask(&Request::Log(request))?;
        // A log on a disk that is slow delays no task: this request is dropped alone.
        match asked.answer_in_time("opening a log", ANSWER_TIMEOUT).await? {
            Answer::Done => Ok(Self { asked, granted: WINDOW, ended: false }),
            _ => Err(asked.violation("another answer than that the log is open")),
        }
    }

    /// The next piece; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ProgramError> {
        if self.ended {
            return Ok(None);
        }
        let Incoming::Bytes { bytes, last } = self.asked.next().await? else {
            return Err(self.asked.violation("an answer where a log is due"));
        };
        let Some(granted) = self.granted.checked_sub(bytes.len() as u64) else {
            return Err(self.asked.violation("more of a log than there is room for"));
        };
        self.granted = granted;
        if last {
            self.ended = true;
            self.asked.finish();
            return Ok((!bytes.is_empty()).then_some(bytes));
        }
        // Not for each piece: a request a window's half.
        if self.granted <= WINDOW / 2 {
            self.asked.more(WINDOW - self.granted)?;
            self.granted = WINDOW;
        }
        Ok(Some(bytes))
    }
}
