//! Questions asked of an application on its own host: `httpGet`, `tcpSocket`, `exec`. Each try has one deadline for all of it, follows no
//! redirect and reads a bounded answer. Nothing here decides what an answer means.

mod connection;
mod host;
mod http;

use std::{net::IpAddr, os::fd::BorrowedFd, time::Duration};

use landfall_host_protocol::{HttpGet, HttpScheme, Probe, ProbeAction};

pub use connection::Interrupts;
use connection::{Connection, Stopped};

/// Characters of an answer that are told.
const SHOWN_MAX: usize = 200;

/// What one try came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tried {
    Yes,
    /// Why not, for a person.
    No(String),
    /// Why it could not be asked: that says nothing about the application.
    Unasked(String),
    /// Something that matters more happened; the try counts for nothing.
    Interrupted,
}

/// Where a probe connects to; `None` for commands and for hosts that have no address.
pub fn target(probe: &Probe) -> Option<(IpAddr, u16)> {
    match &probe.action {
        ProbeAction::HttpGet(HttpGet { port, host, .. }) | ProbeAction::TcpSocket { port, host } => {
            Some((host::address(host.as_deref()).ok()?, *port))
        }
        ProbeAction::Exec { .. } => None,
    }
}

/// Why this program can't ask so; `None`: it can.
pub fn unsupported(probe: &Probe) -> Option<String> {
    match &probe.action {
        ProbeAction::HttpGet(get) if get.scheme == HttpScheme::Https => {
            Some("probes by https are not supported yet; use http, tcpSocket or exec".to_owned())
        }
        ProbeAction::HttpGet(get) => host::address(get.host.as_deref()).err().or_else(|| http::request(get).err()),
        ProbeAction::TcpSocket { host, .. } => host::address(host.as_deref()).err(),
        ProbeAction::Exec { command } if command.is_empty() => Some("the probe's command is empty".to_owned()),
        ProbeAction::Exec { .. } => None,
    }
}

/// The limit of one try.
pub fn timeout(probe: &Probe) -> Duration {
    Duration::from_secs(u64::from(probe.timeout_seconds.max(1)))
}

/// One try over the network; a command is for who can run it as the right user.
pub fn connect(action: &ProbeAction, timeout: Duration, interrupts: &[BorrowedFd<'_>]) -> Tried {
    let tried = match action {
        ProbeAction::HttpGet(get) => ask(get, timeout, interrupts),
        ProbeAction::TcpSocket { port, host } => reach(*port, host.as_deref(), timeout, interrupts),
        ProbeAction::Exec { .. } => Err(Stopped::Failed("a command is no connection".to_owned())),
    };
    match tried {
        Ok(()) => Tried::Yes,
        Err(Stopped::Failed(why)) => Tried::No(why),
        Err(Stopped::TimedOut(what)) => Tried::No(format!("{what} within {} s", timeout.as_secs())),
        Err(Stopped::Interrupted) => Tried::Interrupted,
    }
}

fn reach(port: u16, host: Option<&str>, timeout: Duration, interrupts: &[BorrowedFd<'_>]) -> Result<(), Stopped> {
    let address = host::address(host).map_err(Stopped::Failed)?;
    Connection::open(address, port, timeout, Interrupts(interrupts)).map(|_| ())
}

fn ask(get: &HttpGet, timeout: Duration, interrupts: &[BorrowedFd<'_>]) -> Result<(), Stopped> {
    if get.scheme == HttpScheme::Https {
        return Err(Stopped::Failed("probes by https are not supported yet".to_owned()));
    }
    let address = host::address(get.host.as_deref()).map_err(Stopped::Failed)?;
    let request = http::request(get).map_err(Stopped::Failed)?;
    let mut connection = Connection::open(address, get.port, timeout, Interrupts(interrupts))?;
    connection.send(request.text.as_bytes())?;
    let answer = http::answer(&mut connection)?;
    if (200..400).contains(&answer.status) {
        return Ok(());
    }
    let said: String = answer.body.chars().filter(|c| !c.is_control()).take(SHOWN_MAX).collect();
    let said = if said.is_empty() { String::new() } else { format!(": {said}") };
    Err(Stopped::Failed(format!(
        "GET {} on port {} (Host: {}) was answered with {}{said}",
        get.path, get.port, request.host, answer.status
    )))
}
