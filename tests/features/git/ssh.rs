//! git over SSH against a real sshd with git-shell: keys, host keys, and lines that break.

use std::{collections::BTreeMap, time::Duration};

use crate::support::{
    chance,
    gitsshd::{GitSshd, Line},
    repository::{Repository, gate, git, tag},
    wait,
};
use landfall::{
    effects::{
        git::{Access, Git, GitConfig, GitError, Source, TagOutcome},
        secret::SecretText,
        ssh::SshError,
    },
    model::Class,
};
use rand::Rng;

struct Bench {
    repository: Repository,
    server: GitSshd,
    git: Git,
    folder: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        Self::with(GitSshd::start().await)
    }

    fn with(server: GitSshd) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let git = Git::new(GitConfig {
            silence: wait::PATIENCE,
            allow_local: true,
            ..GitConfig::new(folder.path().join("mirrors"))
        });
        Self { repository: Repository::new(), server, git, folder }
    }

    fn source(&self, identity: &str, known_hosts: &str) -> Source {
        let url = self.server.url(&self.repository.origin());
        let mut source = Source::open("shop", url.clone());
        let keys = [("identity", identity.to_owned()), ("known_hosts", known_hosts.to_owned())];
        let keys: BTreeMap<_, _> = keys.map(|(key, value)| (key.to_owned(), SecretText::new(value))).into();
        source.access = Access::new(&url, "shop-git", keys).unwrap();
        source
    }

    fn of(&self, who: &str) -> Source {
        self.source(&self.server.identity(who), &self.server.known_hosts("ed25519"))
    }

    async fn fetch(&self, source: &Source) -> Result<(), GitError> {
        self.git.fetch(&gate(), source).await
    }

    async fn main(&self, source: &Source) -> Result<String, GitError> {
        self.git.resolve(source, "main", &[]).await.map(|found| found.commit.sha)
    }

    async fn push(&self, source: &Source, name: &str, sha: &str) -> Result<TagOutcome, GitError> {
        self.git.push_tag(&gate(), source, tag(name, sha)).await
    }
}

#[tokio::test]
async fn ssh_repositories_are_read_and_tagged_over_one_connection_a_call() {
    let bench = Bench::new().await;
    bench.repository.bulk(20, 20_000);
    for (who, host_key) in [("ann", "ed25519"), ("bob", "ecdsa")] {
        let source = bench.source(&bench.server.identity(who), &bench.server.known_hosts(host_key));
        let head = bench.repository.commit("README", who, "change");
        let before = bench.server.connections();
        bench.fetch(&source).await.unwrap();
        assert_eq!(bench.server.connections(), before + 1);
        assert_eq!(bench.main(&source).await.unwrap(), head);
        assert_eq!(bench.push(&source, who, &head).await.unwrap(), TagOutcome::Pushed);
        assert_eq!(bench.server.connections(), before + 2, "look, push and look again");
        assert_eq!(bench.push(&source, who, &head).await.unwrap(), TagOutcome::AlreadyThere);
        assert_eq!(git(&bench.repository.origin(), &["rev-parse", &format!("{who}^{{commit}}")]), head);
    }
    git(&bench.repository.origin(), &["fsck", "--strict"]);
}

#[tokio::test]
async fn a_strange_host_key_stops_it_before_our_key_is_shown() {
    let bench = Bench::new().await;
    let ann = bench.server.identity("ann");
    let stale = bench.fetch(&bench.source(&ann, &bench.server.stale_known_hosts())).await;
    assert!(matches!(&stale, Err(GitError::Ssh(SshError::HostKeyMismatch { .. }))), "{stale:?}");
    assert_eq!(stale.unwrap_err().class(), Class::Terminal);
    let unknown = bench
        .fetch(&bench.source(
            &ann,
            "example.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDVHpwJ8bH1LMNBZYkAJvLwqyYCa5n8ZQ5HVjRtoU4Y1\n",
        ))
        .await;
    assert!(matches!(&unknown, Err(GitError::Ssh(SshError::HostKeyUnknown { .. }))), "{unknown:?}");
    assert!(
        !bench.server.log().contains("Accepted") && !bench.server.log().contains("Failed"),
        "{}",
        bench.server.log()
    );
}

#[tokio::test]
async fn a_key_that_the_server_does_not_know_or_that_is_rsa_is_said() {
    let bench = Bench::new().await;
    let refused = bench.fetch(&bench.of("eve")).await;
    assert!(matches!(&refused, Err(GitError::Ssh(SshError::AuthenticationFailed { .. }))), "{refused:?}");
    assert_eq!(refused.unwrap_err().class(), Class::Transient, "the key may be added there");
    let url = bench.server.url(&bench.repository.origin());
    let keys = [("identity", bench.server.identity("rsa")), ("known_hosts", bench.server.known_hosts("ed25519"))];
    let rsa = Access::new(&url, "s", keys.map(|(key, value)| (key.to_owned(), SecretText::new(value))).into());
    assert!(matches!(&rsa, Err(GitError::Ssh(SshError::UnsupportedKeyType { .. }))), "{rsa:?}");
    let none = bench.fetch(&Source::open("shop", url)).await.unwrap_err().to_string();
    assert!(none.contains("source.secretRef"), "{none}");
}

#[tokio::test]
async fn a_repository_that_is_not_there_is_told_in_the_servers_words() {
    let bench = Bench::new().await;
    let mut source = bench.of("ann");
    source.url = bench.server.url(&bench.repository.root().join("none.git"));
    let words = bench.fetch(&source).await.unwrap_err();
    assert!(words.to_string().contains("does not appear to be a git repository"), "{words}");
    assert_eq!(words.class(), Class::Transient);
}

#[tokio::test]
async fn a_key_that_may_read_only_is_a_refusal_in_the_servers_words() {
    // As forges say it: their shell ends before git begins.
    let forced = "sh -c 'case \"$SSH_ORIGINAL_COMMAND\" in git-receive-pack*) printf \"ERROR: this key is \\\\033[31mread only\\\\033[0m\\n\" >&2; exit 1;; esac; exec git-shell -c \"$SSH_ORIGINAL_COMMAND\"'";
    let bench = Bench::with(GitSshd::start_with(forced).await);
    let (source, head) = (bench.of("ann"), bench.repository.head());
    bench.fetch(&source).await.unwrap();
    let refused = bench.push(&source, "v1", &head).await;
    let Err(GitError::PushRefused { name, words }) = &refused else { panic!("{refused:?}") };
    assert_eq!((name.as_str(), words.as_str()), ("v1", "ERROR: this key is read only"));
}

#[tokio::test]
async fn a_hook_that_refuses_over_ssh_is_heard_too() {
    let bench = Bench::new().await;
    bench.repository.hook("pre-receive", "echo 'tags are made by hand here' >&2; exit 1");
    let (source, head) = (bench.of("ann"), bench.repository.head());
    bench.fetch(&source).await.unwrap();
    let refused = bench.push(&source, "v1", &head).await;
    let Err(GitError::PushRefused { words, .. }) = &refused else { panic!("{refused:?}") };
    assert!(words.contains("hook declined") && words.contains("tags are made by hand here"), "{words}");
}

#[tokio::test]
async fn a_line_over_ssh_that_is_cut_anywhere_leaves_what_was_known() {
    let bench = Bench::new().await;
    let source = bench.of("ann");
    bench.fetch(&source).await.unwrap();
    let before = bench.main(&source).await.unwrap();
    bench.repository.bulk(20, 5000);
    let after = bench.repository.head();
    let mut cuts = vec![0, 10, 900, 1800, 3000, 60_000];
    let mut chance = chance("ssh cuts");
    cuts.extend((0..6).map(|_| chance.random_range(1..90_000)));
    for cut in cuts {
        bench.server.line(Line::CutAt(cut));
        let error = bench.fetch(&source).await.unwrap_err();
        assert_eq!(error.class(), Class::Transient, "cut at {cut}: {error:?}");
        assert_eq!(bench.main(&source).await.unwrap(), before, "cut at {cut}");
    }
    bench.server.line(Line::Whole);
    bench.fetch(&source).await.unwrap();
    assert_eq!(bench.main(&source).await.unwrap(), after);
}

#[tokio::test]
async fn a_silent_line_is_given_up_in_time_wherever_it_falls_silent() {
    let bench = Bench::new().await;
    bench.repository.bulk(20, 5000);
    let source = bench.of("ann");
    let strict = Git::new(GitConfig {
        silence: Duration::from_secs(3),
        allow_local: true,
        ..GitConfig::new(bench.folder.path().join("strict"))
    });
    for line in [Line::Mute, Line::StuckAt(10), Line::StuckAt(1500), Line::StuckAt(40_000)] {
        bench.server.line(line);
        let begun = tokio::time::Instant::now();
        let error = strict.fetch(&gate(), &source).await.unwrap_err();
        assert_eq!(error.class(), Class::Transient, "{line:?}: {error:?}");
        assert!(begun.elapsed() < Duration::from_secs(60), "{line:?} took {:?}", begun.elapsed());
    }
    bench.server.line(Line::Whole);
    bench.fetch(&source).await.unwrap();
    assert!(bench.folder.path().join("mirrors").is_dir());
}

#[tokio::test]
async fn twenty_pushes_to_branches_and_one_tag_at_once_leave_one_winner_and_a_true_mirror() {
    let bench = Bench::new().await;
    let source = bench.of("ann");
    let commits: Vec<_> = (0..20).map(|n| bench.repository.commit("n", &n.to_string(), "change")).collect();
    bench.fetch(&source).await.unwrap();
    let other = Git::new(GitConfig { allow_local: true, ..GitConfig::new(bench.folder.path().join("other")) });
    other.fetch(&gate(), &source).await.unwrap();
    // Others push branches at the same time, some of which stand in each other's way (`b3` and `b3/x`), and rewrite one.
    let work = bench.repository.work();
    let strangers = commits.clone();
    let pushing = tokio::task::spawn_blocking(move || {
        for (n, sha) in strangers.iter().enumerate() {
            let name = if n % 2 == 0 { format!("b{}", n % 6) } else { format!("b{}/x", n % 6) };
            let target = [format!("{sha}:refs/heads/{name}"), format!("+{sha}:refs/heads/moving")];
            for target in target {
                // One that stands in another's way is refused by git itself.
                let _ = std::process::Command::new("git")
                    .current_dir(&work)
                    .args(["push", "-q", "origin", &target])
                    .stderr(std::process::Stdio::null())
                    .status();
            }
        }
    });
    let gate = gate();
    let pushes = commits.iter().enumerate().map(|(n, sha)| {
        let git = if n % 2 == 0 { &bench.git } else { &other };
        git.push_tag(&gate, &source, tag("v1", sha))
    });
    let fetches = async {
        for _ in 0..6 {
            if let Err(error) = bench.fetch(&source).await {
                assert_eq!(error.class(), Class::Transient, "{error:?}");
            }
        }
    };
    let (results, ()) = tokio::join!(futures::future::join_all(pushes), fetches);
    pushing.await.unwrap();
    let target = git(&bench.repository.origin(), &["rev-parse", "v1^{commit}"]);
    for (sha, result) in commits.iter().zip(&results) {
        match result {
            Ok(_) => assert_eq!(*sha, target),
            Err(GitError::TagConflict { existing, .. }) => assert!(*existing == target && *sha != target),
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    bench.fetch(&source).await.unwrap();
    let mut ours: Vec<_> =
        bench.git.branches(&source, &[], None).await.unwrap().into_iter().map(|b| (b.name, b.head)).collect();
    ours.sort();
    let theirs =
        git(&bench.repository.origin(), &["for-each-ref", "--format=%(refname:lstrip=2) %(objectname)", "refs/heads"]);
    let mut theirs: Vec<_> = theirs.lines().filter_map(|line| line.split_once(' ')).collect();
    theirs.sort_unstable();
    assert_eq!(ours.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect::<Vec<_>>(), theirs);
}

#[tokio::test]
async fn a_url_over_ssh_that_leads_to_the_operators_own_machine_is_not_dialled() {
    let bench = Bench::new().await;
    let strict = Git::new(GitConfig::new(bench.folder.path().join("strict")));
    let refused = strict.fetch(&gate(), &bench.of("ann")).await;
    assert!(matches!(&refused, Err(GitError::AddressNotAllowed { .. })), "{refused:?}");
    bench.fetch(&bench.of("ann")).await.unwrap();
}
