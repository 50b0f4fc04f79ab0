//! Git against real repositories, made and pushed to by the real git.
use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use jiff::Timestamp;
use landfall::{
    effects::{
        gate::Gate,
        git::{CheckoutRequest, Git, GitConfig, GitError, Source, TagOutcome, TagRequest},
    },
    model::ids::FenceToken,
};
use sha1::{Digest, Sha1};

struct Bench {
    dir: tempfile::TempDir,
    git: Git,
    gate: Gate,
}

impl Bench {
    /// A bare repository `origin.git` and a clone `work` with one commit on main.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let git = Git::new(GitConfig { allow_file: true, ..GitConfig::new(dir.path().join("mirrors")) });
        let gate = Gate::open_for(FenceToken { epoch: "e".into(), created: 0, transitions: 0 });
        let bench = Self { dir, git, gate };
        run(bench.dir.path(), &["init", "-q", "--bare", "-b", "main", "origin.git"]);
        run(bench.dir.path(), &["init", "-q", "-b", "main", "work"]);
        run(&bench.work(), &["remote", "add", "origin", "../origin.git"]);
        bench.commit("README", "one", "first");
        bench
    }

    fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    fn origin(&self) -> PathBuf {
        self.dir.path().join("origin.git")
    }

    fn source(&self) -> Source {
        Source::open("shop", format!("file://{}", self.origin().display()))
    }

    /// Commits a file on the current branch and pushes it; the commit's id.
    fn commit(&self, path: &str, text: &str, message: &str) -> String {
        let file = self.work().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
        run(&self.work(), &["add", "-A"]);
        run(&self.work(), &["commit", "-q", "--allow-empty", "-m", message]);
        run(&self.work(), &["push", "-q", "--force", "origin", "HEAD"]);
        self.head()
    }

    fn head(&self) -> String {
        run(&self.work(), &["rev-parse", "HEAD"])
    }

    async fn fetch(&self) {
        self.git.fetch(&self.gate, &self.source()).await.unwrap();
    }

    async fn resolve(&self, revision: &str, patterns: &[&str]) -> Result<(String, String), GitError> {
        let patterns: Vec<_> = patterns.iter().map(|p| (*p).to_owned()).collect();
        self.git.resolve(&self.source(), revision, &patterns).await.map(|found| (found.commit.sha, found.branch))
    }

    async fn push_tag(&self, name: &str, sha: &str) -> Result<TagOutcome, GitError> {
        self.git.push_tag(&self.gate, &self.source(), tag(name, sha)).await
    }

    /// With submodules and LFS pointers as they are.
    async fn checkout_incomplete(&self, sha: &str) -> Result<PathBuf, GitError> {
        let dest = self.dir.path().join("out/src");
        let request = CheckoutRequest { ignore_submodules: true, ignore_lfs: true, ..CheckoutRequest::new(sha, ".") };
        self.git.checkout(&self.source(), &request, &dest).await.map(|()| dest)
    }

    async fn checkout(&self, sha: &str) -> Result<PathBuf, GitError> {
        let dest = self.dir.path().join("out/src");
        self.git.checkout(&self.source(), &CheckoutRequest::new(sha, "."), &dest).await.map(|()| dest)
    }

    /// Writes a tree by hand, as a hostile client can; its id. Mode, name, and the content, or the id of a tree or commit.
    fn crafted(&self, entries: &[(&str, &str, &[u8])]) -> String {
        let entries: Vec<_> = entries.iter().map(|(mode, name, what)| (*mode, name.as_bytes(), *what)).collect();
        self.crafted_bytes(&entries)
    }

    fn crafted_bytes(&self, entries: &[(&str, &[u8], &[u8])]) -> String {
        let mut tree = Vec::new();
        for (mode, name, content) in entries {
            let id = if matches!(*mode, "40000" | "160000") {
                String::from_utf8(content.to_vec()).unwrap()
            } else {
                input(&self.work(), &["hash-object", "-w", "--stdin"], content)
            };
            tree.extend(format!("{mode} ").into_bytes());
            tree.extend(*name);
            tree.push(0);
            tree.extend((0..40).step_by(2).map(|i| u8::from_str_radix(&id[i..i + 2], 16).unwrap()));
        }
        input(&self.work(), &["hash-object", "-w", "-t", "tree", "--literally", "--stdin"], &tree)
    }

    fn push_tree(&self, tree: &str) -> String {
        let commit = run(&self.work(), &["commit-tree", "-m", "crafted", tree]);
        run(&self.work(), &["push", "-q", "--force", "origin", &format!("{commit}:refs/heads/main")]);
        commit
    }
}

fn tag(name: &str, sha: &str) -> TagRequest {
    TagRequest {
        name: name.into(),
        sha: sha.into(),
        message: "Built by landfall\n\nbuild: uid-1\n".into(),
        tagged_at: Timestamp::from_second(1_790_000_000).unwrap(),
    }
}

fn git_command(at: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.current_dir(at).args(args).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "Alice \u{1b}[31m").env(format!("GIT_{who}_EMAIL"), "alice@example.com");
    }
    command
}

fn run(at: &Path, args: &[&str]) -> String {
    input(at, args, b"")
}

fn input(at: &Path, args: &[&str], bytes: &[u8]) -> String {
    let mut command = git_command(at, args);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

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
async fn tags_of_the_mirror_are_listed_by_name() {
    let bench = Bench::new();
    for name in ["v1", "v7", "release/2"] {
        run(&bench.work(), &["tag", name]);
    }
    run(&bench.work(), &["push", "-q", "origin", "--tags"]);
    bench.fetch().await;
    assert_eq!(bench.git.tags(&bench.source()).await.unwrap(), ["release/2", "v1", "v7"]);
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

/// As `git lfs` commits it.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/v1\n\
    oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";

#[tokio::test]
async fn a_commit_with_submodules_or_lfs_pointers_is_refused_with_their_names_before_a_byte_is_written() {
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

#[tokio::test]
async fn a_tag_is_annotated_and_pushing_it_again_is_no_other_tag() {
    let bench = Bench::new();
    let sha = bench.head();
    bench.fetch().await;
    assert_eq!(bench.git.tag_target(&bench.source(), "v1").await.unwrap(), None);
    assert_eq!(bench.push_tag("v1", &sha).await.unwrap(), TagOutcome::Pushed);
    let id = run(&bench.origin(), &["rev-parse", "refs/tags/v1"]);
    assert_eq!(run(&bench.origin(), &["cat-file", "-t", "v1"]), "tag");
    assert_eq!(run(&bench.origin(), &["rev-parse", "v1^{commit}"]), sha);
    assert!(run(&bench.origin(), &["cat-file", "-p", "v1"]).contains("build: uid-1"));
    assert_eq!(bench.push_tag("v1", &sha).await.unwrap(), TagOutcome::AlreadyThere);
    assert_eq!(bench.git.tag_target(&bench.source(), "v1").await.unwrap(), Some(sha.clone()));
    // As after a crash between push and record, with the tag lost at the remote: the same request makes the same object.
    run(&bench.origin(), &["tag", "-d", "v1"]);
    assert_eq!(bench.push_tag("v1", &sha).await.unwrap(), TagOutcome::Pushed);
    assert_eq!(run(&bench.origin(), &["rev-parse", "refs/tags/v1"]), id);
    run(&bench.origin(), &["fsck", "--strict"]);
}

#[tokio::test]
async fn a_tag_on_our_commit_is_a_success_whoever_made_it() {
    let bench = Bench::new();
    let sha = bench.head();
    run(&bench.work(), &["tag", "light"]);
    run(&bench.work(), &["tag", "-a", "heavy", "-m", "by hand"]);
    run(&bench.work(), &["push", "-q", "origin", "--tags"]);
    bench.fetch().await;
    for name in ["light", "heavy"] {
        let before = run(&bench.origin(), &["rev-parse", name]);
        assert_eq!(bench.push_tag(name, &sha).await.unwrap(), TagOutcome::AlreadyThere);
        assert_eq!(run(&bench.origin(), &["rev-parse", name]), before);
    }
}

#[tokio::test]
async fn a_tag_on_another_commit_is_never_moved_not_even_a_light_one_on_an_ancestor() {
    let bench = Bench::new();
    let first = bench.head();
    run(&bench.work(), &["tag", "v1"]);
    run(&bench.work(), &["push", "-q", "origin", "v1"]);
    let second = bench.commit("README", "two", "second");
    bench.fetch().await;
    let refused = bench.push_tag("v1", &second).await;
    assert!(matches!(&refused, Err(GitError::TagConflict { existing, .. }) if *existing == first), "{refused:?}");
    assert_eq!(run(&bench.origin(), &["rev-parse", "v1"]), first);
}

#[tokio::test]
async fn of_many_builds_that_tag_one_name_exactly_one_wins() {
    let bench = Bench::new();
    let mut commits = vec![];
    for n in 0..6 {
        commits.push(bench.commit("n", &n.to_string(), "change"));
    }
    bench.fetch().await;
    // Half of them by another operator with mirrors of its own, so that no lock of ours decides.
    let other = Git::new(GitConfig { allow_file: true, ..GitConfig::new(bench.dir.path().join("other")) });
    other.fetch(&bench.gate, &bench.source()).await.unwrap();
    let url = bench.source();
    let pushes = commits.iter().enumerate().map(|(n, sha)| {
        let git = if n % 2 == 0 { &bench.git } else { &other };
        git.push_tag(&bench.gate, &url, tag("v1", sha))
    });
    let results = futures::future::join_all(pushes).await;
    let target = run(&bench.origin(), &["rev-parse", "v1^{commit}"]);
    for (sha, result) in commits.iter().zip(&results) {
        match result {
            Ok(_) => assert_eq!(*sha, target),
            Err(GitError::TagConflict { existing, .. }) => assert!(*existing == target && *sha != target),
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
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
