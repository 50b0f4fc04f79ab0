//! What one call to a remote needs: server, credentials, limits of time; and the way from libgit2's thread to tokio and back.

use std::{cell::RefCell, future::Future, io, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{net::TcpStream, runtime::Handle};
use tokio_util::sync::CancellationToken;

use super::{
    access::SharedAccess,
    error::GitError,
    reach,
    url::{Remote, Server},
};
use crate::effects::ssh::Connection;

thread_local! {
    static CURRENT: RefCell<Option<RemoteSession>> = const { RefCell::new(None) };
}

/// Cheap to clone; all clones are one session.
#[derive(Clone)]
pub(super) struct RemoteSession {
    pub(super) remote: Arc<Remote>,
    pub(super) access: SharedAccess,
    /// Time without a byte after which the remote counts as gone.
    pub(super) silence: Duration,
    pub(super) stop: CancellationToken,
    /// One SSH connection for the whole call.
    pub(super) ssh_connection: Arc<Mutex<Option<Arc<Connection>>>>,
    /// Also this machine's own addresses may be dialled.
    allow_local: bool,
    runtime: Handle,
    /// What went wrong first, since libgit2 passes on a line of text at most.
    failure: Arc<Mutex<Option<GitError>>>,
}

/// While it lives, transports that are made in this thread use the session that made it.
pub(super) struct SessionGuard;

impl Drop for SessionGuard {
    fn drop(&mut self) {
        CURRENT.with(|current| current.borrow_mut().take());
    }
}

/// What a transport is made with.
pub(super) fn current() -> Result<RemoteSession, git2::Error> {
    CURRENT.with(|current| current.borrow().clone()).ok_or_else(|| refused("no remote session in this thread"))
}

impl RemoteSession {
    pub(super) fn new(
        remote: Remote,
        access: SharedAccess,
        silence: Duration,
        stop: CancellationToken,
        runtime: Handle,
    ) -> Self {
        let (remote, ssh_connection, failure) = (Arc::new(remote), Arc::default(), Arc::default());
        Self { remote, access, silence, stop, ssh_connection, allow_local: false, runtime, failure }
    }

    pub(super) fn allow_local(self, allow_local: bool) -> Self {
        Self { allow_local, ..self }
    }

    /// A connection to a server, if it is none of those that nobody may be led to.
    pub(super) async fn dial(&self, server: &Server) -> Result<TcpStream, GitError> {
        reach::dial(server, &self.remote.url, self.silence, self.allow_local).await
    }

    /// Hands it over to the transports of this thread.
    pub(super) fn enter(&self) -> SessionGuard {
        CURRENT.with(|current| *current.borrow_mut() = Some(self.clone()));
        SessionGuard
    }

    /// libgit2 rewrites URLs by this machine's configuration (`insteadOf`); a secret is for the URL that it was given for.
    pub(super) fn is_for(&self, url: &str) -> Result<(), git2::Error> {
        if url == self.remote.url {
            return Ok(());
        }
        let why = "git's configuration on this machine (url.….insteadOf) leads elsewhere; remove it".to_owned();
        self.record_failure(GitError::Unreachable { url: self.remote.url.clone(), why });
        Err(refused("not the URL that was asked for"))
    }

    pub(super) fn url(&self) -> String {
        self.remote.url.clone()
    }

    /// A new call begins: earlier failures are none of its own.
    pub(super) fn clear_failure(&self) {
        self.lock().take();
    }

    pub(super) fn take_failure(&self) -> Option<GitError> {
        self.lock().take()
    }

    /// Keeps the first failure: what follows it is its consequence.
    pub(super) fn record_failure(&self, failure: GitError) {
        self.lock().get_or_insert(failure);
    }

    fn lock(&self) -> parking_lot::MutexGuard<'_, Option<GitError>> {
        self.failure.lock()
    }

    /// Waits in libgit2's thread for something that happens in tokio: until it is done, the caller gives up, or nothing comes for too long.
    pub(super) fn wait<T>(
        &self,
        what: &'static str,
        work: impl Future<Output = Result<T, GitError>>,
    ) -> Result<T, RemoteError> {
        let done = self.runtime.block_on(async {
            tokio::select! {
                () = self.stop.cancelled() => Err(GitError::TimedOut { url: self.remote.url.clone(), seconds: 0 }),
                done = tokio::time::timeout(self.silence, work) => done.unwrap_or_else(|_| {
                    Err(GitError::Silent { host: self.remote.shown().to_owned(), what, seconds: self.silence.as_secs() })
                }),
            }
        });
        done.map_err(|failure| {
            self.record_failure(failure);
            RemoteError
        })
    }

    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }
}

/// The failure is recorded; libgit2 gets only the fact that there is one.
pub(super) struct RemoteError;

impl From<RemoteError> for io::Error {
    fn from(_: RemoteError) -> Self {
        Self::other("the transport broke")
    }
}

impl From<RemoteError> for git2::Error {
    fn from(_: RemoteError) -> Self {
        refused("the transport broke")
    }
}

/// The error that libgit2 gets where a transport refuses.
pub(super) fn refused(why: &str) -> git2::Error {
    git2::Error::new(git2::ErrorCode::GenericError, git2::ErrorClass::Net, why)
}
