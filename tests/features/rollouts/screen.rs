//! What people see: the screen, events, logs.

use super::*;

/// Phase and version of each host that the screen shows; each must be there once.
fn rows(screen: &str, hosts: usize) -> Vec<(String, String)> {
    let row = |i: usize| {
        let name = format!("  web-{:02} ", i + 1);
        let mut found = screen.lines().filter(|line| line.starts_with(&name));
        let line = found.next().unwrap_or_else(|| panic!("no row for{name}: {screen}"));
        assert!(found.next().is_none(), "two rows for{name}: {screen}");
        let words: Vec<&str> = line.split_whitespace().collect();
        (words[1].to_owned(), words[2].to_owned())
    };
    (0..hosts).map(row).collect()
}

#[tokio::test]
async fn the_screen_shows_every_host_and_its_version_at_every_moment_of_a_rollout() {
    let bench = Bench::new(3).await;
    bench.publish("v1", SERVES);
    bench.publish_waiting("v2");
    bench.publish("v3", &format!("[ -e /srv/bad ] && exit 3\n{SERVES}"));
    bench.deploy("v1", json!({})).await;
    bench.until_deployed("v1").await;
    assert_eq!(rows(&bench.screen().await, 3), vec![("Ready".to_owned(), "v1".to_owned()); 3]);
    bench.hosts.host(0).sh("touch /srv/go").await;
    bench.edit(json!({ "version": "v2", "minReadySeconds": 1 })).await;
    let (began, mut mixed) = (tokio::time::Instant::now(), 0);
    for moment in 0.. {
        let screen = bench.screen().await;
        let shown = rows(&screen, 3);
        for (phase, version) in &shown {
            let fits = match phase.as_str() {
                "Ready" => {
                    version == "v2"
                        || screen.contains("of the previous spec")
                        || screen.contains("version   v2 of project shop on host group prod\nstate     ready")
                }
                "Pending" | "Staging" | "Staged" => version == "v1",
                "Stopping" | "Switching" | "Starting" | "Verifying" => ["v1", "v2", "-"].contains(&version.as_str()),
                _ => false,
            };
            assert!(fits || moment == 0, "{phase} {version}: {screen}");
        }
        if shown.iter().any(|(_, v)| v == "v1") && shown.iter().any(|(_, v)| v == "v2") {
            mixed += 1;
        }
        // The middle lasts until it was seen.
        if mixed == 3 {
            for i in 1..3 {
                bench.hosts.host(i).sh("touch /srv/go").await;
            }
        }
        if shown.iter().all(|(phase, version)| phase == "Ready" && version == "v2") {
            break;
        }
        assert!(began.elapsed() < PATIENCE * 2, "{screen}");
    }

    bench.hosts.host(1).sh("touch /srv/bad").await;
    bench.edit(json!({ "version": "v3", "minReadySeconds": 0 })).await;
    bench.until("failed", |object| is(object, "Stalled", "HostsFailed")).await;
    let true_to_life = || async {
        let screen = bench.screen().await;
        let shown = rows(&screen, 3);
        let phases: Vec<&str> = shown.iter().map(|(phase, _)| phase.as_str()).collect();
        let mut fits = phases == ["Ready", "Failed", "Staged"] && screen.contains("the rollout is halted");
        for (i, (_, version)) in shown.iter().enumerate() {
            let runs = bench.version_on(i).await;
            fits &= version == if runs.is_empty() { "-" } else { &runs };
        }
        if fits { Ok(()) } else { Err(screen) }
    };
    find("on the screen as it is", true_to_life, |screen| screen).await;
}

#[tokio::test]
async fn four_hosts_that_fail_have_four_events_with_their_own_texts_and_a_log_line_each() {
    let bench = Bench::new(4).await;
    bench.publish("v1", &format!("{WAITS}echo no database $LANDFALL_HOST\nexit 3\n"));
    bench.publish("v2", SERVES);
    let all_at_once = json!({ "strategy": { "rollingUpdate": { "maxUnavailable": 4 } } });
    bench.deploy("v1", all_at_once).await;
    let verifies = |object: &Deployment| {
        let exceptions = object.status.iter().flat_map(|status| &status.exceptions);
        exceptions.filter(|one| one.phase == Phase::Verifying).count() == 4
    };
    bench.until("verifying all", verifies).await;
    for i in 0..4 {
        bench.hosts.host(i).sh("touch /srv/go").await;
    }
    bench.until("failed", |object| is(object, "Stalled", "HostsFailed")).await;
    let names = ["web-01", "web-02", "web-03", "web-04"];
    let each_once = |notes: &[String]| {
        names.iter().all(|host| {
            let own = |note: &&String| {
                note.starts_with(&format!("{host}: ")) && note.contains(&format!("no database {host}"))
            };
            notes.iter().filter(own).count() == 1
        })
    };
    let told = async || {
        let notes = events(&bench, "HostFailed").await;
        if notes.len() == 4 && each_once(&notes) { Ok(()) } else { Err(notes) }
    };
    find("an event of each host in its own words", told, |notes| format!("{notes:#?}")).await;
    bench.edit(json!({ "version": "v2" })).await;
    bench.until_deployed("v2").await;
    let begun = async || {
        let mut notes = events(&bench, "RolloutStarted").await;
        notes.sort();
        let own = |note: &String, id: &str| note.contains(&format!("rollout {id} of"));
        if notes.len() == 2 && own(&notes[0], "1.0") && own(&notes[1], "2.0") { Ok(()) } else { Err(notes) }
    };
    find("both rollouts have an event with their own id", begun, |notes| format!("{notes:#?}")).await;
    let log = bench.operator.output();
    let namespace = format!("namespace=\"{}\"", bench.space.name);
    for host in names {
        let host = format!("host=\"{host}\"");
        let fields = ["kind=\"Deployment\"", &namespace, "name=\"shop\"", &host];
        let named = |line: &str| fields.iter().all(|field| line.contains(field));
        assert!(log.lines().any(named), "no line names {fields:?}: {log}");
    }
}

#[tokio::test]
async fn logs_of_as_many_rollouts_as_the_history_has_are_kept_and_none_when_the_deployment_is_gone() {
    let mut bench = Bench::new(1).await;
    for version in ["v1", "v2", "v3", "v4"] {
        bench.publish(version, SERVES);
    }
    let uid = bench.deploy("v1", json!({ "revisionHistoryLimit": 2 })).await.uid().unwrap();
    bench.until_deployed("v1").await;
    let (sealed, open) =
        (bench.operator.data.join("store/logs").join(&uid), bench.operator.data.join("rollouts").join(&uid));
    for version in ["v2", "v3"] {
        bench.edit(json!({ "version": version })).await;
        bench.until_deployed(version).await;
    }
    bench.operator.kill9().await;
    bench.edit(json!({ "version": "v4" })).await;
    bench.operator.restart().await;
    bench.until_deployed("v4").await;
    let both = |one: &str, other: &str| [one.to_owned(), other.to_owned()];
    let kept = || (names(&sealed), names(&open));
    let look =
        || async { if kept() == (vec!["3.0.1".to_owned()], vec!["4.0.1".to_owned()]) { Ok(()) } else { Err(kept()) } };
    find("of the history's two rollouts", look, |seen| format!("{seen:?} {}", bench.operator.output())).await;
    bench.stamp("landfall.dev/redeploy", "once more").await;
    eventually("a redeploy is a rollout", || [names(&sealed), names(&open)].concat() == both("4.0.1", "4.1.1")).await;
    bench.delete("shop").await;
    eventually("nothing left", || !sealed.exists() && !open.exists()).await;
}
