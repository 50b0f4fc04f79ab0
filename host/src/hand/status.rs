//! What is true of an application, for a person on the host.

use std::path::Path;

use landfall_host_protocol::{FolderFacts, FolderName, ProcessFacts, ProcessState, WaitingReason};

use super::{say, words::ended};
use crate::{clock, facts, folder::Folder};

/// As `systemctl status` answers for what does not run.
const NOT_RUNNING: u8 = 3;

pub(super) fn all(root: &Path, names: &[FolderName]) -> u8 {
    if names.is_empty() {
        say(&format!("nothing is deployed below {}", root.display()));
        return 0;
    }
    let statuses = names.iter().map(|name| one(&Folder::new(root, name.clone())));
    statuses.max().unwrap_or(0)
}

/// Prints one folder; 0 where its application runs.
pub(super) fn one(folder: &Folder) -> u8 {
    let facts = facts::folder(folder).unwrap_or_default();
    say(&text(folder.name(), &facts, clock::uptime_millis()));
    let runs = facts.process.as_ref().is_some_and(|process| is_up(&process.state));
    if runs { 0 } else { NOT_RUNNING }
}

fn is_up(state: &ProcessState) -> bool {
    matches!(state, ProcessState::Running | ProcessState::Completed)
}

fn text(name: &FolderName, facts: &FolderFacts, uptime: u64) -> String {
    let mut lines = vec![name.to_string()];
    let mut field = |name: &str, value: String| lines.push(format!("  {:<12}{value}", format!("{name}:")));
    let none = || "none".to_owned();
    field("Release", facts.current.as_ref().map_or_else(none, |release| release.version().to_owned()));
    match &facts.process {
        Some(process) => {
            field("State", state(process, uptime));
            // (Nothing stands for an application that commands started, or for files.)
            if process.state == ProcessState::Running && process.pid > 0 {
                field("Process", format!("{} ({})", process.pid, process.release.version()));
            }
            if let Some(since) = process.ready_since.filter(|_| process.ready) {
                field("Ready", format!("for {}", duration(uptime.saturating_sub(since) / 1000)));
            }
            if process.restarts > 0 {
                field("Restarts", process.restarts.to_string());
            }
            if let Some(end) = &process.last_end {
                field("Last end", format!("{}, {} ago", ended(end), duration(uptime.saturating_sub(end.at) / 1000)));
            }
            if let Some(failure) = &process.probe_failure {
                field("Probe", failure.clone());
            }
        }
        None => field("State", "Never started".to_owned()),
    }
    if let Some(keeper) = &facts.keeper {
        field("Keeper", keeper.pid.to_string());
    } else if facts.process.as_ref().is_some_and(|process| process.state == ProcessState::Running && process.pid > 0) {
        field("Keeper", "none: the application is not restarted if it ends".to_owned());
    }
    for (label, processes) in [("Survivor", &facts.survivors), ("Suspect", &facts.suspected)] {
        for process in processes {
            field(label, format!("{} {}", process.pid, process.what));
        }
    }
    if facts.drained {
        field("Drained", "until a task or a ready application ends it".to_owned());
    }
    if facts.awaiting_secrets {
        field("Secrets", "awaited from the operator".to_owned());
    }
    if let Some(task) = &facts.task {
        let state = if task.running { "under way" } else { "interrupted" };
        field("Task", format!("rollout {}, step {}, {state}", task.id.rollout, task.step));
    }
    if let Some(act) = &facts.by_hand {
        let who = act.user.as_ref().map(|user| format!(" by {user} (claimed)")).unwrap_or_default();
        let why = if act.reason.is_empty() { String::new() } else { format!(": {}", act.reason) };
        field("By hand", format!("{}{who}{why}", act.act));
    }
    match &facts.owner {
        Some(owner) => {
            field("Deployment", format!("{}/{} (host {})", owner.namespace, owner.deployment, owner.host));
        }
        None => field("Deployment", none()),
    }
    let versions: Vec<&str> = facts.releases.iter().map(|release| release.name.version()).collect();
    field("Releases", if versions.is_empty() { none() } else { versions.join(" ") });
    lines.join("\n")
}

fn state(process: &ProcessFacts, uptime: u64) -> String {
    match &process.state {
        ProcessState::Running if process.ready => "Running, ready".to_owned(),
        ProcessState::Running => "Running, not ready".to_owned(),
        ProcessState::Waiting { reason: WaitingReason::Survivors, .. } => {
            "Waiting until what the run before left has ended".to_owned()
        }
        ProcessState::Waiting { until_millis, .. } => {
            format!("CrashLoopBackOff, next start in {} s", until_millis.saturating_sub(uptime).div_ceil(1000))
        }
        ProcessState::Completed => "Completed".to_owned(),
        ProcessState::Ended => "Ended".to_owned(),
        ProcessState::Stopped => "Stopped".to_owned(),
        ProcessState::Unknown(later) => later.to_string(),
    }
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h{}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use landfall_host_protocol::{ByHand, Digest, Ended, Owner, ReleaseName};

    use super::*;

    #[test]
    fn a_folder_reads_like_the_status_of_a_service() {
        let digest = "ab".repeat(32);
        let release = ReleaseName::new("v1.4.1", &digest);
        let owner = Owner {
            control_plane_id: "cp".to_owned(),
            namespace: "shop".to_owned(),
            deployment: "web".to_owned(),
            uid: "uid".to_owned(),
            host: "web-01".to_owned(),
        };
        let process = ProcessFacts {
            pid: 4711,
            start: 1,
            boot_id: "boot".to_owned(),
            release: release.clone(),
            digest: Digest::parse(&digest).unwrap(),
            config: None,
            uid: "uid".to_owned(),
            revision: 3,
            redeploys: 0,
            attempt: 1,
            state: ProcessState::Running,
            ready: true,
            ready_since: Some(100_000),
            unready_since: None,
            was_ready: true,
            restarts: 2,
            last_end: Some(Ended {
                status: None,
                signal: Some("KILL".to_owned()),
                at: 90_000,
                out_of_memory: false,
                lines: Vec::new(),
            }),
            probe_failure: None,
        };
        let by_hand = ByHand {
            act: "stop".to_owned(),
            reason: "disk".to_owned(),
            user: Some("ann".to_owned()),
            at_millis: 0,
            journal: 3,
        };
        let facts = FolderFacts {
            owner: Some(owner),
            current: Some(release),
            process: Some(process),
            by_hand: Some(by_hand),
            ..FolderFacts::default()
        };
        let expected = "\
shop.web
  Release:    v1.4.1
  State:      Running, ready
  Process:    4711 (v1.4.1)
  Ready:      for 1h2m
  Restarts:   2
  Last end:   signal KILL, 1h2m ago
  Keeper:     none: the application is not restarted if it ends
  By hand:    stop by ann (claimed): disk
  Deployment: shop/web (host web-01)
  Releases:   none";
        assert_eq!(text(&FolderName::new("shop", "web"), &facts, 3_820_000), expected);
    }
}
