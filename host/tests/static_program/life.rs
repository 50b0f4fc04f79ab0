//! A root file system that has next to nothing, and the life of a release in it.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use landfall_host_bundle::{Release, digest, encode, write};
use landfall_host_protocol::{
    Answer, Author, Bundle, ConfigHash, Configuration, FenceToken, FolderFacts, Kind, LogLimits, Outcome, Owner,
    ProcessRuntime, ProcessState, ReleaseName, Request, RestartPolicy, Runtime, Secrets, Start, Step, Stop, Task,
    TaskId, Welcome,
};

use crate::client::{self, Client, NAMESPACE, name, put};

const ENTER: &str = "mount -t proc proc \"$0/proc\" && for d in null urandom; do mount --bind /dev/$d \"$0/dev/$d\" || exit 1; done && \
    exec chroot \"$0\" /bin/sh -c 'exec /landfall-host session /srv/landfall'";
const BINFMT: &str = "/proc/sys/fs/binfmt_misc";
/// Programs for aarch64 are run by qemu, which is opened now and need not be in the root.
const QEMU: &str = r":landfall:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:/usr/bin/qemu-aarch64-static:F";

/// Our program and busybox, with the libraries that busybox has where it is not static. Only root can enter it.
pub struct BareRoot {
    dir: tempfile::TempDir,
}

impl BareRoot {
    pub fn new(program: &Path) -> Option<Self> {
        if !rustix::process::getuid().is_root() {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let bare = Self { dir };
        for folder in ["bin", "etc", "proc", "dev", "srv/landfall", "tmp"] {
            fs::create_dir_all(bare.path().join(folder)).unwrap();
        }
        fs::set_permissions(bare.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for device in ["null", "urandom"] {
            fs::write(bare.path().join("dev").join(device), "").unwrap();
        }
        bare.copy(program, Path::new("landfall-host"));
        let busybox = find_busybox();
        bare.copy(&busybox, Path::new("bin/busybox"));
        std::os::unix::fs::symlink("busybox", bare.path().join("bin/sh")).unwrap();
        for library in libraries(&busybox) {
            bare.copy(&library, library.strip_prefix("/").unwrap());
        }
        Some(bare)
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The same for a program of aarch64, in a user namespace where qemu runs those; the rest of the machine does not notice.
    pub fn foreign_command(&self) -> Command {
        let enter = format!("mount -t binfmt_misc none {BINFMT} && printf %s '{QEMU}' >{BINFMT}/register && {ENTER}");
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child", "/bin/sh", "-c"]);
        command.arg(enter).arg(self.path()).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    /// Seen from outside.
    pub fn groups_root(&self) -> PathBuf {
        self.path().join("srv/landfall")
    }

    fn copy(&self, from: &Path, to: &Path) {
        let to = self.path().join(to);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
    }

    /// A session in it, started by its `sh`, in namespaces of its own that end with it.
    pub fn command(&self, before: &[&str]) -> Command {
        let unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "/bin/sh", "-c", ENTER];
        let words: Vec<&str> = before.iter().chain(&unshare).copied().collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg(self.path()).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }
}

/// Whether this kernel (6.7 or newer) lets a user namespace say how programs of other machines are run.
pub fn can_run_foreign_programs() -> bool {
    let mounts = ["--user", "--map-root-user", "--mount", "mount", "-t", "binfmt_misc", "none", BINFMT];
    Command::new("unshare").args(mounts).output().is_ok_and(|output| output.status.success())
}

fn find_busybox() -> PathBuf {
    let places = ["/bin/busybox", "/usr/bin/busybox"].map(PathBuf::from);
    places.into_iter().find(|place| place.exists()).expect("busybox is missing: scripts/install-test-tools.sh")
}

/// Absolute paths that `ldd` names; none for a static program.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let output = Command::new("ldd").arg(program).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let paths = text.split_whitespace().filter(|word| word.starts_with('/') && !word.ends_with(':'));
    paths.map(PathBuf::from).collect()
}

pub fn hello(client: &mut Client) -> Welcome {
    match client.ask(&client::hello()) {
        Answer::Welcome(welcome) => *welcome,
        other => panic!("{other:?}"),
    }
}

/// Brings a release, stages it, lets its hook speak, and switches to it; answers what the folder is then.
pub fn carry(client: &mut Client) -> FolderFacts {
    let tar = tar();
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, &tar).unwrap();
    let release = Release::read(file, &digest(&tar)).unwrap();
    let mut bundle = Vec::new();
    write(&release, None, &mut bundle).unwrap();
    let manifest = encode(release.manifest());
    for bytes in [&bundle, &manifest] {
        let id = client.send(&put("web", bytes, Some(0)));
        client.send_bytes(id, Kind::LastBytes, bytes);
        assert_eq!(client.answer(id), Answer::Stored);
    }
    let named = ReleaseName::new("v1", digest(&tar).as_str());
    let stage = Step::Stage {
        release: named.clone(),
        digest: digest(&tar),
        manifest: digest(&manifest),
        bundle: Some(Bundle { sha256: digest(&bundle), size: bundle.len() as u64, base: None }),
    };
    let hook = Step::Hook {
        name: "speak".to_owned(),
        release: named.clone(),
        config: Box::new(configuration()),
        command: vec!["./speak".to_owned()],
        timeout_seconds: 60,
    };
    let (said, folder) = done(client, 0, vec![stage, hook, Step::Switch { release: named.clone() }]);
    assert!(said.contains("busybox says v1"), "{said}");
    assert_eq!(folder.current, Some(named));
    folder
}

/// Starts what was carried, sees it run under its keeper, and stops it. `root`: the group's, seen from here.
pub fn keep(client: &mut Client, folder: &FolderFacts, root: &Path) {
    let release = folder.current.clone().unwrap();
    let start =
        Start { release, digest: digest(&tar()), config: configuration(), revision: 1, redeploys: 0, attempt: 1 };
    let steps = vec![Step::Start(Box::new(start)), Step::WaitReady { timeout_seconds: 60 }];
    let (_, folder) = done(client, folder.journal, steps);
    let process = folder.process.unwrap();
    assert_eq!((process.state, process.ready), (ProcessState::Running, true));
    assert!(folder.keeper.is_some_and(|keeper| keeper.parent), "a keeper started it");
    let log = root.join(name("web").as_str()).join("shared/log/output.log");
    client::until("the application logs", || fs::read_to_string(&log).is_ok_and(|text| text.contains("v1 serves")));
    let (_, folder) = done(client, folder.journal, vec![Step::Stop]);
    assert_eq!(folder.process.map(|process| process.state), Some(ProcessState::Stopped));
}

/// Does a task; answers what it said and what the folder is then.
fn done(client: &mut Client, journal: u64, steps: Vec<Step>) -> (String, FolderFacts) {
    let id = client.send(&Request::Begin { task: Box::new(task(journal, steps)), secrets: Secrets::default() });
    let mut said = String::new();
    loop {
        match client.answer(id) {
            Answer::Events { events, .. } => said.push_str(&format!("{events:?}")),
            Answer::Ended { result, folder, .. } => {
                assert_eq!(result.outcome, Outcome::Succeeded, "{said}");
                return (said, *folder.unwrap());
            }
            other => panic!("{other:?}"),
        }
    }
}

fn tar() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let scripts = [
        ("serve", "#!/bin/sh\necho v1 serves\nexec /bin/busybox sleep 1000\n"),
        ("speak", "#!/bin/sh\necho busybox says v1\n"),
    ];
    for (path, script) in scripts {
        let mut header = tar::Header::new_gnu();
        header.set_size(script.len() as u64);
        header.set_mode(0o755);
        builder.append_data(&mut header, path, script.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn configuration() -> Configuration {
    Configuration {
        hash: ConfigHash::parse("1:0123456789abcdef").unwrap(),
        runtime: Runtime::Process(ProcessRuntime {
            command: vec!["./serve".to_owned()],
            restart_policy: RestartPolicy::Always,
            stop: Stop::default(),
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

fn task(n: u64, steps: Vec<Step>) -> Task {
    Task {
        id: TaskId { uid: "uid-1".to_owned(), rollout: "1.0".to_owned(), attempt: 1, n },
        folder: name("web"),
        owner: Owner {
            control_plane_id: "cp".to_owned(),
            namespace: NAMESPACE.to_owned(),
            deployment: "web".to_owned(),
            uid: "uid-1".to_owned(),
            host: "web-01".to_owned(),
        },
        replaces: None,
        fence: FenceToken { epoch: "cp".to_owned(), created: 1, transitions: 0 },
        author: Author::Operator,
        steps,
    }
}
