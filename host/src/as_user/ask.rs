//! What is asked of the other user's process, and what it answers: one line of JSON each, in turn.

use std::{
    io::{self, BufRead, BufReader, Write},
    os::{fd::AsFd, unix::net::UnixStream},
    path::PathBuf,
    time::{Duration, Instant},
};

use landfall_host_protocol::SecretValue;
use rustix::event::{PollFd, PollFlags, poll};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    clock,
    keeper::{
        Belonging, Executed, Exit,
        launch::{Launch, LaunchError},
    },
    process::{Identity, Listening, timespec},
};

/// A line is no longer: the other user is a stranger.
const LINE_MAX: usize = 16 << 20;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Ask {
    /// Ends what is under way.
    Nothing,
    Prepare,
    Go(Launch),
    Signal {
        process: Identity,
        signal: i32,
    },
    Living(Belonging),
    EndAll {
        of: Belonging,
        millis: u64,
    },
    Reap {
        pid: i32,
    },
    Owns {
        of: Belonging,
        sockets: Vec<Listening>,
    },
    Execute {
        launch: Launch,
        millis: u64,
    },
    /// A folder that is to be that user's.
    MakeFolder {
        path: PathBuf,
    },
    /// Whether a file of that user's is as it is to be.
    HasFile {
        path: PathBuf,
        size: usize,
        sha256: String,
        mode: u32,
    },
    /// A new file of that user's.
    MakeFile {
        path: PathBuf,
        value: SecretValue,
        mode: u32,
    },
    /// Everything in a folder of that user's, but not the folder itself.
    EmptyFolder {
        path: PathBuf,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Said {
    /// Its uid and pid.
    Hello {
        uid: u32,
        pid: i32,
    },
    Prepared(Identity),
    Went(Result<(), LaunchError>),
    Sent(bool),
    Living(Vec<Identity>),
    EndedAll(bool),
    Reaped(Option<Exit>),
    Owns(Option<bool>),
    Executed(Executed),
    Made,
    Has(bool),
    /// A file that could not be written.
    NotMade {
        errno: Option<i32>,
        why: String,
    },
    Failed(String),
}

pub(super) struct Lines {
    reader: BufReader<UnixStream>,
}

impl Lines {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self { reader: BufReader::new(stream) }
    }

    /// More lines are here already.
    pub(super) fn has_more(&self) -> bool {
        !self.reader.buffer().is_empty()
    }

    /// Something of a line is here, or the end.
    pub(super) fn is_readable(&self) -> bool {
        let mut fds = [PollFd::from_borrowed_fd(self.stream().as_fd(), PollFlags::IN)];
        self.has_more() || poll(&mut fds, Some(&timespec(Duration::ZERO))).is_ok_and(|ready| ready > 0)
    }

    pub(super) fn stream(&self) -> &UnixStream {
        self.reader.get_ref()
    }

    /// The next line, whole by `end`; `None`: however long it takes.
    pub(super) fn read<T: DeserializeOwned>(&mut self, end: Option<Instant>) -> io::Result<T> {
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            self.reader.get_ref().set_read_timeout(end.map(left).transpose()?)?;
            let came = match self.reader.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                came => came?,
            };
            let count = came.iter().position(|byte| *byte == b'\n').map_or(came.len(), |end| end + 1);
            if count == 0 || line.len() + count > LINE_MAX {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            line.extend_from_slice(came.get(..count).unwrap_or_default());
            self.reader.consume(count);
        }
        Ok(serde_json::from_slice(&line)?)
    }

    /// Writes a line, all of it by `end`.
    pub(super) fn write<T: Serialize>(&mut self, what: &T, end: Option<Instant>) -> io::Result<()> {
        let mut line = serde_json::to_vec(what)?;
        line.push(b'\n');
        let mut rest = line.as_slice();
        let mut stream = self.reader.get_ref();
        while !rest.is_empty() {
            stream.set_write_timeout(end.map(left).transpose()?)?;
            match stream.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The time that is left; an error where there is none.
fn left(end: Instant) -> io::Result<Duration> {
    let left = end.saturating_duration_since(clock::monotonic());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_millis(300);

    #[test]
    fn who_answers_a_byte_at_a_time_holds_nobody() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let trickle = std::thread::spawn(move || {
            for _ in 0..100 {
                if theirs.write_all(b" ").is_err() {
                    break;
                }
                std::thread::sleep(LIMIT / 10);
            }
        });
        let mut lines = Lines::new(ours);
        let began = clock::monotonic();
        assert!(lines.read::<Said>(Some(began + LIMIT)).is_err());
        assert!(began.elapsed() < LIMIT * 8);
        drop(lines);
        trickle.join().unwrap();
    }

    #[test]
    fn who_reads_nothing_holds_nobody() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let mut lines = Lines::new(ours);
        let launch = Launch { command: vec!["x".repeat(8 << 20)], env: Vec::new(), folder: "/".into() };
        assert!(lines.write(&Ask::Go(launch), Some(clock::monotonic() + LIMIT)).is_err());
    }
}
