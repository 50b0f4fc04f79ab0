//! What builds leave, and when it goes.

use std::path::PathBuf;

use kube::{ResourceExt, api::DeleteParams};
use serde_json::json;

use crate::support::builds::{Bench, eventually};

#[tokio::test]
async fn what_builds_leave_goes_when_nobody_needs_it_and_not_before() {
    let mut bench = Bench::new("leftovers").await;
    let script = "echo said; test \"$LANDFALL_VERSION\" != v1; echo x > app";
    bench.project(json!({ "script": script, "artifacts": [{ "path": "app" }] })).await;
    let failed = bench.build("failed", json!({ "tag": "v1" })).await.uid().unwrap();
    bench.until_stalled("failed", "ScriptFailed").await;
    let good = bench.build("good", json!({ "tag": "v2" })).await.uid().unwrap();
    bench.until_ready("good").await;
    let attempts = bench.operator.data.join("executor");
    let names = |uid: &str| {
        let entries = std::fs::read_dir(attempts.join(uid).join("1")).unwrap().flatten();
        entries.map(|entry| entry.file_name().into_string().unwrap()).collect::<std::collections::BTreeSet<_>>()
    };
    for uid in [&failed, &good] {
        eventually("without its checkout", || !names(uid).contains("src")).await;
        assert_eq!(std::fs::read_to_string(attempts.join(uid).join("1/log")).unwrap(), "said\n", "logs stay readable");
    }
    eventually("unpinned", || bench.pins() == [format!("refs/landfall/{}.{failed}", bench.namespace.name)]).await;
    // While no operator runs a Build goes, and a writer was killed an hour ago.
    bench.operator.kill9().await;
    bench.builds().delete("good", &DeleteParams::default()).await.unwrap();
    let left = bench.store("incoming/.tmpLeft");
    std::fs::write(&left, "half a release").unwrap();
    let fresh = bench.store("incoming/.tmpFresh");
    std::fs::write(&fresh, "a release on its way").unwrap();
    std::fs::File::open(&left).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    bench.operator.restart().await;
    eventually("swept", || !attempts.join(&good).exists() && !left.exists()).await;
    // A Build that goes before the new operator knew of it is the next sweep's.
    bench.build("known", json!({ "tag": "v3", "cancelled": true })).await;
    bench.until_stalled("known", "Cancelled").await;
    assert!(fresh.exists() && attempts.join(&failed).exists() && bench.record("v2").build_uid == good);
    let pin = format!("refs/landfall/{}.{failed}", bench.namespace.name);
    assert!(bench.pins().contains(&pin), "a failed Build can still be tried again");
    for name in ["failed", "known"] {
        bench.builds().delete(name, &DeleteParams::default()).await.unwrap();
    }
    eventually("swept as well", || !attempts.join(&failed).exists() && bench.pins().is_empty()).await;
}

#[tokio::test]
async fn a_mirror_that_nobody_needs_goes_whenever_the_operator_is_killed() {
    let mut bench = Bench::with("mirrors", "test \"$LANDFALL_VERSION\" = v2; echo x > app").await;
    let of_version = |tag: &str| json!({ "tag": tag });
    bench.build("failed", of_version("v1")).await;
    bench.until_stalled("failed", "ScriptFailed").await;
    let folder = bench.operator.data.join("git");
    let mirrors = || {
        let entries = std::fs::read_dir(&folder).unwrap().flatten().map(|entry| entry.path());
        entries.filter(|path| path.is_dir()).collect::<Vec<_>>()
    };
    let [mirror] = mirrors().try_into().unwrap();
    // An hour passes for it while no operator runs.
    let rest = || std::fs::File::open(mirror.join("landfall/namespace")).unwrap().set_modified(std::time::UNIX_EPOCH);
    let stale = bench.store("incoming/.tmpLeft");
    let leave_something = || {
        std::fs::create_dir_all(stale.parent().unwrap()).unwrap();
        std::fs::write(&stale, "half a release").unwrap();
        std::fs::File::open(&stale).unwrap().set_modified(std::time::UNIX_EPOCH)
    };
    bench.operator.kill9().await;
    bench.projects().delete("shop", &DeleteParams::default()).await.unwrap();
    rest().unwrap();
    leave_something().unwrap();
    bench.operator.restart().await;
    // That is the last that a sweep does.
    eventually("swept", || !stale.exists()).await;
    assert_eq!(mirrors(), std::slice::from_ref(&mirror), "a failed Build can be tried again");
    bench.builds().delete("failed", &DeleteParams::default()).await.unwrap();
    eventually("unpinned", || bench.pins().is_empty()).await;
    bench.operator.kill9().await;
    let going = folder.join("0.going");
    std::fs::create_dir(&going).unwrap();
    rest().unwrap();
    for (point, left) in [("before mirror.delete *#2", 1), ("after mirror.delete *#1", 0)] {
        bench.operator.restart_with(|plan| plan.env("LANDFALL_CRASH_AT", point)).await;
        bench.operator.wait().await;
        assert_eq!(mirrors().len(), left, "{point}");
    }
    bench.operator.unset("LANDFALL_CRASH_AT");
    leave_something().unwrap();
    bench.operator.restart().await;
    eventually("swept", || !stale.exists()).await;
    assert_eq!(mirrors(), [] as [PathBuf; 0]);
    // Another Project of that repository begins anew.
    bench.project(json!({ "script": "echo x > app", "artifacts": [{ "path": "app" }] })).await;
    bench.build("good", of_version("v2")).await;
    bench.until_ready("good").await;
    assert_eq!(mirrors(), std::slice::from_ref(&mirror));
}
