//! One host: its facts, and the acts of a rollout on it. Every act is one call of the helper script, which checks owner, fence and
//! journal on the host itself. It must not decide what is to be done.

mod acts;
mod error;
mod facts;
mod privilege_cache;
mod probes;
mod protocol;
mod session;
mod types;
mod update;

pub use error::HostError;
pub use types::{
    ActCall, Acted, Answering, Listener, MarkSpec, RunAs, StageSpec, StartSpec, StopSpec, UpdateSpec, Updated,
};

use std::{sync::Arc, time::Duration};

use self::{
    protocol::{Request, stepdir},
    session::{FACTS_TIMEOUT, SHORT_TIMEOUT, Session},
};
use super::{
    gate::Gate,
    ssh::{Credentials, OpenOptions, SshError, SshTarget},
};
use crate::{
    api::hostgroup::{Become, BecomeMethod},
    model::{
        facts::{HostFacts, OpenAct},
        ids::FolderName,
        text::last_lines,
    },
};

/// One connection to one host; cheap to clone, all clones share the connection. Calls may run at the same time; the host itself
/// serialises acts. When the connection is lost every call answers an unreachable `HostError::Ssh`; connecting again is the caller's.
#[derive(Clone)]
pub struct Host {
    session: Arc<Session>,
}

impl Host {
    /// Connects, authenticates, and uploads the helper script if the host lacks it (effect `host.helper`).
    /// `name` is the host's name in its group, for the effects ledger; `root` the group's root, absolute.
    pub async fn connect(
        gate: &Gate,
        name: &str,
        target: &SshTarget,
        credentials: &Credentials,
        root: &str,
    ) -> Result<Self, HostError> {
        let connection = Session::dial(OpenOptions::default(), target, credentials, root).await?;
        Ok(Self { session: Arc::new(Session::open(gate, name, connection, root, None).await?) })
    }

    /// The same for a check of the host: what `facts_for` these users asks next comes along with the sign-in, where the script is there.
    pub async fn connect_with(
        gate: &Gate,
        name: &str,
        options: OpenOptions,
        target: &SshTarget,
        credentials: &Credentials,
        root: &str,
        run_users: &Become,
    ) -> Result<Self, HostError> {
        let connection = Session::dial(options, target, credentials, root).await?;
        let session = Session::open(gate, name, connection, root, Some(&facts_request(run_users, None))).await?;
        Ok(Self { session: Arc::new(session) })
    }

    /// Whether the connection is gone; a closed one never comes back.
    pub fn is_closed(&self) -> bool {
        self.session.connection.is_closed()
    }

    /// The facts of the host and of every project folder, in one call. Missing tools are facts, no error.
    pub async fn facts(&self) -> Result<HostFacts, HostError> {
        self.facts_for(&Become::default()).await
    }

    /// The same, and whether the host lets us become these users. Where it did, it is not asked again for a while: sudo logs every call.
    pub async fn facts_for(&self, run_users: &Become) -> Result<HostFacts, HostError> {
        let known = self.session.privileges.known(run_users);
        let request = facts_request(run_users, known);
        let (answer, forwards) = tokio::join!(self.session.call(&request, FACTS_TIMEOUT), self.forwards());
        let mut facts = facts::read(&answer?, self.session.connection.server(), forwards?)?;
        match known {
            Some(too_wide) => facts.sudo_too_wide = too_wide,
            None => self.session.privileges.learn(run_users, &mut facts),
        }
        Ok(facts)
    }

    /// A refusal on port 1 proves that sshd allows forwarding.
    async fn forwards(&self) -> Result<bool, HostError> {
        match self.session.connection.direct_tcpip(1).await {
            Ok(_) => Ok(true),
            Err(SshError::NoForwarding { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until an open act that `facts` reported as running has ended, and answers how: `Ok` as an act does, or why it
    /// failed. It starts nothing, so it takes no gate. `Busy` where it still runs after `wait`.
    pub async fn attach(&self, folder: &FolderName, open: &OpenAct, wait: Duration) -> Result<Acted, HostError> {
        let OpenAct { uid, rollout, attempt, n, step, running: _ } = open;
        let request = Request::new("attach")
            .with("folder", folder)
            .with("act", format!("{uid} {rollout} {attempt} {n}"))
            .with("stepdir", stepdir(uid, rollout, *attempt, *n))
            .with("step", step)
            .with("patience", wait.as_secs());
        self.session.act(&request, wait * 2 + SHORT_TIMEOUT).await
    }

    /// Whether something accepts TCP connections on 127.0.0.1:`port` of the host.
    pub async fn tcp_ready(&self, port: u16, timeout: Duration) -> Result<bool, HostError> {
        match tokio::time::timeout(timeout, self.session.connection.direct_tcpip(port)).await {
            Ok(answer) => Ok(answer?.is_some()),
            Err(_) => Ok(false),
        }
    }

    /// The status code that `GET path` on 127.0.0.1:`port` of the host is answered with; no redirect is followed.
    /// `Err` inside: refused, timed out, or no HTTP; the text says why, for a person.
    pub async fn http_ready(&self, port: u16, path: &str, timeout: Duration) -> Result<Result<u16, String>, HostError> {
        Ok(probes::http(&self.session.connection, port, path, timeout).await?)
    }

    /// Whether nothing accepts connections on 127.0.0.1:`port`: checked before a start, or a foreign process would answer the probe.
    pub async fn port_refuses(&self, port: u16) -> Result<bool, HostError> {
        Ok(self.session.connection.direct_tcpip(port).await?.is_none())
    }

    /// The recorded process and whether it lives; with a port also whose socket listens on 127.0.0.1 there: one of the process'
    /// session, or a foreign one.
    pub async fn answering(&self, folder: &FolderName, port: Option<u16>) -> Result<Answering, HostError> {
        let request = Request::new("listener").with("folder", folder).with("port", port.unwrap_or(0));
        let answer = self.session.call(&request, FACTS_TIMEOUT).await?;
        if let Some(error) = answer.error() {
            return Err(error);
        }
        let words = |text: &str| facts::process(&text.split(' ').collect::<Vec<_>>());
        let listener = match answer.get("listener") {
            Some("ours") => Some(Listener::Ours),
            Some("foreign") => Some(Listener::Foreign),
            Some("nobody") => Some(Listener::Nobody),
            Some("unknown") => Some(Listener::Unknown),
            _ if port.is_some() => return Err(HostError::Protocol { why: "no listener named".to_owned() }),
            _ => None,
        };
        Ok(Answering { process: answer.get("process").and_then(words), listener })
    }

    /// The last lines of output since the application's last start, for messages: cleaned, at most 8 KiB a line.
    pub async fn tail(&self, folder: &FolderName, lines: usize) -> Result<Vec<String>, HostError> {
        let request = Request::new("tail").with("folder", folder).with("lines", lines.min(1000) + 1);
        let answer = self.session.call(&request, FACTS_TIMEOUT).await?;
        if let Some(error) = answer.error() {
            return Err(error);
        }
        let mut lines_of_start: Vec<&[u8]> =
            answer.output.split(|b| *b == b'\n').filter_map(|line| line.strip_prefix(b"|")).collect();
        if let Some(start) = lines_of_start.iter().rposition(|line| line.starts_with(b"=== landfall starts ")) {
            lines_of_start.drain(..=start);
        }
        Ok(last_lines(&lines_of_start.join(&b'\n'), lines))
    }
}

/// The request for facts. `known`: it is known from a moment ago that the SSH user can become these users.
fn facts_request(run_users: &Become, known: Option<bool>) -> Request {
    let request = Request::new("facts");
    match run_users.method {
        BecomeMethod::None => request,
        _ if known.is_some() => request,
        method => request.with("become", format!("{method:?} {}", run_users.users.join(" "))),
    }
}
