//! What is asked of the other user's process, and what it answers: one line of JSON each, in turn.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    keeper::{
        Belonging, Executed, Exit,
        launch::{Launch, LaunchError},
    },
    process::{Identity, Listening},
};

/// A line is no longer: the other user is a stranger.
const LINE_MAX: u64 = 16 << 20;

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

    pub(super) fn stream(&self) -> &UnixStream {
        self.reader.get_ref()
    }

    pub(super) fn read<T: DeserializeOwned>(&mut self) -> io::Result<T> {
        let mut line = Vec::new();
        (&mut self.reader).take(LINE_MAX).read_until(b'\n', &mut line)?;
        if !line.ends_with(b"\n") {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_slice(&line)?)
    }

    pub(super) fn write<T: Serialize>(&mut self, what: &T) -> io::Result<()> {
        let mut line = serde_json::to_vec(what)?;
        line.push(b'\n');
        self.reader.get_mut().write_all(&line)
    }
}
