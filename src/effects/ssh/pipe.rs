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
    connection: Arc<Connection>,
    _permit: OwnedSemaphorePermit,
    reader: ChannelReadHalf,
    writer: ChannelWriteHalf<Msg>,
    stderr: Vec<u8>,
    status: Option<u32>,
    closed: bool,
}

impl Pipe {
    /// Starts `command` through the login shell, or whatever the server has in its place.
    pub async fn open(connection: Arc<Connection>, command: String) -> Result<Self, SshError> {
        let (channel, permit) = connection.session().await?;
        connection.close_handle.free();
        let asked = connection.within("taking a command", OPEN_TIMEOUT, channel.exec(false, command)).await?;
        asked.map_err(|error| connection.lost("taking a command", &error))?;
        let (reader, writer) = channel.split();
        Ok(Self { connection, _permit: permit, reader, writer, stderr: Vec::new(), status: None, closed: false })
    }

    pub async fn write(&self, bytes: Bytes) -> Result<(), SshError> {
        let sent = self.writer.data_bytes(bytes).await;
        sent.map_err(|error| self.connection.lost("sending", &error))
    }

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
                    let (address, why) = (self.connection.address.clone(), "the connection ended".to_owned());
                    return Err(SshError::Lost { address, what: "a command", why });
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
