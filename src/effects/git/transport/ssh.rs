//! git over SSH: `git-upload-pack` or `git-receive-pack` on the server, its two streams for libgit2. Host keys are checked as for every
//! other host, before our key is shown.

use std::{
    io::{self, Read, Write},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use git2::transport::{Service, SmartSubtransport, SmartSubtransportStream};

use super::buffer::take;
use crate::{
    effects::{
        git::{
            error::GitError,
            session::{RemoteSession, refused},
            types::clean,
            url::{RemoteLocation, Server},
        },
        ssh::{Connection, Pipe, SshTarget},
    },
    model::text::shell_quote,
};

/// Longest time for each step up to the accepted key.
const CONNECT: Duration = Duration::from_secs(20);

pub(super) struct Ssh {
    session: RemoteSession,
}

impl Ssh {
    pub(super) fn new(session: RemoteSession) -> Self {
        Self { session }
    }

    async fn pipe(&self, server: &Server, user: &str, command: String) -> Result<Pipe, GitError> {
        let kept = self.session.ssh_connection.lock().clone();
        if let Some(connection) = kept.filter(|connection| !connection.is_closed()) {
            // A server that takes one session at a time may still hold the last one.
            if let Ok(pipe) = Pipe::open(connection, command.clone()).await {
                return Ok(pipe);
            }
        }
        let connection = Arc::new(self.dial(server, user).await?);
        *self.session.ssh_connection.lock() = Some(connection.clone());
        Ok(Pipe::open(connection, command).await?)
    }

    async fn dial(&self, server: &Server, user: &str) -> Result<Connection, GitError> {
        let Some(credentials) = &self.session.access.ssh else {
            let why = "git over ssh needs a Secret with identity and known_hosts; name it in source.secretRef";
            return Err(GitError::NoSecret { url: self.session.remote.url.clone(), why });
        };
        let target = SshTarget {
            address: server.host.clone(),
            port: server.port,
            user: user.to_owned(),
            connect_timeout: CONNECT.min(self.session.silence),
        };
        let late = |_| GitError::Silent {
            host: server.shown.clone(),
            what: "no connection",
            seconds: target.connect_timeout.as_secs(),
        };
        let socket = tokio::time::timeout(target.connect_timeout, self.session.dial(server)).await.map_err(late)??;
        Ok(Connection::open_over(socket, &target, credentials).await?)
    }
}

impl SmartSubtransport for Ssh {
    fn action(&self, url: &str, action: Service) -> Result<Box<dyn SmartSubtransportStream>, git2::Error> {
        self.session.is_for(url)?;
        let RemoteLocation::Ssh { server, user, path } = &self.session.remote.place else {
            return Err(refused("no ssh URL"));
        };
        let writes = matches!(action, Service::ReceivePackLs | Service::ReceivePack);
        let service = if writes { "git-receive-pack" } else { "git-upload-pack" };
        let quoted = shell_quote(path).ok_or_else(|| refused("a path with NUL"))?;
        let command = format!("{service} {quoted}");
        let pipe = self.session.wait("a connection", self.pipe(server, user, command))?;
        Ok(Box::new(Streams { session: self.session.clone(), pipe, writes, heard: false, rest: Bytes::new() }))
    }

    fn close(&self) -> Result<(), git2::Error> {
        Ok(())
    }
}

struct Streams {
    session: RemoteSession,
    pipe: Pipe,
    writes: bool,
    /// It said something by git's protocol.
    heard: bool,
    rest: Bytes,
}

impl Read for Streams {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() {
            let (session, pipe) = (&self.session, &mut self.pipe);
            match session.wait("an answer", async { Ok(pipe.read().await?) })? {
                Some(bytes) => {
                    self.heard = true;
                    self.rest = bytes;
                }
                None => {
                    self.ended();
                    return Ok(0);
                }
            }
        }
        Ok(take(&mut self.rest, into))
    }
}

impl Streams {
    /// It ended while more was expected: what it said on stderr is the reason. A program that ran and said no without a word of git's
    /// protocol refuses to write; it will again.
    fn ended(&self) {
        let (stderr, status) = self.pipe.stderr();
        let stderr = clean(stderr, 300);
        let words = if stderr.trim().is_empty() { "nothing".to_owned() } else { stderr.trim().to_owned() };
        let failure = match (self.writes && !self.heard, status) {
            (true, Some(1..)) => GitError::PushRefused { name: String::new(), words },
            _ => GitError::Unreachable {
                url: self.session.remote.url.clone(),
                why: format!("its git ended early and said: {words}"),
            },
        };
        self.session.record_failure(failure);
    }
}

impl Write for Streams {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (session, pipe) = (&self.session, &self.pipe);
        session.wait("room for what we send", async { Ok(pipe.write(Bytes::copy_from_slice(bytes)).await?) })?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
