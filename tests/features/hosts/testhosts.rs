//! The test hosts themselves: what the other tests rely on when they say "a host".

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{
    hosts::{Host, Hosts, fresh_state, script},
    wait::{find, until},
};

/// A login over SSH by OpenSSH's own client.
async fn ssh(hosts: &Hosts, host: &Host, user: &str, command: &str) -> std::process::Output {
    ssh_within(60, hosts, host, user, command).await
}

async fn ssh_within(seconds: u32, hosts: &Hosts, host: &Host, user: &str, command: &str) -> std::process::Output {
    tokio::process::Command::new("ssh")
        .args(["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o"])
        .arg(format!("ConnectTimeout={seconds}"))
        .arg("-o")
        .arg(format!("UserKnownHostsFile={}", hosts.state().join("known_hosts").display()))
        .arg("-i")
        .arg(hosts.identity_path())
        .args(["-p", &host.port.to_string(), &format!("{user}@{}", host.address), command])
        .output()
        .await
        .unwrap()
}

fn stdout(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn stderr(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}

fn machine_boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap()
}

#[tokio::test]
async fn ten_hosts_have_each_their_own_name_boot_id_processes_files_and_network() {
    let before = machine_boot_id();
    let hosts = Hosts::up(10).await;
    let mut names = BTreeSet::new();
    let mut boot_ids = BTreeSet::from([before.trim().to_owned()]);
    for host in hosts.all() {
        let seen =
            ssh(&hosts, host, "root", "hostname; cat /proc/sys/kernel/random/boot_id; ls /srv; pgrep -c sleep").await;
        let seen: Vec<String> = stdout(&seen).lines().map(str::to_owned).collect();
        assert_eq!(seen[0], host.name);
        assert!(names.insert(seen[0].clone()) && boot_ids.insert(seen[1].clone()), "not its own: {seen:?}");
        assert_eq!(seen[2..], ["0"], "{}: files or processes of another host", host.name);
        host.sh("echo mine >/srv/file; setsid sleep 1000 >/dev/null 2>&1 &").await;
    }
    // The same port on two hosts, on their loopback addresses.
    for host in &hosts.all()[..2] {
        host.sh("mkdir /srv/www; hostname >/srv/www/index.html; busybox httpd -p 127.0.0.1:8080 -h /srv/www").await;
    }
    for host in &hosts.all()[..2] {
        let answer = host.exec(&["busybox", "wget", "-q", "-O", "-", "http://127.0.0.1:8080/"]).await;
        assert_eq!(answer.trim(), host.name);
    }
    assert_eq!(machine_boot_id(), before, "the machine's own boot id was touched");
}

#[tokio::test]
async fn root_and_an_ordinary_user_log_in_and_a_stranger_does_not() {
    let hosts = Hosts::up_with(1, &["--user", "deploy", "--port", "2222"]).await;
    let host = hosts.host(0);
    assert_eq!(host.port, 2222);
    assert_eq!(stdout(&ssh(&hosts, host, "root", "id -un").await), "root");
    let seen =
        ssh(&hosts, host, "deploy", "id -un; pwd; mkdir -p /srv/landfall && echo made; touch /etc/x || echo refused")
            .await;
    assert_eq!(stdout(&seen), "deploy\n/home/deploy\nmade\nrefused");
    std::fs::copy(hosts.state().join("stranger"), hosts.identity_path()).unwrap();
    let refused = ssh(&hosts, host, "root", "true").await;
    assert!(stderr(&refused).contains("Permission denied (publickey)"), "{}", stderr(&refused));
}

#[tokio::test]
async fn a_reboot_changes_the_boot_id_keeps_srv_and_kills_every_process() {
    let hosts = Hosts::up(2).await;
    let host = hosts.host(0);
    host.sh("echo kept >/srv/file; setsid sleep 1000 >/dev/null 2>&1 & echo lost >/tmp/file").await;
    let before = host.sh("cat /proc/sys/kernel/random/boot_id").await;
    let neighbour = hosts.host(1).sh("cat /proc/sys/kernel/random/boot_id").await;
    host.reboot().await;
    let after =
        ssh(&hosts, host, "root", "cat /proc/sys/kernel/random/boot_id /srv/file; pgrep -c sleep; ls /tmp").await;
    let after = stdout(&after);
    let [boot_id, file, sleeping] = after.lines().collect::<Vec<_>>()[..] else { panic!("{after}") };
    assert_ne!(boot_id, before.trim());
    assert_eq!((file, sleeping), ("kept", "0"));
    assert_eq!(hosts.host(1).sh("cat /proc/sys/kernel/random/boot_id").await, neighbour);
}

#[tokio::test]
async fn cut_refuse_mute_and_freeze_differ_as_their_names_say_and_are_undone() {
    let hosts = Hosts::up(1).await;
    let host = hosts.host(0);
    let says = async |what: &str| {
        let patience = if what.contains("timed out") { 2 } else { 60 };
        let output = ssh_within(patience, &hosts, host, "root", "echo here").await;
        let said = stdout(&output) + &stderr(&output);
        assert!(said.contains(what), "expected {what:?}, got {said:?}");
    };
    host.cut().await;
    says("Connection timed out").await;
    assert_eq!(host.sh("echo alive").await, "alive\n", "cut off is not down");
    host.mend().await;
    says("here").await;
    host.refuse().await;
    says("Connection refused").await;
    host.mend().await;
    says("here").await;
    host.mute().await;
    says("timed out during banner exchange").await;
    host.mend().await;
    says("here").await;
    host.freeze().await;
    says("timed out during banner exchange").await;
    host.thaw().await;
    says("here").await;
}

#[tokio::test]
async fn a_full_disk_takes_no_byte_a_disk_without_inodes_no_file_and_draining_frees_both() {
    let hosts = Hosts::up(1).await;
    let host = hosts.host(0);
    let write = async |path: &str| {
        let output = host.try_exec(&["dd", "if=/dev/zero", &format!("of={path}"), "bs=4096", "count=1"]).await;
        (output.status.success(), stderr(&output))
    };
    assert!(write("/srv/before").await.0);
    host.fill().await;
    let (wrote, why) = write("/srv/full").await;
    assert!(!wrote && why.contains("No space left on device"), "{why}");
    host.drain().await;
    assert!(write("/srv/full").await.0);
    host.fill_but(40).await;
    assert_eq!(host.sh("df -k --output=avail /srv | tail -n 1").await.trim(), "40");
    host.drain().await;
    host.fill_inodes().await;
    let (wrote, why) = write("/srv/another").await;
    assert!(!wrote && why.contains("No space left on device"), "{why}");
    assert!(write("/srv/full").await.0, "what exists may still be written");
    host.drain().await;
    assert!(write("/srv/another").await.0);
}

#[tokio::test]
async fn rekeying_changes_both_host_keys_and_the_known_ones_are_kept_for_comparison() {
    let hosts = Hosts::up(2).await;
    let host = hosts.host(0);
    let known = hosts.known_hosts();
    let before = host.host_key_lines().await;
    assert!(known.contains(&before) && before.lines().count() == 2, "{before}");
    host.rekey().await;
    let after = host.host_key_lines().await;
    assert!(after.contains("ssh-ed25519") && after.contains("ecdsa-sha2-nistp256"));
    assert!(after.lines().all(|line| !known.contains(line)), "a key was kept");
    assert_eq!(hosts.known_hosts(), known);
    let refused = ssh(&hosts, host, "root", "true").await;
    assert!(stderr(&refused).contains("REMOTE HOST IDENTIFICATION HAS CHANGED"), "{}", stderr(&refused));
}

#[tokio::test]
async fn a_stranger_can_be_given_a_chosen_pid() {
    let hosts = Hosts::up(1).await;
    let host = hosts.host(0);
    host.spawn_as_pid(4242, &["sleep", "1000"]).await;
    until("number 4242: a process named sleep", || async {
        host.sh("cat /proc/4242/comm 2>/dev/null || true").await == "sleep\n"
    })
    .await;
}

#[tokio::test]
async fn a_host_runs_the_shell_that_was_asked_for() {
    let options = ["--shell-of", "web-02=busybox", "--shell-of", "web-03=bash", "--shell-of", "web-04=mksh"];
    let hosts = Hosts::up_with(4, &options).await;
    let ask = r#"if [ -n "${BASH_VERSION:-}" ]; then echo bash; elif [ -n "${KSH_VERSION:-}" ]; then echo mksh
        elif (busybox cmp -s /bin/sh /bin/busybox); then echo busybox; else basename "$(readlink -f /bin/sh)"; fi"#;
    for (host, shell) in hosts.all().iter().zip(["dash", "busybox", "bash", "mksh"]) {
        assert_eq!(stdout(&ssh(&hosts, host, "root", ask).await), shell, "on {}", host.name);
    }
}

#[tokio::test]
async fn the_yaml_for_kubectl_and_the_values_for_tests_are_the_same() {
    let hosts = Hosts::up(2).await;
    let yaml = hosts.group_yaml("shop", "production");
    let from_yaml: Vec<serde_json::Value> = serde_saphyr::from_multiple(&yaml).unwrap();
    assert_eq!(from_yaml, hosts.group("shop", "production"));
}

#[tokio::test]
async fn a_host_that_cannot_boot_is_named_with_the_reason_and_nothing_is_left() {
    let state = fresh_state();
    let output = Command::new(script())
        .args(["serve", "2", "--sshd-of", "web-02=NoSuchOption yes", "--state"])
        .arg(&state)
        .stdin(Stdio::piped())
        .output()
        .unwrap();
    assert!(!output.status.success());
    let said = stderr(&output);
    assert!(said.contains("web-02") && said.contains("NoSuchOption"), "{said}");
    assert!(!state.exists());
}

/// What a rack leaves in the eyes of the machine: state folder, interface, processes.
fn traces(state: &Path, network: &str) -> Vec<String> {
    let mut found = Vec::new();
    if state.exists() {
        found.push(format!("folder {}", state.display()));
    }
    let addresses = Command::new("ip").args(["-o", "-4", "addr"]).output().unwrap();
    found.extend(stdout(&addresses).lines().filter(|l| l.contains(network)).map(str::to_owned));
    let name = state.to_str().unwrap();
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if command.contains(name) {
            found.push(format!("process {command}"));
        }
    }
    found.extend(
        std::fs::read_to_string("/proc/mounts").unwrap().lines().filter(|l| l.contains(name)).map(str::to_owned),
    );
    found
}

/// The gateway's address, which the machine itself has.
fn gateway(state: &Path) -> String {
    let settings = std::fs::read_to_string(state.join("settings")).unwrap();
    settings.split_whitespace().nth(3).unwrap().to_owned() + "/"
}

#[tokio::test]
async fn nothing_is_left_when_the_hosts_are_dropped() {
    let hosts = Hosts::up(3).await;
    let (state, network) = (hosts.state().to_owned(), gateway(hosts.state()));
    hosts.host(1).sh("setsid sleep 1000 >/dev/null 2>&1 &").await;
    assert!(traces(&state, &network).len() >= 3, "the test looks in the wrong place");
    drop(hosts);
    assert_eq!(traces(&state, &network), Vec::<String>::new());
}

#[tokio::test]
async fn nothing_is_left_when_the_starter_is_killed_with_sigkill() {
    let state = fresh_state();
    // As a test program would: the starter holds the pipe, and dies without a chance to tidy up.
    let mut starter = Command::new("bash")
        .args(["-c", r#"exec 3> >(exec setsid "$0" serve 3 --state "$1"); while :; do sleep 1000; done"#])
        .arg(script())
        .arg(&state)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(starter.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(Path::new(line.trim()), state);
    let network = gateway(&state);
    // bash's own child, the sleep, holds the pipe too: it is the starter's group that dies.
    let children = Command::new("pgrep").args(["-P", &starter.id().to_string(), "-x", "sleep"]).output().unwrap();
    Command::new("kill").args(["-KILL", &starter.id().to_string(), &stdout(&children)]).status().unwrap();
    starter.wait().unwrap();
    let look = || async {
        let traces = traces(&state, &network);
        if traces.is_empty() { Ok(()) } else { Err(traces) }
    };
    find("gone without a trace", look, |traces| format!("{traces:#?}")).await;
}

#[tokio::test]
async fn hosts_started_by_hand_stay_until_they_are_taken_down() {
    let state = fresh_state();
    let script_with = |arguments: &[&str]| {
        let output = Command::new(script()).args(arguments).env("LANDFALL_HOSTS_STATE", &state).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
        stdout(&output)
    };
    script_with(&["up", "2"]);
    let network = gateway(&state);
    assert_eq!(script_with(&["exec", "web-02", "hostname"]), "web-02");
    let again = Command::new(script()).args(["up", "2"]).env("LANDFALL_HOSTS_STATE", &state).output().unwrap();
    assert!(stderr(&again).contains("are up in") && !again.status.success(), "{}", stderr(&again));
    script_with(&["down"]);
    assert_eq!(traces(&state, &network), Vec::<String>::new());
}
