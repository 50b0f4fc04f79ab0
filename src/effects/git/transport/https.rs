//! git's smart protocol over https: a list by GET, then questions by POST, each with a whole answer that is read as it comes.

use std::{
    io::{self, Cursor, Read, Write},
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use git2::transport::{Service, SmartSubtransport, SmartSubtransportStream};
use hyper::{Response, body::Incoming};

use super::{
    buffer::take,
    http::{self, GitRequest, HttpConnection, SharedConnection},
};
use crate::effects::git::{
    error::GitError,
    session::{RemoteSession, refused},
    url::{RemoteLocation, Server},
};

/// What is asked is small: wants and haves, or one tag.
const MAX_REQUEST: usize = 64 << 20;
/// Some servers have hundreds of thousands of references.
const MAX_LIST: usize = 128 << 20;

pub(super) struct Https {
    inner: Arc<Inner>,
}

struct Inner {
    session: RemoteSession,
    connection: SharedConnection,
}

impl Https {
    pub(super) fn new(session: RemoteSession) -> Self {
        Self { inner: Arc::new(Inner { session, connection: SharedConnection::default() }) }
    }
}

impl SmartSubtransport for Https {
    fn action(&self, url: &str, action: Service) -> Result<Box<dyn SmartSubtransportStream>, git2::Error> {
        self.inner.session.is_for(url)?;
        let service = match action {
            Service::UploadPackLs | Service::UploadPack => "git-upload-pack",
            Service::ReceivePackLs | Service::ReceivePack => "git-receive-pack",
        };
        match action {
            Service::UploadPackLs | Service::ReceivePackLs => {
                Ok(Box::new(List(Cursor::new(self.inner.list(service)?))))
            }
            Service::UploadPack | Service::ReceivePack => Ok(Box::new(Exchange {
                inner: self.inner.clone(),
                service,
                request: Vec::new(),
                answer: None,
                rest: Bytes::new(),
            })),
        }
    }

    fn close(&self) -> Result<(), git2::Error> {
        self.inner.keep(None);
        Ok(())
    }
}

impl Inner {
    fn list(&self, service: &'static str) -> Result<Bytes, git2::Error> {
        let (server, path) = self.place()?;
        let target = format!("{path}/info/refs?service={service}");
        let request = GitRequest { target, service, body: None };
        let mut answer = self.session.wait("a list of branches", self.ask(server, request))?.into_body();
        let mut list = BytesMut::new();
        while let Some(frame) = self.session.wait("a list of branches", http::next(&self.session, &mut answer))? {
            list.extend_from_slice(&frame);
            if list.len() > MAX_LIST {
                return Err(refused("the list of branches is too long"));
            }
        }
        Ok(list.freeze())
    }

    async fn ask(&self, server: &Server, request: GitRequest) -> Result<Response<Incoming>, GitError> {
        let kept = self.keep(None);
        let mut connection = match kept {
            Some(mut connection) => match connection.is_open().await {
                true => connection,
                false => http::dial(&self.session, server).await?,
            },
            None => http::dial(&self.session, server).await?,
        };
        let answer = connection.ask(&self.session, server, request).await?;
        self.keep(Some(connection));
        Ok(answer)
    }

    fn place(&self) -> Result<(&Server, &str), git2::Error> {
        match &self.session.remote.place {
            RemoteLocation::Https { server, path } => Ok((server, path)),
            RemoteLocation::File | RemoteLocation::Ssh { .. } => Err(refused("no https URL")),
        }
    }

    fn keep(&self, connection: Option<HttpConnection>) -> Option<HttpConnection> {
        std::mem::replace(&mut *self.connection.lock(), connection)
    }
}

/// A list that was read whole.
struct List(Cursor<Bytes>);

impl Read for List {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl Write for List {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// libgit2 writes a question, then reads the answer.
struct Exchange {
    inner: Arc<Inner>,
    service: &'static str,
    request: Vec<u8>,
    answer: Option<Incoming>,
    rest: Bytes,
}

impl Write for Exchange {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.answer.is_some() || self.request.len() + bytes.len() > MAX_REQUEST {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.request.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Exchange {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut answer = match self.answer.take() {
            Some(answer) => answer,
            None => self.ask()?,
        };
        while self.rest.is_empty() {
            let session = &self.inner.session;
            match session.wait("an answer", http::next(session, &mut answer))? {
                None => break,
                Some(bytes) => self.rest = bytes,
            }
        }
        self.answer = Some(answer);
        Ok(take(&mut self.rest, into))
    }
}

impl Exchange {
    fn ask(&mut self) -> io::Result<Incoming> {
        let (server, path) = self.inner.place().map_err(io::Error::other)?;
        let body = Some(Bytes::from(std::mem::take(&mut self.request)));
        let request = GitRequest { target: format!("{path}/{}", self.service), service: self.service, body };
        let answer = self.inner.session.wait("an answer", self.inner.ask(server, request))?;
        Ok(answer.into_body())
    }
}
