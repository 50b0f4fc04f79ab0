//! Processes of ours and of strangers, on a host that also reboots.

use super::*;

#[tokio::test]
async fn a_stranger_under_the_recorded_pid_is_never_signalled() {
    let mut bench = Bench::new().await;
    bench.running(SLEEPER).await;
    let pid = bench.folder().await.process.unwrap().pid;
    let host = bench.rack.host(0).clone();
    host.sh(&format!("kill -9 {pid}")).await;
    until("gone", || async { !host.try_exec(&["test", "-d", &format!("/proc/{pid}")]).await.status.success() }).await;
    host.spawn_as_pid(u32::try_from(pid).unwrap(), &["sleep", "500"]).await;
    let process = bench.folder().await.process.unwrap();
    assert!(!process.alive && process.pid == pid);
    bench.stop(1).await;
    assert!(host.sh(&format!("cat /proc/{pid}/cmdline")).await.contains("sleep"), "the stranger lives");
}

#[tokio::test]
async fn a_process_that_ignores_the_signal_is_killed_with_its_children() {
    let mut bench = Bench::new().await;
    bench.running("#!/bin/sh\ntrap '' TERM\nsleep 777 &\nwhile :; do sleep 0.1; done\n").await;
    let count = "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -c 'sleep [7]77' || :";
    until("up with its child", || async { bench.rack.host(0).sh(count).await.trim() != "0" }).await;
    bench.stop(1).await;
    assert_eq!(bench.rack.host(0).sh(count).await.trim(), "0");
}

#[tokio::test]
async fn after_a_reboot_nothing_is_said_to_run() {
    let mut bench = Bench::new().await;
    let v1 = bench.running(SLEEPER).await;
    bench.rack.host(0).reboot().await;
    bench.again().await;
    assert!(!bench.folder().await.process.unwrap().alive);
    bench.start(&v1, &["./app"]).await;
    assert!(bench.folder().await.process.unwrap().alive);
}

#[tokio::test]
async fn a_command_that_does_not_exist_is_in_the_output_and_its_process_is_dead() {
    let mut bench = Bench::new().await;
    let v1 = bench.release("v1", &[("app", SLEEPER)]);
    bench.stage(&v1).await;
    bench.switch(&v1).await;
    bench.start(&v1, &["no-such-program", "--port", "8080"]).await;
    let host = bench.host.clone();
    until("dead", || async {
        !host.facts().await.unwrap().folders[&bench.call.folder].process.as_ref().unwrap().alive
    })
    .await;
    let said = bench.host.tail(&bench.call.folder, 5).await.unwrap();
    assert!(said.last().unwrap().contains("no-such-program"), "{said:?}");
    let rollout = bench.call.act.rollout.clone();
    let marked = bench.host.mark(&bench.gate, &bench.call, &marking(&rollout, None)).await;
    assert!(matches!(marked, Err(HostError::StepFailed { .. })), "{marked:?}");
}

#[tokio::test]
async fn a_strangers_socket_is_not_taken_for_ours() {
    let mut bench = Bench::new().await;
    bench.running(SLEEPER).await;
    bench.rack.host(0).sh("mkdir -p /srv/other && setsid busybox httpd -p 8080 -h /srv/other").await;
    let host = bench.host.clone();
    until("the stranger listens", || async { !host.port_refuses(8080).await.unwrap() }).await;
    assert_eq!(bench.host.answering(&bench.call.folder, Some(8080)).await.unwrap().listener, Some(Listener::Foreign));
}
