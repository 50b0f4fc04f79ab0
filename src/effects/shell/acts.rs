//! The acts: each is one effect with a name, passes the gate, and answers the journal's number after it.

use std::time::Duration;

use super::{
    ActCall, Acted, Host, HostError, MarkSpec, StageSpec, StopSpec,
    protocol::Request,
    session::{DETACHED_TIMEOUT, SHORT_TIMEOUT, STEP_WAIT, acted},
    update::stopping,
};
use crate::{
    effects::gate::{Effect, Gate},
    model::ids::ReleaseName,
};

/// Bytes that may be in flight when the last one was written: a window and the kernel's buffers.
const IN_FLIGHT: u64 = 4 << 20;
/// Bytes per second of the slowest connection that is supported.
const BYTES_PER_SECOND_MIN: u64 = 32 << 10;

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
                .with("patience", STEP_WAIT.as_secs())
        };
        let mut call = call.clone();
        if let Some(free) = spec.absent_with_free {
            let needed = StageSpec::room_for(spec.size);
            if free < needed {
                return Err(HostError::DiskFull { free, needed });
            }
        } else {
            let answer = self.session.call(&request(&call), DETACHED_TIMEOUT).await?;
            match (answer.get("error"), answer.journal()) {
                // It was there and has changed: removing it was an act, and the next one sends it again.
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
        let on_its_way = Duration::from_secs(spec.size.min(IN_FLIGHT) / BYTES_PER_SECOND_MIN);
        self.session.act(&request, DETACHED_TIMEOUT + on_its_way).await.map_err(|error| match error {
            HostError::DigestMismatch { got, .. } => HostError::DigestMismatch { expected: spec.digest.clone(), got },
            other => other,
        })
    }

    /// Records that the living process of this rollout was ready, and prunes. `StepFailed` where it does not live,
    /// `PortInUse` where another process listens on its port.
    pub async fn mark(&self, gate: &Gate, call: &ActCall, spec: &MarkSpec) -> Result<Acted, HostError> {
        let request = Request::new("mark")
            .with_act(call)
            .with("rollout", &spec.rollout)
            .with("port", spec.port.unwrap_or(0))
            .with("keep", names(&spec.keep))
            .with("atmost", spec.at_most);
        gate.pass(self.effect("host.mark"), self.session.act(&request, DETACHED_TIMEOUT)).await
    }

    /// Removes the oldest releases until `at_most` are left, never one of `keep`, the current one, or the running one.
    pub async fn prune(
        &self,
        gate: &Gate,
        call: &ActCall,
        keep: &[ReleaseName],
        at_most: usize,
    ) -> Result<Acted, HostError> {
        let request = Request::new("prune").with_act(call).with("keep", names(keep)).with("atmost", at_most);
        gate.pass(self.effect("host.prune"), self.session.act(&request, DETACHED_TIMEOUT)).await
    }

    /// Stops the process and removes the whole project folder, `shared/` too. Answers 0: the journal is gone.
    pub async fn remove(&self, gate: &Gate, call: &ActCall, spec: &StopSpec) -> Result<Acted, HostError> {
        let request = stopping(Request::new("remove").with_act(call), spec);
        gate.pass(self.effect("host.remove"), self.session.act(&request, DETACHED_TIMEOUT)).await
    }

    /// Gives up the claim and leaves everything as it is (`deletionPolicy: Retain`). Effect `host.release`.
    pub async fn release(&self, gate: &Gate, call: &ActCall) -> Result<Acted, HostError> {
        let request = Request::new("release").with_act(call);
        gate.pass(self.effect("host.release"), self.session.act(&request, SHORT_TIMEOUT)).await
    }

    /// Takes over a folder whose fence is another control plane's; `call.replaces` names the owner that is taken over.
    pub async fn adopt(&self, gate: &Gate, call: &ActCall) -> Result<Acted, HostError> {
        let request = Request::new("adopt").with_act(call);
        gate.pass(self.effect("host.adopt"), self.session.act(&request, SHORT_TIMEOUT)).await
    }

    pub(super) fn effect(&self, name: &'static str) -> Effect {
        Effect::new(name, &self.session.name)
    }
}

fn names(releases: &[ReleaseName]) -> String {
    releases.iter().map(ReleaseName::as_str).collect::<Vec<_>>().join(" ")
}
