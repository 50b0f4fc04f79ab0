//! Releases packed from real folders: what is taken, what is refused by name, and the same bytes for the same input.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    process::Command,
};

use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::{bounds::Bounds, *};
use crate::model::Class;

fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

fn rule(path: &str) -> ArtifactRule {
    ArtifactRule { path: path.into(), rename: None }
}

fn rule_as(path: &str, name: &str) -> ArtifactRule {
    ArtifactRule { path: path.into(), rename: Some(name.into()) }
}

fn select(checkout: &Path, rules: &[ArtifactRule]) -> Result<BTreeMap<String, select::Entry>, ReleaseError> {
    select::select(checkout, rules, Bounds::USUAL)
}

fn packed(checkout: &Path, rules: &[ArtifactRule]) -> Result<(Packed, Vec<String>), ReleaseError> {
    let out = tempfile::tempdir().unwrap();
    let tar = out.path().join("r.tar");
    let packed = pack::write(checkout, &select(checkout, rules)?, br#"{"commit":"c"}"#, &tar)?;
    let listed = Command::new("tar").arg("tvf").arg(&tar).env("TZ", "UTC").output().unwrap();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let bytes = fs::read(&tar).unwrap();
    assert_eq!(packed.digest, format!("{:x}", Sha256::digest(&bytes)));
    assert_eq!(packed.size, bytes.len() as u64);
    Ok((packed, String::from_utf8(listed.stdout).unwrap().lines().map(str::to_owned).collect()))
}

#[test]
fn a_release_has_sorted_entries_without_owner_or_time() {
    let dir = tree(&[
        ("target/app.jar", "jar"),
        ("conf/b", "b"),
        ("conf/sub/a", "a"),
        ("bin/run", "#!/bin/sh"),
        ("other", "x"),
    ]);
    fs::set_permissions(dir.path().join("bin/run"), fs::Permissions::from_mode(0o4711)).unwrap();
    symlink("sub/a", dir.path().join("conf/link")).unwrap();
    let rules = [rule_as("target/*.jar", "app.jar"), rule("conf"), rule("bin/*")];
    let (packed, lines) = packed(dir.path(), &rules).unwrap();
    let seen: Vec<_> = lines.iter().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        seen,
        [
            "-rw-r--r-- 0/0 3 1970-01-01 00:00 app.jar",
            "drwxr-xr-x 0/0 0 1970-01-01 00:00 bin/",
            "-rwxr-xr-x 0/0 9 1970-01-01 00:00 bin/run",
            "drwxr-xr-x 0/0 0 1970-01-01 00:00 conf/",
            "-rw-r--r-- 0/0 1 1970-01-01 00:00 conf/b",
            "lrwxrwxrwx 0/0 0 1970-01-01 00:00 conf/link -> sub/a",
            "drwxr-xr-x 0/0 0 1970-01-01 00:00 conf/sub/",
            "-rw-r--r-- 0/0 1 1970-01-01 00:00 conf/sub/a",
            "-rw-r--r-- 0/0 14 1970-01-01 00:00 run.json",
        ]
    );
    let names: Vec<_> = packed.artifacts.iter().map(|a| (a.name.as_str(), a.size)).collect();
    assert_eq!(packed.artifact_count, 4);
    assert_eq!(names, [("app.jar", 3), ("bin/run", 9), ("conf/b", 1), ("conf/sub/a", 1)]);
    assert_eq!(packed.artifacts[0].digest, format!("sha256:{:x}", Sha256::digest(b"jar")));
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let dir = tree(&[("a.jar", "a"), ("b.jar", "b"), ("x/c", "c"), ("y/c", "c"), ("run.json", "{}")]);
    fs::create_dir_all(dir.path().join("empty/below")).unwrap();
    Command::new("mkfifo").arg(dir.path().join("pipe")).status().unwrap();
    symlink("/etc/passwd", dir.path().join("absolute")).unwrap();
    symlink("../../etc/passwd", dir.path().join("x/up")).unwrap();
    symlink("a/../../etc", dir.path().join("sly")).unwrap();
    symlink("a.jar", dir.path().join("alone")).unwrap();
    let error = |rules: &[ArtifactRule]| packed(dir.path(), rules).unwrap_err();
    assert!(matches!(error(&[rule("*.war")]), ReleaseError::ArtifactMissing { glob } if glob == "*.war"));
    assert!(matches!(error(&[rule_as("*.jar", "app.jar")]), ReleaseError::ArtifactAmbiguous { found: 2, .. }));
    assert!(matches!(
        error(&[rule_as("x/c", "c"), rule_as("y/c", "c")]),
        ReleaseError::ArtifactClash { name, first, second } if name == "c" && first == "x/c" && second == "y/c"
    ));
    assert!(matches!(error(&[rule_as("a.jar", "d"), rule_as("b.jar", "d/e")]), ReleaseError::ArtifactClash { .. }));
    assert!(matches!(error(&[rule_as("b.jar", "d/e"), rule_as("a.jar", "d")]), ReleaseError::ArtifactClash { .. }));
    assert!(matches!(error(&[rule("run.json")]), ReleaseError::ArtifactClash { .. }));
    assert!(matches!(error(&[rule_as("a.jar", "run.json/x")]), ReleaseError::ArtifactClash { .. }));
    assert!(matches!(error(&[rule("empty")]), ReleaseError::ArtifactEmpty { path } if path == "empty/below"));
    assert!(matches!(error(&[rule("pipe")]), ReleaseError::ArtifactUnsupported { kind: "a pipe", .. }));
    for glob in ["absolute", "x", "sly", "alone", "../*", "/etc/*", "x/../../*"] {
        assert!(matches!(error(&[rule(glob)]), ReleaseError::ArtifactOutside { .. }), "{glob}");
    }
    for name in ["../x", "/x", "", "a/../b", "./x", "a//b", "x/"] {
        assert!(matches!(error(&[rule_as("a.jar", name)]), ReleaseError::ArtifactOutside { .. }), "{name}");
    }
    assert!(matches!(error(&[rule("[")]), ReleaseError::BadGlob { .. }));
    packed(dir.path(), &[rule("alone"), rule("*.jar"), rule("a.jar")]).unwrap();
}

#[test]
fn a_checkout_beyond_any_bound_is_refused_and_the_message_says_what_to_do() {
    let dir = tree(&[("app/a", "12345"), ("app/b", "12345"), ("lib/a/b/c", "1")]);
    let refused = |rules: &[ArtifactRule], bounds| {
        let error = select::select(dir.path(), rules, bounds).unwrap_err();
        assert!(matches!(error, ReleaseError::ArtifactTooLarge { .. }) && error.class() == Class::Terminal, "{error}");
        error.to_string()
    };
    let usual = Bounds::USUAL;
    for rules in [[rule("app")], [rule_as("app", "x")]] {
        select::select(dir.path(), &rules, Bounds { visited: 7, depth: 4, bytes: 10, names: 80 }).unwrap();
        assert!(refused(&rules, Bounds { visited: 6, ..usual }).contains("let the script remove"));
        let deep = refused(&rules, Bounds { depth: 3, ..usual });
        assert!(deep.contains("more than 3 deep (lib/a/b…)"), "{deep}");
        assert!(refused(&rules, Bounds { bytes: 9, ..usual }).contains("select less"));
        assert!(refused(&rules, Bounds { names: 4, ..usual }).contains("names"));
    }
    // Deeper than a path may be long, which is no disturbance that passes.
    let mut at = fs::File::open(dir.path()).unwrap();
    for _ in 0..30 {
        let name = "n".repeat(200);
        rustix::fs::mkdirat(&at, &name, rustix::fs::Mode::RWXU).unwrap();
        let flags = rustix::fs::OFlags::DIRECTORY;
        at = rustix::fs::openat(&at, &name, flags, rustix::fs::Mode::empty()).unwrap().into();
    }
    assert!(refused(&[rule("app")], usual).contains("nested"));
    crate::effects::remove::tree(dir.path()).unwrap();
}

#[test]
fn a_folder_that_is_selected_is_taken_with_all_that_is_in_it_once() {
    let dir = tree(&[("a/b/c", "1"), ("a/d", "2"), ("ab", "3"), ("e/f", "4")]);
    let names = |rules: &[ArtifactRule]| {
        packed(dir.path(), rules).unwrap().0.artifacts.into_iter().map(|file| file.name).collect::<Vec<_>>()
    };
    assert_eq!(names(&[rule("a")]), ["a/b/c", "a/d"]);
    assert_eq!(names(&[rule("**")]), ["a/b/c", "a/d", "ab", "e/f"]);
    assert_eq!(names(&[rule("a/*"), rule_as("a/b", "x/y"), rule("a/b/c")]), ["a/b/c", "a/d", "x/y/c"]);
    assert!(matches!(
        packed(dir.path(), &[rule("a"), rule("a/b/nothing")]),
        Err(ReleaseError::ArtifactMissing { glob }) if glob == "a/b/nothing"
    ));
    fs::write(dir.path().join("a").join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"\xff")), "x")
        .unwrap();
    assert!(matches!(packed(dir.path(), &[rule("a")]), Err(ReleaseError::ArtifactUnsupported { .. })));
    assert_eq!(names(&[rule("ab")]), ["ab"], "what is not selected may have any name");
}

#[test]
fn a_file_that_changes_its_size_while_it_is_packed_is_refused() {
    let dir = tree(&[("a", "abc")]);
    let mut entries = select(dir.path(), &[rule("a")]).unwrap();
    // As if the script had replaced the file by a link between the look and the read.
    fs::remove_file(dir.path().join("a")).unwrap();
    symlink("/etc/passwd", dir.path().join("a")).unwrap();
    assert!(pack::write(dir.path(), &entries, b"{}", &dir.path().join("r.tar")).is_err());
    // A file of /proc says that it has no bytes, and has some.
    entries.insert("a".into(), select::Entry::File { from: Some("/proc/self/status".into()), executable: false });
    let refused = pack::write(dir.path(), &entries, b"{}", &dir.path().join("r.tar"));
    assert!(matches!(refused, Err(ReleaseError::ArtifactChanged { .. })));
    assert!(!dir.path().join("r.tar").exists());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Two checkouts with the same files, made in another order at another time, have one digest; and it says every byte.
    #[test]
    fn the_same_input_gives_the_same_bytes(
        files in proptest::collection::btree_map("[a-e]{1,3}(/[a-e]{1,120}){0,2}", (any::<Vec<u8>>(), any::<bool>()), 1..12)
    ) {
        let files: BTreeMap<_, _> = files.iter().filter(|(name, _)| {
            !files.keys().any(|other| other.starts_with(&format!("{name}/")))
        }).collect();
        let digest = |reversed: bool, change: bool| {
            let dir = tempfile::tempdir().unwrap();
            let mut list: Vec<_> = files.iter().collect();
            if reversed {
                list.reverse();
            }
            for (n, (name, (bytes, executable))) in list.iter().enumerate() {
                let path = dir.path().join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                let mut bytes = bytes.clone();
                if change && n == 0 {
                    bytes.push(1);
                }
                fs::write(&path, bytes).unwrap();
                let mode = if *executable { 0o700 } else { 0o600 };
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            }
            packed(dir.path(), &[rule("**")]).unwrap().0.digest
        };
        let first = digest(false, false);
        prop_assert_eq!(&first, &digest(true, false));
        prop_assert_ne!(&first, &digest(false, true));
    }
}
