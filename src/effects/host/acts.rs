//! The acts: each is one effect with a name, passes the gate, and answers the journal's number after it.

use std::time::Duration;

use super::{
    ActCall, Acted, Host, HostError, RunAs, StageSpec, StartSpec, StopSpec,
    protocol::Request,
    session::{DETACHED, PATIENCE, SHORT, acted},
};
use crate::{
    effects::gate::{Effect, Gate},
    plan::ids::ReleaseName,
};

/// What may be under way when the last byte was handed over: a window and the kernel's buffers, on a slow line.
const IN_FLIGHT: u64 = 4 << 20;
const SLOWEST: u64 = 32 << 10;

impl Host {
    /// Puts a release on the host, verified by digest, under `releases/<name>`; one that is there and whole is kept.
    /// Answers the journal's number and what the folder is after the act, as all acts do.
    pub async fn stage(&self, gate: &Gate, call: &ActCall, spec: &StageSpec) -> Result<Acted, HostError> {
        gate.pass(self.effect("host.stage"), self.stage_now(call, spec)).await
    }

    async fn stage_now(&self, call: &ActCall, spec: &StageSpec) -> Result<Acted, HostError> {
        let request = |call: &ActCall| {
            Request::new("stage")
                .with_act(call)
                .with("release", &spec.release)
                .with("digest", &spec.digest)
                .with("size", spec.size)
                .with("patience", PATIENCE.as_secs())
        };
        let mut call = call.clone();
        if let Some(free) = spec.absent_with_free {
            // The tar, and what comes out of it.
            let needed = spec.size.saturating_mul(2).saturating_add(1 << 20);
            if free < needed {
                return Err(HostError::DiskFull { free, needed });
            }
        } else {
            let answer = self.session.call(&request(&call), DETACHED).await?;
            match (answer.get("error"), answer.journal()) {
                // It was there and is not any more what it was: that was an act, and the next one sends it again.
                (Some("corrupt"), Some(n)) => call.act.n = n,
                _ if answer.get("need").is_some() => {}
                (None, Some(_)) => return acted(&answer),
                _ => {
                    return Err(answer
                        .error()
                        .unwrap_or(HostError::Protocol { why: "no answer to `stage`".to_owned() }));
                }
            }
        }
        let mut request = request(&call).with("payload", "yes");
        request.payload = Some(spec.tar.clone());
        let on_its_way = Duration::from_secs(spec.size.min(IN_FLIGHT) / SLOWEST);
        self.session.act(&request, DETACHED + on_its_way).await.map_err(|error| match error {
            HostError::DigestMismatch { got, .. } => HostError::DigestMismatch { expected: spec.digest.clone(), got },
            other => other,
        })
    }

    /// Stops the recorded process, if there is one and it is the one that we started: signal, grace, KILL, confirmed.
    pub async fn stop(&self, gate: &Gate, call: &ActCall, spec: &StopSpec) -> Result<Acted, HostError> {
        let request = stopping(Request::new("stop").with_act(call), spec);
        gate.pass(self.effect("host.stop"), self.session.act(&request, DETACHED)).await
    }

    /// Points `current` at a staged release.
    pub async fn switch(&self, gate: &Gate, call: &ActCall, release: &ReleaseName) -> Result<Acted, HostError> {
        let request = Request::new("switch").with_act(call).with("release", release);
        gate.pass(self.effect("host.switch"), self.session.act(&request, SHORT)).await
    }

    /// Starts the release's process and waits until its identity is recorded. Whether it is ready is for the caller to ask.
    pub async fn start(&self, gate: &Gate, call: &ActCall, spec: &StartSpec) -> Result<Acted, HostError> {
        self.start_as(gate, call, spec, None).await
    }

    /// The same as another user, whom the group lets the SSH user become.
    pub async fn start_as(
        &self,
        gate: &Gate,
        call: &ActCall,
        spec: &StartSpec,
        run_as: Option<&RunAs>,
    ) -> Result<Acted, HostError> {
        let StartSpec { release, digest, revision, rollout, heal, command, env } = spec;
        if command.first().is_none_or(String::is_empty) {
            return Err(HostError::BadInput { what: "an empty command", why: "there is nothing to start".to_owned() });
        }
        let mut request = Request::new("start")
            .with_act(call)
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
        gate.pass(self.effect("host.start"), self.session.act(&request, SHORT)).await
    }

    /// Records that the living process of this rollout was seen ready. `StepFailed` where it does not live (any more).
    pub async fn mark(&self, gate: &Gate, call: &ActCall, rollout: &str) -> Result<Acted, HostError> {
        let request = Request::new("mark").with_act(call).with("rollout", rollout);
        gate.pass(self.effect("host.mark"), self.session.act(&request, SHORT)).await
    }

    /// Removes the oldest releases until `at_most` are left, never one of `keep`, the current one, or the running one.
    pub async fn prune(
        &self,
        gate: &Gate,
        call: &ActCall,
        keep: &[ReleaseName],
        at_most: usize,
    ) -> Result<Acted, HostError> {
        let names: Vec<&str> = keep.iter().map(ReleaseName::as_str).collect();
        let request = Request::new("prune").with_act(call).with("keep", names.join(" ")).with("atmost", at_most);
        gate.pass(self.effect("host.prune"), self.session.act(&request, DETACHED)).await
    }

    /// Stops the process and removes the whole project folder, `shared/` too. Answers 0: the journal is gone.
    pub async fn remove(&self, gate: &Gate, call: &ActCall, spec: &StopSpec) -> Result<Acted, HostError> {
        let request = stopping(Request::new("remove").with_act(call), spec);
        gate.pass(self.effect("host.remove"), self.session.act(&request, DETACHED)).await
    }

    /// Gives up the claim and leaves everything as it is (`deletionPolicy: Retain`). Effect `host.release`.
    pub async fn release(&self, gate: &Gate, call: &ActCall) -> Result<Acted, HostError> {
        let request = Request::new("release").with_act(call);
        gate.pass(self.effect("host.release"), self.session.act(&request, SHORT)).await
    }

    /// Takes over a folder whose fence is another control plane's; `call.replaces` names the owner that is taken over.
    pub async fn adopt(&self, gate: &Gate, call: &ActCall) -> Result<Acted, HostError> {
        let request = Request::new("adopt").with_act(call);
        gate.pass(self.effect("host.adopt"), self.session.act(&request, SHORT)).await
    }

    fn effect(&self, name: &'static str) -> Effect {
        Effect::new(name, &self.session.name)
    }
}

fn stopping(request: Request, spec: &StopSpec) -> Request {
    // The host counts naps of 50 ms, so a grace of less than a second becomes one.
    request.with("signal", &spec.signal).with("grace", spec.grace.as_secs().max(1)).with("patience", PATIENCE.as_secs())
}
