//! Sessions over SSH, through the gate.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use landfall_host_protocol::{FolderName, HostFacts, Secrets, Task, TaskId};

use super::{
    access::{HostAccess, HostId, PROGRAM_LIMIT},
    budget::ConnectionPermit,
    jump_route::JumpRoute,
    order::Object,
    session::{Dialer, Dialled, PushSource, Session, TaskEvents},
};
use crate::effects::{
    gate::Gate,
    program::{
        ConnectOptions, Images, LogPart, LogStream, Program, ProgramError, Pushes, PutOptions, TaskNews, TaskStream,
        Told,
    },
    ssh::{Connection, OpenOptions, SshError},
};

/// Dials with the program that was built into this one, or other ones.
pub struct SshDialer {
    gate: Gate,
    images: Images,
}

impl SshDialer {
    pub fn new(gate: Gate, images: Images) -> Self {
        Self { gate, images }
    }

    async fn connect(
        &self,
        host: &HostId,
        access: &HostAccess,
        route: &JumpRoute,
        permit: ConnectionPermit,
    ) -> Result<Dialled, ProgramError> {
        let HostAccess { target, credentials, jumps, .. } = access;
        let via = route.open(access.hash, jumps, credentials, &target.address).await?;
        let options = OpenOptions { via, permit: Some(Box::new(permit)) };
        let connecting = async { Ok(Connection::open_with(options, target, credentials).await?) };
        let connection = within(&host.host, access.sign_in_limit(), "signing in", connecting).await?;
        let server = connection.server().to_owned();
        let options =
            ConnectOptions { name: &host.host, root: &access.root, images: &self.images, hello: &access.hello };
        let beginning = Program::connect(&self.gate, Arc::new(connection), &options);
        let (program, welcome, pushes) = within(&host.host, PROGRAM_LIMIT, "starting landfall-host", beginning).await?;
        let session = Arc::new(SshSession { gate: self.gate.clone(), program });
        Ok(Dialled { session, server, welcome, pushes: Box::new(pushes) })
    }
}

/// With a deadline outside the SSH library.
async fn within<T>(
    host: &str,
    limit: Duration,
    what: &'static str,
    work: impl Future<Output = Result<T, ProgramError>>,
) -> Result<T, ProgramError> {
    let late = |_| SshError::Deadline { address: host.to_owned(), what, seconds: limit.as_secs() };
    tokio::time::timeout(limit, work).await.map_err(late)?
}

impl Dialer for SshDialer {
    fn dial<'a>(
        &'a self,
        host: &'a HostId,
        access: &'a HostAccess,
        route: &'a JumpRoute,
        permit: ConnectionPermit,
    ) -> BoxFuture<'a, Result<Dialled, ProgramError>> {
        self.connect(host, access, route, permit).boxed()
    }
}

struct SshSession {
    gate: Gate,
    program: Program,
}

impl Session for SshSession {
    fn is_closed(&self) -> bool {
        self.program.is_closed()
    }

    fn look(&self, seen: u64) -> BoxFuture<'_, Result<Option<(u64, HostFacts)>, ProgramError>> {
        self.program.look(seen).boxed()
    }

    fn put<'a>(
        &'a self,
        folder: &'a FolderName,
        object: &'a Object,
        options: &'a PutOptions,
    ) -> BoxFuture<'a, Result<(), ProgramError>> {
        self.program.put(&self.gate, folder, &object.sha256, object.size, &object.payload, options).boxed()
    }

    fn begin<'a>(
        &'a self,
        task: &'a Task,
        secrets: &'a Secrets,
    ) -> BoxFuture<'a, Result<Box<dyn TaskEvents>, ProgramError>> {
        let beginning = self.program.begin(&self.gate, task, secrets);
        async { beginning.await.map(|stream| Box::new(stream) as Box<dyn TaskEvents>) }.boxed()
    }

    fn attach<'a>(
        &'a self,
        folder: &'a FolderName,
        task: &'a TaskId,
        offset: u64,
    ) -> BoxFuture<'a, Result<Box<dyn TaskEvents>, ProgramError>> {
        let attaching = self.program.attach(folder, task, offset);
        async { attaching.await.map(|stream| Box::new(stream) as Box<dyn TaskEvents>) }.boxed()
    }

    fn cancel<'a>(&'a self, folder: &'a FolderName, task: &'a TaskId) -> BoxFuture<'a, Result<(), ProgramError>> {
        self.program.cancel(&self.gate, folder, task).boxed()
    }

    fn log<'a>(&'a self, folder: &'a FolderName, part: LogPart) -> BoxFuture<'a, Result<LogStream, ProgramError>> {
        self.program.log(folder, part).boxed()
    }
}

impl TaskEvents for TaskStream {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<TaskNews>, ProgramError>> {
        TaskStream::next(self).boxed()
    }
}

impl PushSource for Pushes {
    fn next(&mut self) -> BoxFuture<'_, Option<Told>> {
        Pushes::next(self).boxed()
    }
}
