//! TLS on a connection, as kubelet asks its probes: the certificate is not verified, whoever made it and whatever it is called. What is asked
//! is the application on this very host, and nothing secret of ours is in the question; so nothing else in here may use this.

use std::{
    io::{self, ErrorKind, Read, Write},
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, Stream,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::ring,
    pki_types::{CertificateDer, DnsName, IpAddr, Ipv4Addr, ServerName, UnixTime},
    version::{TLS12, TLS13},
};

use super::connection::{Connection, Stopped};

pub(super) struct Tls<'a> {
    connection: Connection<'a>,
    session: ClientConnection,
}

impl<'a> Tls<'a> {
    /// `host`: the Host header, whose name the server is told before it chooses its certificate (SNI).
    pub(super) fn over(connection: Connection<'a>, host: &str) -> Result<Self, Stopped> {
        let failed = |error: rustls::Error| Stopped::Failed(format!("TLS: {error}"));
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(failed)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody))
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        let session = ClientConnection::new(Arc::new(config), server_name(host)).map_err(failed)?;
        Ok(Self { connection, session })
    }

    pub(super) fn hurry(&mut self, time: Duration) {
        self.connection.hurry(time);
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), Stopped> {
        self.stream(|stream| stream.write_all(bytes).and_then(|()| stream.flush()))
    }

    /// 0: the other end closed, in whatever way.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> Result<usize, Stopped> {
        self.stream(|stream| match stream.read(buffer) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(0),
            read => read,
        })
    }

    fn stream<T>(
        &mut self,
        act: impl FnOnce(&mut Stream<'_, ClientConnection, Socket<'_, 'a>>) -> io::Result<T>,
    ) -> Result<T, Stopped> {
        let mut socket = Socket { connection: &mut self.connection, stopped: None };
        let done = act(&mut Stream::new(&mut self.session, &mut socket));
        done.map_err(|error| socket.stopped.unwrap_or_else(|| Stopped::Failed(in_words(&error))))
    }
}

fn in_words(error: &io::Error) -> String {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    match cause {
        Some(rustls::Error::InvalidMessage(_)) => {
            "TLS: the answer is none of TLS; does it speak https on this port?".to_owned()
        }
        _ if error.kind() == ErrorKind::UnexpectedEof => {
            "TLS: the connection was closed before it was set up".to_owned()
        }
        _ => format!("TLS: {error}"),
    }
}

/// The connection as rustls uses it; why it stopped is kept beside.
struct Socket<'c, 'a> {
    connection: &'c mut Connection<'a>,
    stopped: Option<Stopped>,
}

impl Socket<'_, '_> {
    fn keep<T>(&mut self, done: Result<T, Stopped>) -> io::Result<T> {
        done.map_err(|stopped| {
            self.stopped.get_or_insert(stopped);
            io::Error::other("stopped")
        })
    }
}

impl Read for Socket<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let received = self.connection.receive(buffer);
        self.keep(received)
    }
}

impl Write for Socket<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.connection.send(bytes).map(|()| bytes.len());
        self.keep(sent)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A name for the server; of an address none is sent.
fn server_name(host: &str) -> ServerName<'static> {
    let without_port = match host.rsplit_once(':') {
        Some((name, port))
            if port.bytes().all(|byte| byte.is_ascii_digit()) && (!name.contains(':') || host.starts_with('[')) =>
        {
            name
        }
        _ => host,
    };
    let bare = without_port.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<std::net::IpAddr>() {
        Ok(address) => ServerName::IpAddress(address.into()),
        Err(_) => DnsName::try_from(bare.to_owned())
            .map_or(ServerName::IpAddress(IpAddr::V4(Ipv4Addr::from([127, 0, 0, 1]))), ServerName::DnsName),
    }
}

/// Takes every certificate.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        use SignatureScheme::{
            ECDSA_NISTP256_SHA256, ECDSA_NISTP384_SHA384, ECDSA_NISTP521_SHA512, ED448, ED25519, RSA_PKCS1_SHA1,
            RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512,
        };
        vec![
            ECDSA_NISTP256_SHA256,
            RSA_PSS_SHA256,
            ED25519,
            ECDSA_NISTP384_SHA384,
            ECDSA_NISTP521_SHA512,
            ED448,
            RSA_PSS_SHA384,
            RSA_PSS_SHA512,
            RSA_PKCS1_SHA256,
            RSA_PKCS1_SHA384,
            RSA_PKCS1_SHA512,
            RSA_PKCS1_SHA1,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_host_header_is_asked_for_without_its_port() {
        let name = |host: &str| server_name(host).to_str().into_owned();
        assert_eq!(name("shop.example.com"), "shop.example.com");
        assert_eq!(name("shop.example.com:8443"), "shop.example.com");
        assert_eq!(name("127.0.0.2:8443"), "127.0.0.2");
        assert_eq!(name("[::1]:8443"), "::1");
        assert_eq!(name("::1"), "::1");
        assert_eq!(name("no name at all"), "127.0.0.1");
        assert!(matches!(server_name("10.0.0.1"), ServerName::IpAddress(_)));
    }
}
