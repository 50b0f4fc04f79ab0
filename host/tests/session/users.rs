//! Users to become, asked of sudo and su themselves.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use landfall_host_protocol::{Answer, Hello, Request, RunAsMethod, VERSIONS, Welcome};

use crate::client::{Client, NAMESPACE, Root, program, put};

fn hello(method: RunAsMethod, users: &[&str]) -> Request {
    Request::Hello(Hello {
        versions: VERSIONS,
        namespace: NAMESPACE.to_owned(),
        become_method: Some(method),
        become_users: users.iter().map(|user| (*user).to_owned()).collect(),
    })
}

/// A session whose sudo is this script.
fn with_sudo(root: &Root, tools: &Path, script: &str) -> Client {
    let sudo = tools.join("sudo");
    fs::write(&sudo, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&sudo, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(program());
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
    command.arg("session").arg(root.path()).env("PATH", path);
    Client::of(command)
}

fn welcome(answer: Answer) -> Welcome {
    let Answer::Welcome(welcome) = answer else { panic!("{answer:?}") };
    *welcome
}

#[test]
fn users_that_su_can_not_become_are_named_with_what_it_said() {
    if rustix::process::getuid().as_raw() != 0 {
        return;
    }
    let root = Root::new();
    let mut client = Client::start(root.path());
    let users = ["nobody", "no-such-user", "-c"];
    let facts = welcome(client.ask(&hello(RunAsMethod::Su, &users))).facts;
    assert_eq!(facts.cannot_become.keys().cloned().collect::<Vec<_>>(), ["-c", "no-such-user"]);
    assert!(facts.cannot_become["no-such-user"].contains("no-such-user"), "{:?}", facts.cannot_become);
    assert!(!facts.sudo_too_wide);
}

#[test]
fn a_sudo_that_passes_output_on_is_told_with_the_remedy() {
    let root = Root::new();
    let tools = tempfile::tempdir().unwrap();
    let script = "while [ \"$1\" != -- ]; do shift; done; shift; \"$@\" | cat";
    let mut client = with_sudo(&root, tools.path(), script);
    let facts = welcome(client.ask(&hello(RunAsMethod::Sudo, &["root"]))).facts;
    assert!(facts.cannot_become["root"].contains("NOLOG_OUTPUT"), "{:?}", facts.cannot_become);
}

#[test]
fn a_slow_sudo_keeps_no_other_request_waiting() {
    let root = Root::new();
    let tools = tempfile::tempdir().unwrap();
    let go = tools.path().join("go");
    let script = format!("while [ ! -e {} ]; do sleep 0.05; done; echo no; exit 1", go.display());
    let mut client = with_sudo(&root, tools.path(), &script);
    let id = client.send(&hello(RunAsMethod::Sudo, &["root"]));
    assert_eq!(client.ask(&put("web", b"x", None)), Answer::Have { bytes: 0 });
    fs::write(go, "").unwrap();
    let facts = welcome(client.answer(id)).facts;
    assert_eq!(facts.cannot_become["root"], "no");
}

#[test]
fn a_sudo_that_makes_root_of_the_ssh_user_is_told() {
    if rustix::process::getuid().as_raw() != 0 {
        return;
    }
    let root = Root::new();
    let tools = tempfile::tempdir().unwrap();
    let copy = tools.path().join("landfall-host");
    assert!(Command::new("cp").arg(program()).arg(&copy).status().unwrap().success());
    for path in [root.path(), tools.path()] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    for (script, wide) in [("exit 0", true), ("exit 1", false)] {
        drop(with_sudo(&root, tools.path(), script));
        let mut command = Command::new(&copy);
        command.arg("session").arg(root.path()).env("PATH", format!("{}:/usr/bin:/bin", tools.path().display()));
        std::os::unix::process::CommandExt::uid(&mut command, 65534);
        let mut client = Client::of(command);
        let facts = welcome(client.ask(&hello(RunAsMethod::Sudo, &[]))).facts;
        assert_eq!((facts.sudo_too_wide, facts.machine.uid), (wide, 65534));
        assert!(facts.root.unfit.unwrap().contains("not writable"));
    }
}
