//! An application's log as it lies on the host, in pieces. The bytes are as the application wrote them: whoever shows them cleans them.

use std::sync::Arc;

use bytes::Bytes;
use landfall_host_protocol::Answer;

use super::{
    ProgramError,
    inbox::Incoming,
    session::{Asked, Live},
};

/// A log that is read. Dropping it ends the reading on the host as well.
pub struct LogStream {
    /// The session lives as long.
    _live: Arc<Live>,
    asked: Asked,
    ended: bool,
}

impl LogStream {
    pub(super) fn new(live: Arc<Live>, asked: Asked) -> Self {
        Self { _live: live, asked, ended: false }
    }

    /// The next piece; `None` at the end. Whoever reads too slowly is told `Lagged`.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ProgramError> {
        if self.ended {
            return Ok(None);
        }
        match self.asked.next().await? {
            Incoming::Bytes { bytes, last } => {
                if last {
                    self.ended = true;
                    self.asked.finish();
                }
                Ok((!bytes.is_empty() || !last).then_some(bytes))
            }
            Incoming::Answer(Answer::Refused(refusal)) => {
                self.ended = true;
                self.asked.finish();
                Err(ProgramError::Refused(refusal))
            }
            Incoming::Answer(_) => Err(self.asked.violation("an answer where a log is due")),
        }
    }
}
