//! The local executor against this machine: real namespaces, real scripts, real kills.

mod caches;
mod contract;
mod endings;
mod isolation;
mod limits;
mod logs;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::support::wait::{find, until};
use landfall::{
    effects::{
        clock::monotonic,
        executor::{
            AttemptId, BuildStep, Cache, Caches, ExecutorError, Exit, ExitReason, Isolation, Limits, LocalConfig,
            LocalExecutor, Secrets, StepState,
        },
        gate::Gate,
        store::Store,
    },
    model::{ids::FenceToken, text},
};

struct Bench {
    executor: LocalExecutor,
    gate: Gate,
    data: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self::with(Isolation::Sandboxed)
    }

    fn with(isolation: Isolation) -> Self {
        Self::at(tempfile::tempdir().unwrap(), isolation)
    }

    fn at(data: tempfile::TempDir, isolation: Isolation) -> Self {
        let config = LocalConfig {
            folder: data.path().join("executor"),
            hidden: vec![data.path().to_owned()],
            isolation,
            runner: PathBuf::from(env!("CARGO_BIN_EXE_landfall")),
            max_log_bytes: 4 * 1024 * 1024,
        };
        let gate = Gate::open_for(FenceToken { epoch: "e".into(), created: 0, transitions: 0 });
        Self { executor: LocalExecutor::new(config), gate, data }
    }

    fn attempt(&self) -> AttemptId {
        let id = AttemptId::new("build-1", 1);
        let src = self.executor.checkout_dir(&id);
        fs::create_dir_all(&src).unwrap();
        fs::write(src.join("main.c"), "int main(void) { return 0; }\n").unwrap();
        id
    }

    async fn start(&self, step: BuildStep) -> AttemptId {
        let id = self.attempt();
        self.executor.start(&self.gate, &id, step, Secrets::default()).await.unwrap();
        id
    }

    async fn exit(&self, id: &AttemptId) -> Exit {
        let look = || async {
            match self.executor.state(id).await.unwrap() {
                StepState::Exited(exit) => Ok(exit),
                StepState::Running { .. } => Err(self.log(id).await),
                other => panic!("{other:?}: {}", self.log(id).await),
            }
        };
        find("over", look, |log| log).await
    }

    async fn run(&self, text: &str) -> (Exit, String) {
        let id = self.start(step(text)).await;
        let exit = self.exit(&id).await;
        let log = self.log(&id).await;
        (exit, log)
    }

    async fn log(&self, id: &AttemptId) -> String {
        let mut all = Vec::new();
        loop {
            let piece = self.executor.log(id, all.len() as u64).await.unwrap();
            if piece.is_empty() {
                return text::clean(&all);
            }
            all.extend(piece);
        }
    }

    /// Waits for a word in the log.
    async fn until_said(&self, id: &AttemptId, word: &str) {
        let look = || async {
            let log = self.log(id).await;
            if log.contains(word) { Ok(()) } else { Err(log) }
        };
        find(&format!("said: {word}"), look, |log| log).await;
    }

    /// A killed process has no command line any more for a moment before the kernel calls it dead.
    async fn until_lost(&self, id: &AttemptId) {
        until("lost", || async {
            match self.executor.state(id).await.unwrap() {
                StepState::Lost { .. } => true,
                StepState::Running { .. } => false,
                other => panic!("{other:?} instead of lost: {}", self.log(id).await),
            }
        })
        .await;
    }

    fn runner_pid(&self, id: &AttemptId) -> i32 {
        let record = fs::read(self.executor.checkout_dir(id).with_file_name("pid")).unwrap();
        let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
        i32::try_from(record["runner"]["pid"].as_i64().unwrap()).unwrap()
    }
}

fn step(script: &str) -> BuildStep {
    BuildStep {
        folder: String::new(),
        script: script.into(),
        env: vec![],
        timeout: Duration::from_secs(600),
        idle_timeout: Duration::from_secs(600),
        caches: None,
        limits: Limits::default(),
    }
}

/// Pids of all processes whose command line holds a word.
fn processes_with(word: &str) -> Vec<i32> {
    let own = i32::try_from(std::process::id()).unwrap();
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    let with =
        |pid: &i32| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|c| String::from_utf8_lossy(&c).contains(word));
    pids.filter(|pid| *pid != own).filter(with).collect()
}

/// A number of seconds to sleep that nobody else uses, so that a survivor can be found by it.
fn mark() -> String {
    format!("{}{:03}", 7_000_000 + std::process::id(), rand::random_range(0..1000))
}

/// A test as this program knows it.
fn own(module: &str, test: &str) -> String {
    let (_, module) = module.split_once("::").unwrap();
    format!("{module}::{test}")
}

async fn gone(word: &str) {
    let look = || async {
        let survivors = processes_with(word);
        if survivors.is_empty() { Ok(()) } else { Err(survivors) }
    };
    find("gone", look, |survivors| format!("{survivors:?}")).await;
}

#[tokio::test]
async fn a_script_builds_with_the_systems_compiler_in_its_checkout() {
    let bench = Bench::new();
    let (exit, log) = bench.run("pwd\ncc -o app main.c\n./app\nmkdir -p target\nmv app target/\necho done").await;
    assert!(exit.succeeded(), "{exit:?} {log}");
    assert!(log.starts_with("/build\n") && log.ends_with("done\n"), "{log}");
    assert!(bench.executor.checkout_dir(&AttemptId::new("build-1", 1)).join("target/app").is_file());
    assert_eq!(exit.log_bytes, log.len() as u64);
}
