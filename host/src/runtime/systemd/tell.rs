//! What a unit and its record say in facts and in failures.

use landfall_host_protocol::{
    ByHand, Ended, FolderFacts, KeeperFacts, ProcessFacts, ProcessState, Reason, WaitingReason,
};

use super::{
    end::take_down,
    ended,
    now::{Now, has_ended},
    process,
    reach::Unit,
    ready,
    record::Record,
    systemctl::Shown,
};
use crate::{
    failure::StepFailure,
    folder::Folder,
    keeper::{self, Phase},
    process::{Identity, boot_id, describe_all, suspected},
};

/// What a unit that can be asked about says of the application.
pub(super) fn tell(folder: &Folder, record: &Record, shown: &Shown, facts: &mut FolderFacts) {
    let now = Now::of(shown, record.unit.is_own);
    let ready_since = record.ready_since(&now, shown);
    let in_this_boot = record.state.booted.as_deref() == Some(boot_id()) || shown.active_since > 0;
    let is_acted_on = facts.task.as_ref().is_some_and(|task| task.running);
    let state = match &now {
        Now::Running(_) => ProcessState::Running,
        Now::Completed => ProcessState::Completed,
        Now::Waiting | Now::Changing => ProcessState::Waiting { until_millis: 0, reason: WaitingReason::Crash },
        // Nobody here stopped it, and by itself it does not end so.
        Now::Inactive if record.state.phase == Phase::Running && in_this_boot && !has_ended(shown) => {
            if facts.by_hand.is_none() && !is_acted_on {
                facts.by_hand = Some(stop_by_hand(folder, record, shown));
            }
            ProcessState::Stopped
        }
        Now::Inactive if record.state.phase == Phase::Stopped => ProcessState::Stopped,
        Now::Inactive | Now::Failed => ProcessState::Ended,
    };
    if !now.is_up() {
        let mut left = ready::members(&shown.control_group);
        facts.survivors = describe_all(&left);
        left.extend(ready::probes(&record.state));
        facts.suspected = suspected(&folder.releases(), &left);
    }
    let watcher = keeper::is_living(&record.state);
    facts.keeper = watcher.as_ref().zip(record.state.keeper.as_ref()).map(|(handle, record)| KeeperFacts {
        pid: handle.identity().pid,
        start: handle.identity().start,
        program: record.program.clone(),
        parent: record.parent,
    });
    let mut last_end = record.last_end(folder, shown);
    if let Some(ended) =
        last_end.as_mut().filter(|_| matches!(state, ProcessState::Ended | ProcessState::Waiting { .. }))
    {
        ended.lines = record.last_lines(folder);
    }
    let nobody = Identity { pid: 0, start: 0, boot_id: boot_id().to_owned() };
    let main = match now {
        Now::Running(main) => main.unwrap_or(nobody),
        _ => record.state.application.clone().unwrap_or(nobody),
    };
    let ready = ready_since.is_some();
    facts.process = Some(ProcessFacts {
        pid: main.pid,
        start: main.start,
        boot_id: main.boot_id,
        ready,
        ready_since,
        was_ready: record.state.was_ready || ready,
        restarts: shown.restarts,
        last_end,
        ..process::facts_of(&record.state, state, ready)
    });
}

pub(super) fn stop_by_hand(folder: &Folder, record: &Record, shown: &Shown) -> ByHand {
    let recorded = ended::read(folder).filter(|_| record.unit.is_own).map(|last| last.at_millis);
    let at_millis = recorded.unwrap_or_else(|| {
        let booted = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let booted = booted.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<i64>().ok());
        booted.map_or(0, |seconds| {
            seconds.saturating_mul(1000).saturating_add(i64::try_from(shown.inactive_since).unwrap_or(0))
        })
    });
    let how = if record.unit.is_own { "was stopped" } else { "was stopped or ended its work" };
    let reason = format!("unit {} {how}, and not by landfall", record.unit.name);
    ByHand { act: "stop".to_owned(), reason, user: None, at_millis, journal: 0 }
}

pub(super) fn stopped_by_hand(unit: &Unit) -> Box<StepFailure> {
    let why = format!("unit {} was stopped by somebody else (systemctl stop)", unit.name);
    StepFailure::new(Reason::NotReady, why)
}

/// It ended before it was ready, or while it had to stay so. One that never was ready is not started again by systemd.
pub(super) fn died(folder: &Folder, record: &mut Record, shown: &Shown) -> Box<StepFailure> {
    let ended = record.last_end(folder, shown);
    let why = ended.as_ref().map_or_else(
        || "the application ended, and nobody saw how".to_owned(),
        |ended| format!("the application {}", ended.in_words()),
    );
    let mut failure = StepFailure::new(Reason::ProcessDied, why);
    failure.lines = record.last_lines(folder);
    failure.ended.clone_from(&ended);
    if !record.state.was_ready {
        record.state.last_end = ended.map(|ended| Ended { lines: failure.lines.clone(), ..ended });
        record.state.phase = Phase::Ended;
        // What can't be taken down or written now shows at the next look.
        let _ = take_down(folder, record).and_then(|()| record.write(folder, Reason::ProcessDied));
    }
    failure
}
