//! How an application runs on one host, as the host is told it. Pure; the same input gives the same configuration and hash.

use std::collections::BTreeMap;

use landfall_host_protocol::{
    ConfigHash, Configuration, Drain, EnvValue, EnvVar, File, FileValue, HttpGet, HttpHeader, HttpScheme, LogLimits,
    Probe, ProbeAction, ProcessRuntime, RestartPolicy, RunAs, Runtime, ScriptRuntime, Secrets, StaticRuntime, Step,
    Stop, StopTo, SystemdRuntime,
};
use sha2::{Digest, Sha256};

use crate::{
    api::{
        common::bytes,
        project::{self, Run},
    },
    model::keyed::{KeyedHash, configuration_hash, read_configuration_hash},
    plan::deployment::{Target, Value},
};

/// `env`: the whole environment of the process on this host.
pub(crate) fn configuration(
    target: &Target,
    env: Vec<(String, Value)>,
    run_as: Option<RunAs>,
) -> Option<Configuration> {
    let run = &target.run;
    let value = |value| match value {
        Value::Plain(text) => EnvValue::Plain(text),
        Value::Secret(place) => EnvValue::Secret(place),
    };
    let env = env.into_iter().map(|(name, given)| EnvVar { name, value: value(given) });
    let files = target.files().map(|(file, place)| File {
        name: file.name.clone(),
        mode: u32::try_from(file.mode).unwrap_or(0o600),
        value: FileValue::Secret(place),
    });
    let mut configuration = Configuration {
        hash: ConfigHash::parse("1:00000000")?,
        runtime: runtime(run)?,
        env: env.collect(),
        files: files.collect(),
        run_as,
        readiness: run.readiness_probe.as_ref().and_then(readiness),
        liveness: run.liveness_probe.as_ref().and_then(liveness),
        log: LogLimits::default(),
        keep_secrets_on_host: target.keep_secrets_on_host,
    };
    configuration.hash = hash(&configuration, &target.values)?;
    Some(configuration)
}

/// Of every field but the hash itself, which names its algorithm. With values of Secrets it ends with their keyed hash.
fn hash(configuration: &Configuration, values: &BTreeMap<String, KeyedHash>) -> Option<ConfigHash> {
    let text = serde_json::to_vec(configuration).ok()?;
    let digest = Sha256::digest(&text);
    let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let hash = match KeyedHash::of_all(values) {
        Some(values) => configuration_hash(&hex, &values)?,
        None => format!("1:{hex}"),
    };
    ConfigHash::parse(&hash)
}

/// What a task brings beside its steps.
#[derive(Debug, Default)]
pub(super) struct Brought {
    pub secrets: Secrets,
    /// The keyed hash of each value, by its place.
    pub hashes: BTreeMap<String, KeyedHash>,
    /// Text of ConfigMaps, which is no secret, by its place.
    pub plain: BTreeMap<String, String>,
}

/// Makes the start tell with which values it is: those of its revision, or those of now where something is healed. `None`: no host takes it.
pub(super) fn bring(steps: &mut [Step], brought: &Brought) -> Option<()> {
    for step in steps {
        let Step::Start(start) = step else { continue };
        if let Some((settings, _)) = read_configuration_hash(start.config.hash.as_str())
            && let Some(values) = KeyedHash::of_all(&brought.hashes)
        {
            start.config.hash = ConfigHash::parse(&configuration_hash(settings, &values)?)?;
        }
        for file in &mut start.config.files {
            if let FileValue::Secret(place) = &file.value
                && let Some(text) = brought.plain.get(place)
            {
                file.value = FileValue::Plain(text.clone());
            }
        }
    }
    Some(())
}

/// `None`: a limit of memory that is no number of bytes; none is no limit.
fn runtime(run: &Run) -> Option<Runtime> {
    let (command, stop) = (run.command().to_vec(), stop(run));
    let restart_policy = match run.restart_policy() {
        project::RestartPolicy::Always => RestartPolicy::Always,
        project::RestartPolicy::OnFailure => RestartPolicy::OnFailure,
    };
    if let Some(script) = &run.script {
        return Some(Runtime::Script(ScriptRuntime {
            start: script.start.command.clone(),
            stop: script.stop.command.clone(),
            status: script.status.command.clone(),
            timeout_seconds: number(script.start.timeout_seconds),
            stop_timeout_seconds: Some(number(script.stop.timeout_seconds)),
            status_timeout_seconds: Some(number(script.status.timeout_seconds)),
            leave: stop,
        }));
    }
    if let Some(files) = &run.r#static {
        let reload = files.reload.as_ref();
        return Some(Runtime::Static(StaticRuntime {
            reload: reload.map(|reload| reload.command.clone()).unwrap_or_default(),
            timeout_seconds: reload.map_or(0, |reload| number(reload.timeout_seconds)),
        }));
    }
    let Some(systemd) = &run.systemd else {
        return Some(Runtime::Process(ProcessRuntime { command, restart_policy, stop }));
    };
    let memory_max_bytes = match &systemd.memory_max {
        Some(text) => Some(bytes(text)?),
        None => None,
    };
    Some(Runtime::Systemd(SystemdRuntime {
        unit: systemd.unit.clone(),
        command,
        memory_max_bytes,
        restart_policy,
        stop,
    }))
}

fn stop(run: &Run) -> Stop {
    Stop {
        signal: run.stop.signal.as_str().to_owned(),
        to: match run.stop_to() {
            project::StopTo::Main => StopTo::Main,
            project::StopTo::Group => StopTo::Group,
        },
        grace_seconds: number(run.termination_grace_period_seconds),
    }
}

fn readiness(probe: &project::ReadinessProbe) -> Option<Probe> {
    Some(Probe {
        action: action(probe.http_get.as_ref(), probe.tcp_socket.as_ref())?,
        initial_delay_seconds: 0,
        period_seconds: number(probe.period_seconds),
        timeout_seconds: number(probe.timeout_seconds),
        failure_threshold: number(probe.failure_threshold),
        success_threshold: number(probe.success_threshold),
    })
}

fn liveness(probe: &project::LivenessProbe) -> Option<Probe> {
    Some(Probe {
        action: action(probe.http_get.as_ref(), probe.tcp_socket.as_ref())?,
        initial_delay_seconds: 0,
        period_seconds: number(probe.period_seconds),
        timeout_seconds: number(probe.timeout_seconds),
        failure_threshold: number(probe.failure_threshold),
        success_threshold: 1,
    })
}

fn action(http: Option<&project::HttpGet>, tcp: Option<&project::TcpSocket>) -> Option<ProbeAction> {
    if let Some(http) = http {
        return Some(ProbeAction::HttpGet(HttpGet {
            port: u16::try_from(http.port).ok()?,
            path: http.path.clone(),
            scheme: scheme(http.scheme),
            host: http.host.clone(),
            headers: headers(&http.http_headers),
        }));
    }
    Some(ProbeAction::TcpSocket { port: u16::try_from(tcp?.port).ok()?, host: None })
}

fn scheme(scheme: project::Scheme) -> HttpScheme {
    match scheme {
        project::Scheme::Http => HttpScheme::Http,
        project::Scheme::Https => HttpScheme::Https,
    }
}

fn headers(headers: &[project::HttpHeader]) -> Vec<HttpHeader> {
    headers.iter().map(|header| HttpHeader { name: header.name.clone(), value: header.value.clone() }).collect()
}

/// The drain of a version as a step takes it; `None`: one of a later version of landfall, which has neither of the two.
pub(super) fn drain(drain: &project::Drain) -> Option<Drain> {
    let timeout_seconds = number(drain.timeout_seconds);
    if let Some(command) = &drain.exec {
        let undo = drain.undo_exec.clone().unwrap_or_default();
        return Some(Drain::Exec { command: command.clone(), undo, timeout_seconds });
    }
    let http = drain.http.as_ref()?;
    let port = u16::try_from(http.port).ok()?;
    let request = |path: &str| HttpGet {
        port,
        path: path.to_owned(),
        scheme: scheme(http.scheme),
        host: None,
        headers: headers(&http.http_headers),
    };
    Some(Drain::Http {
        request: request(&http.path),
        undo: http.undo_path.as_deref().map(request),
        method: http.method.as_str().to_owned(),
        timeout_seconds,
    })
}

/// Seconds of a spec, which the schema bounds.
pub(super) fn number(seconds: i64) -> u32 {
    u32::try_from(seconds).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::model::keyed::HashKey;

    fn run(run: &Value) -> Run {
        Run::frozen(run).unwrap()
    }

    fn probe(probe: Option<Probe>) -> Value {
        serde_json::to_value(probe).unwrap()
    }

    #[test]
    fn what_an_older_version_froze_is_told_to_hosts_as_before() {
        let run = run(&json!({
            "process": { "command": ["./app"] },
            "readinessProbe": { "httpGet": { "port": 8080, "path": "/ok" } },
        }));
        assert_eq!(
            serde_json::to_value(stop(&run)).unwrap(),
            json!({ "signal": "TERM", "to": "group", "graceSeconds": 10 })
        );
        assert_eq!(
            probe(run.readiness_probe.as_ref().and_then(readiness)),
            json!({
                "action": { "httpGet": { "port": 8080, "path": "/ok", "scheme": "Http", "host": null, "headers": [] } },
                "initialDelaySeconds": 0, "periodSeconds": 1, "timeoutSeconds": 2, "failureThreshold": 3,
            }),
            "another configuration would be another hash"
        );
        assert!(run.liveness_probe.is_none() && run.drain.is_none() && run.hooks.is_empty());
    }

    #[test]
    fn every_field_of_a_probe_reaches_the_host() {
        let http = json!({
            "port": 8443, "path": "/ok", "scheme": "HTTPS", "host": "10.0.0.1",
            "httpHeaders": [{ "name": "Host", "value": "shop.example.com" }],
        });
        let run = run(&json!({
            "process": { "command": ["./app"], "restartPolicy": "OnFailure" },
            "stop": { "signal": "INT", "to": "Main" },
            "readinessProbe": { "httpGet": http, "periodSeconds": 5, "successThreshold": 2, "failureThreshold": 4 },
            "livenessProbe": { "tcpSocket": { "port": 8080 }, "failureThreshold": 5 },
        }));
        assert_eq!(
            probe(run.readiness_probe.as_ref().and_then(readiness)),
            json!({
                "action": { "httpGet": {
                    "port": 8443, "path": "/ok", "scheme": "Https", "host": "10.0.0.1",
                    "headers": [{ "name": "Host", "value": "shop.example.com" }],
                } },
                "initialDelaySeconds": 0, "periodSeconds": 5, "timeoutSeconds": 2, "failureThreshold": 4, "successThreshold": 2,
            })
        );
        assert_eq!(
            probe(run.liveness_probe.as_ref().and_then(liveness)),
            json!({
                "action": { "tcpSocket": { "port": 8080, "host": null } },
                "initialDelaySeconds": 0, "periodSeconds": 10, "timeoutSeconds": 2, "failureThreshold": 5,
            })
        );
        assert_eq!(stop(&run).to, StopTo::Main);
        assert_eq!(run.restart_policy(), project::RestartPolicy::OnFailure);
    }

    #[test]
    fn a_unit_of_systemd_is_told_as_it_is_configured() {
        let told = |systemd: Value| {
            let run = json!({ "systemd": systemd, "stop": { "to": "Main" } });
            serde_json::to_value(runtime(&self::run(&run))).unwrap()
        };
        let stop = json!({ "signal": "TERM", "to": "main", "graceSeconds": 10 });
        assert_eq!(
            told(json!({ "command": ["./app"], "memoryMax": "512Mi", "restartPolicy": "OnFailure" })),
            json!({ "systemd": {
                "unit": null, "command": ["./app"], "memoryMaxBytes": 512 << 20, "restartPolicy": "OnFailure", "stop": stop,
            } })
        );
        assert_eq!(
            told(json!({ "unit": "app.service" })),
            json!({ "systemd": {
                "unit": "app.service", "command": [], "memoryMaxBytes": null, "restartPolicy": "Always", "stop": stop,
            } })
        );
        assert_eq!(told(json!({ "command": ["./app"], "memoryMax": "much" })), Value::Null, "that would be no limit");
    }

    #[test]
    fn commands_and_files_are_told_as_they_are_configured() {
        let told = |value: Value| serde_json::to_value(runtime(&self::run(&value))).unwrap();
        let command = |word: &str, seconds: i64| json!({ "command": ["./ctl", word], "timeoutSeconds": seconds });
        let script =
            json!({ "start": command("start", 1), "stop": command("stop", 2), "status": command("status", 3) });
        assert_eq!(
            told(
                json!({ "script": script, "stop": { "signal": "INT", "to": "Main" }, "terminationGracePeriodSeconds": 4 })
            ),
            json!({ "script": {
                "start": ["./ctl", "start"], "stop": ["./ctl", "stop"], "status": ["./ctl", "status"],
                "timeoutSeconds": 1, "stopTimeoutSeconds": 2, "statusTimeoutSeconds": 3,
                "leave": { "signal": "INT", "to": "main", "graceSeconds": 4 },
            } })
        );
        assert_eq!(told(json!({ "static": {} })), json!({ "static": { "reload": [], "timeoutSeconds": 0 } }));
        let reload = json!({ "command": ["nginx", "-s", "reload"] });
        assert_eq!(
            told(json!({ "static": { "reload": reload } })),
            json!({ "static": { "reload": ["nginx", "-s", "reload"], "timeoutSeconds": 30 } })
        );
    }

    #[test]
    fn a_start_names_the_values_that_it_brings_and_text_of_a_config_map_is_no_secret() {
        let values = |word: &str| -> BTreeMap<String, KeyedHash> {
            let hash = |place: &str| HashKey::new([7; 32]).hash(place, word.as_bytes());
            [("db/password".into(), hash("db/password")), ("ConfigMap/app/a.ini".into(), hash("a.ini"))].into()
        };
        let file = |name: &str, place: &str| File {
            name: name.to_owned(),
            mode: 0o600,
            value: FileValue::Secret(place.to_owned()),
        };
        let mut config = Configuration {
            hash: ConfigHash::parse("1:00000000").unwrap(),
            runtime: runtime(&run(&json!({ "process": { "command": ["./app"] } }))).unwrap(),
            env: Vec::new(),
            files: vec![file("a.ini", "ConfigMap/app/a.ini"), file("word", "db/password")],
            run_as: None,
            readiness: None,
            liveness: None,
            log: LogLimits::default(),
            keep_secrets_on_host: false,
        };
        config.hash = hash(&config, &values("one")).unwrap();
        let release = landfall_host_protocol::ReleaseName::new("v1", &"1".repeat(64));
        let start = |config: &Configuration| {
            let digest = landfall_host_protocol::Digest::parse(&"1".repeat(64)).unwrap();
            let (release, config) = (release.clone(), config.clone());
            let start =
                landfall_host_protocol::Start { release, digest, config, revision: 1, redeploys: 0, attempt: 1 };
            vec![Step::Start(Box::new(start))]
        };
        let brought = |word: &str| {
            let mut steps = start(&config);
            let plain = [("ConfigMap/app/a.ini".to_owned(), word.to_owned())].into();
            bring(&mut steps, &Brought { secrets: Secrets::default(), hashes: values(word), plain }).unwrap();
            let Some(Step::Start(start)) = steps.pop() else { panic!("no start") };
            start.config
        };
        let (one, two) = (brought("one"), brought("two"));
        assert_eq!(one.hash, config.hash, "what was decided on");
        let of = |config: &Configuration| {
            let (settings, values) = read_configuration_hash(config.hash.as_str()).unwrap();
            (settings.to_owned(), Some(values))
        };
        let settings = of(&config).0;
        assert_eq!(of(&two), (settings, KeyedHash::of_all(&values("two"))));
        assert_eq!(two.files[0].value, FileValue::Plain("two".to_owned()));
        assert_eq!(two.files[1].value, FileValue::Secret("db/password".to_owned()));
    }

    #[test]
    fn a_drain_brings_its_undo() {
        let read = |value: Value| drain(&serde_json::from_value(value).unwrap()).unwrap();
        let http = read(json!({ "http": { "port": 8081, "path": "/out", "undoPath": "/in" } }));
        let Drain::Http { request, undo, method, timeout_seconds } = http else { panic!("{http:?}") };
        assert_eq!((request.path.as_str(), method.as_str(), timeout_seconds), ("/out", "POST", 10));
        assert_eq!(undo.map(|undo| (undo.port, undo.path)), Some((8081, "/in".to_owned())));
        let exec = read(json!({ "exec": ["./out"], "undoExec": ["./in"], "timeoutSeconds": 3 }));
        let Drain::Exec { command, undo, timeout_seconds } = exec else { panic!("{exec:?}") };
        assert_eq!((command, undo, timeout_seconds), (vec!["./out".to_owned()], vec!["./in".to_owned()], 3));
    }
}
