//! SSH to one host: a connection with a pinned host key, commands, and streams through it. A host is untrusted input: every wait has a
//! deadline outside the library, every answer a cap. It must not know what is done on a host.

mod client_handler;
mod connection;
mod error;
mod handshake;
mod identity;
mod known_hosts;
mod pipe;
mod throttle;
mod trust;

pub use self::{
    connection::{Connection, Stream},
    error::SshError,
    identity::Identity,
    pipe::{Pipe, PipeReader, PipeWriter},
    trust::{Credentials, FirstUse, HostTrust},
};

use std::{any::Any, sync::Arc, time::Duration};

use crate::model::text::printable_ascii as printable;

/// Where a host's sshd listens, and the user that signs in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SshTarget {
    /// Name or IP address, without port.
    pub address: String,
    pub port: u16,
    pub user: String,
    /// For each part of the way from the first packet to the accepted key.
    pub connect_timeout: Duration,
}

/// What comes back when a socket is closed: dropping it says so.
pub type Permit = Box<dyn Any + Send>;

/// What a connection stands on.
#[derive(Default)]
pub struct OpenOptions {
    /// The connection that carries it, which lives as long.
    pub via: Option<Arc<Connection>>,
    /// Dropped once the socket is closed, whether or not signing in succeeded.
    pub permit: Option<Permit>,
}
