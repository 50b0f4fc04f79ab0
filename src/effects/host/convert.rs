//! What `landfall-host` says, in the words of `model::facts`. What a host reports is checked by the protocol's types; what can't be said in
//! the model is left out. Pure.

use landfall_host_protocol as host;

use crate::api::{Reason, conditions::clip};
use crate::model::{
    facts::{ByHand, EndFacts, FailedAct, FolderFacts, HostFacts, OpenAct, ProcessFacts, ReadyMark},
    ids::{FenceToken, FolderName, Owner, ReleaseName},
    keyed::read_configuration_hash,
    text::one_line,
};

/// Characters of what a person did, why, and who.
const ACT_CHARS: usize = 100;
const REASON_CHARS: usize = 200;
const USER_CHARS: usize = 64;
/// Of why a task failed.
const WHY_BYTES: usize = 1000;
/// Of what a failing probe says.
const PROBE_WORDS_BYTES: usize = 300;

/// Survivors that are named.
const SURVIVORS: usize = 3;

/// Facts of a host. `server`: its SSH server's banner; `age`: seconds since it told them.
pub fn host(facts: &host::HostFacts, server: &str, age: u64) -> HostFacts {
    let folders =
        facts.folders.iter().filter_map(|(name, facts)| Some((FolderName::parse(name.as_str())?, folder(facts))));
    HostFacts {
        boot_id: facts.machine.boot_id.clone(),
        uptime: facts.machine.uptime_seconds.saturating_add(age),
        unfit: facts.root.unfit.clone(),
        free_bytes: facts.root.free_bytes,
        free_inodes: facts.root.free_inodes,
        server: server.to_owned(),
        session_scoped: facts.machine.session_scoped,
        cannot_become: facts.cannot_become.clone(),
        sudo_too_wide: facts.sudo_too_wide,
        folders: folders.collect(),
    }
}

/// Facts of one folder.
pub fn folder(facts: &host::FolderFacts) -> FolderFacts {
    FolderFacts {
        owner: facts.owner.as_ref().map(owner),
        fence: facts.fence.as_ref().map(fence),
        journal: facts.journal,
        open: facts.task.as_ref().map(open),
        current: facts.current.as_ref().and_then(release),
        releases: releases(facts, |one| one.tampered.is_empty()),
        tampered: releases(facts, |one| !one.tampered.is_empty()),
        process: facts.process.as_ref().map(|found| process(found, facts)),
        ready: facts.process.as_ref().and_then(ready),
        by_hand: facts.by_hand.as_ref().map(by_hand),
        failed: facts.last_task.as_ref().and_then(failed),
    }
}

/// The task that ended last, where it failed in a step that no start for healing has.
fn failed(last: &host::LastTask) -> Option<FailedAct> {
    let (host::Author::Operator, Some(host::Outcome::Failed(failure))) = (&last.author, &last.outcome) else {
        return None;
    };
    let reason = match (failure.step, failure.reason) {
        (host::StepName::Hook, host::Reason::HookFailed) => Reason::HookFailed,
        (host::StepName::Drain, host::Reason::DrainFailed) => Reason::DrainFailed,
        (host::StepName::MinReady, host::Reason::ProcessDied) => Reason::ProcessDied,
        (host::StepName::MinReady, host::Reason::NotReady) => Reason::NotReady,
        _ => return None,
    };
    let host::TaskId { uid, rollout, attempt, .. } = last.id.clone();
    let step = failure.step.as_str().to_owned();
    Some(FailedAct { uid, rollout, attempt, step, reason, why: clip(&failure.why, WHY_BYTES) })
}

fn releases(facts: &host::FolderFacts, fits: impl Fn(&host::ReleaseFacts) -> bool) -> Vec<ReleaseName> {
    facts.releases.iter().filter(|one| fits(one)).filter_map(|one| release(&one.name)).collect()
}

/// Words of a person, as far as they fit into a message.
fn by_hand(act: &host::ByHand) -> ByHand {
    // What was done past landfall (`systemctl stop`) is in no journal, and told by its time.
    let by_time = || u64::try_from(act.at_millis).unwrap_or(0);
    ByHand {
        journal: if act.journal == 0 { by_time() } else { act.journal },
        act: one_line(act.act.as_bytes(), ACT_CHARS),
        reason: one_line(act.reason.as_bytes(), REASON_CHARS),
        user: act.user.as_ref().map(|user| one_line(user.as_bytes(), USER_CHARS)),
    }
}

fn owner(owner: &host::Owner) -> Owner {
    let host::Owner { control_plane_id, namespace, deployment, uid, host } = owner.clone();
    Owner { control_plane_id, namespace, deployment, uid, host }
}

/// The owner of refusals.
pub(super) fn owner_of(found: &host::Owner) -> Owner {
    owner(found)
}

fn fence(token: &host::FenceToken) -> FenceToken {
    let host::FenceToken { epoch, created, transitions } = token.clone();
    FenceToken { epoch, created, transitions }
}

fn open(task: &host::OpenTask) -> OpenAct {
    let host::TaskId { uid, rollout, attempt, n } = task.id.clone();
    OpenAct { uid, rollout, attempt, n, step: task.step.clone(), running: task.running }
}

fn release(name: &host::ReleaseName) -> Option<ReleaseName> {
    ReleaseName::parse(name.as_str())
}

fn rollout(process: &host::ProcessFacts) -> String {
    format!("{}.{}", process.revision, process.redeploys)
}

fn process(process: &host::ProcessFacts, folder: &host::FolderFacts) -> ProcessFacts {
    // Its keeper starts nothing from a release that was changed or removed: that is ours to stage and to start.
    let whole = folder.releases.iter().any(|one| one.name == process.release && one.tampered.is_empty());
    ProcessFacts {
        pid: i64::from(process.pid),
        start: process.start,
        boot_id: process.boot_id.clone(),
        digest: process.digest.to_string(),
        release: release(&process.release),
        uid: process.uid.clone(),
        revision: process.revision,
        rollout: rollout(process),
        values: process
            .config
            .as_ref()
            .and_then(|hash| read_configuration_hash(hash.as_str()))
            .map(|(_, values)| values),
        alive: process.state == host::ProcessState::Running || has_done_its_work(process),
        unready: unready(process),
        kept: whole && matches!(process.state, host::ProcessState::Waiting { .. }),
        restarts: process.restarts,
        survivors: survivors(process, &folder.survivors),
        end: process.last_end.as_ref().map(|end| EndFacts { text: end_in_words(end), at: end.at / 1000 }),
    }
}

fn has_done_its_work(process: &host::ProcessFacts) -> bool {
    process.state == host::ProcessState::Completed
}

/// What the probe of a process that had been ready says while it fails.
fn unready(process: &host::ProcessFacts) -> Option<String> {
    process.unready_since?;
    let said = process.probe_failure.as_deref().unwrap_or("no answer is on record");
    Some(clip(said, PROBE_WORDS_BYTES))
}

/// That the application was ready. Of one that was started again, by its keeper or by a task, it counts once the new process is ready:
/// until then the mark is of a process before it.
fn ready(process: &host::ProcessFacts) -> Option<ReadyMark> {
    // What the shell helper started and marked has no configuration on record; its probe is asked from now on.
    let taken_over = process.config.is_none() && process.restarts == 0 && process.state == host::ProcessState::Running;
    let this = process.ready || process.unready_since.is_some() || taken_over || has_done_its_work(process);
    // (No process has this pid: one that no process stands for has the pid 0.)
    let (pid, start) = if this { (i64::from(process.pid), process.start) } else { (-1, 0) };
    process.was_ready.then(|| ReadyMark { uid: process.uid.clone(), rollout: rollout(process), pid, start })
}

/// Who is in the way of the next start: nobody but a person can end them.
fn survivors(process: &host::ProcessFacts, living: &[host::StrangerFacts]) -> String {
    match process.state {
        host::ProcessState::Waiting { reason: host::WaitingReason::Survivors, .. } => {
            let named = living.iter().filter(|one| one.pid > 0).take(SURVIVORS);
            let named: Vec<String> = named.map(|one| format!("{} ({})", one.pid, one.what)).collect();
            if named.is_empty() { "processes that it started".to_owned() } else { named.join(", ") }
        }
        _ => String::new(),
    }
}

/// How a process ended, with its last output.
fn end_in_words(end: &host::Ended) -> String {
    // Where its keeper ended it, the last line says why.
    let by_keeper = end.lines.split_last().and_then(|(last, lines)| Some((last.strip_prefix("landfall: ")?, lines)));
    let (how, lines) = match by_keeper {
        Some((why, lines)) => (format!("was {why}"), lines),
        None => (end.in_words(), &*end.lines),
    };
    match lines.is_empty() {
        true => how,
        false => format!("{how}; last output: {}", lines.join(" | ")),
    }
}

#[cfg(test)]
mod tests {
    use landfall_host_protocol::{Digest, ProcessState, ReleaseFacts};

    use super::*;

    fn of(state: ProcessState) -> host::ProcessFacts {
        let digest = Digest::parse(&"1".repeat(64)).unwrap();
        host::ProcessFacts {
            pid: 7,
            start: 9,
            boot_id: "boot".to_owned(),
            release: host::ReleaseName::new("v1", digest.as_str()),
            digest,
            config: None,
            uid: "uid-1".to_owned(),
            revision: 3,
            redeploys: 1,
            attempt: 1,
            state,
            ready: true,
            ready_since: Some(1),
            unready_since: None,
            was_ready: true,
            restarts: 0,
            last_end: None,
            probe_failure: None,
        }
    }

    fn facts(process: host::ProcessFacts) -> FolderFacts {
        facts_with(process, &[])
    }

    fn facts_with(process: host::ProcessFacts, tampered: &[&str]) -> FolderFacts {
        let release = ReleaseFacts {
            name: process.release.clone(),
            digest: process.digest.clone(),
            tampered: tampered.iter().map(|path| (*path).to_owned()).collect(),
        };
        folder(&host::FolderFacts { process: Some(process), releases: vec![release], ..host::FolderFacts::default() })
    }

    #[test]
    fn a_process_that_is_ready_is_alive_and_marked_for_its_rollout() {
        let folder = facts(of(ProcessState::Running));
        let process = folder.process.unwrap();
        assert!(process.alive && !process.kept);
        assert_eq!(process.rollout, "3.1");
        let mark = folder.ready.unwrap();
        assert_eq!((mark.uid.as_str(), mark.rollout.as_str(), mark.pid, mark.start), ("uid-1", "3.1", 7, 9));
    }

    #[test]
    fn a_process_is_of_the_values_that_its_configuration_names() {
        let of_config = |hash: &str| {
            let process = host::ProcessFacts { config: host::ConfigHash::parse(hash), ..of(ProcessState::Running) };
            facts(process).process.unwrap().values.map(String::from)
        };
        let (key, values) = ("aaaaaaaa", "1".repeat(32));
        assert_eq!(of_config(&format!("2:{}{key}{values}", "0".repeat(24))), Some(format!("{key}:{values}")));
        assert_eq!(of_config("1:0123456789abcdef"), None);
    }

    #[test]
    fn one_that_was_never_ready_has_no_mark() {
        let process = host::ProcessFacts { ready: false, was_ready: false, ..of(ProcessState::Running) };
        assert_eq!(facts(process).ready, None);
    }

    /// After a reboot: its application had been ready, this process was not yet.
    #[test]
    fn one_that_a_task_started_again_is_marked_once_it_is_ready() {
        let config = host::ConfigHash::parse("1:0123456789abcdef");
        let again = host::ProcessFacts { ready: false, config, ..of(ProcessState::Running) };
        assert_eq!(facts(again.clone()).ready.map(|mark| mark.pid), Some(-1));
        assert_eq!(facts(host::ProcessFacts { ready: true, ..again.clone() }).ready.map(|mark| mark.pid), Some(7));
        let of_the_shell_helper = host::ProcessFacts { config: None, ..again };
        assert_eq!(facts(of_the_shell_helper).ready.map(|mark| mark.pid), Some(7));
    }

    #[test]
    fn one_that_its_keeper_started_again_is_marked_once_it_is_ready() {
        let again = host::ProcessFacts { ready: false, restarts: 2, ..of(ProcessState::Running) };
        assert_eq!(facts(again.clone()).ready.map(|mark| mark.pid), Some(-1));
        assert_eq!(facts(host::ProcessFacts { ready: true, ..again }).ready.map(|mark| mark.pid), Some(7));
        let waiting = ProcessState::Waiting { until_millis: 4_000, reason: host::WaitingReason::Crash };
        let waiting = facts(host::ProcessFacts { ready: false, ..of(waiting) });
        assert!(waiting.process.is_some_and(|process| process.kept && !process.alive));
    }

    #[test]
    fn what_is_in_the_way_of_a_start_is_named_with_its_pid() {
        let state = |reason| ProcessState::Waiting { until_millis: 4_000, reason };
        let living = host::StrangerFacts { pid: 812, start: 1, what: "sleep 1000".to_owned() };
        let with = |reason| {
            let process = host::ProcessFacts { ready: false, ..of(state(reason)) };
            let survivors = vec![living.clone()];
            folder(&host::FolderFacts { process: Some(process), survivors, ..host::FolderFacts::default() })
        };
        assert_eq!(with(host::WaitingReason::Survivors).process.unwrap().survivors, "812 (sleep 1000)");
        assert_eq!(with(host::WaitingReason::Crash).process.unwrap().survivors, "");
    }

    #[test]
    fn what_waits_for_a_changed_release_is_not_its_keepers_to_start() {
        let waiting = || host::ProcessFacts {
            ready: false,
            ..of(ProcessState::Waiting { until_millis: 4, reason: host::WaitingReason::Crash })
        };
        let is_kept = |folder: FolderFacts| folder.process.unwrap().kept;
        assert!(is_kept(facts(waiting())));
        assert!(!is_kept(facts_with(waiting(), &["app"])));
        let gone = host::FolderFacts { process: Some(waiting()), ..host::FolderFacts::default() };
        assert!(!is_kept(folder(&gone)));
    }

    #[test]
    fn an_act_by_hand_is_one_short_line_of_harmless_text() {
        let act = host::ByHand {
            act: "stop".to_owned(),
            reason: format!("disk\u{1b}[31m\nswap {}", "x".repeat(1_000_000)),
            user: Some("ann\u{202e}".to_owned()),
            at_millis: 5,
            journal: 7,
        };
        let seen = folder(&host::FolderFacts { by_hand: Some(act), ..host::FolderFacts::default() }).by_hand.unwrap();
        assert_eq!((seen.journal, seen.act.as_str(), seen.user.as_deref()), (7, "stop", Some("ann")));
        assert!(seen.reason.starts_with("disk swap xxx") && seen.reason.len() == 200, "{}", seen.reason);
    }

    #[test]
    fn one_whose_probe_fails_after_it_was_ready_keeps_its_mark_and_says_why() {
        let failing = host::ProcessFacts {
            ready: false,
            restarts: 2,
            unready_since: Some(9),
            probe_failure: Some("GET / was answered with 500".to_owned()),
            ..of(ProcessState::Running)
        };
        let folder = facts(failing.clone());
        assert_eq!(folder.process.unwrap().unready.as_deref(), Some("GET / was answered with 500"));
        assert_eq!(folder.ready.map(|mark| mark.pid), Some(7));
        assert_eq!(facts(host::ProcessFacts { unready_since: None, ..failing }).process.unwrap().unready, None);
    }

    #[test]
    fn one_that_its_keeper_ended_says_why_first() {
        let lines = ["busy", "landfall: ended, for its liveness probe failed: no answer"];
        let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        let ended = host::Ended { status: None, signal: Some("TERM".to_owned()), at: 1, out_of_memory: false, lines };
        assert_eq!(end_in_words(&ended), "was ended, for its liveness probe failed: no answer; last output: busy");
    }

    #[test]
    fn one_that_ran_out_of_memory_says_so_with_its_last_output() {
        let lines = vec!["allocating".to_owned()];
        let ended = host::Ended { status: None, signal: Some("KILL".to_owned()), at: 1, out_of_memory: true, lines };
        let words = end_in_words(&ended);
        assert_eq!(words, "was killed by the kernel for lack of memory (OOM); last output: allocating");
    }

    #[test]
    fn one_that_has_done_its_work_is_there_and_ready() {
        let folder = facts(of(ProcessState::Completed));
        assert!(folder.process.is_some_and(|process| process.alive));
        assert_eq!(folder.ready.map(|mark| mark.pid), Some(7));
    }

    #[test]
    fn a_release_that_was_changed_on_the_host_counts_as_absent() {
        let digest = Digest::parse(&"1".repeat(64)).unwrap();
        let one = |version: &str, tampered: &[&str]| ReleaseFacts {
            name: host::ReleaseName::new(version, digest.as_str()),
            digest: digest.clone(),
            tampered: tampered.iter().map(|path| (*path).to_owned()).collect(),
        };
        let facts =
            host::FolderFacts { releases: vec![one("v1", &[]), one("v2", &["app"])], ..host::FolderFacts::default() };
        let folder = folder(&facts);
        let names = |of: &[ReleaseName]| of.iter().map(ToString::to_string).collect::<Vec<String>>();
        assert_eq!(names(&folder.releases), ["v1-111111111111"]);
        assert_eq!(names(&folder.tampered), ["v2-111111111111"]);
    }

    #[test]
    fn an_open_task_is_named_by_its_id_and_step() {
        let id = host::TaskId { uid: "u".to_owned(), rollout: "2.0".to_owned(), attempt: 1, n: 7 };
        let task = host::OpenTask { id: id.clone(), step: "waitReady".to_owned(), running: true };
        let facts = folder(&host::FolderFacts { task: Some(task), ..host::FolderFacts::default() });
        let open = facts.open.unwrap();
        assert_eq!((open.step.as_str(), open.running), ("waitReady", true));
        assert_eq!(super::super::task_id(&open), id);
    }
}
