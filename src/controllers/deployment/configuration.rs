//! How an application runs on one host, as the host is told it. Pure; the same input gives the same configuration and hash.

use landfall_host_protocol::{
    ConfigHash, Configuration, EnvValue, EnvVar, HttpGet, HttpScheme, LogLimits, Probe, ProbeAction, ProcessRuntime,
    RestartPolicy, RunAs, Runtime, Stop, StopTo,
};
use sha2::{Digest, Sha256};

use crate::{
    api::project::{ReadinessProbe, Run},
    plan::deployment::Target,
};

/// How often in a row a probe fails before what was ready is not ready any more.
const FAILURES_UNTIL_UNREADY: u32 = 3;

/// `env`: the whole environment of the process on this host.
pub(crate) fn configuration(
    target: &Target,
    env: Vec<(String, String)>,
    run_as: Option<RunAs>,
) -> Option<Configuration> {
    let run = &target.run;
    let env = env.into_iter().map(|(name, value)| EnvVar { name, value: EnvValue::Plain(value) });
    let mut configuration = Configuration {
        hash: ConfigHash::parse("1:00000000")?,
        runtime: Runtime::Process(ProcessRuntime {
            command: run.command().to_vec(),
            restart_policy: RestartPolicy::Always,
            stop: stop(run),
        }),
        env: env.collect(),
        files: Vec::new(),
        run_as,
        readiness: run.readiness_probe.as_ref().and_then(probe),
        liveness: None,
        log: LogLimits::default(),
        keep_secrets_on_host: false,
    };
    configuration.hash = hash(&configuration)?;
    Some(configuration)
}

/// Of every field but the hash itself, which names its algorithm.
fn hash(configuration: &Configuration) -> Option<ConfigHash> {
    let text = serde_json::to_vec(configuration).ok()?;
    let digest = Sha256::digest(&text);
    let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    ConfigHash::parse(&format!("1:{hex}"))
}

fn stop(run: &Run) -> Stop {
    // Processes of a shell script get the signal as the shell helper sent it: all of them.
    Stop {
        signal: run.stop.signal.as_str().to_owned(),
        to: StopTo::Group,
        grace_seconds: number(run.termination_grace_period_seconds),
    }
}

fn probe(probe: &ReadinessProbe) -> Option<Probe> {
    let port = probe.port()?;
    let action = match &probe.http_get {
        Some(http) => ProbeAction::HttpGet(HttpGet {
            port,
            path: http.path.clone(),
            scheme: HttpScheme::Http,
            host: None,
            headers: Vec::new(),
        }),
        None => ProbeAction::TcpSocket { port, host: None },
    };
    Some(Probe {
        action,
        initial_delay_seconds: 0,
        period_seconds: number(probe.period_seconds),
        timeout_seconds: number(probe.timeout_seconds),
        success_threshold: number(probe.success_threshold),
        failure_threshold: FAILURES_UNTIL_UNREADY,
    })
}

/// Seconds of a spec, which the schema bounds.
pub(super) fn number(seconds: i64) -> u32 {
    u32::try_from(seconds).unwrap_or(0)
}
