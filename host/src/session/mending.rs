//! What a look finds undone and mends: an application whose keeper was killed gets another, and a drain is undone whose task died or ended
//! early, once there is an application to bring back. Nothing is started and nothing is stopped that a task did not ask for.

use std::{
    collections::BTreeMap,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use landfall_host_protocol::{FolderFacts, FolderName, ProcessState};

use crate::{clock, folder::Folder, program, runtime, task};

/// Between two tries of the same work: what failed once (a full disk) may be possible later.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
const LAST_PAUSE: Duration = Duration::from_secs(300);

/// What was tried last for each folder, so that what can't be mended is not tried all the time.
#[derive(Debug, Default)]
pub(super) struct Mending {
    attended: Tries<(i32, u64)>,
    undone: Tries<u64>,
}

/// Tries for what is `of` each folder: something else is tried at once.
#[derive(Debug)]
struct Tries<T>(BTreeMap<FolderName, Try<T>>);

#[derive(Debug)]
struct Try<T> {
    of: T,
    due: Instant,
    pause: Duration,
}

impl<T> Default for Tries<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: PartialEq> Tries<T> {
    /// Whether to try now; the next time is later then.
    fn is_due(&mut self, name: &FolderName, of: T, now: Instant) -> bool {
        let pause = match self.0.get(name).filter(|last| last.of == of) {
            Some(last) if now < last.due => return false,
            Some(last) => (last.pause * 2).min(LAST_PAUSE),
            None => FIRST_PAUSE,
        };
        self.0.insert(name.clone(), Try { of, due: now + pause, pause });
        true
    }
}

impl Mending {
    /// The work that is due in this folder, to be done in a thread.
    pub(super) fn due(&mut self, folder: &Folder, facts: &FolderFacts) -> Option<impl FnOnce() + Send + use<>> {
        let attends = self.needs_keeper(folder.name(), facts);
        let undoes = self.needs_undo(folder, facts);
        let folder = folder.clone();
        (attends || undoes).then_some(move || {
            if attends {
                // What fails here is seen: the facts name no keeper.
                let _ = runtime::attend(&folder, None);
            }
            if undoes {
                undo(&folder);
            }
        })
    }

    /// An application that runs without a keeper, and no task that is about to change that.
    fn needs_keeper(&mut self, name: &FolderName, facts: &FolderFacts) -> bool {
        let process = facts.process.as_ref().filter(|process| {
            process.state == ProcessState::Running && process.config.is_some() && facts.keeper.is_none()
        });
        let is_acted_on = facts.task.as_ref().is_some_and(|task| task.running);
        let Some(process) = process.filter(|_| !is_acted_on) else {
            self.attended.0.remove(name);
            return false;
        };
        self.attended.is_due(name, (process.pid, process.start), clock::monotonic())
    }

    fn needs_undo(&mut self, folder: &Folder, facts: &FolderFacts) -> bool {
        // Of a task whose runner died, or of one that ended and left the host drained until an application is ready.
        let is_left = facts.drained
            && facts.task.as_ref().is_none_or(|task| !task.running)
            && task::is_undo_due_by(folder, facts);
        is_left && self.undone.is_due(folder.name(), facts.journal, clock::monotonic())
    }
}

/// By a process of its own, for a drain's undo may outlive the session.
fn undo(folder: &Folder) {
    let mut command = Command::new(program::path());
    command.arg("undo-task").arg(folder.root()).arg(folder.name().as_str());
    // It is reaped by the loop.
    let _ = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The look that found it has asked already, in a thread.
    #[test]
    fn an_undo_is_found_due_without_a_command_being_run() {
        use landfall_host_protocol::{
            ConfigHash, Configuration, Digest, LogLimits, ProcessFacts, ReleaseName, Runtime, ScriptRuntime, Secrets,
            Start,
        };

        let root = tempfile::tempdir().unwrap();
        let folder = Folder::new(root.path(), FolderName::new("shop", "web"));
        let asked = root.path().join("asked");
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let digest = Digest::parse(&"ab".repeat(32)).unwrap();
        let config = Configuration {
            hash: ConfigHash::parse("1:0123456789abcdef").unwrap(),
            runtime: Runtime::Script(ScriptRuntime {
                start: words(&["true"]),
                stop: words(&["true"]),
                status: words(&["touch", asked.to_str().unwrap()]),
                timeout_seconds: 60,
                stop_timeout_seconds: None,
                status_timeout_seconds: None,
                leave: Default::default(),
            }),
            env: Vec::new(),
            files: Vec::new(),
            run_as: None,
            readiness: None,
            liveness: None,
            log: LogLimits::default(),
            keep_secrets_on_host: false,
        };
        let release = ReleaseName::new("v1", digest.as_str());
        std::fs::create_dir_all(folder.release(&release)).unwrap();
        std::fs::create_dir_all(folder.dot()).unwrap();
        runtime::configuration::store(&folder, &config, &Secrets::default()).unwrap();
        let start = Start { release, digest, config, revision: 1, redeploys: 0, attempt: 1 };
        let mut state = crate::keeper::State::new(&start, "uid".to_owned(), "instance".to_owned(), 0);
        state.phase = crate::keeper::Phase::Running;
        state.booted = Some(crate::process::boot_id().to_owned());
        state.write(&folder).unwrap();
        let pending = r#"{"format":1,"task":{"uid":"uid","rollout":"1.0","attempt":1,"n":0},"drains":[],"drained":[1,1],"down":true,"left":true}"#;
        std::fs::write(folder.dot().join("undo"), pending).unwrap();

        let mut facts = FolderFacts::default();
        runtime::recorded(&folder).observe(&folder, &mut facts);
        assert!(std::fs::remove_file(&asked).is_ok(), "that is how it is asked");
        facts.drained = true;
        let process = facts.process.take().unwrap();
        assert!(Mending::default().due(&folder, &facts).is_none(), "no application is there");
        facts.process = Some(ProcessFacts { state: ProcessState::Running, ready: true, pid: 0, ..process });
        assert!(Mending::default().due(&folder, &facts).is_some(), "it is there and ready");
        assert!(!asked.exists(), "a command was run");
    }

    #[test]
    fn what_failed_is_tried_again_with_longer_pauses() {
        let name = FolderName::new("shop", "web");
        let mut tries = Tries::default();
        let start = clock::monotonic();
        let tried: Vec<u64> =
            (0..1200).filter(|second| tries.is_due(&name, 7, start + Duration::from_secs(*second))).collect();
        assert_eq!(tried, [0, 30, 90, 210, 450, 750, 1050]);
        assert!(tries.is_due(&name, 8, start), "another one is tried at once");
        assert!(!tries.is_due(&name, 8, start));
    }
}
