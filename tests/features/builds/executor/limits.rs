//! Memory, processes, processors, disk.

use super::*;

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
async fn without_control_groups_other_limits_hold_and_the_log_says_so() {
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
        bench.executor = LocalExecutor::new(LocalConfig {
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
    bench.executor.delete_build(&bench.gate, "build-1").await.unwrap();
    let (exit, log) = bench.run("head -c 1000000 /dev/zero > small").await;
    assert!(exit.succeeded(), "{exit:?} {log}");
}
