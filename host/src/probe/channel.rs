//! What a request of HTTP goes over: a connection as it is, or TLS on it.

use std::time::Duration;

use super::{
    connection::{Connection, Stopped},
    tls::Tls,
};

pub(super) enum Channel<'a> {
    Plain(Connection<'a>),
    Tls(Box<Tls<'a>>),
}

impl Channel<'_> {
    /// The deadline moves to so much from now, if it was later.
    pub(super) fn hurry(&mut self, time: Duration) {
        match self {
            Self::Plain(connection) => connection.hurry(time),
            Self::Tls(tls) => tls.hurry(time),
        }
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), Stopped> {
        match self {
            Self::Plain(connection) => connection.send(bytes),
            Self::Tls(tls) => tls.send(bytes),
        }
    }

    /// 0: the other end closed.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> Result<usize, Stopped> {
        match self {
            Self::Plain(connection) => connection.receive(buffer),
            Self::Tls(tls) => tls.receive(buffer),
        }
    }
}
