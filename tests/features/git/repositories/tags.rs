//! Tags that are pushed, by one and by many.

use super::*;

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
