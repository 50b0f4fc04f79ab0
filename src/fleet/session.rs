//! What a worker asks of a host, as an interface: over SSH in `ssh.rs`, played in tests.

use futures::future::BoxFuture;
use landfall_host_protocol::{FolderName, HostFacts, Secrets, Task, TaskId, Welcome};

use super::{
    access::{HostAccess, HostId},
    budget::ConnectionPermit,
    jump_route::JumpRoute,
    order::Object,
};
use crate::effects::program::{LogPart, LogStream, ProgramError, PutOptions, TaskNews, Told};

/// One session with one host. Every call has a deadline of its own but for a task's events, whose session `look` watches.
pub trait Session: Send + Sync {
    fn is_closed(&self) -> bool;

    fn look(&self, seen: u64) -> BoxFuture<'_, Result<Option<(u64, HostFacts)>, ProgramError>>;

    fn put<'a>(
        &'a self,
        folder: &'a FolderName,
        object: &'a Object,
        options: &'a PutOptions,
    ) -> BoxFuture<'a, Result<(), ProgramError>>;

    fn begin<'a>(
        &'a self,
        task: &'a Task,
        secrets: &'a Secrets,
    ) -> BoxFuture<'a, Result<Box<dyn TaskEvents>, ProgramError>>;

    fn attach<'a>(
        &'a self,
        folder: &'a FolderName,
        task: &'a TaskId,
        offset: u64,
    ) -> BoxFuture<'a, Result<Box<dyn TaskEvents>, ProgramError>>;

    fn cancel<'a>(&'a self, folder: &'a FolderName, task: &'a TaskId) -> BoxFuture<'a, Result<(), ProgramError>>;

    /// The application's log. The stream keeps no session alive.
    fn log<'a>(&'a self, folder: &'a FolderName, part: LogPart) -> BoxFuture<'a, Result<LogStream, ProgramError>>;
}

/// A task as it goes on.
pub trait TaskEvents: Send {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<TaskNews>, ProgramError>>;
}

/// What a host tells unasked, of folders and of itself; `None`: the session is over.
pub trait PushSource: Send {
    fn next(&mut self) -> BoxFuture<'_, Option<Told>>;
}

/// A session that was just begun.
pub struct Dialled {
    pub session: std::sync::Arc<dyn Session>,
    /// The server's version banner.
    pub server: String,
    pub welcome: Welcome,
    pub pushes: Box<dyn PushSource>,
}

/// Makes sessions.
pub trait Dialer: Send + Sync {
    /// `permit` is dropped once the socket is closed. `route`: through the group's jump hosts.
    fn dial<'a>(
        &'a self,
        host: &'a HostId,
        access: &'a HostAccess,
        route: &'a JumpRoute,
        permit: ConnectionPermit,
    ) -> BoxFuture<'a, Result<Dialled, ProgramError>>;
}
