//! An application that listens: this very test program, run again. It answers with the status that stands in the file `$STATUS`; where
//! `$TLS` is set, over TLS.

use std::{
    io::{Read, Write},
    net::TcpListener,
};

use landfall_host_protocol::Configuration;

use crate::{
    host::{process, with_env},
    support::is_inner,
};

#[test]
fn serve() {
    if !is_inner() {
        return;
    }
    let port = std::env::var("PORT").unwrap();
    let status = std::env::var("STATUS").unwrap_or_default();
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).unwrap();
    let tls = std::env::var_os("TLS").map(|_| crate::tls::config(rustls::ALL_VERSIONS));
    let answer = |request: &str, name: Option<&str>| {
        let status = std::fs::read_to_string(&status).unwrap_or_else(|_| "200".to_owned());
        let named = name.map_or_else(String::new, |name| format!(" as {name}"));
        let asked = request.lines().nth(1).unwrap_or("");
        format!("HTTP/1.1 {} X\r\nConnection: close\r\n\r\nI was asked: {asked}{named}", status.trim())
    };
    for connection in listener.incoming() {
        let Ok(mut connection) = connection else { continue };
        if let Some(tls) = &tls {
            let _ = crate::tls::serve(tls, connection, answer);
            continue;
        }
        let mut request = [0u8; 4096];
        let read = connection.read(&mut request).unwrap_or(0);
        let _ = connection.write_all(answer(&String::from_utf8_lossy(&request[..read]), None).as_bytes());
    }
}

/// The configuration of an application that listens on a port.
pub fn server(port: u16, status: &std::path::Path) -> Configuration {
    let own = std::env::current_exe().unwrap();
    let command = [own.to_str().unwrap(), "--exact", "application::serve", "--nocapture", "--test-threads=1"];
    let configuration = with_env(process(&command), "LANDFALL_TEST_INNER", "1");
    let configuration = with_env(configuration, "PORT", &port.to_string());
    with_env(configuration, "STATUS", status.to_str().unwrap())
}
