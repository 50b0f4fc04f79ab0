//! Releases: staged, found whole, changed by somebody, replaced, switched to, pruned.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use landfall_host::steps::staged;
use landfall_host_protocol::{Digest, Reason, Step, StepName};

use crate::support::{Host, TestRelease, example};

fn switch(release: &TestRelease) -> Step {
    Step::Switch { release: release.name.clone() }
}

#[test]
fn a_release_is_staged_whole_and_on_record() {
    let host = Host::new();
    let one = example("v1.0");
    host.succeed(vec![host.stage_step(&one, None)]);
    host.assert_whole(&one);
    assert_eq!(staged::list(&host.folder), [(one.name.clone(), one.digest.clone())]);
    assert_eq!(std::fs::read_dir(host.folder.dot().join("tmp")).unwrap().count(), 0, "nothing is left");
    let incoming = std::fs::read_dir(host.folder.dot().join("incoming")).unwrap();
    let names = incoming.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let bytes: Vec<String> = names.filter(|name| Digest::parse(name).is_some()).collect();
    assert_eq!(bytes, [""; 0], "the bytes go");
}

#[test]
fn a_whole_release_is_not_touched_again() {
    let host = Host::new();
    let one = example("v1.0");
    host.succeed(vec![host.stage_step(&one, None)]);
    let look = |path: &str| {
        let found = std::fs::metadata(host.folder.release(&one.name).join(path)).unwrap();
        (found.ino(), found.ctime(), found.ctime_nsec())
    };
    let before = [look("bin/run"), look("lib"), look(".")];
    let step = host.stage_step(&one, None);
    std::fs::remove_dir_all(host.folder.dot().join("incoming")).unwrap();
    let task = host.succeed(vec![step]);
    assert!(host.was_skipped(&task, StepName::Stage));
    assert_eq!([look("bin/run"), look("lib"), look(".")], before);
}

#[test]
fn what_the_next_release_shares_is_copied_and_never_linked() {
    let host = Host::new();
    let (one, two) = (example("v1.0"), example("v2.0"));
    host.succeed(vec![host.stage_step(&one, None)]);
    host.succeed(vec![host.stage_step(&two, Some(&one))]);
    host.assert_whole(&two);
    host.assert_whole(&one);
    let shared = std::fs::metadata(host.folder.release(&two.name).join("lib/library")).unwrap();
    assert_eq!(shared.nlink(), 1);
}

#[test]
fn a_base_that_somebody_changed_makes_no_wrong_release() {
    let host = Host::new();
    let (one, two) = (example("v1.0"), example("v2.0"));
    host.succeed(vec![host.stage_step(&one, None)]);
    std::fs::write(host.folder.release(&one.name).join("lib/library"), "changed").unwrap();
    host.fail(vec![host.stage_step(&two, Some(&one))], StepName::Stage, Reason::StageFailed);
    assert!(!host.folder.release(&two.name).exists());
    host.succeed(vec![host.stage_step(&two, None)]);
    host.assert_whole(&two);
}

#[test]
fn an_edited_removed_or_chmodded_file_is_tampering() {
    type Change = fn(&std::path::Path);
    let changes: [(&str, Change); 6] = [
        ("lib/version", |path| std::fs::write(path, "v9.9").unwrap()),
        ("lib/library", |path| std::fs::remove_file(path).unwrap()),
        ("bin/run", |path| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap()),
        ("lib", |path| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap()),
        ("run", |path| {
            std::fs::remove_file(path).unwrap();
            std::os::unix::fs::symlink("/bin/false", path).unwrap();
        }),
        ("config/app.conf", |path| {
            let text = std::fs::read(path).unwrap();
            std::fs::remove_file(path).unwrap();
            std::fs::write(path.with_extension("other"), text).unwrap();
            std::os::unix::fs::symlink("app.other", path).unwrap();
        }),
    ];
    for (path, change) in changes {
        let host = Host::new();
        let one = example("v1.0");
        host.succeed(vec![host.stage_step(&one, None)]);
        change(&host.folder.release(&one.name).join(path));

        let failure = host.fail(vec![switch(&one)], StepName::Switch, Reason::ReleaseTampered);
        assert!(failure.why.contains(path), "{}", failure.why);
        assert!(!host.folder.current().exists());
        assert_eq!(staged::tampered(&host.folder, &one.name), [path]);

        host.succeed(vec![host.stage_step(&one, None), switch(&one)]);
        host.assert_whole(&one);
    }
}

#[test]
fn a_file_written_again_with_the_same_bytes_is_no_tampering() {
    let host = Host::new();
    let one = example("v1.0");
    host.succeed(vec![host.stage_step(&one, None)]);
    let path = host.folder.release(&one.name).join("lib/version");
    std::fs::write(&path, "v1.0").unwrap();
    std::fs::write(host.folder.release(&one.name).join("lib/made-by-the-application"), "").unwrap();
    host.succeed(vec![switch(&one)]);
    assert_eq!(staged::tampered(&host.folder, &one.name), [""; 0]);
}

#[test]
fn a_tampered_release_without_new_bytes_says_so() {
    let host = Host::new();
    let one = example("v1.0");
    host.succeed(vec![host.stage_step(&one, None)]);
    let step = host.stage_step(&one, None);
    std::fs::remove_dir_all(host.folder.dot().join("incoming")).unwrap();
    std::fs::write(host.folder.release(&one.name).join("lib/version"), "v9.9").unwrap();
    host.fail(vec![step], StepName::Stage, Reason::ReleaseTampered);
}

#[test]
fn current_changed_by_hand_is_switched_back() {
    let host = Host::new();
    let (one, two) = (example("v1.0"), example("v2.0"));
    host.succeed(vec![host.stage_step(&one, None), host.stage_step(&two, None), switch(&two)]);
    std::fs::remove_file(host.folder.current()).unwrap();
    std::os::unix::fs::symlink(format!("releases/{}", one.name), host.folder.current()).unwrap();
    let task = host.succeed(vec![switch(&two)]);
    assert!(!host.was_skipped(&task, StepName::Switch));
    let task = host.succeed(vec![switch(&two)]);
    assert!(host.was_skipped(&task, StepName::Switch));
    let target = std::fs::read_link(host.folder.current()).unwrap();
    assert_eq!(target, std::path::Path::new("releases").join(two.name.as_str()));

    std::fs::remove_file(host.folder.current()).unwrap();
    std::fs::create_dir_all(host.folder.current().join("somebody's")).unwrap();
    host.fail(vec![switch(&two)], StepName::Switch, Reason::SwitchFailed);
    assert!(host.folder.current().join("somebody's").exists());
}

#[test]
fn the_oldest_releases_are_pruned_and_current_stays() {
    let host = Host::new();
    let releases: Vec<TestRelease> = ["v1", "v2", "v3", "v4", "v5"].map(example).into();
    for (n, release) in releases.iter().enumerate() {
        host.succeed(vec![host.stage_step(release, None)]);
        // By a clock that goes back by a year each time (R14).
        let years = std::time::Duration::from_secs(31_536_000 * (n as u64 + 1));
        let old = std::time::SystemTime::now() - years;
        std::fs::File::open(host.folder.staged(&release.name)).unwrap().set_modified(old).unwrap();
    }
    let left_over = "v0-0123456789ab";
    std::fs::create_dir(host.folder.releases().join(left_over)).unwrap();
    host.succeed(vec![switch(&releases[0])]);
    let keep = vec![releases[1].name.clone()];
    host.succeed(vec![Step::Prune { keep: keep.clone(), at_most: 3 }]);
    let names: Vec<String> =
        staged::list(&host.folder).into_iter().map(|(name, _)| name.version().to_owned()).collect();
    assert_eq!(names, ["v1", "v2", "v5"]);
    assert_eq!(std::fs::read_dir(host.folder.releases()).unwrap().count(), 3);
    let task = host.succeed(vec![Step::Prune { keep, at_most: 3 }]);
    assert!(host.was_skipped(&task, StepName::Prune));
}

#[test]
fn a_release_of_the_shell_helper_is_taken_over_unread() {
    let host = Host::new();
    let one = example("v1.0");
    host.succeed(vec![host.stage_step(&one, None)]);
    // As the shell helper left it.
    std::fs::remove_dir_all(host.folder.dot().join("staged")).unwrap();
    let folder = host.folder.release(&one.name);
    let tree = std::process::Command::new("sh")
        .current_dir(&folder)
        .args(["-c", r#"find . -type f -exec sha256sum {} + -o -type l -exec sh -c 'for l; do echo "$l > $(readlink "$l")"; done' sh {} + | LC_ALL=C sort | sha256sum"#])
        .output()
        .unwrap();
    let tree = String::from_utf8(tree.stdout).unwrap();
    let tree = tree.split(' ').next().unwrap();
    std::fs::create_dir(host.folder.dot().join("verified")).unwrap();
    std::fs::write(host.folder.dot().join("verified").join(one.name.as_str()), format!("{} {tree}\n", one.digest))
        .unwrap();

    let before = std::fs::metadata(folder.join("bin/run")).unwrap().ino();
    host.succeed(vec![switch(&one)]);
    assert_eq!(std::fs::metadata(folder.join("bin/run")).unwrap().ino(), before);
    assert!(host.folder.staged(&one.name).exists(), "its files are on record now");

    std::fs::remove_dir_all(host.folder.dot().join("staged")).unwrap();
    std::fs::remove_file(host.folder.current()).unwrap();
    std::fs::write(folder.join("lib/version"), "v9.9").unwrap();
    host.fail(vec![switch(&one)], StepName::Switch, Reason::ReleaseTampered);
}
