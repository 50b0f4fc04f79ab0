//! What every executor must do, run against each of them.

use landfall::effects::executor::{self, Executor};

use super::*;

/// Each executor once, as those who use it see it. A new one is added here.
fn each(data: &Path) -> Vec<(&'static str, std::sync::Arc<dyn Executor>)> {
    let local = executor::ExecutorConfig::Local(LocalConfig {
        folder: data.join("executor"),
        hidden: vec![data.to_path_buf()],
        isolation: Isolation::Sandboxed,
        runner: env!("CARGO_BIN_EXE_landfall").into(),
        max_log_bytes: 1 << 20,
    });
    vec![("local", executor::open(local))]
}

#[tokio::test]
async fn every_executor_begins_an_attempt_once_keeps_its_end_and_forgets_it_when_told() {
    let data = tempfile::tempdir().unwrap();
    let gate = Gate::open_for(FenceToken { epoch: "e".into(), created: 0, transitions: 0 });
    let store = Store::folder(data.path().join("store")).unwrap();
    for (name, executor) in each(data.path()) {
        executor.check().await.unwrap();
        let id = AttemptId::new("0b1d0b1d-0000-4000-8000-00000000c0de", 1);
        assert_eq!(executor.state(&id).await.unwrap(), StepState::Absent, "{name}");
        executor.cancel(&gate, &id).await.unwrap();
        fs::create_dir_all(executor.checkout_dir(&id)).unwrap();
        let script = step("echo $WORD >made; echo said; echo again >>times; exit 3");
        let secrets = Secrets(vec![("WORD".to_owned(), "hunter22".to_owned())]);
        let refused = executor.start(&Gate::shut(), &id, script.clone(), secrets.clone()).await;
        assert!(refused.is_err() && executor.state(&id).await.unwrap() == StepState::Absent, "{name}");
        executor.start(&gate, &id, script.clone(), secrets.clone()).await.unwrap();
        let look = || async {
            match executor.state(&id).await.unwrap() {
                StepState::Exited(exit) => Ok(exit),
                other => Err(format!("{name}: {other:?}")),
            }
        };
        let exit = find("over", look, |state| state).await;
        assert_eq!((exit.reason, exit.code), (ExitReason::Completed, Some(3)), "{name}");
        executor.start(&gate, &id, script, secrets).await.unwrap();
        assert_eq!(executor.state(&id).await.unwrap(), StepState::Exited(exit), "{name}: it begins once");
        let checkout = executor.checkout_dir(&id);
        assert_eq!(fs::read_to_string(checkout.join("made")).unwrap(), "hunter22\n", "{name}");
        assert_eq!(fs::read_to_string(checkout.join("times")).unwrap(), "again\n", "{name}");
        assert_eq!(executor.last_lines(&id, 5).await.unwrap(), ["said"], "{name}");
        for _ in 0..2 {
            assert_eq!(executor.seal(&gate, &store, &id).await.unwrap(), 1, "{name}");
        }
        assert_eq!(executor.builds().await.unwrap(), std::slice::from_ref(&id.uid), "{name}");
        assert_eq!(executor.attempts(&id.uid).await.unwrap(), [1], "{name}");
        assert!(executor.has_leftovers(&id.uid, 1).await.unwrap(), "{name}");
        executor.delete_checkouts(&gate, &id.uid, 1).await.unwrap();
        assert!(!executor.has_leftovers(&id.uid, 1).await.unwrap(), "{name}");
        for _ in 0..2 {
            executor.delete_build(&gate, &id.uid).await.unwrap();
            assert_eq!(executor.state(&id).await.unwrap(), StepState::Absent, "{name}");
        }
        assert_eq!(executor.log_of(&id, &store).unwrap().read(0, 99).await.unwrap(), b"said\n", "{name}: sealed");
        assert_eq!(executor.builds().await.unwrap(), Vec::<String>::new(), "{name}");
    }
}
