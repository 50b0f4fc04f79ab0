//! Output of every kind, and how long it is kept.

use super::*;

#[tokio::test]
async fn a_hundred_megabytes_of_output_are_capped_and_the_end_is_kept() {
    let bench = Bench::new();
    let begun = monotonic();
    let (exit, log) = bench.run("echo first; yes landfall | head -c 100000000; echo last").await;
    assert!(exit.succeeded(), "{exit:?}");
    assert!(begun.elapsed() < crate::support::wait::PATIENCE);
    assert!(log.len() < 5 * 1024 * 1024, "{}", log.len());
    assert!(log.starts_with("first\n") && log.ends_with("last\n"));
    assert!(log.contains("bytes of output cut…"));
    assert!(exit.log_cut > 90_000_000, "{exit:?}");
}

#[tokio::test]
async fn binary_garbage_is_no_trouble_and_is_shown_harmless() {
    let bench = Bench::new();
    let (exit, log) = bench.run("head -c 300000 /dev/urandom; printf '\\033]52;c;eA==\\007\\n\\r\\0end\\n'").await;
    assert!(exit.succeeded(), "{exit:?}");
    assert!(!log.chars().any(|c| c.is_control() && c != '\n' && c != '\t'));
    let lines = bench.executor.last_lines(&AttemptId::new("build-1", 1), 1).await.unwrap();
    assert_eq!(lines, ["end"]);
}

#[tokio::test]
async fn a_log_is_sealed_in_pieces_while_it_grows_and_read_back_whole() {
    let bench = Bench::new();
    let store = Store::folder(bench.data.path().join("store")).unwrap();
    let script = "yes 0123456789 | head -c 2500000; echo half; while ! [ -e go ]; do sleep 0.05; done; echo end";
    let id = bench.start(step(script)).await;
    bench.until_said(&id, "half").await;
    assert_eq!(bench.executor.seal(&bench.gate, &store, &id).await.unwrap(), 2);
    assert_eq!(bench.executor.seal(&bench.gate, &store, &id).await.unwrap(), 2);
    fs::write(bench.executor.checkout_dir(&id).join("go"), "").unwrap();
    assert!(bench.exit(&id).await.succeeded());
    assert_eq!(bench.executor.seal(&bench.gate, &store, &id).await.unwrap(), 3);
    let live = bench.log(&id).await;
    bench.executor.delete_build(&bench.gate, &id.uid).await.unwrap();
    assert_eq!(bench.executor.state(&id).await.unwrap(), StepState::Absent);
    let mut sealed = Vec::new();
    loop {
        let piece = bench.executor.log_of(&id, &store).unwrap().read(sealed.len() as u64, 1 << 20).await.unwrap();
        if piece.is_empty() {
            break;
        }
        sealed.extend(piece);
    }
    assert_eq!(live, text::clean(&sealed));
}

#[tokio::test]
async fn a_build_that_ended_keeps_its_log_and_one_that_is_gone_keeps_nothing_and_runs_nothing() {
    let bench = Bench::new();
    let mark = mark();
    let id = bench.start(step(&format!("echo up; sleep {mark}"))).await;
    bench.until_said(&id, "up").await;
    assert!(bench.executor.has_leftovers("build-1", 1).await.unwrap());
    bench.executor.delete_checkouts(&bench.gate, "build-1", 1).await.unwrap();
    assert!(bench.executor.checkout_dir(&id).exists(), "what runs is left alone");
    bench.executor.cancel(&bench.gate, &id).await.unwrap();
    bench.executor.delete_checkouts(&bench.gate, "build-1", 1).await.unwrap();
    assert!(!bench.executor.checkout_dir(&id).exists() && !bench.executor.has_leftovers("build-1", 1).await.unwrap());
    assert_eq!((bench.log(&id).await.as_str(), bench.exit(&id).await.reason), ("up\n", ExitReason::Cancelled));

    let second = AttemptId::new("build-1", 2);
    fs::create_dir_all(bench.executor.checkout_dir(&second)).unwrap();
    bench
        .executor
        .start(&bench.gate, &second, step(&format!("echo up; sleep {mark}")), Secrets::default())
        .await
        .unwrap();
    bench.until_said(&second, "up").await;
    bench.executor.delete_build(&bench.gate, "build-1").await.unwrap();
    assert_eq!(processes_with(&mark), Vec::<i32>::new(), "a build that is gone runs nothing");
    assert!(!bench.data.path().join("executor/build-1").exists());
    bench.executor.delete_build(&bench.gate, "build-1").await.unwrap();
}
