//! Users to become, asked of sudo and su themselves.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use landfall_host_protocol::{Answer, Hello, HostFacts, Push, Request, RunAsMethod, VERSIONS, Welcome};

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
    command.arg("session").arg(root.path()).env("PATH", path).env("LANDFALL_HOST_REFRESH_MILLIS", "100");
    Client::of(command)
}

/// Facts of the host itself, once sudo or su has answered.
fn host(client: &mut Client, hello: &Request) -> HostFacts {
    let facts = welcome(client.ask(hello)).facts;
    if facts.users_pending { pushed(client).1 } else { facts }
}

/// The next push of the host itself.
fn pushed(client: &mut Client) -> (u64, HostFacts) {
    loop {
        if let Push::Host { seen, facts } = client.push() {
            return (seen, *facts);
        }
    }
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
    let facts = host(&mut client, &hello(RunAsMethod::Su, &users));
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
    let facts = host(&mut client, &hello(RunAsMethod::Sudo, &["root"]));
    assert!(facts.cannot_become["root"].contains("NOLOG_OUTPUT"), "{:?}", facts.cannot_become);
}

// P9
#[test]
fn a_slow_sudo_keeps_neither_the_welcome_nor_a_request_waiting() {
    let root = Root::new();
    let tools = tempfile::tempdir().unwrap();
    let go = tools.path().join("go");
    let script = format!("while [ ! -e {} ]; do sleep 0.05; done; echo no; exit 1", go.display());
    let mut client = with_sudo(&root, tools.path(), &script);
    let welcome = welcome(client.ask(&hello(RunAsMethod::Sudo, &["root"])));
    assert!(welcome.facts.users_pending && welcome.facts.cannot_become.is_empty());
    assert_eq!(client.ask(&Request::Look { seen: welcome.seen }), Answer::Unchanged);
    assert_eq!(client.ask(&put("web", b"x", None)), Answer::Have { bytes: 0 });
    fs::write(go, "").unwrap();
    let (seen, facts) = pushed(&mut client);
    assert!(seen > welcome.seen && !facts.users_pending);
    assert_eq!(facts.cannot_become["root"], "no");
    assert_eq!(client.ask(&Request::Look { seen }), Answer::Unchanged);
    let Answer::Facts { facts, .. } = client.ask(&Request::Look { seen: welcome.seen }) else { panic!() };
    assert_eq!(facts.cannot_become["root"], "no");
}

#[test]
fn a_sudo_that_is_mended_is_seen_without_a_new_session() {
    let root = Root::new();
    let tools = tempfile::tempdir().unwrap();
    let mended = tools.path().join("mended");
    let script = format!(
        "echo asked >> {}/questions; [ -e {} ] || {{ echo no; exit 1; }}; \
         while [ \"$1\" != -- ]; do shift; done; shift; exec \"$@\"",
        tools.path().display(),
        mended.display()
    );
    let mut client = with_sudo(&root, tools.path(), &script);
    let facts = host(&mut client, &hello(RunAsMethod::Sudo, &["root"]));
    assert_eq!(facts.cannot_become["root"], "no");
    fs::write(&mended, "").unwrap();
    let (_, facts) = pushed(&mut client);
    assert_eq!(facts.cannot_become.get("root"), None);
    // Each question is a line in the host's log: one who says yes is not asked again.
    let questions = || fs::read_to_string(tools.path().join("questions")).unwrap().lines().count();
    let before = questions();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let (_, facts) = pushed(&mut client);
    assert!(facts.root.unfit.unwrap().contains("writable by everybody"), "what is asked again was asked again");
    assert!(questions() <= before + usize::from(facts.sudo_too_wide), "{} questions", questions());
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
        let facts = host(&mut client, &hello(RunAsMethod::Sudo, &[]));
        assert_eq!((facts.sudo_too_wide, facts.machine.uid), (wide, 65534));
        assert!(facts.root.unfit.unwrap().contains("not writable"));
    }
}
