//! A host with one project's folder, releases to stage on it, and tasks that are begun as a session begins them.

use std::{
    io::{Cursor, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use landfall_host::{folder::Folder, records::Journal, task};
use landfall_host_bundle::{Release, digest, encode, write};
use landfall_host_protocol::{
    Author, Bundle, Configuration, Digest, EventKind, Failure, FenceToken, FolderName, Manifest, Outcome, Owner,
    ProcessRuntime, Reason, Refusal, ReleaseName, Runtime, Secrets, Start, Step, StepName, Task, TaskId, TaskResult,
};

/// A generous limit: machines that run tests are slow.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits by looking.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let since = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(since.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A release with its bytes, as the operator has it.
pub struct TestRelease {
    pub name: ReleaseName,
    pub digest: Digest,
    pub release: Release,
    pub tar: Vec<u8>,
}

/// Path, mode and bytes of each file, or `->` and a target.
pub fn release(version: &str, files: &[(&str, u32, &str)]) -> TestRelease {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, mode, bytes) in files {
        let mut header = tar::Header::new_gnu();
        if let Some(target) = bytes.strip_prefix("->") {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            header.set_mode(0o777);
            builder.append_link(&mut header, path, target).unwrap();
        } else {
            header.set_size(bytes.len() as u64);
            header.set_mode(*mode);
            builder.append_data(&mut header, path, bytes.as_bytes()).unwrap();
        }
    }
    let tar = builder.into_inner().unwrap();
    let mut file = tempfile::tempfile().unwrap();
    std::io::copy(&mut Cursor::new(&tar), &mut file).unwrap();
    let digest = digest(&tar);
    let release = Release::read(file, &digest).unwrap();
    TestRelease { name: ReleaseName::new(version, digest.as_str()), digest, release, tar }
}

/// One with a program, a folder, a link and a secret file.
pub fn example(version: &str) -> TestRelease {
    release(
        version,
        &[
            ("bin/run", 0o755, &format!("#!/bin/sh\necho {version} >>../../starts\nexec sleep 1000\n")),
            ("config/app.conf", 0o600, "same = true\n"),
            ("lib/library", 0o644, &"library\n".repeat(4000)),
            ("lib/version", 0o644, version),
            ("run", 0o777, "->bin/run"),
        ],
    )
}

pub fn configuration(command: &[&str]) -> Configuration {
    Configuration {
        hash: landfall_host_protocol::ConfigHash::parse("1:0123456789abcdef").unwrap(),
        runtime: Runtime::Process(ProcessRuntime {
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            restart_policy: Default::default(),
            stop: Default::default(),
        }),
        env: Vec::new(),
        files: Vec::new(),
        run_as: None,
        readiness: None,
        liveness: None,
        log: Default::default(),
        keep_secrets_on_host: false,
    }
}

/// What starts a release.
pub fn start_step(release: &TestRelease) -> Start {
    Start {
        release: release.name.clone(),
        digest: release.digest.clone(),
        config: configuration(&["./bin/run"]),
        revision: 1,
        redeploys: 0,
        attempt: 1,
    }
}

pub fn sh(text: &str) -> Vec<String> {
    ["/bin/sh", "-c", text].map(str::to_owned).to_vec()
}

/// Environment of the program: kill points and the like.
pub type Environment = Vec<(&'static str, String)>;

pub struct Host {
    _temporary: tempfile::TempDir,
    pub root: PathBuf,
    pub folder: Folder,
    pub owner: Owner,
    pub fence: FenceToken,
    pub environment: Environment,
}

impl Host {
    pub fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let root = temporary.path().join("root");
        std::fs::create_dir_all(root.join(".landfall")).unwrap();
        Self::at(temporary, root)
    }

    pub fn at(temporary: tempfile::TempDir, root: PathBuf) -> Self {
        let folder = Folder::new(&root, FolderName::new("shop", "web"));
        Self {
            _temporary: temporary,
            root,
            folder,
            owner: Owner {
                control_plane_id: "plane".to_owned(),
                namespace: "shop".to_owned(),
                deployment: "web".to_owned(),
                uid: "uid-1".to_owned(),
                host: "h1".to_owned(),
            },
            fence: FenceToken { epoch: "plane".to_owned(), created: 1_700_000_000, transitions: 1 },
            environment: Vec::new(),
        }
    }

    /// Brings bytes as `put` does.
    pub fn bring(&self, bytes: &[u8]) -> Digest {
        let digest = digest(bytes);
        let path = self.folder.incoming(&digest);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
        digest
    }

    /// Brings a release's bytes, and answers the step that stages it.
    pub fn stage_step(&self, wanted: &TestRelease, base: Option<&TestRelease>) -> Step {
        let mut bytes = Vec::new();
        write(&wanted.release, base.map(|base| &base.release), &mut bytes).unwrap();
        let bundle =
            Bundle { sha256: self.bring(&bytes), size: bytes.len() as u64, base: base.map(|base| base.name.clone()) };
        Step::Stage {
            release: wanted.name.clone(),
            digest: wanted.digest.clone(),
            manifest: self.bring(&encode(wanted.release.manifest())),
            bundle: Some(bundle),
        }
    }

    pub fn journal(&self) -> u64 {
        Journal::read(&self.folder).unwrap().number()
    }

    /// A task of the operator that has seen everything.
    pub fn task(&self, steps: Vec<Step>) -> Task {
        Task {
            id: TaskId { uid: "uid-1".to_owned(), rollout: "1.0".to_owned(), attempt: 1, n: self.journal() },
            folder: self.folder.name().clone(),
            owner: self.owner.clone(),
            replaces: None,
            fence: self.fence.clone(),
            author: Author::Operator,
            steps,
        }
    }

    /// Begins a task; true: it was begun before. `None`: who began it was killed.
    pub fn try_begin(&self, task: &Task, secrets: &Secrets) -> Option<Result<bool, Refusal>> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_landfall-host"));
        command.arg("begin-task").arg(&self.root).stdin(Stdio::piped()).stdout(Stdio::piped());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let mut child = command.spawn().unwrap();
        let input = serde_json::to_vec(&(task, secrets)).unwrap();
        let _ = child.stdin.take().unwrap().write_all(&input);
        let output = child.wait_with_output().unwrap();
        match output.status.code()? {
            0 => Some(Ok(serde_json::from_slice(&output.stdout).unwrap())),
            1 => Some(Err(serde_json::from_slice(&output.stdout).unwrap())),
            status => panic!("begin-task ended with {status}"),
        }
    }

    pub fn begin(&self, task: &Task) -> Result<bool, Refusal> {
        self.try_begin(task, &Secrets::default()).unwrap()
    }

    /// Waits for a task's end.
    pub fn end_of(&self, task: &Task) -> TaskResult {
        wait_for("the end of the task", || task::result(&self.folder, &task.id))
    }

    /// Begins a task and waits for its end.
    pub fn run(&self, steps: Vec<Step>) -> (Task, Outcome) {
        let task = self.task(steps);
        assert_eq!(self.begin(&task), Ok(false));
        let outcome = self.end_of(&task).outcome;
        (task, outcome)
    }

    pub fn succeed(&self, steps: Vec<Step>) -> Task {
        let (task, outcome) = self.run(steps);
        assert_eq!(outcome, Outcome::Succeeded, "{:#?}", self.events(&task));
        task
    }

    pub fn fail(&self, steps: Vec<Step>, step: StepName, reason: Reason) -> Failure {
        match self.run(steps).1 {
            Outcome::Failed(failure) if failure.step == step && failure.reason == reason => *failure,
            other => panic!("{other:?} instead of {reason:?} of {step:?}"),
        }
    }

    pub fn events(&self, task: &Task) -> Vec<(StepName, EventKind)> {
        let events = task::events(&self.folder, &task.id, 0).unwrap();
        events.into_iter().map(|event| (event.step, event.kind)).collect()
    }

    pub fn lines(&self, task: &Task) -> Vec<String> {
        let text = |kind| if let EventKind::Line { text, .. } = kind { Some(text) } else { None };
        self.events(task).into_iter().filter_map(|(_, kind)| text(kind)).collect()
    }

    /// The step is over.
    pub fn has_ended(&self, task: &Task, step: StepName) -> bool {
        self.events(task).contains(&(step, EventKind::Ended))
    }

    pub fn was_skipped(&self, task: &Task, step: StepName) -> bool {
        self.events(task).contains(&(step, EventKind::Skipped))
    }

    /// Living processes that begin or run tasks here.
    pub fn processes(&self) -> Vec<i32> {
        let root = self.root.display().to_string();
        let is_one = |pid: &i32| {
            let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words: Vec<&[u8]> = arguments.split(|byte| *byte == 0).collect();
            words.get(1).is_some_and(|command| command.ends_with(b"-task")) && words.get(2) == Some(&root.as_bytes())
        };
        landfall_host::process::pids().into_iter().filter(is_one).collect()
    }

    /// Living processes of applications: those that work in a release's folder.
    pub fn applications(&self) -> Vec<i32> {
        let works_here = |pid: &i32| {
            std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|path| path.starts_with(self.folder.releases()))
        };
        landfall_host::process::pids().into_iter().filter(works_here).collect()
    }

    /// Ends everything that runs here, as a loss of power does.
    pub fn kill_everything(&self) {
        wait_for("the end of everything", || self.kill_once().then_some(()));
    }

    /// True: nothing lived.
    fn kill_once(&self) -> bool {
        let root = self.root.display().to_string();
        let is_ours = |pid: &i32| {
            let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let names_root = arguments.split(|byte| *byte == 0).any(|argument| argument == root.as_bytes());
            names_root || std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|path| path.starts_with(&self.root))
        };
        let living: Vec<i32> = landfall_host::process::pids().into_iter().filter(is_ours).collect();
        for pid in &living {
            if let Some(pid) = rustix::process::Pid::from_raw(*pid) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        living.is_empty()
    }

    /// Whether the release's folder is what its manifest says, and nothing else.
    pub fn assert_whole(&self, wanted: &TestRelease) {
        assert_eq!(tree(&self.folder.release(&wanted.name)), expected(wanted.release.manifest()));
    }
}

/// Path, mode and digest of everything below a folder.
pub fn tree(path: &Path) -> Vec<String> {
    fn walk(path: &Path, below: &str, found: &mut Vec<String>) {
        use std::os::unix::fs::PermissionsExt as _;
        for entry in std::fs::read_dir(path).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{below}{}", entry.file_name().to_str().unwrap());
            let metadata = entry.metadata().unwrap();
            let mode = metadata.permissions().mode() & 0o7777;
            if metadata.is_symlink() {
                found.push(format!("{name} -> {}", std::fs::read_link(entry.path()).unwrap().display()));
            } else if metadata.is_dir() {
                found.push(format!("{name} {mode:o}"));
                walk(&entry.path(), &format!("{name}/"), found);
            } else {
                found.push(format!("{name} {mode:o} {}", digest(&std::fs::read(entry.path()).unwrap())));
            }
        }
    }
    let mut found = Vec::new();
    walk(path, "", &mut found);
    found.sort();
    found
}

fn expected(manifest: &Manifest) -> Vec<String> {
    use landfall_host_protocol::EntryKind;
    let entry = |entry: &landfall_host_protocol::Entry| match &entry.kind {
        EntryKind::Folder => format!("{} 755", entry.path),
        EntryKind::Link { target } => format!("{} -> {target}", entry.path),
        EntryKind::File { mode, sha256, .. } => format!("{} {mode:o} {sha256}", entry.path),
    };
    let mut expected: Vec<String> = manifest.entries.iter().map(entry).collect();
    expected.sort();
    expected
}

impl Drop for Host {
    fn drop(&mut self) {
        // What is started meanwhile is seen by the second look.
        for _ in 0..10 {
            if self.kill_once() {
                return;
            }
        }
    }
}
