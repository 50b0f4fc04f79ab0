//! What is checked out, and what is refused.

use super::*;

#[tokio::test]
async fn a_checkout_has_the_commits_files_modes_and_links_and_no_git() {
    let bench = Bench::new();
    fs::create_dir_all(bench.work().join("a/b")).unwrap();
    fs::write(bench.work().join("a/b/run.sh"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(bench.work().join("a/b/run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink("../../README", bench.work().join("a/b/up")).unwrap();
    fs::write(bench.work().join(".gitattributes"), "*.txt text eol=crlf\n*.x filter=evil\n").unwrap();
    fs::write(bench.work().join("t.txt"), "a\nb\n").unwrap();
    let sha = bench.commit("e.x", "x", "files");
    bench.fetch().await;
    let stale = bench.dir.path().join("out/src/stale");
    fs::create_dir_all(&stale).unwrap();
    let src = bench.checkout(&sha).await.unwrap();
    assert!(!stale.exists() && !src.join(".git").exists());
    assert_eq!(fs::metadata(src.join("a/b/run.sh")).unwrap().permissions().mode() & 0o777, 0o755);
    assert_eq!(fs::metadata(src.join("README")).unwrap().permissions().mode() & 0o777, 0o644);
    assert_eq!(fs::read_to_string(src.join("a/b/up")).unwrap(), "one");
    assert_eq!(fs::read_to_string(src.join("t.txt")).unwrap(), "a\nb\n", "no filter runs");
}

#[tokio::test]
async fn a_hostile_tree_is_refused_and_leaves_nothing() {
    let bench = Bench::new();
    let hook = bench.crafted(&[("100755", "post-checkout", b"#!/bin/sh\n")]);
    let cases: &[&[(&str, &str, &[u8])]] = &[
        &[("120000", "link", b"/etc/passwd")],
        &[("120000", "link", b"../outside")],
        &[("120000", "link", b"a/../../outside")],
        &[("100644", "..", b"x")],
        &[("40000", ".git", hook.as_bytes())],
        &[("40000", ".GIT", hook.as_bytes())],
        &[("100644", "../x", b"x")],
        &[("120000", "a", b"."), ("40000", "a", hook.as_bytes())],
        &[("40000", "a", hook.as_bytes()), ("100644", "a", b"x")],
        &[("120000", "a", b"b/../../x"), ("40000", "b", hook.as_bytes())],
        &[("100644", "config\r", b"x")],
        &[("100644", "two\nlines", b"x")],
        &[("100644", "\u{1b}[31m", b"x")],
        &[("100644", "git~1", b"x")],
        &[("120000", "long", &[b'x'; 5000])],
        &[("100644", ".", b"x")],
    ];
    for case in cases {
        let tree = bench.crafted(case);
        let commit = bench.push_tree(&tree);
        let answer = match bench.git.fetch(&bench.gate, &bench.source()).await {
            Ok(()) => bench.checkout(&commit).await.map(|_| ()),
            refused => refused,
        };
        let name = case[0].1;
        assert!(matches!(answer, Err(GitError::UnsafeTree { .. } | GitError::Failed { .. })), "{name:?}: {answer:?}");
        let said = answer.unwrap_err().to_string();
        assert!(!said.chars().any(char::is_control), "{said:?}");
        let left = fs::read_dir(bench.dir.path().join("out")).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{name:?} leaves something behind");
    }
}

#[tokio::test]
async fn an_odd_tree_is_written_as_it_is_and_goes_nowhere_else() {
    let bench = Bench::new();
    let modules: &[u8] =
        b"[submodule \"x\"]\n\tpath = x\n\turl = -u./payload\n\tupdate = !touch /tmp/landfall-was-here\n";
    let head = bench.head();
    let tree = bench.crafted_bytes(&[
        ("100644", b".gitmodules", modules),
        ("100644", b"README", b"upper"),
        ("100644", b"latin-\xe9", b"no UTF-8"),
        ("100644", b"readme", b"lower"),
        ("160000", b"x", head.as_bytes()),
    ]);
    let commit = bench.push_tree(&tree);
    bench.fetch().await;
    let src = bench.checkout_incomplete(&commit).await.unwrap();
    assert_eq!(fs::read_to_string(src.join("README")).unwrap(), "upper");
    assert_eq!(fs::read_to_string(src.join("readme")).unwrap(), "lower");
    assert_eq!(
        fs::read_dir(src.join("x")).unwrap().count(),
        0,
        "a submodule is an empty folder, nothing of it is fetched"
    );
    assert_eq!(fs::read_dir(&src).unwrap().count(), 5);
    assert!(!Path::new("/tmp/landfall-was-here").exists());
}

#[tokio::test]
async fn a_tree_bomb_is_counted_before_a_byte_is_written_and_a_deep_one_is_refused() {
    let bench = Bench::new();
    let mut tree = bench.crafted(&[("100644", "f", b"x")]);
    for _ in 0..12 {
        let names: Vec<String> = (0..10).map(|n| format!("d{n}")).collect();
        let entries: Vec<_> = names.iter().map(|name| ("40000", name.as_str(), tree.as_bytes())).collect();
        tree = bench.crafted(&entries);
    }
    let bomb = bench.push_tree(&tree);
    bench.fetch().await;
    let refused = bench.checkout(&bomb).await;
    assert!(matches!(&refused, Err(GitError::TooLarge { .. })), "{refused:?}");
    assert!(!bench.dir.path().join("out").exists());
    let mut tree = bench.crafted(&[("100644", "f", b"x")]);
    for _ in 0..300 {
        tree = bench.crafted(&[("40000", "d", tree.as_bytes())]);
    }
    let deep = bench.push_tree(&tree);
    bench.fetch().await;
    let refused = bench.checkout(&deep).await;
    assert!(matches!(&refused, Err(GitError::UnsafeTree { why: "it lies too deep", .. })), "{refused:?}");
}

#[tokio::test]
async fn a_folder_of_the_repository_is_one_that_no_link_stands_for() {
    let bench = Bench::new();
    fs::create_dir_all(bench.work().join("services/api")).unwrap();
    fs::write(bench.work().join("services/api/main"), "x").unwrap();
    std::os::unix::fs::symlink("services", bench.work().join("link")).unwrap();
    let sha = bench.commit("file", "x", "folders");
    bench.fetch().await;
    for good in [".", "", "services", "services/api", "./services//api/"] {
        bench.git.folder(&bench.source(), &sha, good).await.unwrap();
    }
    for bad in
        ["..", "services/../..", "/services", "none", "services/none", "file", "link", "link/api", "services/api/main"]
    {
        let answer = bench.git.folder(&bench.source(), &sha, bad).await;
        assert!(matches!(&answer, Err(GitError::NoFolder { .. })), "{bad:?}: {answer:?}");
    }
}
