//! The local executor against this machine: real namespaces, real scripts, real kills.

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
            AttemptId, BuildStep, Cache, Caches, ExecutorConfig, ExecutorError, Exit, ExitReason, Isolation, Limits,
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
        let config = ExecutorConfig {
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

/// A test of this module as this program knows it.
fn own(test: &str) -> String {
    let (_, module) = module_path!().split_once("::").unwrap();
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

#[tokio::test]
async fn a_script_sees_its_environment_and_nothing_of_the_operators() {
    let bench = Bench::new();
    let mut step = step("env | sort; printf '%s|' \"$QUOTED\"; id -u");
    step.env = vec![("LANDFALL_VERSION".into(), "v1".into()), ("QUOTED".into(), "a'b $(id) `id` \"c\"\nd".into())];
    let id = bench.start(step).await;
    assert!(bench.exit(&id).await.succeeded());
    let log = bench.log(&id).await;
    let names: BTreeSet<_> = log.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    let expected =
        "CI HOME LANDFALL_VERSION LANG LOGNAME PATH PWD QUOTED SHELL USER _".split(' ').collect::<BTreeSet<_>>();
    assert!(names.is_subset(&expected), "{names:?}");
    for line in ["CI=true", "HOME=/home/build", "LANG=C.UTF-8", "LANDFALL_VERSION=v1"] {
        assert!(log.lines().any(|l| l == line), "{line} in {log}");
    }
    assert!(log.contains("a'b $(id) `id` \"c\"\nd|"), "{log}");
    assert!(log.lines().last().unwrap().trim_start_matches("d|").parse::<u32>().unwrap() >= 60_000, "{log}");
}

#[tokio::test]
async fn a_script_cannot_see_the_data_folder_nor_the_operators_processes_nor_gain_rights() {
    let bench = Bench::new();
    fs::write(bench.data.path().join("secret"), "hunter2").unwrap();
    let data = bench.data.path().display().to_string();
    let script = format!(
        "cat {data}/secret && exit 1
ls {data} && exit 2
ls /root && exit 3
ls /run && exit 4
[ \"$(ls / | tr '\\n' ' ' | tr -d '\\n' | grep -c sys)\" = 0 ] || exit 5
touch /usr/x && exit 6
touch /x && exit 7
touch /etc/x && exit 8
cat /etc/shadow && exit 9
mount -t tmpfs x /tmp && exit 10
kill -9 1 && exit 11
kill -0 {operator} && exit 12
cat /proc/1/environ && exit 13
ls /proc/1/root && exit 14
su -c id && exit 15
unshare -U id >/dev/null 2>&1 && unshare -Ur cat /etc/shadow && exit 16
echo processes $(ls /proc | grep -c '^[0-9]')
grep -E 'CapEff|CapPrm|CapBnd|NoNewPrivs' /proc/self/status
echo fine >\"$HOME/x\" && echo fine >/tmp/x && echo fine >/var/tmp/y && echo fine >/dev/shm/z && echo fine >/dev/null
echo unharmed",
        operator = std::process::id()
    );
    let script = format!("set +e\n{script}");
    let (exit, log) = bench.run(&script).await;
    assert_eq!(exit.code, Some(0), "{log}");
    assert!(log.ends_with("unharmed\n") && !log.contains("hunter2"), "{log}");
    assert!(log.contains("CapEff:\t0000000000000000") && log.contains("CapBnd:\t0000000000000000"), "{log}");
    assert!(log.contains("NoNewPrivs:\t1"), "{log}");
    let seen: u32 = log.lines().find_map(|l| l.strip_prefix("processes ")?.parse().ok()).unwrap();
    assert!(seen <= 6, "{log}");
}

#[tokio::test]
async fn a_hidden_file_below_a_folder_that_scripts_see_is_hidden() {
    let mut bench = Bench::new();
    let folder = tempfile::tempdir_in("/opt").unwrap();
    fs::write(folder.path().join("admin.conf"), "hunter2").unwrap();
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    bench.executor = LocalExecutor::new(ExecutorConfig {
        folder: bench.data.path().join("executor"),
        hidden: vec![bench.data.path().to_owned(), folder.path().to_owned()],
        isolation: Isolation::Sandboxed,
        runner: PathBuf::from(env!("CARGO_BIN_EXE_landfall")),
        max_log_bytes: 1024 * 1024,
    });
    let (exit, log) = bench.run(&format!("cat {}/admin.conf", folder.path().display())).await;
    assert!(exit.code.is_some_and(|code| code != 0) && !log.contains("hunter2"), "{exit:?} {log}");
}

#[tokio::test]
async fn two_scripts_at_once_have_different_users() {
    let bench = Bench::new();
    let mut ids = Vec::new();
    for n in 1..=4 {
        let id = AttemptId::new(format!("build-{n}"), 1);
        fs::create_dir_all(bench.executor.checkout_dir(&id)).unwrap();
        let script = step("id -u; while ! [ -e go ]; do sleep 0.1; done");
        bench.executor.start(&bench.gate, &id, script, Secrets::default()).await.unwrap();
        ids.push(id);
    }
    for id in &ids {
        bench.until_said(id, "\n").await;
    }
    for id in &ids {
        fs::write(bench.executor.checkout_dir(id).join("go"), "").unwrap();
    }
    let mut users = BTreeSet::new();
    for id in &ids {
        assert!(bench.exit(id).await.succeeded());
        users.insert(bench.log(id).await);
    }
    assert_eq!(users.len(), 4, "{users:?}");
}

#[tokio::test]
async fn children_that_leave_the_session_are_gone_when_the_script_has_ended() {
    for isolation in [Isolation::Sandboxed, Isolation::Trusted] {
        let bench = Bench::with(isolation);
        let mark = mark();
        let script = format!(
            "setsid sh -c 'trap \"\" TERM HUP; touch up; sleep {mark} & wait' >/dev/null 2>&1 &\n(setsid sleep {mark} &)\nwhile ! [ -e up ]; do sleep 0.1; done\necho left"
        );
        let (exit, log) = bench.run(&script).await;
        assert!(exit.succeeded(), "{exit:?} {log}");
        assert_eq!(processes_with(&mark), Vec::<i32>::new(), "survivors under {isolation:?}");
    }
}

#[tokio::test]
async fn a_child_that_writes_on_after_the_script_has_stopped_writing_by_then() {
    let bench = Bench::new();
    let (exit, _) = bench
        .run("(setsid sh -c 'while :; do date +%N >artifact; done' &)\nwhile ! [ -s artifact ]; do sleep 0.1; done")
        .await;
    assert!(exit.succeeded());
    let artifact = bench.executor.checkout_dir(&AttemptId::new("build-1", 1)).join("artifact");
    let first = fs::metadata(&artifact).unwrap().modified().unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(first, fs::metadata(&artifact).unwrap().modified().unwrap());
}

#[tokio::test]
async fn a_hundred_megabytes_of_output_are_capped_and_the_end_is_kept() {
    let bench = Bench::new();
    let begun = monotonic();
    let (exit, log) = bench.run("echo first; yes landfall | head -c 100000000; echo last").await;
    assert!(exit.succeeded(), "{exit:?}");
    assert!(begun.elapsed() < crate::support::wait::PATIENCE);
    assert!(log.len() < 5 * 1024 * 1024, "{}", log.len());
    assert!(log.starts_with("first\n") && log.ends_with("last\n"));
    assert!(log.contains("bytes of output cut…"));
    assert!(exit.log_cut > 90_000_000, "{exit:?}");
}

#[tokio::test]
async fn binary_garbage_is_no_trouble_and_is_shown_harmless() {
    let bench = Bench::new();
    let (exit, log) = bench.run("head -c 300000 /dev/urandom; printf '\\033]52;c;eA==\\007\\n\\r\\0end\\n'").await;
    assert!(exit.succeeded(), "{exit:?}");
    assert!(!log.chars().any(|c| c.is_control() && c != '\n' && c != '\t'));
    let lines = bench.executor.last_lines(&AttemptId::new("build-1", 1), 1).await.unwrap();
    assert_eq!(lines, ["end"]);
}

#[tokio::test]
async fn a_failing_script_ends_at_its_first_failing_line_with_its_code() {
    let bench = Bench::new();
    let (exit, log) = bench.run("echo one\nsh -c 'exit 7'\necho two").await;
    assert_eq!((exit.reason, exit.code), (ExitReason::Completed, Some(7)));
    assert_eq!(log, "one\n");
}

#[tokio::test]
async fn a_script_that_ignores_term_is_ended_at_its_timeout() {
    let bench = Bench::new();
    let mark = mark();
    let mut step =
        step(&format!("trap '' TERM HUP INT\n(setsid sleep {mark} &)\nwhile :; do echo tick; sleep 0.2; done"));
    step.timeout = Duration::from_secs(1);
    let id = bench.start(step).await;
    let exit = bench.exit(&id).await;
    assert_eq!((exit.reason, exit.code), (ExitReason::TimedOut, None));
    assert_eq!(processes_with(&mark), Vec::<i32>::new());
}

#[tokio::test]
async fn a_silent_script_is_ended_at_its_idle_timeout_and_a_talking_one_is_not() {
    let bench = Bench::new();
    // It talks for longer than it may be silent.
    let mut step = step("for i in 1 2 3 4 5 6 7 8 9 10; do echo $i; sleep 0.5; done; sleep 1000");
    step.idle_timeout = Duration::from_secs(4);
    let id = bench.start(step).await;
    assert_eq!(bench.exit(&id).await.reason, ExitReason::IdleTimedOut);
    assert!(bench.log(&id).await.contains("10\n"));
}

#[tokio::test]
async fn cancel_ends_everything_and_may_be_repeated() {
    for isolation in [Isolation::Sandboxed, Isolation::Trusted] {
        let bench = Bench::with(isolation);
        let mark = mark();
        let id = bench.start(step(&format!("trap '' TERM\n(setsid sleep {mark} &)\necho up\nsleep {mark}"))).await;
        bench.until_said(&id, "up").await;
        bench.executor.cancel(&bench.gate, &id).await.unwrap();
        assert_eq!(bench.exit(&id).await.reason, ExitReason::Cancelled);
        assert_eq!(processes_with(&mark), Vec::<i32>::new(), "{isolation:?}");
        bench.executor.cancel(&bench.gate, &id).await.unwrap();
        let never = AttemptId::new("never", 1);
        bench.executor.cancel(&bench.gate, &never).await.unwrap();
        assert_eq!(bench.executor.state(&never).await.unwrap(), StepState::Absent);
    }
}

#[tokio::test]
async fn an_attempt_runs_once_however_often_it_is_started() {
    let bench = Bench::new();
    let id = bench.attempt();
    let starts =
        (0..8).map(|_| bench.executor.start(&bench.gate, &id, step("echo ran; sleep 0.5"), Secrets::default()));
    for started in futures::future::join_all(starts).await {
        started.unwrap();
    }
    assert!(bench.exit(&id).await.succeeded());
    bench.executor.start(&bench.gate, &id, step("echo again"), Secrets::default()).await.unwrap();
    assert_eq!(bench.log(&id).await, "ran\n");
}

/// The parent is a shell that starts the runner as the operator does, and is killed.
#[tokio::test]
async fn the_runner_survives_the_kill_of_whoever_started_it() {
    let bench = Bench::new();
    let id = bench.attempt();
    let helper = std::env::current_exe().unwrap();
    let mut child = Command::new(helper)
        .args(["--exact", &own("helper_that_starts_a_build_and_waits"), "--nocapture"])
        .env("LANDFALL_HELPER_DATA", bench.data.path())
        .spawn()
        .unwrap();
    bench.until_said(&id, "begun").await;
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(matches!(bench.executor.state(&id).await.unwrap(), StepState::Running { .. }));
    fs::write(bench.executor.checkout_dir(&id).join("go"), "").unwrap();
    assert!(bench.exit(&id).await.succeeded());
    assert!(bench.log(&id).await.ends_with("ended\n"));
}

/// Not a test of its own: the operator that `the_runner_survives_the_kill_of_whoever_started_it` kills.
#[tokio::test]
async fn helper_that_starts_a_build_and_waits() {
    let Some(data) = std::env::var_os("LANDFALL_HELPER_DATA") else { return };
    let config = ExecutorConfig {
        folder: Path::new(&data).join("executor"),
        hidden: vec![],
        isolation: Isolation::Sandboxed,
        runner: PathBuf::from(env!("CARGO_BIN_EXE_landfall")),
        max_log_bytes: 1024 * 1024,
    };
    let gate = Gate::open_for(FenceToken { epoch: "e".into(), created: 0, transitions: 0 });
    let script = step("echo begun; while ! [ -e go ]; do sleep 0.1; done; echo ended");
    LocalExecutor::new(config).start(&gate, &AttemptId::new("build-1", 1), script, Secrets::default()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(600)).await;
}

#[tokio::test]
async fn a_killed_runner_is_lost_and_leaves_no_process() {
    let bench = Bench::new();
    let mark = mark();
    let id = bench.start(step(&format!("(setsid sleep {mark} &)\necho up\nsleep {mark}"))).await;
    bench.until_said(&id, "up").await;
    assert!(!processes_with(&mark).is_empty());
    let pid = rustix::process::Pid::from_raw(bench.runner_pid(&id)).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    gone(&mark).await;
    bench.until_lost(&id).await;
    bench.executor.start(&bench.gate, &id, step("echo again"), Secrets::default()).await.unwrap();
    assert!(
        matches!(bench.executor.state(&id).await.unwrap(), StepState::Lost { .. }),
        "a lost attempt is not begun again"
    );
}

/// Kills the runner at a random instant of its start: never a script without a runner.
#[tokio::test]
async fn a_runner_killed_while_it_sets_up_leaves_no_process() {
    for n in 0..12_u64 {
        let bench = Bench::new();
        let mark = mark();
        let id = bench.start(step(&format!("sleep {mark}"))).await;
        tokio::time::sleep(Duration::from_millis(n * 12)).await;
        let pid = rustix::process::Pid::from_raw(bench.runner_pid(&id)).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        gone(&mark).await;
        gone(&bench.data.path().display().to_string()).await;
        bench.until_lost(&id).await;
    }
}

#[tokio::test]
async fn a_machine_that_cannot_isolate_gets_executor_unsafe_and_runs_nothing() {
    let bench = Bench::new();
    // Another user can't make namespaces; the test program has to be reachable for it.
    let exe = std::env::current_exe().unwrap();
    let copy = bench.data.path().join("test-program");
    // By a process of its own: a test beside this one that forks while we hold the file open for writing makes it busy.
    assert!(Command::new("cp").arg(exe).arg(&copy).status().unwrap().success());
    for path in [bench.data.path(), &copy] {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    }
    let output = Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"])
        .arg(&copy)
        .args(["--exact", &own("helper_without_rights"), "--nocapture"])
        .env("LANDFALL_HELPER_DATA", bench.data.path())
        .env("TMPDIR", bench.data.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("ExecutorUnsafe") && output.status.success(),
        "{said} {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Not a test of its own: runs without rights for `a_machine_that_cannot_isolate_gets_executor_unsafe_and_runs_nothing`.
#[tokio::test]
async fn helper_without_rights() {
    if std::env::var_os("LANDFALL_HELPER_DATA").is_none() {
        return;
    }
    let bench = Bench::new();
    let id = bench.attempt();
    let refused = bench.executor.start(&bench.gate, &id, step("echo ran"), Secrets::default()).await.unwrap_err();
    assert!(matches!(refused, ExecutorError::ExecutorUnsafe { .. }), "{refused}");
    assert_eq!(bench.executor.state(&id).await.unwrap(), StepState::Absent);
    println!("ExecutorUnsafe: {refused}");
}

#[tokio::test]
async fn a_log_is_sealed_in_pieces_while_it_grows_and_read_back_whole() {
    let bench = Bench::new();
    let store = Store::folder(bench.data.path().join("store")).unwrap();
    let script = "yes 0123456789 | head -c 2500000; echo half; while ! [ -e go ]; do sleep 0.05; done; echo end";
    let id = bench.start(step(script)).await;
    bench.until_said(&id, "half").await;
    assert_eq!(bench.executor.seal(&bench.gate, &store, &id).await.unwrap(), 2);
    assert_eq!(bench.executor.seal(&bench.gate, &store, &id).await.unwrap(), 2);
    fs::write(bench.executor.checkout_dir(&id).join("go"), "").unwrap();
    assert!(bench.exit(&id).await.succeeded());
    assert_eq!(bench.executor.seal(&bench.gate, &store, &id).await.unwrap(), 3);
    let live = bench.log(&id).await;
    bench.executor.forget(&bench.gate, &id.uid).await.unwrap();
    assert_eq!(bench.executor.state(&id).await.unwrap(), StepState::Absent);
    let mut sealed = Vec::new();
    loop {
        let piece = bench.executor.log_of(&id, &store).unwrap().read(sealed.len() as u64, 1 << 20).await.unwrap();
        if piece.is_empty() {
            break;
        }
        sealed.extend(piece);
    }
    assert_eq!(live, text::clean(&sealed));
}

#[tokio::test]
async fn a_build_that_ended_keeps_its_log_and_one_that_is_gone_keeps_nothing_and_runs_nothing() {
    let bench = Bench::new();
    let mark = mark();
    let id = bench.start(step(&format!("echo up; sleep {mark}"))).await;
    bench.until_said(&id, "up").await;
    assert!(bench.executor.litter("build-1", 1).await.unwrap());
    bench.executor.tidy(&bench.gate, "build-1", 1).await.unwrap();
    assert!(bench.executor.checkout_dir(&id).exists(), "what runs is left alone");
    bench.executor.cancel(&bench.gate, &id).await.unwrap();
    bench.executor.tidy(&bench.gate, "build-1", 1).await.unwrap();
    assert!(!bench.executor.checkout_dir(&id).exists() && !bench.executor.litter("build-1", 1).await.unwrap());
    assert_eq!((bench.log(&id).await.as_str(), bench.exit(&id).await.reason), ("up\n", ExitReason::Cancelled));

    let second = AttemptId::new("build-1", 2);
    fs::create_dir_all(bench.executor.checkout_dir(&second)).unwrap();
    bench
        .executor
        .start(&bench.gate, &second, step(&format!("echo up; sleep {mark}")), Secrets::default())
        .await
        .unwrap();
    bench.until_said(&second, "up").await;
    bench.executor.forget(&bench.gate, "build-1").await.unwrap();
    assert_eq!(processes_with(&mark), Vec::<i32>::new(), "a build that is gone runs nothing");
    assert!(!bench.data.path().join("executor/build-1").exists());
    bench.executor.forget(&bench.gate, "build-1").await.unwrap();
}

#[tokio::test]
async fn a_script_whose_folder_is_taken_away_does_not_run_on() {
    let bench = Bench::new();
    let mark = mark();
    let id = bench.start(step(&format!("echo up; sleep {mark}"))).await;
    bench.until_said(&id, "up").await;
    let runner = bench.data.path().display().to_string();
    drop(bench);
    gone(&mark).await;
    gone(&runner).await;
}

#[tokio::test]
async fn a_script_that_is_killed_ends_its_output_with_its_own_words() {
    let bench = Bench::new();
    let mut step = step("echo tick; sleep 1000");
    step.timeout = Duration::from_secs(4);
    let id = bench.start(step).await;
    assert_eq!(bench.exit(&id).await.reason, ExitReason::TimedOut);
    assert_eq!(bench.log(&id).await, "tick\n");
}

#[tokio::test]
async fn secrets_come_by_a_pipe_are_masked_and_lie_on_no_disk_nor_command_line() {
    for isolation in [Isolation::Sandboxed, Isolation::Trusted] {
        let bench = Bench::with(isolation);
        let id = bench.attempt();
        let canary = format!("canary {}'\"$(id)`\n", mark());
        let secrets = Secrets(vec![("TOKEN".into(), canary.clone()), ("SHORT".into(), "abc".into())]);
        assert!(!format!("{secrets:?}").contains("canary"));
        let script = "printf %s \"$TOKEN\" >value; echo \"$TOKEN|$SHORT\"; printf '%s' \"$TOKEN\" | base64 -w0; echo; read -r x && exit 4
while ! [ -e go ]; do sleep 0.05; done; rm value go";
        bench.executor.start(&bench.gate, &id, step(script), secrets).await.unwrap();
        let src = bench.executor.checkout_dir(&id);
        bench.until_said(&id, "|abc").await;
        assert_eq!(fs::read_to_string(src.join("value")).unwrap(), canary, "as it is, to the last byte");
        let word = canary.split_whitespace().nth(1).unwrap().split('\'').next().unwrap();
        assert_eq!(processes_with(word), Vec::<i32>::new());
        let grep = Command::new("grep").args(["-rlF", word]).arg(bench.data.path()).output().unwrap();
        let found = String::from_utf8_lossy(&grep.stdout).into_owned();
        assert_eq!(found.trim(), src.join("value").to_str().unwrap(), "only where the script itself wrote it");
        fs::write(src.join("go"), "").unwrap();
        assert!(bench.exit(&id).await.succeeded());
        let log = bench.log(&id).await;
        assert!(!log.contains(word) && log.starts_with("***\n|abc\n***"), "{log}");
    }
}

/// Fills the shell's own memory.
const HOG: &str = "x=$(head -c 600000000 /dev/zero | tr '\\0' x); echo ${#x}";
/// Ends by itself at the limit; the other one does not.
const BOMB: &str = "bomb() { bomb | bomb & }\nbomb\nsleep 1; exit 1";
const SPINNING_BOMB: &str = "perl -e 'fork while 1'";

fn limited(script: &str, limits: Limits) -> BuildStep {
    BuildStep { limits, ..step(script) }
}

#[tokio::test]
async fn a_memory_hog_and_a_fork_bomb_are_ended_with_their_reason_and_hurt_nobody() {
    let memory = Limits { memory: Some(64 << 20), ..Limits::default() };
    let pids = Limits { pids: Some(64), ..Limits::default() };
    for (script, limits, reason) in [
        (HOG.to_owned(), memory, ExitReason::OutOfMemory),
        (format!("({HOG}) || echo survived; exit 0"), memory, ExitReason::OutOfMemory),
        (BOMB.to_owned(), pids, ExitReason::ProcessLimit),
        (SPINNING_BOMB.to_owned(), pids, ExitReason::ProcessLimit),
    ] {
        for isolation in [Isolation::Sandboxed, Isolation::Trusted] {
            let bench = Bench::with(isolation);
            let id = bench.start(limited(&script, limits)).await;
            let exit = bench.exit(&id).await;
            assert_eq!(exit.reason, reason, "{isolation:?} {exit:?} {}", bench.log(&id).await);
            assert!(!exit.succeeded());
        }
    }
}

#[tokio::test]
async fn a_script_gets_no_more_of_the_processors_than_its_limit() {
    let bench = Bench::new();
    let id = bench
        .start(limited(
            "timeout 3 sh -c 'while :; do :; done' || times",
            Limits { cpu: Some(100), ..Limits::default() },
        ))
        .await;
    assert!(bench.exit(&id).await.succeeded());
    let log = bench.log(&id).await;
    let user = log.lines().last().unwrap().split('m').nth(1).unwrap().split('s').next().unwrap().to_owned();
    assert!(user.parse::<f64>().unwrap() < 0.8, "a tenth of 3 seconds, and some slack: {log}");
}

/// The runner sees no control groups here, as in many containers.
#[tokio::test]
async fn without_control_groups_processes_are_limited_by_user_and_memory_by_process_and_the_log_says_so() {
    let data = tempfile::tempdir().unwrap();
    let runner = data.path().join("runner");
    let landfall = env!("CARGO_BIN_EXE_landfall");
    let text = format!(
        "#!/bin/sh\nexec unshare --mount sh -c 'umount -R -l /sys/fs/cgroup; exec \"$@\"' sh {landfall} \"$@\"\n"
    );
    fs::write(&runner, text).unwrap();
    fs::set_permissions(&runner, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let limits = Limits { cpu: Some(500), memory: Some(64 << 20), pids: Some(40) };
    for (n, script) in [HOG, BOMB].into_iter().enumerate() {
        let mut bench = Bench::new();
        bench.executor = LocalExecutor::new(ExecutorConfig {
            folder: bench.data.path().join("executor"),
            hidden: vec![],
            isolation: Isolation::Sandboxed,
            runner: runner.clone(),
            max_log_bytes: 1024 * 1024,
        });
        let id = bench.start(limited(script, limits)).await;
        let exit = bench.exit(&id).await;
        let log = bench.log(&id).await;
        assert!(exit.reason == ExitReason::Completed && exit.code != Some(0), "{n} {exit:?} {log}");
        assert!(
            log.contains("limits.memory holds for each process") && log.contains("limits.cpu does not hold"),
            "{log}"
        );
    }
}

#[tokio::test]
async fn names_and_values_that_no_shell_could_carry_are_refused() {
    let bench = Bench::new();
    let id = bench.attempt();
    for (name, value) in [("", "x"), ("1A", "x"), ("A B", "x"), ("A;id", "x"), ("A", "x\0y"), ("LD-X", "x")] {
        let mut step = step("true");
        step.env = vec![(name.into(), value.into())];
        let refused = bench.executor.start(&bench.gate, &id, step, Secrets::default()).await.unwrap_err();
        assert!(matches!(refused, ExecutorError::BadEnv { .. }), "{refused}");
    }
}

/// Runs one build after another with caches: `~/.m2` and `web/deps`, at most 64 KiB each.
struct Cached(Bench, std::cell::Cell<i64>);

impl Cached {
    fn caches(project: &str) -> Caches {
        let cache = |name: &str, path: &str| Cache { name: name.into(), path: path.into(), max_bytes: 64 * 1024 };
        Caches {
            namespace: "shop".into(),
            project: project.into(),
            folders: vec![cache("m2", "~/.m2"), cache("deps", "web/deps")],
        }
    }

    async fn start(&self, project: &str, script: &str) -> AttemptId {
        self.1.set(self.1.get() + 1);
        let id = AttemptId::new("build-1", self.1.get());
        fs::create_dir_all(self.0.executor.checkout_dir(&id).join("web")).unwrap();
        let step = BuildStep { caches: Some(Self::caches(project)), ..step(script) };
        self.0.executor.start(&self.0.gate, &id, step, Secrets::default()).await.unwrap();
        id
    }

    async fn run(&self, project: &str, script: &str) -> (Exit, String) {
        let id = self.start(project, script).await;
        (self.0.exit(&id).await, self.0.log(&id).await)
    }
}

const SHOW: &str = "cat ~/.m2/* web/deps/* 2>/dev/null || true";

#[tokio::test]
async fn a_script_finds_the_caches_as_the_last_successful_one_of_its_project_left_them() {
    for isolation in [Isolation::Sandboxed, Isolation::Trusted] {
        let bench = Cached(Bench::with(isolation), std::cell::Cell::new(0));
        let fill =
            "test -d ~/.m2 && test -d web/deps; echo one > ~/.m2/a; echo two > web/deps/b; ln -s /etc ~/.m2/link";
        assert!(bench.run("p", fill).await.0.succeeded());
        let (exit, log) = bench
            .run("p", "cat ~/.m2/a web/deps/b; readlink ~/.m2/link; echo more >> ~/.m2/a; rm web/deps/b; exit 3")
            .await;
        assert_eq!((exit.code, log.as_str()), (Some(3), "one\ntwo\n/etc\n"), "owned by whoever runs, links are links");
        let id = bench.start("p", "echo half > ~/.m2/a; echo begun; sleep 1000").await;
        bench.0.until_said(&id, "begun").await;
        bench.0.executor.cancel(&bench.0.gate, &id).await.unwrap();
        let id = bench.start("p", "echo half > ~/.m2/a; echo begun; sleep 1000").await;
        bench.0.until_said(&id, "begun").await;
        let pid = bench.0.runner_pid(&id).to_string();
        assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
        assert_eq!(bench.run("p", SHOW).await.1, "one\ntwo\n", "what failed or was killed changed nothing");
        assert_eq!(bench.run("other", SHOW).await.1, "", "another project has caches of its own");
        assert!(bench.run("p", "rm ~/.m2/a; echo three > web/deps/b").await.0.succeeded());
        assert_eq!(bench.run("p", SHOW).await.1, "three\n");
        let gone =
            bench.0.executor.forget_caches(&bench.0.gate, "shop", BTreeSet::from(["other".into()])).await.unwrap();
        assert_eq!(gone, ["p"]);
        assert_eq!(bench.run("p", SHOW).await.1, "");
    }
}

#[tokio::test]
async fn a_cache_that_grew_too_large_is_thrown_away_and_the_log_says_so() {
    let bench = Cached(Bench::new(), std::cell::Cell::new(0));
    bench.run("p", "echo one > ~/.m2/a").await;
    let (exit, log) = bench.run("p", "head -c 100000 /dev/urandom > ~/.m2/b").await;
    assert!(exit.succeeded() && log.contains("more than its maxBytes (65536)"), "{log}");
    assert_eq!(exit.log_bytes, log.len() as u64);
    assert_eq!(bench.run("p", SHOW).await.1, "");
}

/// `nest FOLDER N` nests so many folders.
const NEST: &str = r#"nest() { perl -e '($at, $n) = @ARGV; chdir $at or die; for (1..$n) { mkdir "d" or die; chdir "d" or die }' $1 $2; }"#;

#[tokio::test]
async fn folders_that_a_script_nested_20000_deep_are_taken_away_and_end_nobody() {
    // In memory: so many folders are minutes on a busy disk.
    let memory =
        Some(Path::new("/dev/shm")).filter(|path| path.is_dir()).map_or_else(std::env::temp_dir, Path::to_owned);
    let bench = Bench::at(tempfile::tempdir_in(memory).unwrap(), Isolation::Sandboxed);
    let id = bench.attempt();
    let cache = Cache { name: "m2".into(), path: "~/.m2".into(), max_bytes: 1 << 30 };
    let caches = Caches { namespace: "shop".into(), project: "p".into(), folders: vec![cache] };
    let script = format!("{NEST}; nest . 20000; nest ~/.m2 300; nest ~ 20000; nest /tmp 20000");
    let asked = BuildStep { caches: Some(caches), ..step(&script) };
    let (executor, gate, folder) = (&bench.executor, &bench.gate, bench.executor.checkout_dir(&id));
    executor.start(gate, &id, asked, Secrets::default()).await.unwrap();
    let (exit, log) = (bench.exit(&id).await, bench.log(&id).await);
    assert!(exit.succeeded(), "{exit:?} {log}");
    assert!(log.contains("cache m2 stays as it was") && log.contains("nested more than 256 deep"), "{log}");
    for name in ["home", "tmp"] {
        assert!(!folder.with_file_name(name).exists(), "the runner takes {name} away");
    }
    assert!(folder.join("d/d/d").exists() && executor.litter("build-1", 1).await.unwrap());
    executor.tidy(gate, "build-1", 1).await.unwrap();
    assert!(!folder.exists() && !executor.litter("build-1", 1).await.unwrap());
    let id = AttemptId::new("build-1", 2);
    fs::create_dir_all(executor.checkout_dir(&id)).unwrap();
    executor.start(gate, &id, step(&format!("{NEST}; nest . 20000; exit 3")), Secrets::default()).await.unwrap();
    assert_eq!(bench.exit(&id).await.code, Some(3), "{}", bench.log(&id).await);
    executor.forget(gate, "build-1").await.unwrap();
    assert!(!folder.parent().unwrap().parent().unwrap().exists());
}

/// A file system of its own; it goes with the value.
struct SmallDisk(tempfile::TempDir);

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_script_that_fills_the_disk_is_ended_before_it_is_full() {
    let disk = SmallDisk(tempfile::tempdir().unwrap());
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64m", "tmpfs"]).arg(disk.0.path()).status();
    assert!(mounted.unwrap().success());
    let bench = Bench::at(tempfile::tempdir_in(disk.0.path()).unwrap(), Isolation::Sandboxed);
    let fill = "dd if=/dev/zero of=big bs=1M count=62 2>/dev/null; echo filled; sleep 1000";
    let (exit, log) = bench.run(fill).await;
    assert_eq!((exit.reason, exit.code), (ExitReason::DiskFull, None), "{log}");
    bench.executor.forget(&bench.gate, "build-1").await.unwrap();
    let (exit, log) = bench.run("head -c 1000000 /dev/zero > small").await;
    assert!(exit.succeeded(), "{exit:?} {log}");
}

#[tokio::test]
async fn a_cache_hides_nothing_and_is_led_nowhere_by_links() {
    let bench = Cached(Bench::new(), std::cell::Cell::new(0));
    let outside = bench.0.data.path().join("outside");
    fs::create_dir_all(outside.join("deps")).unwrap();
    let prepare = |n: i64| {
        let id = AttemptId::new("build-2", n);
        let src = bench.0.executor.checkout_dir(&id);
        fs::create_dir_all(&src).unwrap();
        (id, src)
    };
    let (link, src) = prepare(1);
    std::os::unix::fs::symlink(&outside, src.join("web")).unwrap();
    let (full, src) = prepare(2);
    fs::create_dir_all(src.join("web/deps")).unwrap();
    fs::write(src.join("web/deps/tracked"), "x").unwrap();
    let (free, _) = prepare(3);
    for (id, says) in [(link, "no folder"), (full, "hide")] {
        let refused = bench.0.executor.fits(&id, &Cached::caches("p")).await.unwrap_err();
        assert!(refused.to_string().contains(says), "{refused}");
        let asked = BuildStep { caches: Some(Cached::caches("p")), ..step("echo x") };
        bench.0.executor.start(&bench.0.gate, &id, asked, Secrets::default()).await.unwrap();
        assert_eq!(bench.0.exit(&id).await.reason, ExitReason::NotStarted);
    }
    bench.0.executor.fits(&free, &Cached::caches("p")).await.unwrap();
    // The script itself puts a link where a cache was: nothing outside is taken for it.
    fs::write(outside.join("deps/secret"), "s").unwrap();
    let script = format!("rm -r web; ln -s {} web; rm -r ~/.m2; ln -s {} ~/.m2", outside.display(), outside.display());
    let (exit, log) = bench.run("p", &script).await;
    assert!(exit.succeeded() && log.matches("stays as it was").count() == 2, "{log}");
    assert!(outside.join("deps/secret").exists());
    assert_eq!(bench.run("p", SHOW).await.1, "");
    for (path, name) in [("/etc", "m2"), ("../x", "m2"), ("~/../x", "m2"), ("a", "..")] {
        let mut caches = Cached::caches("p");
        caches.folders = vec![Cache { name: name.into(), path: path.into(), max_bytes: 1 }];
        assert!(bench.0.executor.fits(&free, &caches).await.is_err(), "{path} {name}");
    }
}
