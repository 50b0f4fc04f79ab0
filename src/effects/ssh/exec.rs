//! One command on the host: bytes in, bytes out. Nothing here waits without a deadline or keeps without a cap.

use std::time::Duration;

use bytes::Bytes;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, client::Msg};
use tokio::io::AsyncReadExt;

use super::{SshError, connection::Connection};
use crate::effects::payload::Payload;

/// Bytes of output, stdout and stderr together, beyond which a command fails: no answer of the helper is that long, and output without end
/// is not read until a deadline.
const OUTPUT_MAX: usize = 1024 * 1024;
/// Bytes of stderr that are kept, from its end.
const STDERR_MAX: usize = 64 * 1024;
const CHUNK_BYTES: usize = 64 * 1024;
/// The longest time that an upload makes no progress.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// What goes to the command's stdin.
#[derive(Clone, Debug)]
pub struct Input {
    pub bytes: Vec<u8>,
    /// Sent after `bytes`.
    pub payload: Option<Payload>,
}

/// What came back. `status` alone proves nothing: a server may invent it.
#[derive(Clone, Debug, Default)]
pub struct Output {
    pub status: Option<u32>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Connection {
    /// Runs `command` through the login shell; `limit` counts from the moment that the input was sent.
    pub async fn exec(&self, command: String, input: Input, limit: Duration) -> Result<Output, SshError> {
        let (channel, _permit) = self.session().await?;
        let asked = self.within("taking a command", STALL_TIMEOUT, channel.exec(false, command)).await?;
        asked.map_err(|error| self.lost("taking a command", &error))?;
        let (reader, writer) = channel.split();

        let (sent, fed) = tokio::sync::oneshot::channel();
        let feeding = async {
            let done = self.feed(&writer, input).await;
            let _ = sent.send(());
            done
        };
        let late = async {
            let _ = fed.await;
            tokio::time::sleep(limit).await;
            SshError::Deadline { address: self.address.clone(), what: "a command", seconds: limit.as_secs() }
        };
        let listening = self.listen(reader);
        tokio::pin!(feeding, late, listening);

        let mut feeding_over = false;
        loop {
            tokio::select! {
                // A command may end without reading its input; its answer counts then.
                output = &mut listening => return output,
                over = &mut feeding, if !feeding_over => {
                    feeding_over = true;
                    if let Err(error) = over {
                        return tokio::time::timeout(Duration::from_secs(2), &mut listening).await.unwrap_or(Err(error));
                    }
                }
                error = &mut late => return Err(error),
            }
        }
    }

    async fn feed(&self, writer: &ChannelWriteHalf<Msg>, input: Input) -> Result<(), SshError> {
        let send = async |bytes: Bytes| {
            let sent = self.within("an upload (no progress)", STALL_TIMEOUT, writer.data_bytes(bytes)).await?;
            sent.map_err(|error| self.lost("an upload", &error))
        };
        for chunk in input.bytes.chunks(CHUNK_BYTES) {
            send(Bytes::copy_from_slice(chunk)).await?;
        }
        if let Some(payload) = input.payload {
            let unreadable =
                |error: std::io::Error| SshError::LocalFile { name: payload.name(), why: error.to_string() };
            let mut stream = payload.open().await.map_err(unreadable)?;
            let mut buffer = vec![0; CHUNK_BYTES];
            loop {
                let n = stream.read(&mut buffer).await.map_err(unreadable)?;
                if n == 0 {
                    break;
                }
                send(Bytes::copy_from_slice(buffer.get(..n).unwrap_or_default())).await?;
            }
        }
        let ended = self.within("an upload (no progress)", STALL_TIMEOUT, writer.eof()).await?;
        ended.map_err(|error| self.lost("an upload", &error))
    }

    async fn listen(&self, mut reader: ChannelReadHalf) -> Result<Output, SshError> {
        let (mut output, mut ended, mut closed, mut received) = (Output::default(), false, false, 0);
        while !(closed || ended && output.status.is_some()) {
            match reader.wait().await {
                Some(ChannelMsg::Data { data }) => {
                    received += data.len();
                    output.stdout.extend_from_slice(&data);
                }
                Some(ChannelMsg::ExtendedData { data, .. }) => {
                    received += data.len();
                    output.stderr.extend_from_slice(&data);
                    let over = output.stderr.len().saturating_sub(STDERR_MAX);
                    output.stderr.drain(..over);
                }
                Some(ChannelMsg::ExitStatus { exit_status }) => output.status = Some(exit_status),
                Some(ChannelMsg::Eof) => ended = true,
                Some(ChannelMsg::Close | ChannelMsg::ExitSignal { .. } | ChannelMsg::Failure) => closed = true,
                Some(_) => {}
                None if self.is_closed() => {
                    return Err(self.gone("a command", "the connection ended".to_owned()));
                }
                None => closed = true,
            }
            if received > OUTPUT_MAX {
                let why = format!("it answers a command with more than {OUTPUT_MAX} bytes");
                return Err(SshError::Protocol { address: self.address.clone(), why });
            }
        }
        Ok(output)
    }
}
