//! Readiness: probed through the SSH connection, answered by the started process, for `minReadySeconds`.

use std::time::Duration;

use super::failure::host_failed;
use crate::{
    api::{Reason, project::ReadinessProbe},
    effects::{
        clock,
        host::{Host, HostError, Listener},
    },
    model::{Failure, backoff::Backoff, ids::FolderName},
    plan::deployment::Target,
};

const PAUSE_MIN: Duration = Duration::from_millis(50);
/// Pause between checks that a process which does not answer yet is alive.
const PROBE_INTERVAL: Duration = Duration::from_millis(500);
const LAST_LINES: usize = 5;

/// Result of the verification.
pub(crate) enum Verified {
    /// The host checks that the socket which answered belongs to the process when it marks it as ready.
    Ready,
    Failed(Failure),
    /// The host has a new goal.
    Superseded,
}

/// The process that must answer.
pub(crate) struct Process<'a> {
    pub folder: &'a FolderName,
    pub pid: i64,
    pub start: u64,
}

/// Probes until the process was ready for `successThreshold` and `minReadySeconds`, ends, or its deadline passes.
pub async fn verify(
    host: &Host,
    process: &Process<'_>,
    target: &Target,
    wanted: impl Fn() -> bool,
    not_yet: impl Fn(&str),
) -> Result<Verified, HostError> {
    let began = clock::monotonic();
    let deadline = began + seconds(target.run.healthy_deadline_seconds);
    let probe = target.run.readiness_probe.as_ref();
    let threshold = probe.map_or(1, |probe| probe.success_threshold);
    let pause_max = probe.map_or(Duration::from_millis(500), |probe| seconds(probe.period_seconds));
    let mut checked_at = began;
    let mut pauses = Backoff::new(PAUSE_MIN, pause_max).waits();
    let (mut successes, mut ready_since, mut last) = (0, None, String::new());
    loop {
        if !wanted() {
            return Ok(Verified::Superseded);
        }
        match probe_once(host, probe).await? {
            Ok(()) => successes += 1,
            Err(why) => {
                if why != last {
                    not_yet(&why);
                }
                (successes, ready_since, last) = (0, None, why);
            }
        }
        let enough = successes >= threshold;
        let since = enough.then(|| *ready_since.get_or_insert_with(clock::monotonic));
        let long_enough = since.is_some_and(|since| clock::monotonic().duration_since(since) >= min_ready(target));
        if long_enough && probe.is_some() {
            return Ok(Verified::Ready);
        }
        // Without an answer, a dead process is noticed within PROBE_INTERVAL.
        if long_enough || clock::monotonic().duration_since(checked_at) >= PROBE_INTERVAL {
            checked_at = clock::monotonic();
            if let Some(failure) = failed(host, process, probe.filter(|_| enough)).await? {
                return Ok(Verified::Failed(failure));
            }
        }
        if long_enough {
            return Ok(Verified::Ready);
        }
        if !enough && clock::monotonic() >= deadline {
            return Ok(Verified::Failed(not_ready(host, process, target, &last).await));
        }
        tokio::time::sleep(pauses.next_wait()).await;
    }
}

/// After an answer: the process must be alive, and the socket that answered belong to its session, where the host can tell.
async fn failed(
    host: &Host,
    process: &Process<'_>,
    probe: Option<&ReadinessProbe>,
) -> Result<Option<Failure>, HostError> {
    let port = probe.and_then(ReadinessProbe::port);
    let mut now = host.answering(process.folder, port).await?;
    if now.listener == Some(Listener::Foreign) {
        // A process that ends during the check leaves a socket without owner for a moment.
        now = host.answering(process.folder, port).await?;
    }
    if !now.process.is_some_and(|one| one.alive && one.pid == process.pid && one.start == process.start) {
        return Ok(Some(died(host, process).await));
    }
    Ok(port.filter(|_| now.listener == Some(Listener::Foreign)).map(port_in_use))
}

fn seconds(n: i64) -> Duration {
    Duration::from_secs(u64::try_from(n).unwrap_or(0))
}

fn min_ready(target: &Target) -> Duration {
    seconds(target.min_ready_seconds)
}

/// One probe. The text has the cause, for people.
async fn probe_once(host: &Host, probe: Option<&ReadinessProbe>) -> Result<Result<(), String>, HostError> {
    let Some((probe, port)) = probe.and_then(|probe| Some((probe, probe.port()?))) else { return Ok(Ok(())) };
    let timeout = seconds(probe.timeout_seconds);
    let Some(http) = &probe.http_get else {
        let ready = host.tcp_ready(port, timeout).await?;
        return Ok(if ready { Ok(()) } else { Err(format!("nothing accepts connections on port {port}")) });
    };
    Ok(match host.http_ready(port, &http.path, timeout).await? {
        Ok(200..400) => Ok(()),
        Ok(status) => Err(format!("GET {} on port {port} was answered with {status}", http.path)),
        Err(why) => Err(format!("GET {} on port {port}: {why}", http.path)),
    })
}

pub(crate) fn port_in_use(port: u16) -> Failure {
    host_failed(Reason::PortInUse, &HostError::PortInUse { port }.to_string(), &[])
}

async fn tail(host: &Host, folder: &FolderName) -> Vec<String> {
    host.tail(folder, LAST_LINES).await.unwrap_or_default()
}

pub async fn died(host: &Host, process: &Process<'_>) -> Failure {
    died_in(host, process.folder).await
}

pub(crate) async fn died_in(host: &Host, folder: &FolderName) -> Failure {
    let lines = tail(host, folder).await;
    host_failed(
        Reason::ProcessDied,
        "the process ended before it was ready; its output is in shared/log on the host",
        &lines,
    )
}

async fn not_ready(host: &Host, process: &Process<'_>, target: &Target, last: &str) -> Failure {
    let lines = tail(host, process.folder).await;
    let message = format!("not ready after {} s: {last}", target.run.healthy_deadline_seconds);
    host_failed(Reason::NotReady, &message, &lines)
}
