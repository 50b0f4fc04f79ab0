//! Whole tasks and a person's acts on a unit of a booted systemd, from the bytes of a release to the removal of its folder.

use std::{fs, path::Path, process::Command};

use landfall_host_bundle::{Release, digest, encode, write};
use landfall_host_protocol::{
    Answer, Author, Bundle, Configuration, FenceToken, FolderFacts, Kind, Outcome, Owner, ProcessState, ReleaseName,
    Request, Secrets, Start, Step, Task, TaskId,
};

use crate::{
    client::{Client, NAMESPACE, name, put},
    machine::{Machine, part},
    support::until,
    systemd::{UNIT, systemd},
};

const ROOT: &str = "/srv/deploy";

#[test]
fn a_release_lives_as_a_unit_from_its_bytes_to_its_removal() {
    if part().is_none() {
        let test = "unit_tasks::a_release_lives_as_a_unit_from_its_bytes_to_its_removal";
        return Machine::boot("deploy").run_as("deploy", "2000", test, "deploy");
    }
    let (mut client, _) = Client::greeted(Path::new(ROOT));
    let folder = Path::new(ROOT).join(name("web").as_str());
    let log = || fs::read_to_string(folder.join("shared/log/output.log")).unwrap_or_default();
    let unit = Path::new("/home/deploy/.config/systemd/user").join(UNIT);

    let mut journal = 0;
    let mut pids = Vec::new();
    for version in ["v1", "v2"] {
        let staged = carry(&mut client, version);
        let release = ReleaseName::new(version, digest(&tar(version)).as_str());
        let steps = vec![
            staged,
            Step::Stop,
            Step::Switch { release: release.clone() },
            Step::Start(Box::new(starting(version))),
            Step::WaitReady { timeout_seconds: 60 },
            Step::MinReady { seconds: 0 },
        ];
        let told = done(&mut client, journal, steps).unwrap();
        journal = told.journal;
        let process = told.process.unwrap();
        assert_eq!((process.state, process.ready, &process.release), (ProcessState::Running, true, &release));
        pids.push(process.pid);
        until("it logs", || log().contains(&format!("{version} serves")));
        assert!(fs::read_to_string(&unit).unwrap().contains(release.as_str()));
    }
    // The same again touches nothing.
    let steps = vec![Step::Stop, Step::Start(Box::new(starting("v2"))), Step::WaitReady { timeout_seconds: 60 }];
    let told = done(&mut client, journal, steps).unwrap();
    assert_eq!(told.process.unwrap().pid, pids[1]);

    // A person.
    let said = by_hand(&["status", "web"]);
    assert!(said.contains("v2") && said.to_lowercase().contains("running"), "{said}");
    by_hand(&["stop", "web", "--reason", "the disk is changed"]);
    assert!(!unit.exists());
    by_hand(&["start", "web", "--reason", "the disk was changed"]);
    assert!(unit.exists() && by_hand(&["status", "web"]).to_lowercase().contains("running"));
    by_hand(&["use", "v1", "web", "--reason", "v2 is slow"]);
    assert!(fs::read_to_string(&unit).unwrap().contains("releases/v1-"));

    // An update that fails leaves no unit that would be started again and again.
    let Answer::Facts { facts, .. } = client.ask(&Request::Look { seen: 0 }) else { panic!("no facts") };
    let journal = facts.folders[&name("web")].journal;
    let staged = carry(&mut client, "v3");
    let release = ReleaseName::new("v3", digest(&tar("v3")).as_str());
    let mut start = starting("v3");
    start.config = systemd(&["./serve", "and", "die"]);
    start.config.readiness = Some(crate::host::exec(&["false"]));
    let steps = vec![
        staged,
        Step::Stop,
        Step::Switch { release },
        Step::Start(Box::new(start)),
        Step::WaitReady { timeout_seconds: 60 },
    ];
    let failure = done(&mut client, journal, steps).unwrap_err();
    assert!(failure.contains("ended with exit status 7"), "{failure}");
    assert!(!unit.exists());

    let Answer::Facts { facts, .. } = client.ask(&Request::Look { seen: 0 }) else { panic!("no facts") };
    let facts = &facts.folders[&name("web")];
    assert_eq!(facts.process.as_ref().unwrap().state, ProcessState::Ended);
    let _ = done(&mut client, facts.journal, vec![Step::Remove]).unwrap();
    assert!(!folder.exists() && !unit.exists());
}

fn starting(version: &str) -> Start {
    let digest = digest(&tar(version));
    let release = ReleaseName::new(version, digest.as_str());
    let config: Configuration = systemd(&["./serve"]);
    Start { release, digest, config, revision: 1, redeploys: 0, attempt: 1 }
}

/// What a person's command says.
fn by_hand(words: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_landfall-host"));
    let output = command.args(words).args(["--root", ROOT]).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{words:?}: {said}");
    said
}

/// Brings the bytes of a version; the step that stages them.
fn carry(client: &mut Client, version: &str) -> Step {
    let tar = tar(version);
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, &tar).unwrap();
    let release = Release::read(file, &digest(&tar)).unwrap();
    let mut bundle = Vec::new();
    write(&release, None, &mut bundle).unwrap();
    let manifest = encode(release.manifest());
    for bytes in [&bundle, &manifest] {
        let id = client.send(&put("web", bytes, Some(0)));
        client.send_bytes(id, Kind::LastBytes, bytes);
        assert_eq!(client.answer(id), Answer::Stored);
    }
    Step::Stage {
        release: ReleaseName::new(version, digest(&tar).as_str()),
        digest: digest(&tar),
        manifest: digest(&manifest),
        bundle: Some(Bundle { sha256: digest(&bundle), size: bundle.len() as u64, base: None }),
    }
}

/// Does a task; what the folder is then. `Err`: why it failed.
fn done(client: &mut Client, journal: u64, steps: Vec<Step>) -> Result<FolderFacts, String> {
    let owner = Owner {
        control_plane_id: "cp".to_owned(),
        namespace: NAMESPACE.to_owned(),
        deployment: "web".to_owned(),
        uid: "uid-1".to_owned(),
        host: "web-01".to_owned(),
    };
    let task = Task {
        id: TaskId { uid: "uid-1".to_owned(), rollout: "1.0".to_owned(), attempt: 1, n: journal },
        folder: name("web"),
        owner,
        replaces: None,
        fence: FenceToken { epoch: "cp".to_owned(), created: 1, transitions: 0 },
        author: Author::Operator,
        steps,
    };
    let id = client.send(&Request::Begin { task: Box::new(task), secrets: Secrets::default() });
    loop {
        match client.answer(id) {
            Answer::Events { .. } => {}
            Answer::Ended { result, folder, .. } => match result.outcome {
                Outcome::Succeeded => return Ok(folder.map(|folder| *folder).unwrap_or_default()),
                other => return Err(format!("{other:?}")),
            },
            other => panic!("{other:?}"),
        }
    }
}

fn tar(version: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let script = format!("#!/bin/sh\necho {version} serves\n[ -z \"$1\" ] || exit 7\nexec sleep 1000\n");
    let mut header = tar::Header::new_gnu();
    header.set_size(script.len() as u64);
    header.set_mode(0o755);
    builder.append_data(&mut header, "serve", script.as_bytes()).unwrap();
    builder.into_inner().unwrap()
}
