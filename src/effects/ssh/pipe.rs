//! A command on the host as two streams, for protocols of their own. It must not know which.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, client::Msg};
use tokio::sync::OwnedSemaphorePermit;

use super::{SshError, connection::Connection};

/// Bytes of the command's stderr that are kept.
const STDERR_MAX: usize = 4 * 1024;
const OPEN_TIMEOUT: Duration = Duration::from_secs(15);

/// A running command; it ends when this is dropped.
pub struct Pipe {
    reader: PipeReader,
    writer: PipeWriter,
}

/// The command's output.
pub struct PipeReader {
    connection: Arc<Connection>,
    _permit: OwnedSemaphorePermit,
    reader: ChannelReadHalf,
    stderr: Vec<u8>,
    status: Option<u32>,
    closed: bool,
}

/// The command's input.
pub struct PipeWriter {
    connection: Arc<Connection>,
    writer: ChannelWriteHalf<Msg>,
}

impl Pipe {
    /// Starts `command` through the login shell, or whatever the server has in its place. From now on the connection is read as fast as it
    /// comes: it carries a repository.
    pub async fn open(connection: Arc<Connection>, command: String) -> Result<Self, SshError> {
        connection.close_handle.free();
        Self::open_throttled(connection, command).await
    }

    /// The same, and what the host says is read no faster than a host has something to say.
    pub async fn open_throttled(connection: Arc<Connection>, command: String) -> Result<Self, SshError> {
        let (channel, permit) = connection.session().await?;
        let asked = connection.within("taking a command", OPEN_TIMEOUT, channel.exec(false, command)).await?;
        asked.map_err(|error| connection.lost("taking a command", &error))?;
        let (reader, writer) = channel.split();
        let writer = PipeWriter { connection: connection.clone(), writer };
        let reader =
            PipeReader { connection, _permit: permit, reader, stderr: Vec::new(), status: None, closed: false };
        Ok(Self { reader, writer })
    }

    pub async fn write(&self, bytes: Bytes) -> Result<(), SshError> {
        self.writer.write(bytes).await
    }

    /// The next bytes of its output; `None` at its end.
    pub async fn read(&mut self) -> Result<Option<Bytes>, SshError> {
        self.reader.read().await
    }

    /// Its stderr, and its exit status if there is one. Neither is proof of anything.
    pub fn stderr(&self) -> (&[u8], Option<u32>) {
        self.reader.stderr()
    }

    /// Both ends, for two tasks.
    pub fn into_split(self) -> (PipeReader, PipeWriter) {
        (self.reader, self.writer)
    }
}

impl PipeWriter {
    pub async fn write(&self, bytes: Bytes) -> Result<(), SshError> {
        let sent = self.writer.data_bytes(bytes).await;
        sent.map_err(|error| self.connection.lost("sending", &error))
    }

    /// Asks the server to end the command and its output.
    pub async fn close(&self) {
        // A closed channel needs nothing.
        let _ = self.writer.close().await;
    }

    /// The end of the input.
    pub async fn end(&self) -> Result<(), SshError> {
        self.writer.eof().await.map_err(|error| self.connection.lost("sending", &error))
    }
}

impl PipeReader {
    /// The next bytes of its output; `None` at its end.
    pub async fn read(&mut self) -> Result<Option<Bytes>, SshError> {
        while !self.closed {
            match self.reader.wait().await {
                Some(ChannelMsg::Data { data }) if data.is_empty() => {}
                Some(ChannelMsg::Data { data }) => return Ok(Some(data)),
                Some(ChannelMsg::ExtendedData { data, .. }) => {
                    let room = STDERR_MAX.saturating_sub(self.stderr.len()).min(data.len());
                    self.stderr.extend_from_slice(data.get(..room).unwrap_or_default());
                }
                Some(ChannelMsg::ExitStatus { exit_status }) => self.status = Some(exit_status),
                Some(ChannelMsg::Close | ChannelMsg::ExitSignal { .. } | ChannelMsg::Failure) => self.closed = true,
                Some(_) => {}
                None if self.connection.is_closed() && self.status.is_none() => {
                    return Err(self.connection.gone("a command", "the connection ended".to_owned()));
                }
                None => self.closed = true,
            }
        }
        Ok(None)
    }

    /// Its stderr, and its exit status if there is one. Neither is proof of anything.
    pub fn stderr(&self) -> (&[u8], Option<u32>) {
        (&self.stderr, self.status)
    }
}
