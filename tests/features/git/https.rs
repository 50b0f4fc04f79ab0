//! git over https against the real `git http-backend` behind TLS: logins, own CAs, redirects, and lines that break.

use std::{collections::BTreeMap, time::Duration};

use crate::support::{
    chance,
    gitserver::{GitServer, RetryState},
    repository::{Repository, gate, git, tag},
    wait,
};
use landfall::{
    effects::{
        git::{Access, CheckoutRequest, CommitsQuery, Git, GitConfig, GitError, Limits, Source, TagOutcome},
        secret::SecretText,
    },
    model::Class,
};
use rand::Rng;

const LOGIN: &str = "ann:sword fish/+\u{fc}";

struct Bench {
    repository: Repository,
    server: GitServer,
    git: Git,
    folder: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        let repository = Repository::new();
        let server = GitServer::start(repository.root()).await;
        let folder = tempfile::tempdir().unwrap();
        let git = Git::new(config(&folder));
        Self { repository, server, git, folder }
    }

    fn source(&self, keys: &[(&str, &str)]) -> Source {
        let url = self.server.url("origin.git");
        let mut source = Source::open("shop", url.clone());
        let keys = keys.iter().map(|(key, value)| ((*key).to_owned(), SecretText::new(*value)));
        let mut keys: BTreeMap<_, _> = keys.collect();
        keys.entry("ca.crt".to_owned()).or_insert_with(|| SecretText::new(&self.server.ca));
        source.access = Access::new(&url, "shop-git", keys).unwrap();
        source
    }

    fn ann(&self) -> Source {
        let (user, password) = LOGIN.split_once(':').unwrap();
        self.source(&[("username", user), ("password", password)])
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

fn config(folder: &tempfile::TempDir) -> GitConfig {
    GitConfig { silence: wait::PATIENCE, allow_local: true, ..GitConfig::new(folder.path().join("mirrors")) }
}

fn said(result: Result<(), GitError>) -> String {
    result.unwrap_err().to_string()
}

#[tokio::test]
async fn https_repositories_are_read_and_tagged_with_password_or_token() {
    let bench = Bench::new().await;
    for (login, source) in [(LOGIN, bench.ann()), ("token-1", bench.source(&[("bearerToken", "token-1")]))] {
        bench.server.login(login);
        let head = bench.repository.commit("README", login, "change");
        bench.fetch(&source).await.unwrap();
        assert_eq!(bench.main(&source).await.unwrap(), head);
        let name = format!("v-{}", login.len());
        assert_eq!(bench.push(&source, &name, &head).await.unwrap(), TagOutcome::Pushed);
        assert_eq!(bench.push(&source, &name, &head).await.unwrap(), TagOutcome::AlreadyThere);
        assert_eq!(git(&bench.repository.origin(), &["rev-parse", &format!("{name}^{{commit}}")]), head);
        let requests = bench.server.seen();
        assert!(requests.len() >= 5 && requests.iter().all(|seen| seen.headers.contains_key("authorization")));
        assert!(requests.iter().all(|seen| seen.headers["user-agent"].starts_with("git/")), "as forges want it");
    }
    let dest = bench.folder.path().join("out/src");
    let source = bench.source(&[]);
    let head = bench.main(&source).await.unwrap();
    bench.git.checkout(&source, &CheckoutRequest::new(&head, "."), &dest).await.unwrap();
    assert_eq!(std::fs::read_to_string(dest.join("README")).unwrap(), "token-1");
    // One connection for the list and the question that follows it.
    let before = bench.server.connections();
    bench.repository.commit("README", "x", "change");
    bench.fetch(&bench.source(&[("bearerToken", "token-1")])).await.unwrap();
    assert_eq!(bench.server.connections(), before + 1);
}

#[tokio::test]
async fn a_wrong_login_or_none_is_said_and_nothing_is_prompted_for() {
    let bench = Bench::new().await;
    bench.server.login(LOGIN);
    let wrong = bench.fetch(&bench.source(&[("username", "ann"), ("password", "swordfish")])).await;
    assert!(matches!(&wrong, Err(GitError::AuthenticationFailed { .. })), "{wrong:?}");
    assert_eq!(wrong.as_ref().unwrap_err().class(), Class::Transient, "the Secret may be mended");
    let words = said(wrong);
    assert!(words.contains("Access denied") && !words.contains('\u{1b}') && !words.contains("swordfish"), "{words}");
    let none = said(bench.fetch(&bench.source(&[])).await);
    assert!(none.contains("source.secretRef"), "{none}");
    assert_eq!(bench.server.seen().len(), 2, "a login is shown once, not tried again");
    bench.fetch(&bench.ann()).await.unwrap();
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_gets_no_login() {
    let bench = Bench::new().await;
    bench.server.login(LOGIN);
    let other = GitServer::start(bench.repository.root()).await;
    let stranger = bench.source(&[("username", "ann"), ("password", "x"), ("ca.crt", &other.ca)]);
    let mut system = bench.ann();
    system.access = Access::new(
        &system.url,
        "s",
        [("username", "ann"), ("password", "x")].map(|(k, v)| (k.to_owned(), SecretText::new(v))).into(),
    )
    .unwrap();
    for source in [stranger, system] {
        let refused = bench.fetch(&source).await;
        assert!(matches!(&refused, Err(GitError::CertificateUntrusted { .. })), "{refused:?}");
        assert!(said(refused).contains("ca.crt"));
    }
    // Vouched for, but for another name.
    let url = bench.server.url("origin.git").replace("localhost", "127.0.0.1");
    let mut elsewhere = Source::open("shop", url.clone());
    let keys = [("username", "ann"), ("password", "x"), ("ca.crt", bench.server.ca.as_str())];
    let keys = keys.map(|(key, value)| (key.to_owned(), SecretText::new(value)));
    elsewhere.access = Access::new(&url, "shop-git", keys.into()).unwrap();
    let refused = bench.fetch(&elsewhere).await;
    assert!(matches!(&refused, Err(GitError::CertificateUntrusted { .. })), "{refused:?}");
    assert!(bench.server.seen().is_empty(), "nothing was asked, so no login was sent");
}

#[tokio::test]
async fn no_redirect_is_followed_and_the_other_host_hears_nothing() {
    let bench = Bench::new().await;
    bench.server.login(LOGIN);
    let other = GitServer::start(bench.repository.root()).await;
    for base in [other.url(""), bench.server.url("elsewhere"), "http://127.0.0.1:1/x".to_owned()] {
        bench.server.fault(RetryState::RedirectTo(base.clone()));
        let refused = bench.fetch(&bench.ann()).await;
        assert!(matches!(&refused, Err(GitError::RedirectRefused { to, .. }) if to.starts_with(&base)), "{refused:?}");
        assert_eq!(refused.unwrap_err().class(), Class::Terminal);
    }
    assert_eq!((other.connections(), bench.server.seen().len()), (0, 3));
}

#[tokio::test]
async fn a_line_that_is_cut_anywhere_leaves_what_was_known_and_the_next_try_goes_well() {
    let bench = Bench::new().await;
    bench.repository.bulk(40, 4000);
    let source = bench.source(&[]);
    bench.fetch(&source).await.unwrap();
    let before = bench.main(&source).await.unwrap();
    let whole: usize = bench.server.seen().iter().map(|seen| seen.sent).sum();
    bench.repository.bulk(40, 4000);
    let after = bench.repository.head();
    // From within the handshake to within the pack, and a few at random.
    let mut cuts = vec![1, 700, 1500, 2500, 4000, whole / 2];
    let mut chance = chance("https cuts");
    cuts.extend((0..8).map(|_| chance.random_range(1..whole)));
    let mut refused = 0;
    for cut in cuts {
        bench.server.fault(RetryState::CutAt(cut));
        match bench.fetch(&source).await {
            Err(error) => {
                assert_eq!(error.class(), Class::Transient, "cut at {cut}: {error:?}");
                assert_eq!(bench.main(&source).await.unwrap(), before, "cut at {cut}");
                let dest = bench.folder.path().join("out/src");
                let gone = bench.git.checkout(&source, &CheckoutRequest::new(&after, "."), &dest).await;
                assert!(matches!(gone, Err(GitError::CommitGone { .. })) && !dest.exists(), "cut at {cut}");
                refused += 1;
            }
            // Beyond the end of what was sent.
            Ok(()) => break,
        }
    }
    assert!(refused >= 5, "{refused}");
    bench.server.fault(RetryState::None);
    bench.fetch(&source).await.unwrap();
    assert_eq!(bench.main(&source).await.unwrap(), after);
    git(&bench.mirror(), &["fsck", "--strict"]);
}

impl Bench {
    fn mirror(&self) -> std::path::PathBuf {
        let entries = std::fs::read_dir(self.folder.path().join("mirrors")).unwrap().flatten();
        entries.map(|entry| entry.path()).find(|path| path.extension().is_some_and(|end| end == "git")).unwrap()
    }
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up_in_time_and_a_slow_one_is_not() {
    let bench = Bench::new().await;
    let source = bench.source(&[]);
    for fault in [RetryState::Mute, RetryState::Stuck] {
        bench.server.fault(fault.clone());
        let begun = tokio::time::Instant::now();
        let silence = Duration::from_secs(2);
        let silent = Git::new(GitConfig { silence, ..config(&bench.folder) }).fetch(&gate(), &source).await;
        assert!(matches!(silent, Err(GitError::Silent { .. })), "{fault:?}: {silent:?}");
        assert!(begun.elapsed() < Duration::from_secs(60), "{fault:?}");
    }
    // It takes longer than it may be silent.
    bench.repository.bulk(2, 1000);
    bench.server.fault(RetryState::Slow(50, Duration::from_millis(150)));
    let (begun, silence) = (tokio::time::Instant::now(), Duration::from_secs(4));
    Git::new(GitConfig { silence, ..config(&bench.folder) }).fetch(&gate(), &source).await.unwrap();
    assert!(begun.elapsed() > silence, "it was slow: {:?}", begun.elapsed());
    // A drip that never ends: the call's own deadline.
    bench.repository.bulk(2, 30_000);
    bench.server.fault(RetryState::Slow(20, Duration::from_millis(300)));
    let strict = Git::new(GitConfig { fetch_deadline: Duration::from_secs(3), ..config(&bench.folder) });
    let late = strict.fetch(&gate(), &source).await;
    assert!(matches!(late, Err(GitError::TimedOut { .. })), "{late:?}");
    // The thread let go of the mirror's lock.
    bench.server.fault(RetryState::None);
    tokio::time::timeout(wait::PATIENCE, bench.fetch(&source)).await.unwrap().unwrap();
}

/// With few threads to block, so that it is told at once who takes them.
#[test]
fn a_server_that_hangs_takes_few_threads_and_nobody_else_waits_for_it() {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).max_blocking_threads(8).enable_all().build().unwrap().block_on(async {
        let bench = Bench::new().await;
        let git = Git::new(GitConfig { silence: Duration::from_secs(3600), ..config(&bench.folder) });
        let hung = GitServer::start(bench.repository.root()).await;
        hung.fault(RetryState::Mute);
        let mut waiting = tokio::task::JoinSet::new();
        for n in 0..24 {
            // Half of them for one repository, half of them for one each.
            let repository = if n % 2 == 0 { "origin.git".to_owned() } else { format!("{n}.git") };
            let mut source = Source::open("shop", hung.url(&repository));
            let keys = [("ca.crt".to_owned(), SecretText::new(&hung.ca))].into();
            source.access = Access::new(&source.url, "shop-git", keys).unwrap();
            let git = git.clone();
            waiting.spawn(async move { git.fetch(&gate(), &source).await });
        }
        let patience = wait::PATIENCE;
        wait::until("dialled", || async { hung.connections() >= 4 }).await;
        // Another namespace's server, and what of this one's is here already.
        let bank = Source { namespace: "bank".to_owned(), ..bench.source(&[]) };
        tokio::time::timeout(patience, git.fetch(&gate(), &bank)).await.expect("it need not wait").unwrap();
        let shop = bench.source(&[]);
        let here = tokio::time::timeout(patience, git.branches(&shop, &[], None)).await;
        assert_eq!(here.expect("it need not wait").unwrap(), []);
        assert_eq!((hung.connections(), waiting.len()), (4, 24), "no more than these have a thread");
    });
}

#[tokio::test]
async fn what_is_no_git_server_or_has_no_such_repository_is_said_plainly() {
    let bench = Bench::new().await;
    let source = bench.source(&[]);
    for (fault, words) in [
        (RetryState::WebPage, "is it a git server"),
        (RetryState::Status(503, "come back \u{1b}[1mlater\u{1b}[0m"), "503 Service Unavailable: come back later"),
        (RetryState::Status(404, "gone"), "no such repository"),
        (RetryState::Status(403, "no"), "does not accept the login"),
    ] {
        bench.server.fault(fault);
        let words_said = said(bench.fetch(&source).await);
        assert!(words_said.contains(words), "{words_said}");
    }
    bench.server.fault(RetryState::None);
    let mut none = bench.source(&[]);
    none.url = bench.server.url("none.git");
    assert!(said(bench.fetch(&none).await).contains("no such repository"));
}

#[tokio::test]
async fn a_tag_that_the_server_refuses_is_told_in_its_words_cleaned() {
    let bench = Bench::new().await;
    let (source, head) = (bench.ann(), bench.repository.head());
    // Whoever is not known may read only: as with a key that may not write.
    let open = bench.source(&[]);
    bench.fetch(&open).await.unwrap();
    let refused = bench.push(&open, "v1", &head).await;
    assert!(
        matches!(&refused, Err(GitError::PushRefused { name, words }) if name == "v1" && words.contains("403")),
        "{refused:?}"
    );
    bench.server.login(LOGIN);
    bench.repository.hook(
        "pre-receive",
        "printf 'GitLab: \\033[31myou may not\\033[0m\\ncreate \\r this tag \\033]0;x\\007\\n' >&2; exit 1",
    );
    bench.fetch(&source).await.unwrap();
    let refused = bench.push(&source, "v1", &head).await;
    let Err(GitError::PushRefused { words, .. }) = &refused else { panic!("{refused:?}") };
    assert!(words.contains("pre-receive hook declined") && words.contains("GitLab: you may not create"), "{words}");
    assert!(!words.chars().any(char::is_control), "{words:?}");
    bench.repository.hook("pre-receive", "exit 0");
    bench.repository.hook("update", "case $1 in refs/tags/v*) echo \"$1 is protected\" >&2; exit 1;; esac");
    let refused = bench.push(&source, "v1", &head).await;
    assert!(
        matches!(&refused, Err(GitError::PushRefused { words, .. }) if words.contains("refs/tags/v1 is protected")),
        "{refused:?}"
    );
    bench.repository.hook("update", "exit 0");
    assert_eq!(bench.push(&source, "v1", &head).await.unwrap(), TagOutcome::Pushed);
}

#[tokio::test]
async fn a_push_whose_answer_is_lost_is_decided_by_the_list() {
    let bench = Bench::new().await;
    bench.server.login(LOGIN);
    let (source, head) = (bench.ann(), bench.repository.head());
    bench.fetch(&source).await.unwrap();
    bench.server.fault(RetryState::LoseAnswer);
    assert_eq!(bench.push(&source, "v1", &head).await.unwrap(), TagOutcome::AlreadyThere);
    assert_eq!(git(&bench.repository.origin(), &["rev-parse", "v1^{commit}"]), head);
}

#[tokio::test]
async fn of_twenty_that_push_one_tag_over_https_exactly_one_wins() {
    let bench = Bench::new().await;
    bench.server.login(LOGIN);
    let commits: Vec<_> = (0..20).map(|n| bench.repository.commit("n", &n.to_string(), "change")).collect();
    // Operators with mirrors of their own: no lock of ours decides.
    let mut gits = Vec::new();
    for n in 0..4 {
        let git = Git::new(GitConfig {
            allow_local: true,
            ..GitConfig::new(bench.folder.path().join(format!("mirrors-{n}")))
        });
        git.fetch(&gate(), &bench.ann()).await.unwrap();
        gits.push(git);
    }
    let (source, gate) = (bench.ann(), gate());
    let pushes = commits.iter().enumerate().map(|(n, sha)| gits[n % 4].push_tag(&gate, &source, tag("v1", sha)));
    let results = futures::future::join_all(pushes).await;
    let target = git(&bench.repository.origin(), &["rev-parse", "v1^{commit}"]);
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
async fn more_than_is_taken_is_refused_while_it_comes() {
    let bench = Bench::new().await;
    bench.repository.bulk(3, 200_000);
    let small = |limits: Limits| Git::new(GitConfig { limits, ..config(&bench.folder) });
    let source = bench.source(&[]);
    for limits in [Limits { fetch_bytes: 100_000, ..Limits::default() }, Limits { objects: 4, ..Limits::default() }] {
        let refused = small(limits).fetch(&gate(), &source).await;
        assert!(matches!(&refused, Err(GitError::TooLarge { .. })), "{refused:?}");
    }
    let git = small(Limits::default());
    git.fetch(&gate(), &source).await.unwrap();
    let (head, dest) = (bench.repository.head(), bench.folder.path().join("out/src"));
    for limits in [
        Limits { entries: 2, ..Limits::default() },
        Limits { checkout_bytes: 300_000, ..Limits::default() },
        Limits { file_bytes: 100_000, ..Limits::default() },
    ] {
        let refused = small(limits).checkout(&source, &CheckoutRequest::new(&head, "."), &dest).await;
        assert!(matches!(&refused, Err(GitError::TooLarge { .. })) && !dest.exists(), "{refused:?}");
    }
}

/// A history of so many commits, each with a change of its own; fast, by `git fast-import`.
fn long_history(repository: &Repository, commits: usize) -> String {
    let mut script = String::new();
    for n in 0..commits {
        let text =
            format!("line {n} {:064x}\n", u128::from(rand::random::<u64>()) << 64 | u128::from(rand::random::<u64>()));
        script += &format!(
            "commit refs/heads/long\ncommitter Ann <ann@example.com> {} +0000\ndata 6\nchange\nM 644 inline f{}\ndata {}\n{text}\n",
            1_700_000_000 + n,
            n % 50,
            text.len()
        );
    }
    crate::support::repository::git_with(
        &repository.origin(),
        &["fast-import", "--quiet", "--force"],
        script.as_bytes(),
    );
    git(&repository.origin(), &["rev-parse", "long"])
}

#[tokio::test]
async fn a_build_whose_mirror_was_lost_gets_its_one_commit_without_the_history() {
    let bench = Bench::new().await;
    let commits = std::env::var("LANDFALL_TEST_HISTORY").ok().and_then(|n| n.parse().ok()).unwrap_or(3000);
    let head = long_history(&bench.repository, commits);
    // The server here packs all before it says a word.
    let patient = Git::new(config(&bench.folder));
    let (source, dest) = (bench.source(&[]), bench.folder.path().join("out/src"));
    let sent = |server: &GitServer| server.seen().iter().map(|seen| seen.sent).sum::<usize>();
    let begun = tokio::time::Instant::now();
    patient.checkout_one(&gate(), &source, &CheckoutRequest::new(&head, "."), &dest).await.unwrap();
    let (one, took_one) = (sent(&bench.server), begun.elapsed());
    assert_eq!(std::fs::read_dir(&dest).unwrap().count(), 50);
    assert_eq!(std::fs::read_dir(bench.folder.path().join("mirrors")).unwrap().count(), 0, "nothing of it stays");
    let begun = tokio::time::Instant::now();
    patient.fetch(&gate(), &source).await.unwrap();
    let (whole, took_whole) = (sent(&bench.server), begun.elapsed());
    println!("one commit: {one} bytes, {took_one:?}; the whole history of {commits}: {whole} bytes, {took_whole:?}");
    assert!(one * 20 < whole, "{one} of {whole} bytes");
    // Not the head of a branch: given where the server says so, as forges do; else it is said.
    let older = git(&bench.repository.origin(), &["rev-parse", "long~7"]);
    let refused = patient.checkout_one(&gate(), &source, &CheckoutRequest::new(&older, "."), &dest).await;
    assert!(matches!(&refused, Err(GitError::Unreachable { .. })), "{refused:?}");
    git(&bench.repository.origin(), &["config", "uploadpack.allowReachableSHA1InWant", "true"]);
    patient.checkout_one(&gate(), &source, &CheckoutRequest::new(&older, "."), &dest).await.unwrap();
    assert!(std::fs::read_to_string(dest.join("f42")).unwrap().starts_with(&format!("line {} ", commits - 8)));
}

#[tokio::test]
async fn a_project_is_shown_the_commits_that_it_has_fetched_itself() {
    let bench = Bench::new().await;
    bench.server.login(LOGIN);
    bench.fetch(&bench.ann().read_by("uid-1")).await.unwrap();
    let shown =
        async |source: Source| bench.git.commits(&source, &[], CommitsQuery::default()).await.unwrap().is_some();
    let open = Source::open("shop", bench.server.url("origin.git"));
    assert!(shown(open.clone().read_by("uid-1")).await);
    // Of the same name in a namespace of the same name, after the first is gone.
    assert!(!shown(open.clone().read_by("uid-2")).await);
    assert!(!shown(open.clone().read_by("../readers/uid-1")).await && !shown(open).await);
}

#[tokio::test]
async fn what_one_namespace_has_read_is_no_other_namespaces() {
    let bench = Bench::new().await;
    bench.server.login(LOGIN);
    let (shop, head) = (bench.ann(), bench.repository.head());
    bench.fetch(&shop).await.unwrap();
    let spy = Source { namespace: "spy".to_owned(), ..bench.source(&[]) };
    assert!(matches!(bench.fetch(&spy).await, Err(GitError::AuthenticationFailed { .. })));
    assert!(matches!(bench.main(&spy).await, Err(GitError::RevisionNotFound { .. })));
    let dest = bench.folder.path().join("out/src");
    assert!(matches!(
        bench.git.checkout(&spy, &CheckoutRequest::new(&head, "."), &dest).await,
        Err(GitError::CommitGone { .. })
    ));
    assert_eq!(bench.git.branches(&spy, &[], None).await.unwrap(), []);
    assert_eq!(bench.main(&shop).await.unwrap(), head);
}

#[tokio::test]
async fn a_url_that_leads_to_the_operators_own_machine_is_not_dialled_in_any_form() {
    let bench = Bench::new().await;
    let strict = Git::new(GitConfig { allow_local: false, ..config(&bench.folder) });
    let port = bench.server.port;
    let link_local = "https://169.254.169.254/latest/meta-data".to_owned();
    let hosts =
        ["localhost", "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]"];
    for url in hosts.iter().map(|host| format!("https://{host}:{port}/origin.git")).chain([link_local]) {
        let mut source = bench.ann();
        source.url = url.clone();
        let refused = strict.fetch(&gate(), &source).await;
        assert!(matches!(&refused, Err(GitError::AddressNotAllowed { .. })), "{url}: {refused:?}");
        assert_eq!(refused.as_ref().unwrap_err().class(), Class::Terminal);
        assert!(said(refused).contains("--allow-local-git"), "what to do about it");
    }
    assert_eq!(bench.server.connections(), 0);
    bench.fetch(&bench.ann()).await.unwrap();
}
