//! Disks that are full, without inodes, read-only: small file systems of a mount namespace of the test's own.

use std::{io::Write as _, path::Path, process::Command};

use landfall_host_protocol::{Outcome, Reason, Refusal, Step, StepName};

use crate::support::{Host, configuration, example, sh};

const DISK: &str = "LANDFALL_TEST_DISK";

/// Runs the test `name` again in a mount namespace with a file system of these options, where `body` gets a host on it.
fn on_disk(name: &str, options: &str, body: fn(&Host)) {
    if let Some(disk) = std::env::var_os(DISK) {
        let root = Path::new(&disk).join("root");
        std::fs::create_dir_all(root.join(".landfall")).unwrap();
        return body(&Host::at(tempfile::tempdir_in("/tmp").unwrap(), root));
    }
    let disk = tempfile::tempdir().unwrap();
    let script = format!("mount -t tmpfs -o {options} none \"${DISK}\" && exec \"$0\" --exact {name} --nocapture");
    let output = Command::new("unshare")
        .args(["--mount", "--map-root-user", "/bin/sh", "-c", &script])
        .arg(std::env::current_exe().unwrap())
        .env(DISK, disk.path())
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// Takes all but so many bytes.
fn fill(host: &Host, left: u64) {
    let mut file = std::fs::File::create(host.root.join("filling")).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    let length = file.metadata().unwrap().len();
    file.set_len(length - left).unwrap();
}

fn make_room(host: &Host) {
    std::fs::remove_file(host.root.join("filling")).unwrap();
}

#[test]
fn a_full_disk_refuses_before_anything_is_done() {
    on_disk("disk::a_full_disk_refuses_before_anything_is_done", "size=4m", |host| {
        let one = example("v1.0");
        let steps = vec![host.stage_step(&one, None), Step::Switch { release: one.name.clone() }];
        fill(host, 0);
        let Err(Refusal::Full(full)) = host.begin(&host.task(steps.clone())) else { panic!("it is not full") };
        assert!(!full.quota);
        assert_eq!(full.free_bytes, 0);
        make_room(host);

        fill(host, 400 << 10);
        let failure = host.fail(steps.clone(), StepName::Stage, Reason::DiskFull);
        let full = failure.full.unwrap();
        assert!(full.needed > full.free_bytes && full.free_bytes > 0, "{full:?}");
        assert!(!host.folder.release(&one.name).exists());
        make_room(host);

        host.succeed(steps);
        host.assert_whole(&one);
    });
}

#[test]
fn a_disk_without_inodes_refuses() {
    on_disk("disk::a_disk_without_inodes_refuses", "size=16m,nr_inodes=60", |host| {
        let one = example("v1.0");
        let steps = vec![host.stage_step(&one, None)];
        let many = host.root.join("many");
        std::fs::create_dir(&many).unwrap();
        let made = (0..100).take_while(|n| std::fs::write(many.join(n.to_string()), "").is_ok()).count();
        let Err(Refusal::Full(full)) = host.begin(&host.task(steps.clone())) else { panic!("it is not full") };
        assert_eq!(full.free_inodes, Some(0));

        for n in made - 16..made {
            std::fs::remove_file(many.join(n.to_string())).unwrap();
        }
        let failure = host.fail(steps.clone(), StepName::Stage, Reason::DiskFull);
        assert!(failure.why.contains("inodes"), "{}", failure.why);
        std::fs::remove_dir_all(&many).unwrap();
        host.succeed(steps);
        host.assert_whole(&one);
    });
}

#[test]
fn a_task_that_fills_the_disk_tells_its_end_all_the_same() {
    on_disk("disk::a_task_that_fills_the_disk_tells_its_end_all_the_same", "size=4m", |host| {
        let one = example("v1.0");
        let hook = Step::Hook {
            name: "fills".to_owned(),
            release: one.name.clone(),
            config: Box::new(configuration(&["bin/run"])),
            command: sh("cat /dev/zero >../../filling 2>/dev/null; exit 7"),
            timeout_seconds: 60,
        };
        let (_, outcome) = host.run(vec![host.stage_step(&one, None), hook]);
        let Outcome::Failed(failure) = outcome else { panic!("{outcome:?}") };
        assert_eq!(failure.reason, Reason::HookFailed);
        assert!(failure.why.contains("exit status 7"), "{}", failure.why);
        let (taken, left) = (std::fs::metadata(host.folder.path().join("filling")).unwrap().len(), host.journal());
        assert!(taken > 3 << 20);
        assert_eq!(left, 2, "its end is journaled");
    });
}

#[test]
fn a_read_only_disk_is_named() {
    on_disk("disk::a_read_only_disk_is_named", "size=4m", |host| {
        let one = example("v1.0");
        let steps = vec![host.stage_step(&one, None)];
        let remount = |option: &str| {
            let disk = std::env::var(DISK).unwrap();
            let done = Command::new("mount").args(["-o", &format!("remount,{option}"), &disk]).status().unwrap();
            assert!(done.success());
        };
        remount("ro");
        let Err(Refusal::Unsupported { why }) = host.begin(&host.task(steps.clone())) else { panic!("it is writable") };
        assert!(why.contains("Read-only") && why.contains("shop.web"), "{why}");
        remount("rw");
        host.succeed(steps);
    });
}
