//! A small web application and the tasks that deploy it.

use std::{fs::File, path::Path};

use landfall::effects::payload::Payload;
use landfall_host_bundle::{Release, encode, write};
use landfall_host_protocol::{
    Author, Bundle, ConfigHash, Configuration, Digest, EnvValue, EnvVar, FenceToken, FolderName, HttpGet, HttpScheme,
    LogLimits, Owner, Probe, ProbeAction, ProcessRuntime, ReleaseName, RestartPolicy, Runtime, Start, Step, Stop, Task,
    TaskId,
};
use sha2::{Digest as _, Sha256};

/// Serves its version on port 8080, once `/srv/hold` is not there.
const WEB: &str = "#!/bin/sh\necho \"$GREETING from VERSION\"\nwhile [ -e /srv/hold ]; do sleep 0.1; done\nmkdir -p /tmp/www && echo VERSION >/tmp/www/index.html\nexec busybox httpd -f -p 8080 -h /tmp/www\n";

pub const UID: &str = "uid-of-web";

/// A version as its bytes lie here.
pub struct Version {
    pub name: ReleaseName,
    pub digest: Digest,
    pub release: Release,
    /// Object and file.
    pub manifest: (Digest, u64, Payload),
    pub bundle: (Digest, u64, Payload),
    pub base: Option<ReleaseName>,
}

fn digest(bytes: &[u8]) -> Digest {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    Digest::parse(&hex).unwrap()
}

fn object(path: &Path, bytes: &[u8]) -> (Digest, u64, Payload) {
    std::fs::write(path, bytes).unwrap();
    (digest(bytes), bytes.len() as u64, Payload::file(path))
}

impl Version {
    /// `extra`: bytes of a file that does nothing.
    pub fn pack(local: &Path, version: &str, extra: usize, base: Option<&Version>) -> Self {
        let tar = local.join(format!("{version}.tar"));
        let mut builder = tar::Builder::new(File::create(&tar).unwrap());
        let mut bulk = vec![0; extra];
        rand::fill(&mut bulk[..]);
        for (name, mode, bytes) in [("app", 0o755, WEB.replace("VERSION", version).into_bytes()), ("bulk", 0o644, bulk)]
        {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(mode);
            builder.append_data(&mut header, name, bytes.as_slice()).unwrap();
        }
        builder.into_inner().unwrap();
        let whole = digest(&std::fs::read(&tar).unwrap());
        let release = Release::read(File::open(&tar).unwrap(), &whole).unwrap();
        let mut bundle = Vec::new();
        write(&release, base.map(|base| &base.release), &mut bundle).unwrap();
        Self {
            name: ReleaseName::new(version, whole.as_str()),
            manifest: object(&local.join(format!("{version}.manifest")), &encode(release.manifest())),
            bundle: object(&local.join(format!("{version}.bundle")), &bundle),
            base: base.map(|base| base.name.clone()),
            digest: whole,
            release,
        }
    }

    pub fn stage(&self) -> Step {
        Step::Stage {
            release: self.name.clone(),
            digest: self.digest.clone(),
            manifest: self.manifest.0.clone(),
            bundle: Some(Bundle { sha256: self.bundle.0.clone(), size: self.bundle.1, base: self.base.clone() }),
        }
    }

    /// From stop to ready.
    pub fn update(&self) -> Vec<Step> {
        let start = Start {
            release: self.name.clone(),
            digest: self.digest.clone(),
            config: configuration(),
            revision: 1,
            redeploys: 0,
            attempt: 1,
        };
        vec![
            Step::Stop,
            Step::Switch { release: self.name.clone() },
            Step::Start(Box::new(start)),
            Step::WaitReady { timeout_seconds: 60 },
        ]
    }
}

fn configuration() -> Configuration {
    let request = HttpGet { port: 8080, path: "/".to_owned(), scheme: HttpScheme::Http, host: None, headers: vec![] };
    Configuration {
        hash: ConfigHash::parse("1:0123456789abcdef").unwrap(),
        runtime: Runtime::Process(ProcessRuntime {
            command: vec!["./app".to_owned()],
            restart_policy: RestartPolicy::Always,
            stop: Stop { grace_seconds: 5, ..Stop::default() },
        }),
        env: vec![EnvVar { name: "GREETING".to_owned(), value: EnvValue::Plain("it's \"me\" $HOME".to_owned()) }],
        files: vec![],
        run_as: None,
        readiness: Some(Probe {
            action: ProbeAction::HttpGet(request),
            initial_delay_seconds: 0,
            period_seconds: 1,
            timeout_seconds: 5,
            failure_threshold: 3,
            success_threshold: 1,
        }),
        liveness: None,
        log: LogLimits::default(),
        keep_secrets_on_host: false,
    }
}

/// `n`: the last journal number that was seen.
pub fn task(folder: &FolderName, host: &str, n: u64, steps: Vec<Step>) -> Task {
    Task {
        id: TaskId { uid: UID.to_owned(), rollout: "1.0".to_owned(), attempt: 1, n },
        folder: folder.clone(),
        owner: Owner {
            control_plane_id: "plane-1".to_owned(),
            namespace: folder.namespace().to_owned(),
            deployment: "web".to_owned(),
            uid: UID.to_owned(),
            host: host.to_owned(),
        },
        replaces: None,
        fence: FenceToken { epoch: "plane-1".to_owned(), created: 1_700_000_000, transitions: 5 },
        author: Author::Operator,
        steps,
    }
}
