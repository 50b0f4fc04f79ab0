//! A host of a test: a root folder with one project in it, whose processes end with the test.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use landfall_host::{
    failure::{StepFailure, StepResult},
    folder::Folder,
    keeper::{Phase, State},
    process::{Found, Handle, Identity, descendants, find, marked},
    program,
    runtime::{self, Waited},
};
use landfall_host_protocol::{
    ConfigHash, Configuration, Digest, EnvValue, EnvVar, FolderFacts, FolderName, HttpGet, HttpScheme, LogLimits,
    Probe, ProbeAction, ProcessFacts, ProcessRuntime, ReleaseName, RestartPolicy, Runtime, Secrets, Start, Stop,
    StopTo,
};
use rustix::process::Signal;

use crate::support::{PATIENCE, until_some};

pub struct Host {
    pub folder: Folder,
    pub secrets: Secrets,
    _root: Option<tempfile::TempDir>,
}

impl Host {
    pub fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let mut host = Self::at(root.path());
        host._root = Some(root);
        host
    }

    /// One whose root is somebody else's.
    pub fn at(root: &Path) -> Self {
        program::use_for_children(Path::new(env!("CARGO_BIN_EXE_landfall-host")));
        let folder = Folder::new(root, FolderName::new("shop", "web"));
        fs::create_dir_all(folder.dot()).unwrap();
        Self { folder, secrets: Secrets::default(), _root: None }
    }

    /// Puts a release there whose program `run` is this script.
    pub fn release(&self, version: &str, script: &str) -> ReleaseName {
        let name = ReleaseName::new(version, digest(version).as_str());
        let path = self.folder.release(&name);
        fs::create_dir_all(&path).unwrap();
        let program = path.join("run");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        name
    }

    /// Points `current` at a release.
    pub fn switch(&self, release: &ReleaseName) {
        let new = self.folder.dot().join("current.new");
        std::os::unix::fs::symlink(Path::new("releases").join(release.as_str()), &new).unwrap();
        fs::rename(new, self.folder.current()).unwrap();
    }

    pub fn state(&self) -> State {
        State::read(&self.folder).unwrap().expect("something was started")
    }

    pub fn facts(&self) -> FolderFacts {
        let mut facts = FolderFacts::default();
        runtime::recorded(&self.folder).observe(&self.folder, &mut facts);
        facts
    }

    pub fn process(&self) -> ProcessFacts {
        self.facts().process.expect("something was started")
    }

    pub fn start(&self, start: &Start) -> StepResult<()> {
        runtime::of(&start.config).start(&self.folder, start, &self.secrets, &runtime::Patience::default())
    }

    #[track_caller]
    pub fn started(&self, start: &Start) -> Identity {
        self.start(start).unwrap();
        self.state().application.unwrap()
    }

    pub fn stop(&self) -> StepResult<()> {
        runtime::recorded(&self.folder).stop(&self.folder).map(drop)
    }

    pub fn wait_ready(&self) -> StepResult<Waited> {
        runtime::recorded(&self.folder).wait_ready(&self.folder, PATIENCE, &|| false)
    }

    #[track_caller]
    pub fn not_ready(&self) -> Box<StepFailure> {
        self.wait_ready().expect_err("it is not ready")
    }

    pub fn keeper(&self) -> Option<Handle> {
        match find(&self.state().keeper?.identity) {
            Found::Alive(handle) => Some(handle),
            Found::Dead | Found::Hidden => None,
        }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.log(0)).unwrap_or_default()
    }

    /// What the application writes to a file of its data.
    pub fn data(&self, name: &str) -> PathBuf {
        self.folder.shared().join("data").join(name)
    }

    #[track_caller]
    pub fn wait_for_data(&self, name: &str) -> String {
        until_some(&format!("the application writes {name}; its log: {}", self.log()), || {
            fs::read_to_string(self.data(name)).ok().filter(|text| text.ends_with('\n'))
        })
    }

    #[track_caller]
    pub fn wait_for_phase(&self, what: &str, is: impl Fn(&Phase) -> bool) -> State {
        until_some(what, || Some(self.state()).filter(|state| is(&state.phase)))
    }

    /// Every living process of what was started.
    pub fn living(&self) -> Vec<Identity> {
        let Ok(Some(state)) = State::read(&self.folder) else { return Vec::new() };
        let mut all = marked(&state.instance);
        if let Some(keeper) = self.keeper() {
            all.extend(descendants(keeper.identity().pid));
        }
        all.sort_by_key(|process| process.pid);
        all.dedup();
        all
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let living = self.living();
        if let Ok(Some(State { keeper: Some(keeper), .. })) = State::read(&self.folder)
            && let Found::Alive(keeper) = find(&keeper.identity)
        {
            let _ = keeper.signal(Signal::KILL);
            keeper.wait(PATIENCE);
        }
        let _ = landfall_host::process::end_all(
            || {
                living
                    .iter()
                    .filter(|process| matches!(find(process), Found::Alive(_)))
                    .cloned()
                    .chain(self.living())
                    .collect()
            },
            PATIENCE,
        );
    }
}

pub fn digest(version: &str) -> Digest {
    let hex: String = version.bytes().cycle().take(32).map(|byte| format!("{byte:02x}")).collect();
    Digest::parse(&hex).unwrap()
}

pub fn process(command: &[&str]) -> Configuration {
    Configuration {
        hash: ConfigHash::parse("1:0123456789abcdef").unwrap(),
        runtime: Runtime::Process(ProcessRuntime {
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            restart_policy: RestartPolicy::Always,
            stop: Stop { signal: "TERM".to_owned(), to: StopTo::Main, grace_seconds: 20 },
        }),
        env: Vec::new(),
        files: Vec::new(),
        run_as: None,
        readiness: None,
        liveness: None,
        log: LogLimits::default(),
        keep_secrets_on_host: false,
    }
}

pub fn with_env(mut configuration: Configuration, name: &str, value: &str) -> Configuration {
    configuration.env.push(EnvVar { name: name.to_owned(), value: EnvValue::Plain(value.to_owned()) });
    configuration
}

pub fn with_stop(mut configuration: Configuration, to: StopTo, grace_seconds: u32) -> Configuration {
    if let Runtime::Process(process) = &mut configuration.runtime {
        process.stop = Stop { signal: "TERM".to_owned(), to, grace_seconds };
    }
    configuration
}

pub fn with_policy(mut configuration: Configuration, policy: RestartPolicy) -> Configuration {
    if let Runtime::Process(process) = &mut configuration.runtime {
        process.restart_policy = policy;
    }
    configuration
}

pub fn probe(action: ProbeAction) -> Probe {
    Probe {
        action,
        initial_delay_seconds: 0,
        period_seconds: 1,
        timeout_seconds: 5,
        failure_threshold: 1,
        success_threshold: 1,
    }
}

pub fn http(port: u16, path: &str) -> Probe {
    let scheme = HttpScheme::Http;
    probe(ProbeAction::HttpGet(HttpGet { port, path: path.to_owned(), scheme, host: None, headers: Vec::new() }))
}

pub fn exec(command: &[&str]) -> Probe {
    probe(ProbeAction::Exec { command: command.iter().map(|word| (*word).to_owned()).collect() })
}

pub fn start(release: &ReleaseName, config: Configuration) -> Start {
    Start { release: release.clone(), digest: digest(release.version()), config, revision: 1, redeploys: 0, attempt: 1 }
}

/// A port of this machine that nobody has now.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub const MOMENT: Duration = Duration::from_millis(300);
