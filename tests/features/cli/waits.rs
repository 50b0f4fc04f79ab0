//! `landfall wait` and `--wait`: exit codes, and states from before that are not taken for results.

use super::*;

#[tokio::test]
async fn wait_ends_with_ready_failed_or_the_time_as_its_exit_code() {
    let example = Example::new().await;
    let waited = example.run(&["wait", "lfd/web", "--timeout", "1s"]).await;
    assert_eq!((code(&waited), out(&waited)), (3, String::new()));
    assert!(err(&waited).contains("landfall: the time is over; deployment/web: in progress: "), "{}", err(&waited));
    for (wanted, said, conditions) in [
        (
            1,
            "deployment/web: failed, needs action: HostsFailed: what happened\n",
            &[("Ready", "False", "HostsFailed"), ("Stalled", "True", "HostsFailed")][..],
        ),
        (0, "deployment/web: ready: Deployed: what happened\n", &[("Ready", "True", "Deployed")]),
    ] {
        example.conditions(conditions).await;
        let waited = example.run(&["wait", "lfd/web"]).await;
        assert_eq!((code(&waited), out(&waited)), (wanted, said.to_owned()), "{}", err(&waited));
    }
    let unreadable = example.run(&["wait", "lfd/web", "--timeout", "soon"]).await;
    assert_eq!(code(&unreadable), 2);
    assert!(err(&unreadable).contains("write it like 90s"), "{}", err(&unreadable));
    assert_eq!(code(&example.run(&["wait", "lfd/none"]).await), 2);
}

#[tokio::test]
async fn the_state_before_a_change_is_not_its_result() {
    let example = Example::new().await;
    example.conditions(&[("Ready", "True", "Deployed")]).await;
    let edit = json!({ "spec": { "version": "v3" } });
    example.api.patch("web", &PatchParams::default(), &Patch::Merge(edit)).await.unwrap();
    assert_eq!(code(&example.run(&["wait", "lfd/web", "--timeout", "1s"]).await), 3);
    example.patch_status(json!({ "observedGeneration": 2 })).await;
    assert_eq!(code(&example.run(&["wait", "lfd/web", "--timeout", "1s"]).await), 0);
}

#[tokio::test]
async fn the_state_before_a_verb_is_not_its_result() {
    let example = Example::new().await;
    let failed = [("Ready", "False", "HostsFailed"), ("Stalled", "True", "HostsFailed")];
    example.conditions(&failed).await;
    let (config, space) = (kubeconfig().await, example.space.name.clone());
    let retry = ["retry", "lfd/web", "--wait", "--timeout", "100s", "-n", &space].map(str::to_owned);
    let waiting = tokio::task::spawn_blocking(move || landfall(&retry.each_ref().map(String::as_str), &config));
    // In place of the operator, which acts on it later and fails again with another message.
    let value = crate::support::wait::find(
        "asked",
        || async {
            let object = example.api.get("web").await.unwrap();
            object.metadata.annotations.and_then(|all| all.get("landfall.dev/retry").cloned()).ok_or(())
        },
        |()| "no annotation".to_owned(),
    )
    .await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!waiting.is_finished(), "it took the old state for the new one");
    example.patch_status(json!({ "lastHandled": { "landfall.dev/retry": value } })).await;
    let waited = waiting.await.unwrap();
    assert_eq!(code(&waited), 1, "{}", err(&waited));
    assert!(err(&waited).contains("has not acted on landfall.dev/retry yet"), "{}", err(&waited));
    assert!(
        out(&waited).ends_with("deployment/web: failed, needs action: HostsFailed: what happened\n"),
        "{}",
        out(&waited)
    );
}
