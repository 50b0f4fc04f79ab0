//! A server that speaks TLS with a certificate that nobody vouches for.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    sync::Arc,
};

use rustls::{
    ServerConfig, ServerConnection, Stream, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

/// Of a server whose certificate is its own, for a name that nobody asks for.
pub fn config(versions: &[&'static SupportedProtocolVersion]) -> Arc<ServerConfig> {
    let own = rcgen::generate_simple_self_signed(vec!["other.example.com".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(own.signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .unwrap();
    Arc::new(config)
}

/// Reads one request and answers it: `respond` is told the request's text, and the name that was asked for.
pub fn serve(
    config: &Arc<ServerConfig>,
    mut connection: TcpStream,
    respond: impl FnOnce(&str, Option<&str>) -> String,
) -> io::Result<()> {
    let mut session = ServerConnection::new(config.clone()).map_err(io::Error::other)?;
    let mut stream = Stream::new(&mut session, &mut connection);
    let mut request = Vec::new();
    let mut piece = [0; 4096];
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read(&mut piece)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => request.extend(&piece[..read]),
        }
    }
    let name = stream.conn.server_name().map(str::to_owned);
    let answer = respond(&String::from_utf8_lossy(&request), name.as_deref());
    // As many servers do, it closes without saying so in TLS.
    stream.write_all(answer.as_bytes())
}
