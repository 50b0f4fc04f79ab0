//! Questions asked of an application on its own host: `httpGet`, `tcpSocket`, `exec`, and requests of drains. Each try has one deadline for all of it, follows no
//! redirect and reads a bounded answer. Nothing here decides what an answer means.

mod channel;
mod connection;
mod host;
mod http;
mod tls;

use std::{net::IpAddr, os::fd::BorrowedFd, time::Duration};

use landfall_host_protocol::{HttpGet, HttpScheme, Probe, ProbeAction, Secrets};

use crate::mask::mask;
use channel::Channel;
pub use connection::Interrupts;
use connection::{Connection, Stopped};
pub use http::Answer;
use tls::Tls;

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

impl Tried {
    /// Its words without secret values: a probe may print what its environment holds, or what an application answers.
    pub fn masked(self, secrets: &Secrets) -> Self {
        let masked = |mut why: String| {
            mask(secrets, &mut why);
            why
        };
        match self {
            Self::No(why) => Self::No(masked(why)),
            Self::Unasked(why) => Self::Unasked(masked(why)),
            Self::Yes | Self::Interrupted => self,
        }
    }
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
        ProbeAction::HttpGet(get) => unsupported_request("GET", get),
        ProbeAction::TcpSocket { host, .. } => host::address(host.as_deref()).err(),
        ProbeAction::Exec { command } if command.is_empty() => Some("the probe's command is empty".to_owned()),
        ProbeAction::Exec { .. } => None,
    }
}

/// Why this request can't be sent; `None`: it can.
pub fn unsupported_request(method: &str, get: &HttpGet) -> Option<String> {
    host::address(get.host.as_deref()).err().or_else(|| http::request(method, get).err())
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
        Err(Stopped::Interrupted) => Tried::Interrupted,
        Err(stopped) => Tried::No(in_words(stopped, timeout)),
    }
}

/// One request without a body; the error is for a person.
pub fn request(method: &str, get: &HttpGet, timeout: Duration) -> Result<Answer, String> {
    exchange(method, get, timeout, &[]).map(|(_, answer)| answer).map_err(|stopped| in_words(stopped, timeout))
}

fn in_words(stopped: Stopped, timeout: Duration) -> String {
    match stopped {
        Stopped::Failed(why) => why,
        Stopped::TimedOut(what) => format!("{what} within {} s", timeout.as_secs()),
        Stopped::Interrupted => "interrupted".to_owned(),
    }
}

fn reach(port: u16, host: Option<&str>, timeout: Duration, interrupts: &[BorrowedFd<'_>]) -> Result<(), Stopped> {
    let address = host::address(host).map_err(Stopped::Failed)?;
    Connection::open(address, port, timeout, Interrupts(interrupts)).map(|_| ())
}

fn ask(get: &HttpGet, timeout: Duration, interrupts: &[BorrowedFd<'_>]) -> Result<(), Stopped> {
    let (host, answer) = exchange("GET", get, timeout, interrupts)?;
    if (200..400).contains(&answer.status) {
        return Ok(());
    }
    Err(Stopped::Failed(format!(
        "GET {} on port {} (Host: {host}) was answered with {}{}",
        get.path,
        get.port,
        answer.status,
        answer.said()
    )))
}

/// One request and its answer; the Host header that was sent with it.
fn exchange(
    method: &str,
    get: &HttpGet,
    timeout: Duration,
    interrupts: &[BorrowedFd<'_>],
) -> Result<(String, Answer), Stopped> {
    let address = host::address(get.host.as_deref()).map_err(Stopped::Failed)?;
    let request = http::request(method, get).map_err(Stopped::Failed)?;
    let connection = Connection::open(address, get.port, timeout, Interrupts(interrupts))?;
    let mut channel = match get.scheme {
        HttpScheme::Http => Channel::Plain(connection),
        HttpScheme::Https => Channel::Tls(Box::new(Tls::over(connection, &request.host)?)),
    };
    channel.send(request.text.as_bytes())?;
    let answer = http::answer(&mut channel)?;
    Ok((request.host, answer))
}
