//! Folders of the shell helper's time (6257386): made by its own script, taken over without a restart, and refused to its operator then.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use landfall_host::{facts, process::Stat, records::Journal, task};
use landfall_host_protocol::{FolderFacts, ProcessState, Step};

use crate::support::{Host, TestRelease, example, start_step, wait_for};

const SCRIPT: &str = include_str!("../fixtures/shell-helper-6257386.sh");

/// Calls the script as its operator does; answers what it says.
fn call(host: &Host, verb: &str, parameters: &[(&str, String)], payload: &[u8]) -> String {
    let script = host.root.join(".landfall/bin/helper");
    if !script.exists() {
        std::fs::create_dir_all(script.parent().unwrap()).unwrap();
        std::fs::write(&script, SCRIPT).unwrap();
    }
    let mut input = format!(
        "verb={verb}\nfolder={}\nowner=plane shop web uid-1 h1\nfence=plane 1700000000 1\nact=uid-1 3.1 1 {}\nstepdir=uid-1-3.1-1-{}\n",
        host.folder.name(),
        host.journal(),
        host.journal(),
    );
    for (key, value) in parameters {
        input.push_str(&format!("{key}={value}\n"));
    }
    input.push('\n');
    let mut child =
        Command::new("/bin/sh").arg(&script).arg("nonce").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    stdin.write_all(payload).unwrap();
    drop(stdin);
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

/// Deploys as the shell helper does; answers what runs then.
fn deployed_by_the_shell_helper(host: &Host, release: &TestRelease, tar: &[u8]) -> FolderFacts {
    let of_release = [("release", release.name.to_string()), ("digest", release.digest.to_string())];
    let mut stage = of_release.to_vec();
    stage.extend([("size", tar.len().to_string()), ("payload", "yes".to_owned())]);
    let said = call(host, "stage", &stage, tar);
    assert!(said.contains("nonce end 0"), "{said}");
    let mut turn = of_release.to_vec();
    let more = [("revision", "3"), ("rollout", "3.1"), ("signal", "TERM"), ("grace", "10"), ("arg", "./bin/run")];
    turn.extend(more.map(|(key, value)| (key, value.to_owned())));
    let said = call(host, "turn", &turn, b"");
    assert!(said.contains("nonce end 0"), "{said}");
    let said = call(host, "mark", &[("rollout", "3.1".to_owned())], b"");
    assert!(said.contains("nonce end 0"), "{said}");
    facts::folder(&host.folder).unwrap()
}

#[test]
fn what_the_shell_helper_runs_is_taken_over_without_a_restart() {
    let host = Host::new();
    let (one, two) = (example("v1.0"), example("v2.0"));
    let before = deployed_by_the_shell_helper(&host, &one, &one.tar);
    assert!(before.shell_helper);
    assert_eq!(before.owner, Some(host.owner.clone()));
    assert_eq!(before.fence, Some(host.fence.clone()));
    assert_eq!(before.current, Some(one.name.clone()));
    assert_eq!(before.releases.len(), 1);
    let process = before.process.unwrap();
    assert_eq!(
        (process.release.clone(), process.config.clone(), process.revision, process.redeploys),
        (one.name.clone(), None, 3, 1)
    );
    assert_eq!((process.state.clone(), process.ready), (ProcessState::Running, true));

    host.succeed(vec![Step::Settle { seconds: 0 }]);
    let after = facts::folder(&host.folder).unwrap();
    assert!(!after.shell_helper);
    let process_after = after.process.unwrap();
    assert_eq!((process_after.pid, process_after.start), (process.pid, process.start));
    assert!(Stat::read(process.pid).is_some_and(|stat| !stat.is_dead()), "it still runs");

    // Its operator is refused, and starts no second copy.
    let said = call(&host, "turn", &[("release", one.name.to_string()), ("arg", "./bin/run".to_owned())], b"");
    assert!(said.contains("@error=claimed") || said.contains("@error=moved"), "{said}");
    assert_eq!(host.applications().len(), 1);

    let start = Step::Start(Box::new(start_step(&two)));
    let update = vec![
        host.stage_step(&two, None),
        Step::Stop,
        Step::Switch { release: two.name.clone() },
        start,
        Step::WaitReady { timeout_seconds: 60 },
        Step::Prune { keep: vec![], at_most: 1 },
    ];
    host.succeed(update);
    wait_for("the end of the first", || Stat::read(process.pid).is_none_or(|stat| stat.is_dead()).then_some(()));
    assert_eq!(host.applications().len(), 1);
    assert!(!host.folder.release(&one.name).exists());
    assert!(!host.folder.dot().join("verified").join(one.name.as_str()).exists());
}

#[test]
fn what_the_shell_helper_runs_is_removed() {
    let host = Host::new();
    let one = example("v1.0");
    let facts = deployed_by_the_shell_helper(&host, &one, &one.tar);
    let pid = facts.process.unwrap().pid;
    host.succeed(vec![Step::Remove]);
    assert!(Stat::read(pid).is_none_or(|stat| stat.is_dead()));
    assert!(!host.folder.path().exists());
}

#[test]
fn a_step_of_the_shell_helper_under_way_is_busy() {
    let host = Host::new();
    let one = example("v1.0");
    deployed_by_the_shell_helper(&host, &one, &one.tar);
    let n = host.journal();
    let begun = format!("{} begin stage uid-1 3.1 1 {n}\n", n + 1);
    let mut journal = std::fs::OpenOptions::new().append(true).open(host.folder.journal()).unwrap();
    journal.write_all(begun.as_bytes()).unwrap();
    let lock = std::fs::File::open(host.folder.dot().join("steps/lock")).unwrap();
    lock.lock().unwrap();
    let refused = host.begin(&host.task(vec![Step::Settle { seconds: 0 }]));
    assert!(matches!(refused, Err(landfall_host_protocol::Refusal::Busy { .. })), "{refused:?}");
    drop(lock);
    assert_eq!(task::open(&host.folder).map(|open| open.running), Some(false));
    host.succeed(vec![Step::Settle { seconds: 0 }]);
    assert_eq!(Journal::read(&host.folder).unwrap().number(), n + 3);
}
