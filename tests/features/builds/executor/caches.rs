//! What a script finds again.

use super::*;

/// Runs one build after another with caches: `~/.m2` and `web/deps`, at most 64 KiB each.
struct Cached(Bench, std::cell::Cell<i64>);

impl Cached {
    fn caches(project: &str) -> Caches {
        let cache = |name: &str, path: &str| Cache { name: name.into(), path: path.into(), max_bytes: 64 * 1024 };
        Caches {
            namespace: "shop".into(),
            project: project.into(),
            folders: vec![cache("m2", "~/.m2"), cache("deps", "web/deps")],
        }
    }

    async fn start(&self, project: &str, script: &str) -> AttemptId {
        self.1.set(self.1.get() + 1);
        let id = AttemptId::new("build-1", self.1.get());
        fs::create_dir_all(self.0.executor.checkout_dir(&id).join("web")).unwrap();
        let step = BuildStep { caches: Some(Self::caches(project)), ..step(script) };
        self.0.executor.start(&self.0.gate, &id, step, Secrets::default()).await.unwrap();
        id
    }

    async fn run(&self, project: &str, script: &str) -> (Exit, String) {
        let id = self.start(project, script).await;
        (self.0.exit(&id).await, self.0.log(&id).await)
    }
}

const SHOW: &str = "cat ~/.m2/* web/deps/* 2>/dev/null || true";

#[tokio::test]
async fn a_script_finds_the_caches_as_the_last_successful_one_of_its_project_left_them() {
    for isolation in [Isolation::Sandboxed, Isolation::Trusted] {
        let bench = Cached(Bench::with(isolation), std::cell::Cell::new(0));
        let fill =
            "test -d ~/.m2 && test -d web/deps; echo one > ~/.m2/a; echo two > web/deps/b; ln -s /etc ~/.m2/link";
        assert!(bench.run("p", fill).await.0.succeeded());
        let (exit, log) = bench
            .run("p", "cat ~/.m2/a web/deps/b; readlink ~/.m2/link; echo more >> ~/.m2/a; rm web/deps/b; exit 3")
            .await;
        assert_eq!((exit.code, log.as_str()), (Some(3), "one\ntwo\n/etc\n"), "owned by whoever runs, links are links");
        let id = bench.start("p", "echo half > ~/.m2/a; echo begun; sleep 1000").await;
        bench.0.until_said(&id, "begun").await;
        bench.0.executor.cancel(&bench.0.gate, &id).await.unwrap();
        let id = bench.start("p", "echo half > ~/.m2/a; echo begun; sleep 1000").await;
        bench.0.until_said(&id, "begun").await;
        let pid = bench.0.runner_pid(&id).to_string();
        assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
        assert_eq!(bench.run("p", SHOW).await.1, "one\ntwo\n", "what failed or was killed changed nothing");
        assert_eq!(bench.run("other", SHOW).await.1, "", "another project has caches of its own");
        assert!(bench.run("p", "rm ~/.m2/a; echo three > web/deps/b").await.0.succeeded());
        assert_eq!(bench.run("p", SHOW).await.1, "three\n");
        let gone =
            bench.0.executor.delete_caches(&bench.0.gate, "shop", BTreeSet::from(["other".into()])).await.unwrap();
        assert_eq!(gone, ["p"]);
        assert_eq!(bench.run("p", SHOW).await.1, "");
    }
}

#[tokio::test]
async fn a_cache_that_grew_too_large_is_thrown_away_and_the_log_says_so() {
    let bench = Cached(Bench::new(), std::cell::Cell::new(0));
    bench.run("p", "echo one > ~/.m2/a").await;
    let (exit, log) = bench.run("p", "head -c 100000 /dev/urandom > ~/.m2/b").await;
    assert!(exit.succeeded() && log.contains("more than its maxBytes (65536)"), "{log}");
    assert_eq!(exit.log_bytes, log.len() as u64);
    assert_eq!(bench.run("p", SHOW).await.1, "");
}

/// `nest FOLDER N` nests so many folders.
const NEST: &str = r#"nest() { perl -e '($at, $n) = @ARGV; chdir $at or die; for (1..$n) { mkdir "d" or die; chdir "d" or die }' $1 $2; }"#;

#[tokio::test]
async fn folders_that_a_script_nested_20000_deep_are_taken_away_and_end_nobody() {
    // In memory: so many folders are minutes on a busy disk.
    let memory =
        Some(Path::new("/dev/shm")).filter(|path| path.is_dir()).map_or_else(std::env::temp_dir, Path::to_owned);
    let bench = Bench::at(tempfile::tempdir_in(memory).unwrap(), Isolation::Sandboxed);
    let id = bench.attempt();
    let cache = Cache { name: "m2".into(), path: "~/.m2".into(), max_bytes: 1 << 30 };
    let caches = Caches { namespace: "shop".into(), project: "p".into(), folders: vec![cache] };
    let script = format!("{NEST}; nest . 20000; nest ~/.m2 300; nest ~ 20000; nest /tmp 20000");
    let asked = BuildStep { caches: Some(caches), ..step(&script) };
    let (executor, gate, folder) = (&bench.executor, &bench.gate, bench.executor.checkout_dir(&id));
    executor.start(gate, &id, asked, Secrets::default()).await.unwrap();
    let (exit, log) = (bench.exit(&id).await, bench.log(&id).await);
    assert!(exit.succeeded(), "{exit:?} {log}");
    assert!(log.contains("cache m2 stays as it was") && log.contains("nested more than 256 deep"), "{log}");
    for name in ["home", "tmp"] {
        assert!(!folder.with_file_name(name).exists(), "the runner takes {name} away");
    }
    assert!(folder.join("d/d/d").exists() && executor.has_leftovers("build-1", 1).await.unwrap());
    executor.delete_checkouts(gate, "build-1", 1).await.unwrap();
    assert!(!folder.exists() && !executor.has_leftovers("build-1", 1).await.unwrap());
    let id = AttemptId::new("build-1", 2);
    fs::create_dir_all(executor.checkout_dir(&id)).unwrap();
    executor.start(gate, &id, step(&format!("{NEST}; nest . 20000; exit 3")), Secrets::default()).await.unwrap();
    assert_eq!(bench.exit(&id).await.code, Some(3), "{}", bench.log(&id).await);
    executor.delete_build(gate, "build-1").await.unwrap();
    assert!(!folder.parent().unwrap().parent().unwrap().exists());
}

#[tokio::test]
async fn a_cache_hides_nothing_and_is_led_nowhere_by_links() {
    let bench = Cached(Bench::new(), std::cell::Cell::new(0));
    let outside = bench.0.data.path().join("outside");
    fs::create_dir_all(outside.join("deps")).unwrap();
    let prepare = |n: i64| {
        let id = AttemptId::new("build-2", n);
        let src = bench.0.executor.checkout_dir(&id);
        fs::create_dir_all(&src).unwrap();
        (id, src)
    };
    let (link, src) = prepare(1);
    std::os::unix::fs::symlink(&outside, src.join("web")).unwrap();
    let (full, src) = prepare(2);
    fs::create_dir_all(src.join("web/deps")).unwrap();
    fs::write(src.join("web/deps/tracked"), "x").unwrap();
    let (free, _) = prepare(3);
    for (id, says) in [(link, "no folder"), (full, "hide")] {
        let refused = bench.0.executor.fits(&id, &Cached::caches("p")).await.unwrap_err();
        assert!(refused.to_string().contains(says), "{refused}");
        let asked = BuildStep { caches: Some(Cached::caches("p")), ..step("echo x") };
        bench.0.executor.start(&bench.0.gate, &id, asked, Secrets::default()).await.unwrap();
        assert_eq!(bench.0.exit(&id).await.reason, ExitReason::NotStarted);
    }
    bench.0.executor.fits(&free, &Cached::caches("p")).await.unwrap();
    // The script itself puts a link where a cache was: nothing outside is taken for it.
    fs::write(outside.join("deps/secret"), "s").unwrap();
    let script = format!("rm -r web; ln -s {} web; rm -r ~/.m2; ln -s {} ~/.m2", outside.display(), outside.display());
    let (exit, log) = bench.run("p", &script).await;
    assert!(exit.succeeded() && log.matches("stays as it was").count() == 2, "{log}");
    assert!(outside.join("deps/secret").exists());
    assert_eq!(bench.run("p", SHOW).await.1, "");
    for (path, name) in [("/etc", "m2"), ("../x", "m2"), ("~/../x", "m2"), ("a", "..")] {
        let mut caches = Cached::caches("p");
        caches.folders = vec![Cache { name: name.into(), path: path.into(), max_bytes: 1 }];
        assert!(bench.0.executor.fits(&free, &caches).await.is_err(), "{path} {name}");
    }
}
