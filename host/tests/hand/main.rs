//! Commands by hand on a host, with the real program.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fs,
    io::Read,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    process::{Command, Output, Stdio},
};

use landfall_host::folder::Folder;
use landfall_host_protocol::FolderName;

const PROGRAM: &str = env!("CARGO_BIN_EXE_landfall-host");

struct Host {
    root: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> &Path {
        self.root.path()
    }

    fn folder(&self, name: &str) -> Folder {
        let folder = Folder::new(self.path(), FolderName::parse(name).unwrap());
        fs::create_dir_all(folder.dot()).unwrap();
        folder
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(PROGRAM).arg("--root").arg(self.path()).args(arguments).output().unwrap()
    }
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn arguments_that_mean_nothing_are_answered_with_the_usage() {
    let host = Host::new();
    for (arguments, said) in [
        (&["restart"][..], "unknown command \"restart\""),
        (&["use", "v1"], "use needs --reason TEXT"),
        (&["session"], "session"),
    ] {
        let output = host.run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(err(&output).contains(said) && err(&output).contains("landfall-host status"), "{}", err(&output));
    }
    let output = Command::new(PROGRAM).args(["session", "a", "b"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let output = Command::new(PROGRAM).arg("--help").output().unwrap();
    assert!(output.status.success() && out(&output).contains("use VERSION"));
}

#[test]
fn a_folder_may_be_left_out_where_there_is_one() {
    let host = Host::new();
    let output = host.run(&["stop"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("nothing is deployed"), "{}", err(&output));
    host.folder("shop.web");
    let output = host.run(&["stop"]);
    assert!(output.status.success(), "{}", err(&output));
    assert_eq!(out(&output), "shop.web is not running\n");
    host.folder("shop.api");
    let output = host.run(&["stop"]);
    assert!(err(&output).contains("name one of: shop.api, shop.web"), "{}", err(&output));
    assert!(host.run(&["stop", "api"]).status.success());
    assert!(host.run(&["stop", "shop.api"]).status.success());
    let output = host.run(&["stop", "other"]);
    assert!(err(&output).contains("other not found; there are: shop.api, shop.web"), "{}", err(&output));
}

#[test]
fn status_tells_all_folders_and_whether_they_run() {
    let host = Host::new();
    assert_eq!(host.run(&["status"]).status.code(), Some(0));
    host.folder("shop.web");
    host.folder("shop.api");
    let output = host.run(&["status"]);
    assert_eq!(output.status.code(), Some(3), "as systemctl does for what does not run");
    let text = out(&output);
    assert!(text.starts_with("shop.api\n") && text.contains("\nshop.web\n"), "{text}");
    assert!(text.contains("  State:      Never started\n"), "{text}");
}

#[test]
fn the_root_is_found_from_where_the_program_lies() {
    let host = Host::new();
    host.folder("shop.web");
    let link = copied(&host).with_file_name("landfall-host");
    std::os::unix::fs::symlink("0123", &link).unwrap();
    let output = Command::new(&link).arg("status").output().unwrap();
    assert!(out(&output).starts_with("shop.web\n"), "{}", err(&output));
    let output = Command::new(PROGRAM).arg("status").output().unwrap();
    assert!(err(&output).contains("use --root ROOT"), "{}", err(&output));
}

#[test]
fn what_was_never_started_can_not_be_started_or_changed() {
    let host = Host::new();
    host.folder("shop.web");
    for arguments in [&["start"][..], &["use", "v1", "--reason", "x"]] {
        let output = host.run(arguments);
        assert_eq!(output.status.code(), Some(1));
        assert!(err(&output).contains("shop.web was never started"), "{}", err(&output));
    }
    assert!(!host.folder("shop.web").journal().exists());
}

#[test]
fn logs_print_the_last_lines_and_follow() {
    let host = Host::new();
    let folder = host.folder("shop.web");
    assert!(err(&host.run(&["logs"])).contains("has not been started"));
    fs::create_dir_all(folder.log(0).parent().unwrap()).unwrap();
    fs::write(folder.log(0), "a\nb\nc\n").unwrap();
    assert_eq!(out(&host.run(&["logs", "-n", "2"])), "b\nc\n");
    let mut follow = Command::new(PROGRAM);
    follow.arg("--root").arg(host.path()).args(["logs", "-f", "-n", "1"]);
    let mut child = follow.stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut text = [0; 2];
    stdout.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"c\n");
    fs::write(folder.log(0), "a\nb\nc\nd\n").unwrap();
    stdout.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"d\n");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let host = Host::new();
    let folder = host.folder("shop.web");
    fs::create_dir_all(folder.log(0).parent().unwrap()).unwrap();
    fs::write(folder.log(0), "x".repeat(1 << 20)).unwrap();
    for arguments in [&["logs"][..], &["status"]] {
        let mut command = Command::new(PROGRAM);
        command.arg("--root").arg(host.path()).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.code().is_some(), "{arguments:?}: {:?}", output.status);
        assert_eq!(err(&output), "");
    }
}

#[test]
fn root_acts_as_the_user_whose_records_they_are() {
    if rustix::process::getuid().as_raw() != 0 {
        return;
    }
    let host = Host::new();
    fs::set_permissions(host.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let folder = host.folder("shop.web");
    for path in [folder.path(), folder.dot()] {
        std::os::unix::fs::chown(path, Some(65534), Some(65534)).unwrap();
    }
    let program = copied(&host);
    let output = Command::new(&program).args(["status"]).output().unwrap();
    assert!(out(&output).starts_with("shop.web\n"), "{}{}", out(&output), err(&output));
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(fs::metadata(folder.dot()).unwrap().uid(), 65534);
    // Another user is told what to do.
    let mut other = Command::new(&program);
    std::os::unix::process::CommandExt::uid(&mut other, 65533);
    let output = other.args(["stop"]).output().unwrap();
    assert!(err(&output).contains("sudo") || err(&output).contains("ermission"), "{}", err(&output));
}

/// F8: what root starts by hand may read what it may read when the operator starts it.
#[test]
fn root_acts_with_all_groups_and_the_login_of_that_user() {
    let host = Host::new();
    fs::set_permissions(host.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let folder = host.folder("shop.web");
    fs::create_dir_all(folder.log(0).parent().unwrap()).unwrap();
    fs::write(folder.log(0), "a line\n").unwrap();
    for path in [folder.path(), folder.dot()] {
        std::os::unix::fs::chown(path, Some(3300), Some(3300)).unwrap();
    }
    // Users and groups of its own.
    let script = r#"set -e
mount -t tmpfs -o mode=755 tmp /mnt
{ grep -v ^dep: /etc/passwd; echo dep:x:3300:3300::/home/dep:/bin/sh; } >/mnt/passwd
{ grep -v -e ^dep: -e ^extra: /etc/group; echo dep:x:3300:; echo extra:x:3399:dep; } >/mnt/group
mount --bind /mnt/passwd /etc/passwd; mount --bind /mnt/group /etc/group
exec "$1" --root "$2" logs -f"#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(copied(&host)).arg(host.path());
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = [0; 7];
    child.stdout.take().unwrap().read_exact(&mut line).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let environ = fs::read_to_string(format!("/proc/{}/environ", child.id())).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let numbers = |name: &str| -> Vec<u32> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_ascii_whitespace().map(|number| number.parse().unwrap()).collect()
    };
    assert_eq!((numbers("Uid:"), numbers("Gid:")), (vec![3300; 4], vec![3300; 4]));
    assert_eq!(numbers("Groups:"), [3300, 3399]);
    for entry in ["HOME=/home/dep", "USER=dep", "LOGNAME=dep"] {
        assert!(environ.split('\0').any(|found| found == entry), "{environ}");
    }
}

/// The program in the root, where everybody may run it.
fn copied(host: &Host) -> std::path::PathBuf {
    let bin = host.path().join(".landfall/bin");
    fs::create_dir_all(&bin).unwrap();
    let program = bin.join("0123");
    // By another process: one of ours that forks meanwhile would hold the file open for writing, and nobody could run it.
    assert!(Command::new("cp").arg(PROGRAM).arg(&program).status().unwrap().success());
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    program
}
