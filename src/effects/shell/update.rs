//! What changes the process on a host: an update in one call, and its parts where one of them has to be done alone.

use super::{
    ActCall, Acted, Host, HostError, RunAs, StartSpec, StopSpec, UpdateSpec, Updated,
    protocol::Request,
    session::{DETACHED_TIMEOUT, SHORT_TIMEOUT, STEP_WAIT, acted},
};
use crate::{effects::gate::Gate, model::ids::ReleaseName};

impl Host {
    /// Stops the recorded process, points `current` at a staged release and starts that, with one begin and one end in the journal.
    /// `JournalMoved` where the release is not there: nothing was done.
    pub async fn update(&self, gate: &Gate, call: &ActCall, spec: &UpdateSpec) -> Result<Updated, HostError> {
        let request = stopping(Request::new("turn").with_act(call), &spec.stop).with("port", spec.port.unwrap_or(0));
        let request = starting(request, &spec.start, spec.run_as.as_ref())?;
        let updating = async {
            let answer = self.session.call(&request, DETACHED_TIMEOUT).await?;
            match answer.error() {
                Some(error) => Err(error),
                None => Ok(Updated { acted: acted(&answer)?, port_taken: answer.get("port").is_some() }),
            }
        };
        gate.pass(self.effect("host.turn"), updating).await
    }

    /// Stops the recorded process, if there is one and it is the one that we started: signal, grace, KILL, confirmed.
    pub async fn stop(&self, gate: &Gate, call: &ActCall, spec: &StopSpec) -> Result<Acted, HostError> {
        let request = stopping(Request::new("stop").with_act(call), spec);
        gate.pass(self.effect("host.stop"), self.session.act(&request, DETACHED_TIMEOUT)).await
    }

    /// Points `current` at a staged release.
    pub async fn switch(&self, gate: &Gate, call: &ActCall, release: &ReleaseName) -> Result<Acted, HostError> {
        let request = Request::new("switch").with_act(call).with("release", release);
        gate.pass(self.effect("host.switch"), self.session.act(&request, SHORT_TIMEOUT)).await
    }

    /// Starts the release's process and waits until its identity is recorded. Whether it is ready is for the caller to ask.
    pub async fn start(&self, gate: &Gate, call: &ActCall, spec: &StartSpec) -> Result<Acted, HostError> {
        self.start_as(gate, call, spec, None).await
    }

    /// The same as another user that the SSH user may become.
    pub async fn start_as(
        &self,
        gate: &Gate,
        call: &ActCall,
        spec: &StartSpec,
        run_as: Option<&RunAs>,
    ) -> Result<Acted, HostError> {
        let request = starting(Request::new("start").with_act(call), spec, run_as)?;
        gate.pass(self.effect("host.start"), self.session.act(&request, SHORT_TIMEOUT)).await
    }
}

pub(super) fn stopping(request: Request, spec: &StopSpec) -> Request {
    // The host counts naps of 50 ms, so a grace of less than a second becomes one.
    request
        .with("signal", &spec.signal)
        .with("grace", spec.grace.as_secs().max(1))
        .with("patience", STEP_WAIT.as_secs())
}

fn starting(request: Request, spec: &StartSpec, run_as: Option<&RunAs>) -> Result<Request, HostError> {
    let StartSpec { release, digest, revision, rollout, heal, command, env } = spec;
    if command.first().is_none_or(String::is_empty) {
        return Err(HostError::BadInput { what: "an empty command", why: "there is nothing to start".to_owned() });
    }
    let mut request = request
        .with("release", release)
        .with("digest", digest)
        .with("revision", revision)
        .with("rollout", rollout)
        .with("heal", u8::from(*heal));
    if let Some(RunAs { method, user }) = run_as {
        request = request.with("by", format!("{method:?}")).with("user", user);
    }
    for word in command {
        request = request.with_word(word);
    }
    for (name, value) in env {
        request = request.with_env(name, value);
    }
    Ok(request)
}
