//! What a script sees and reaches, and what not.

use super::*;

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
async fn the_command_lines_that_a_script_sees_are_short_and_name_no_path_of_the_operator() {
    let bench = Bench::new();
    let (exit, log) = bench.run("for one in /proc/[0-9]*/cmdline; do tr '\\0' ' ' <$one; echo; done").await;
    assert_eq!(exit.code, Some(0), "{log}");
    assert!(log.contains("/.init") && log.contains("/.landfall/script"), "{log}");
    let data = bench.data.path().display().to_string();
    assert!(!log.contains(&data) && !log.contains("mount"), "{log}");
    assert!(log.lines().all(|line| line.len() < 200), "{log}");
}

#[tokio::test]
async fn a_hidden_file_below_a_folder_that_scripts_see_is_hidden() {
    let mut bench = Bench::new();
    let folder = tempfile::tempdir_in("/opt").unwrap();
    fs::write(folder.path().join("admin.conf"), "hunter2").unwrap();
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    bench.executor = LocalExecutor::new(LocalConfig {
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
        .args(["--exact", &own(module_path!(), "helper_without_rights"), "--nocapture"])
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
