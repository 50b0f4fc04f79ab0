//! Branches, commits and what they are called.

use super::*;

#[tokio::test]
async fn branches_come_default_first_then_newest_with_their_newest_commits_cleaned() {
    let bench = Bench::new();
    for n in 0..25 {
        bench.commit("n", &n.to_string(), &format!("change {n} \u{1b}]52;c;x\u{7}\u{202e}"));
    }
    for n in 0..22 {
        run(&bench.work(), &["checkout", "-q", "-b", &format!("release/{n:02}")]);
        bench.commit("r", &n.to_string(), "release");
    }
    run(&bench.work(), &["checkout", "-q", "-b", "wip/x/y"]);
    bench.commit("r", "wip", "wip");
    bench.fetch().await;
    let all = bench.git.branches(&bench.source(), &[], None).await.unwrap();
    assert_eq!((all.len(), all[0].name.as_str()), (20, "main"));
    assert_eq!(all[0].commits.len(), 20);
    assert_eq!(all[0].commits[0].subject, "change 24 ");
    assert_eq!(all[0].commits[0].author, "Alice ");
    assert_eq!(all[0].commits[0].sha, all[0].head);
    let patterns = ["release/*".to_owned(), "wip/*".to_owned()];
    let some = bench.git.branches(&bench.source(), &patterns, Some("release/07")).await.unwrap();
    assert_eq!((some.len(), some[0].name.as_str()), (20, "release/07"));
    assert!(some.iter().all(|branch| branch.name.starts_with("release/")), "a star does not match a slash");
}

#[tokio::test]
async fn a_fetch_forgets_what_the_remote_forgot_and_survives_a_branch_that_became_a_folder() {
    let bench = Bench::new();
    run(&bench.work(), &["push", "-q", "origin", "main:a", "main:gone"]);
    run(&bench.work(), &["tag", "t1"]);
    run(&bench.work(), &["push", "-q", "origin", "t1"]);
    bench.fetch().await;
    run(&bench.work(), &["push", "-q", "origin", ":a", ":gone", ":refs/tags/t1"]);
    run(&bench.work(), &["push", "-q", "origin", "main:a/b"]);
    bench.fetch().await;
    let names: Vec<_> =
        bench.git.branches(&bench.source(), &[], None).await.unwrap().into_iter().map(|b| b.name).collect();
    assert_eq!(names, ["main", "a/b"]);
    assert!(matches!(bench.resolve("t1", &[]).await, Err(GitError::RevisionNotFound { .. })));
}

#[tokio::test]
async fn a_revision_is_a_branch_a_tag_or_a_commit_id_and_nothing_else() {
    let bench = Bench::new();
    let first = bench.head();
    run(&bench.work(), &["tag", "-a", "v1", "-m", "one"]);
    run(&bench.work(), &["push", "-q", "origin", "v1"]);
    let second = bench.commit("README", "two", "second");
    bench.fetch().await;
    let main = |sha: &str| (sha.to_owned(), "main".to_owned());
    assert_eq!(bench.resolve("main", &[]).await.unwrap(), main(&second));
    assert_eq!(bench.resolve("refs/heads/main", &[]).await.unwrap(), main(&second));
    assert_eq!(bench.resolve("v1", &[]).await.unwrap(), main(&first));
    assert_eq!(bench.resolve(&first, &[]).await.unwrap(), main(&first));
    for length in [7, 10, 39] {
        assert_eq!(bench.resolve(&first[..length], &[]).await.unwrap(), main(&first), "as our own screens print it");
    }
    assert_eq!(bench.resolve(&first[..12].to_uppercase(), &[]).await.unwrap(), main(&first));
    for revision in [
        &first[..6],
        "0000000",
        "HEAD",
        "main~1",
        "main^",
        ":/first",
        "@",
        "main@{1}",
        "",
        "..",
        "-rf",
        "refs/landfall/x",
        "none",
        "ma*",
    ] {
        let answer = bench.resolve(revision, &[]).await;
        assert!(matches!(answer, Err(GitError::RevisionNotFound { .. })), "{revision:?}: {answer:?}");
    }
    let tree = run(&bench.work(), &["rev-parse", "HEAD^{tree}"]);
    for revision in [&tree, &tree[..10]] {
        assert!(matches!(bench.resolve(revision, &[]).await, Err(GitError::RevisionNotFound { .. })));
    }
}

/// Two commits whose ids begin with the same seven digits: their ids, and the digits.
fn twins(bench: &Bench) -> ([String; 2], String) {
    let (tree, parent) = (run(&bench.work(), &["rev-parse", "HEAD^{tree}"]), bench.head());
    let who = "Ann <ann@example.com> 1790000000 +0000";
    let mut met = std::collections::HashMap::new();
    for n in 0_u32.. {
        let text = format!("tree {tree}\nparent {parent}\nauthor {who}\ncommitter {who}\n\n{n}\n");
        let id = Sha1::new().chain_update(format!("commit {}\0{text}", text.len())).finalize();
        let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        if let Some(other) = met.insert(id[..7].to_owned(), text.clone()) {
            let write =
                |text: &str| input(&bench.work(), &["hash-object", "-w", "-t", "commit", "--stdin"], text.as_bytes());
            return ([write(&other), write(&text)], id[..7].to_owned());
        }
    }
    unreachable!()
}

#[tokio::test]
async fn a_short_commit_id_is_taken_where_it_is_unique_and_else_refused_with_the_candidates() {
    let bench = Bench::new();
    let ([one, two], short) = twins(&bench);
    let merge = |parents: &[&str]| {
        let mut args = vec!["commit-tree", "-m", "merge", "HEAD^{tree}"];
        parents.iter().for_each(|parent| args.extend(["-p", *parent]));
        run(&bench.work(), &args)
    };
    let push = |commit: &str, branch: &str| {
        run(&bench.work(), &["push", "-q", "--force", "origin", &format!("{commit}:refs/heads/{branch}")]);
    };
    push(&merge(&[&one, &two]), "main");
    bench.fetch().await;
    let refused = bench.resolve(&short, &[]).await.unwrap_err();
    assert!(matches!(refused, GitError::RevisionAmbiguous { .. }), "{refused}");
    assert!(refused.to_string().contains(&one) && refused.to_string().contains(&two), "{refused}");
    // Of one that only a branch has which is not allowed nobody is told.
    push(&merge(&[&one]), "main");
    push(&merge(&[&two]), "wild");
    bench.fetch().await;
    assert_eq!(bench.resolve(&short, &["main"]).await.unwrap(), (one.clone(), "main".to_owned()));
    assert_eq!(bench.resolve(&short, &["wild"]).await.unwrap(), (two, "wild".to_owned()));
    // A branch of that name is the branch.
    push(&one, &short);
    bench.fetch().await;
    assert_eq!(bench.resolve(&short, &[]).await.unwrap(), (one, short));
}

#[tokio::test]
async fn a_commit_that_no_allowed_branch_reaches_is_refused_by_whatever_name() {
    let bench = Bench::new();
    let main = bench.head();
    run(&bench.work(), &["checkout", "-q", "-b", "feature/x"]);
    let feature = bench.commit("f", "f", "feature");
    run(&bench.work(), &["tag", "sneaky"]);
    run(&bench.work(), &["push", "-q", "origin", "sneaky"]);
    bench.fetch().await;
    for revision in ["feature/x", "sneaky", feature.as_str()] {
        let answer = bench.resolve(revision, &["main", "release/*"]).await;
        assert!(matches!(answer, Err(GitError::CommitNotOnBranch { .. })), "{revision}: {answer:?}");
    }
    assert_eq!(bench.resolve("sneaky", &["feature/*"]).await.unwrap(), (feature, "feature/x".into()));
    assert_eq!(bench.resolve(&main, &["**"]).await.unwrap(), (main, "main".into()));
    assert!(matches!(bench.resolve("main", &["["]).await, Err(GitError::BadPattern(_))));
}

#[tokio::test]
async fn a_pinned_commit_survives_a_force_push_and_is_what_gets_checked_out() {
    let bench = Bench::new();
    let built = bench.commit("src/app", "built", "to build");
    bench.fetch().await;
    bench.git.pin(&bench.source(), &built, "uid-1").await.unwrap();
    bench.git.pin(&bench.source(), &built, "uid-1").await.unwrap();
    run(&bench.work(), &["reset", "-q", "--hard", "HEAD~1"]);
    let other = bench.commit("src/app", "another", "rewritten");
    run(&bench.origin(), &["gc", "-q", "--prune=now"]);
    bench.fetch().await;
    let src = bench.checkout(&built).await.unwrap();
    assert_eq!(fs::read_to_string(src.join("src/app")).unwrap(), "built");
    assert_eq!(bench.resolve("main", &[]).await.unwrap().0, other);
    let never = "0123456789012345678901234567890123456789";
    assert!(matches!(bench.git.pin(&bench.source(), never, "uid-2").await, Err(GitError::CommitGone { .. })));
    assert!(matches!(bench.checkout(never).await, Err(GitError::CommitGone { .. })));
    assert!(bench.git.pin(&bench.source(), &other, "../heads/main").await.is_err());
}

#[tokio::test]
async fn submodules_and_lfs_pointers_are_refused_by_name_before_a_byte_is_written() {
    let bench = Bench::new();
    let head = bench.head();
    let lib = bench.crafted(&[("100644", "logo.png", POINTER), ("160000", "zlib", head.as_bytes())]);
    let app = bench.crafted(&[("100644", "main.c", b"int main;")]);
    let many: Vec<String> = (0..12).map(|n| format!("big-{n:02}")).collect();
    let mut entries: Vec<(&str, &str, &[u8])> = vec![("40000", "app", app.as_bytes())];
    entries.extend(many.iter().map(|name| ("100644", name.as_str(), POINTER)));
    entries.push(("40000", "lib", lib.as_bytes()));
    let commit = bench.push_tree(&bench.crafted(&entries));
    bench.fetch().await;
    let dest = bench.dir.path().join("out/src");
    let checkout = |path: &str, ignore_submodules, ignore_lfs| {
        let request = CheckoutRequest { ignore_submodules, ignore_lfs, ..CheckoutRequest::new(&commit, path) };
        let (source, dest) = (bench.source(), dest.clone());
        let bench = &bench;
        async move { bench.git.checkout(&source, &request, &dest).await }
    };
    let refused = checkout(".", false, false).await.unwrap_err();
    assert!(matches!(&refused, GitError::SubmodulesRefused { names, .. } if names == "lib/zlib"), "{refused}");
    assert!(refused.to_string().contains("source.submodules"), "{refused}");
    let refused = checkout("./", true, false).await.unwrap_err();
    assert!(
        matches!(&refused, GitError::LfsRefused { names, .. } if names.starts_with("big-00, ") && names.ends_with("big-09 and 3 more")),
        "{refused}"
    );
    assert!(refused.to_string().contains("source.lfs"), "{refused}");
    assert!(!dest.exists(), "nothing was written");
    let refused = checkout("lib", true, false).await.unwrap_err();
    assert!(matches!(&refused, GitError::LfsRefused { names, .. } if names == "lib/logo.png"), "{refused}");
    // What lies beside the project's folder is another project's.
    checkout("app", false, false).await.unwrap();
    checkout(".", true, true).await.unwrap();
    assert_eq!(fs::read(dest.join("lib/logo.png")).unwrap(), POINTER);
    // A text about it, and a pointer's beginning in a large file, are no pointers.
    let long = [POINTER, &[b'x'; 2000]].concat();
    let tree = bench
        .crafted(&[("100644", "README", b"see version https://git-lfs.github.com/spec/v1"), ("100644", "long", &long)]);
    let plain = bench.push_tree(&tree);
    bench.fetch().await;
    bench.checkout(&plain).await.unwrap();
}

#[tokio::test]
async fn a_remote_that_refuses_is_told_apart_from_one_that_is_away() {
    let bench = Bench::new();
    let sha = bench.head();
    bench.fetch().await;
    // A repository with a work tree takes no push over file://, and will not tomorrow.
    let url = Source::open("shop", format!("file://{}", bench.work().display()));
    bench.git.fetch(&bench.gate, &url).await.unwrap();
    let refused = bench.git.push_tag(&bench.gate, &url, tag("v1", &sha)).await;
    assert!(matches!(&refused, Err(GitError::PushRefused { words, .. }) if words.contains("bare")), "{refused:?}");
    fs::rename(bench.origin(), bench.dir.path().join("away")).unwrap();
    assert!(matches!(bench.push_tag("v1", &sha).await, Err(GitError::Unreachable { .. })));
    assert!(matches!(bench.git.fetch(&bench.gate, &bench.source()).await, Err(GitError::Unreachable { .. })));
    // What was fetched is still known.
    assert_eq!(bench.resolve("main", &[]).await.unwrap().0, sha);
}

#[tokio::test]
async fn bad_names_urls_and_a_shut_gate_touch_nothing() {
    let bench = Bench::new();
    let sha = bench.head();
    bench.fetch().await;
    for name in ["..", "-rf", "a b", "x.lock", "v1:refs/heads/main", "+v1", ""] {
        assert!(matches!(bench.push_tag(name, &sha).await, Err(GitError::BadTagName { .. })), "{name}");
    }
    let shut = Gate::shut();
    assert!(matches!(bench.git.push_tag(&shut, &bench.source(), tag("v1", &sha)).await, Err(GitError::Shut(_))));
    assert!(matches!(bench.git.fetch(&shut, &bench.source()).await, Err(GitError::Shut(_))));
    assert_eq!(run(&bench.origin(), &["tag"]), "");
    let strict = Git::new(GitConfig { allow_file: false, ..GitConfig::new(bench.dir.path().join("strict")) });
    let refused = strict.fetch(&bench.gate, &bench.source()).await;
    assert!(matches!(refused, Err(GitError::SchemeNotAllowed { .. })));
    assert!(!bench.dir.path().join("strict").exists());
}

#[tokio::test]
async fn an_empty_repository_has_no_branches_and_fails_nothing() {
    let bench = Bench::new();
    run(bench.dir.path(), &["init", "-q", "--bare", "-b", "trunk", "empty.git"]);
    let url = Source::open("shop", format!("file://{}", bench.dir.path().join("empty.git").display()));
    bench.git.fetch(&bench.gate, &url).await.unwrap();
    assert_eq!(bench.git.branches(&url, &[], None).await.unwrap(), []);
}
