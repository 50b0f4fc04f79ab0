//! Verbs as commands: the annotation that is written, what is said, and what is refused.

use super::*;

/// The annotation of a verb, and who wrote it.
async fn stamp(example: &Example, verb: &str) -> (String, Vec<String>) {
    let object = example.api.get("web").await.unwrap();
    let field = format!("f:{verb}");
    let writers = object.metadata.managed_fields.iter().flatten().filter(|entry| {
        let fields = entry.fields_v1.as_ref().map(|fields| &fields.0["f:metadata"]["f:annotations"]);
        fields.is_some_and(|fields| fields[&field].is_object())
    });
    let writers = writers.filter_map(|entry| entry.manager.clone()).collect();
    (object.metadata.annotations.unwrap_or_default().get(verb).cloned().unwrap_or_default(), writers)
}

const FAILED: &[(&str, &str, &str)] = &[("Ready", "False", "HostsFailed"), ("Stalled", "True", "HostsFailed")];

#[tokio::test]
async fn a_verb_is_an_annotation_of_our_own_field_manager_and_a_new_one_each_time() {
    let example = Example::new().await;
    example.conditions(FAILED).await;
    let asked = example.run(&["retry", "lfd/web"]).await;
    let said = format!(
        "deployment/web: another attempt on its failed and never-tried hosts is asked for. To watch it: landfall status -n {} deployment/web --watch\n",
        example.space.name
    );
    assert_eq!((code(&asked), out(&asked)), (0, said), "{}", err(&asked));
    let (first, writers) = stamp(&example, "landfall.dev/retry").await;
    assert!(!first.is_empty());
    assert_eq!(writers, ["landfall-cli"]);
    assert_eq!(code(&example.run(&["retry", "lfd/web"]).await), 0);
    assert_ne!(stamp(&example, "landfall.dev/retry").await.0, first, "asked twice in one second");
}

#[tokio::test]
async fn a_reason_that_was_given_before_asks_once_more() {
    let example = Example::new().await;
    example.conditions(FAILED).await;
    let failed = json!({
        "host": "web-01", "phase": "Failed", "reason": "DrainFailed", "message": "no", "since": "2026-11-26T08:00:00Z",
    });
    example
        .patch_status(json!({
            "exceptions": [failed], "lastHandled": { "landfall.dev/skip-drain": "the balancer is gone" },
        }))
        .await;
    let asked = example.run(&["skip-drain", "lfd/web", "--reason", "the balancer is gone"]).await;
    assert_eq!(code(&asked), 0, "{}", err(&asked));
    assert!(out(&asked).ends_with("landfall retry -n {} deployment/web\n".replace("{}", &example.space.name).as_str()));
    assert_eq!(stamp(&example, "landfall.dev/skip-drain").await.0, "the balancer is gone ");
}

#[tokio::test]
async fn a_pause_stands_with_its_reason_until_it_is_resumed() {
    let example = Example::new().await;
    let paused = example.run(&["pause", "lfd/web", "--reason", "the database is moved"]).await;
    assert_eq!(code(&paused), 0, "{}", err(&paused));
    assert_eq!(
        stamp(&example, "landfall.dev/pause").await,
        ("the database is moved".into(), vec!["landfall-cli".into()])
    );
    assert_eq!(code(&example.run(&["resume", "lfd/web"]).await), 0);
    assert_eq!(stamp(&example, "landfall.dev/pause").await.0, "");
    let again = example.run(&["resume", "lfd/web"]).await;
    assert_eq!((code(&again), err(&again)), (2, "landfall: deployment/web is not paused\n".to_owned()));
    let hosts = example.run(&["resume", "lfd/web", "web-01"]).await;
    assert!(code(&hosts) == 2 && err(&hosts).contains("leave the hosts out"), "{}", err(&hosts));
    let group = example.run(&["resume", "lfh/web"]).await;
    assert!(code(&group) == 2 && err(&group).contains("name the hosts"), "{}", err(&group));
}

#[tokio::test]
async fn an_abort_names_the_attempt_that_it_is_for() {
    let example = Example::new().await;
    example.conditions(&[("Ready", "False", "RollingOut"), ("Reconciling", "True", "RollingOut")]).await;
    let at = "2026-11-26T08:00:00Z";
    let rollout = json!({
        "id": "3.1", "hash": "h", "attempt": 2, "version": "v2", "digest": "sha256:d", "startedAt": at, "progressedAt": at,
    });
    let history = json!([{ "revision": 3, "version": "v2", "commit": "c", "startedAt": at, "outcome": "Progressing" }]);
    example.patch_status(json!({ "rollout": rollout, "history": history })).await;
    let aborted = example.run(&["abort", "lfd/web"]).await;
    assert_eq!(code(&aborted), 0, "{}", err(&aborted));
    assert_eq!(stamp(&example, "landfall.dev/abort").await.0, "3.1.2");
    assert_eq!(code(&example.run(&["abort", "lfd/web"]).await), 0);
    assert_eq!(stamp(&example, "landfall.dev/abort").await.0, "3.1.2/");
    let promoted = example.run(&["promote", "lfd/web"]).await;
    assert!(code(&promoted) == 2 && err(&promoted).contains("no canary of deployment/web waits"), "{}", err(&promoted));
}

#[tokio::test]
async fn a_verb_that_would_do_nothing_is_refused_and_not_written() {
    let example = Example::new().await;
    let annotations = || async { example.api.get("web").await.unwrap().metadata.annotations };
    // The stamps of who created it are there.
    let before = annotations().await;
    let fresh = example.run(&["retry", "lfd/web"]).await;
    assert_eq!(code(&fresh), 2);
    assert!(err(&fresh).contains("has not observed deployment/web yet"), "{}", err(&fresh));
    example.conditions(&[("Ready", "True", "Deployed")]).await;
    for (arguments, wanted) in [
        (&["retry", "lfd/web"][..], "no host of deployment/web has failed; it is ready"),
        (&["redeploy", "lfd/web"], "has not been rolled out yet"),
        (&["skip-drain", "lfd/web", "--reason", "x"], "none to skip"),
        (&["adopt", "lfd/web", "0123"], "none to adopt"),
        (&["retry", "lfh/web"], "is not build/NAME or deployment/NAME; `kubectl get lfb,lfd` lists them"),
        (&["refresh", "lfd/web"], "is not project/NAME or hostgroup/NAME"),
        (&["suspend", "lfd/web", "web-01"], "is not hostgroup/NAME"),
        (&["retry", "lfb/none"], "Build {} does not exist"),
    ] {
        let refused = example.run(arguments).await;
        let wanted = wanted.replace("{}", &format!("{}/none", example.space.name));
        assert_eq!((code(&refused), out(&refused)), (2, String::new()), "{arguments:?}");
        assert!(err(&refused).contains(&wanted), "{arguments:?}: {}", err(&refused));
    }
    assert_eq!(annotations().await, before);
}

#[tokio::test]
async fn a_verb_without_a_right_is_the_api_servers_refusal() {
    let example = Example::new().await;
    let folder = tempfile::tempdir().unwrap();
    let config = stranger(&example.space, folder.path()).await;
    let refused = landfall(&["redeploy", "lfd/web", "-n", &example.space.name], &config);
    assert_eq!(code(&refused), 2);
    assert!(err(&refused).contains("is forbidden: User \"system:serviceaccount:"), "{}", err(&refused));
}
