//! What a server does by itself, watched: the key that it shows, how often it exchanges keys, what it opens unasked.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use parking_lot::{Mutex, MutexGuard};
use russh::{
    Channel,
    client::{self, ChannelOpenHandle, Msg, Session},
    keys::PublicKeyOrCertificate,
};

use super::{SshError, printable, throttle::Moved, trust::Expected};
use crate::effects::clock;

/// Key exchanges allowed, plus one each minute, plus one for so many bytes that we sent, or asked for: a server may limit what goes under one key.
const EXCHANGES_MAX: u64 = 8;
const EXCHANGE_BYTES: u64 = 768 << 10;

/// What was learned, for the message when the library only says no.
#[derive(Clone, Default)]
pub(super) struct ServerObserved {
    pub(super) banner: String,
    pub(super) refused: Option<SshError>,
    pub(super) weak: bool,
    /// Why we ended the connection.
    pub(super) violation: Option<&'static str>,
}

pub(super) type SharedServerObserved = Arc<Mutex<ServerObserved>>;

/// Answers the library: whether this is the host, and whether the exchange is strict. A server that opens a channel by itself is disconnected:
/// we ask for nothing that a server would have to open, and the library's default is to accept it.
pub(super) struct ClientHandler {
    expected: Expected,
    observed: SharedServerObserved,
    first: bool,
    exchanges: u64,
    moved: Moved,
    began: Instant,
}

impl ClientHandler {
    pub(super) fn new(expected: Expected, observed: SharedServerObserved, moved: Moved) -> Self {
        Self { expected, observed, first: true, exchanges: 0, moved, began: clock::monotonic() }
    }

    fn observed(&self) -> MutexGuard<'_, ServerObserved> {
        self.observed.lock()
    }

    fn disconnect<T>(&self, why: &'static str) -> Result<T, russh::Error> {
        self.observed().violation.get_or_insert(why);
        Err(russh::Error::Disconnect)
    }
}

macro_rules! never_opened_by_a_server {
    ($($name:ident($($more:ty),*);)*) => {$(
        async fn $name(
            &mut self,
            _: Channel<Msg>,
            $(_: $more,)*
            _: ChannelOpenHandle,
            _: &mut Session,
        ) -> Result<(), Self::Error> {
            self.disconnect("it opens channels by itself")
        }
    )*};
}

impl client::Handler for ClientHandler {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        let now = u64::try_from(clock::now().as_second()).unwrap_or_default();
        let Err(refused) = self.expected.verify(shown, now).await else { return Ok(true) };
        self.observed().refused = Some(refused);
        Ok(false)
    }

    async fn kex_done(
        &mut self,
        _: Option<&[u8]>,
        names: &russh::Names,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        // Once an hour is usual. Each costs more than anything else that a server can make us do.
        self.exchanges += 1;
        let moved = self.moved.load(Ordering::Relaxed);
        if self.exchanges > EXCHANGES_MAX + self.began.elapsed().as_secs() / 60 + moved / EXCHANGE_BYTES {
            return self.disconnect("it exchanges keys all the time");
        }
        if std::mem::take(&mut self.first) {
            let mut observed = self.observed();
            observed.banner = printable(session.remote_sshid());
            let sealed = names.cipher.as_ref().contains("-gcm@");
            if !names.strict_kex() && !sealed {
                observed.weak = true;
                return Err(russh::Error::Kex);
            }
        }
        Ok(())
    }
    never_opened_by_a_server! {
        server_channel_open_session();
        server_channel_open_x11(&str, u32);
        server_channel_open_agent_forward();
        server_channel_open_forwarded_tcpip(&str, u32, &str, u32);
        server_channel_open_forwarded_streamlocal(&str);
        server_channel_open_direct_tcpip(&str, u32, &str, u32);
        server_channel_open_direct_streamlocal(&str);
    }
}
