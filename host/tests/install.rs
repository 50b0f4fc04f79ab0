//! The program takes its place on a host: real files and processes, the built program.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use sha2::{Digest, Sha256};

const PROGRAM: &str = env!("CARGO_BIN_EXE_landfall-host");

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A program of another version: whatever lies behind an ELF file's end does not matter.
fn version(n: u8) -> Vec<u8> {
    let mut bytes = fs::read(PROGRAM).unwrap();
    bytes.push(n);
    bytes
}

fn upload(root: &Path, bytes: &[u8], digest: &str) -> Output {
    let bin = root.join(".landfall/bin");
    fs::create_dir_all(&bin).unwrap();
    let path = bin.join(format!(".{digest}.{}.new", std::process::id()));
    // Written by another process: a fork of this one while the file is open for writing would keep it busy.
    let mut cat = Command::new("cp").arg("/dev/stdin").arg(&path).stdin(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut cat.stdin.take().unwrap(), bytes).unwrap();
    assert!(cat.wait().unwrap().success());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    Command::new(&path).args(["install".as_ref(), root.as_os_str(), digest.as_ref()]).output().unwrap()
}

fn names(root: &Path) -> Vec<String> {
    let all = fs::read_dir(root.join(".landfall/bin")).unwrap();
    let mut all: Vec<String> = all.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    all.sort();
    all
}

fn installed(root: &Path, n: u8) -> (String, PathBuf) {
    let bytes = version(n);
    let digest = sha256(&bytes);
    let done = upload(root, &bytes, &digest);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let path = root.join(".landfall/bin").join(&digest);
    (digest, path)
}

/// Everybody can open the folder of the programs, and so can lock it.
#[test]
fn who_locks_the_folder_of_the_programs_holds_no_install() {
    let root = tempfile::tempdir().unwrap();
    installed(root.path(), 1);
    let folder = fs::File::open(root.path().join(".landfall/bin")).unwrap();
    folder.lock().unwrap();
    let (second, _) = installed(root.path(), 2);
    assert!(names(root.path()).contains(&second));
    let lock = fs::metadata(root.path().join(".landfall/programs.lock")).unwrap();
    assert_eq!(lock.permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_program_takes_its_place_and_the_link_names_the_newest() {
    let root = tempfile::tempdir().unwrap();
    let (first, path) = installed(root.path(), 1);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o755);
    assert_eq!(names(root.path()), [first.clone(), "landfall-host".to_owned()]);
    let (second, _) = installed(root.path(), 2);
    let link = fs::read_link(root.path().join(".landfall/bin/landfall-host")).unwrap();
    assert_eq!(link, Path::new(&second));
    assert!(path.exists(), "two versions live side by side");
    // The same again is no harm.
    assert_eq!(installed(root.path(), 2).0, second);
    assert_eq!(names(root.path()).len(), 3);
}

#[test]
fn a_damaged_program_takes_no_place() {
    let root = tempfile::tempdir().unwrap();
    let digest = sha256(&version(1));
    let refused = upload(root.path(), &version(2), &digest);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("damaged"));
    assert!(!root.path().join(".landfall/bin").join(&digest).exists());
}

#[test]
fn what_a_process_runs_and_the_two_newest_stay() {
    let root = tempfile::tempdir().unwrap();
    let (first, path) = installed(root.path(), 1);
    // It waits for a request.
    let mut kept = Command::new(&path)
        .arg("session")
        .arg(root.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let left_over = root.path().join(".landfall/bin").join(format!(".{first}.{}.new", u32::MAX));
    fs::write(&left_over, "cut").unwrap();
    let all: Vec<String> = (2..6).map(|n| installed(root.path(), n).0).collect();
    let mut expected = vec![first.clone(), all[2].clone(), all[3].clone(), "landfall-host".to_owned()];
    expected.sort();
    assert_eq!(names(root.path()), expected);
    drop(kept.stdin.take());
    kept.wait().unwrap();
    installed(root.path(), 6);
    assert!(!names(root.path()).contains(&first), "nothing runs it any more");
}

// R14
#[test]
fn the_programs_that_came_last_stay_whatever_the_clock_says() {
    let root = tempfile::tempdir().unwrap();
    let mut all = Vec::new();
    for n in 1..5 {
        let (digest, path) = installed(root.path(), n);
        let years = std::time::Duration::from_secs(u64::from(90 - n) * 365 * 24 * 3600);
        fs::File::open(&path).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH + years).unwrap();
        all.push(digest);
    }
    let mut expected = vec![all[2].clone(), all[3].clone(), "landfall-host".to_owned()];
    expected.sort();
    assert_eq!(names(root.path()), expected);
    // One that was there already and comes again is the newest.
    installed(root.path(), 3);
    installed(root.path(), 5);
    assert!(names(root.path()).contains(&all[2]) && !names(root.path()).contains(&all[3]));
}

#[test]
fn a_program_in_its_place_is_not_moved_by_mistake() {
    let root = tempfile::tempdir().unwrap();
    let (digest, path) = installed(root.path(), 1);
    let refused =
        Command::new(&path).args(["install".as_ref(), root.path().as_os_str(), digest.as_ref()]).output().unwrap();
    assert!(!refused.status.success());
    assert!(path.exists());
}
