//! The notes of what is not synced, and their rolling back, which the tests of power losses stand on. One process notes in one folder, so
//! this is one test.

use std::path::Path;

use landfall_host::{files, unsynced};

#[test]
fn what_is_not_synced_is_gone_and_the_rest_stays() {
    let folder = tempfile::tempdir().unwrap();
    let (notes, root) = (folder.path().join("notes"), folder.path().join("root"));
    std::fs::create_dir(&notes).unwrap();
    std::fs::create_dir(&root).unwrap();
    if std::env::var_os("LANDFALL_HOST_UNSYNCED").is_none() {
        // The folder of the notes is read once in a process.
        let again = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "what_is_not_synced_is_gone_and_the_rest_stays"])
            .env("LANDFALL_HOST_UNSYNCED", &notes)
            .env("TEST_ROOT", &root)
            .status()
            .unwrap();
        assert!(again.success());
        unsynced::roll_back(&notes).unwrap();
        let names = |path: &Path| {
            let mut names: Vec<String> = std::fs::read_dir(path)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        assert_eq!(std::fs::read_to_string(root.join("journal")).unwrap(), "one\n");
        assert_eq!(std::fs::read_link(root.join("current")).unwrap(), Path::new("a"));
        assert_eq!(std::fs::read_to_string(root.join("replaced")).unwrap(), "old");
        assert_eq!(std::fs::read_to_string(root.join("tree/in/file")).unwrap(), "bytes");
        assert_eq!(std::fs::read_to_string(root.join("kept/file")).unwrap(), "");
        assert_eq!(names(&root), ["current", "journal", "kept", "removed", "replaced", "tree"]);
        assert_eq!(names(&notes), Vec::<String>::new());
        return;
    }
    let root = std::path::PathBuf::from(std::env::var_os("TEST_ROOT").unwrap());
    changes(&root).unwrap();
}

fn changes(root: &Path) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut journal = files::open_append(&root.join("journal"), 0o600)?;
    journal.write_all(b"one\n")?;
    files::sync_file(&journal)?;
    files::switch_link(&root.join("current"), Path::new("a"))?;
    files::write_whole(&root.join("replaced"), b"old", 0o600)?;
    for name in ["tree", "kept", "removed"] {
        files::create_folder(&root.join(name), 0o755)?;
        std::fs::create_dir(root.join(name).join("in"))?;
        std::fs::write(root.join(name).join("in/file"), "bytes")?;
    }
    files::sync_tree(&root.join("tree"))?;
    // A file whose folder is synced and whose bytes are not.
    let mut file = files::create(&root.join("kept/file"), 0o644)?;
    file.write_all(b"lost")?;
    files::sync_dir(&root.join("kept"))?;
    files::sync_dir(root)?;

    let mut journal = files::open_append(&root.join("journal"), 0o600)?;
    journal.write_all(b"two\n")?;
    files::rename(&root.join("kept/in/file"), &root.join("replaced"))?;
    files::remove_below(root, &root.join("removed"))?;
    files::create_folder(&root.join("new"), 0o755)?;
    files::create(&root.join("new/file"), 0o600)?;
    Ok(())
}
