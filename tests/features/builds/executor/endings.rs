//! How scripts end: by themselves, by time, by cancelling, with their children, and with the runner.

use super::*;

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
        .args(["--exact", &own(module_path!(), "helper_that_starts_a_build_and_waits"), "--nocapture"])
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
    let config = LocalConfig {
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
