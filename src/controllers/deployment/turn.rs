//! The background task of one host: it looks, takes the next step that the planner's rule names, and looks again, until the goal is
//! reached, the host failed or was lost, or another goal was given. Killed at any point it leaves nothing but what the host shows.

use std::{sync::Arc, time::Duration};

use super::{
    diary::{self, Diary},
    failure::{Failure, Then, then},
    observe, records,
    step::{self, Undone},
};
use crate::{
    api::deployment::Phase,
    controllers::{
        hosts::{self, HostKey, Link, TurnKey, Turns},
        world::World,
    },
    effects::{clock, host::HostError},
    plan::{
        deployment::{Done, Drive, Goal, HostVerdict, Step, next_step},
        facts::HostFacts,
        hostgroup::Look,
        ids::FolderName,
    },
};

/// Which host, of whom.
#[derive(Clone, Debug)]
pub struct Place {
    pub namespace: String,
    pub deployment: String,
    pub uid: String,
    pub project: String,
    pub group: String,
    pub host: String,
}

impl Place {
    pub fn turn_key(&self) -> TurnKey {
        TurnKey { uid: self.uid.clone(), host: self.host.clone() }
    }

    pub fn host_key(&self) -> HostKey {
        HostKey::new(&self.namespace, &self.group, &self.host)
    }

    pub fn folder(&self) -> FolderName {
        FolderName::new(&self.namespace, &self.project)
    }
}

/// How one goal ended.
enum End {
    Reached,
    /// Another goal was given.
    Changed,
    /// Lost, or not ours to act on: the planner decides anew.
    Left,
    Failed(HostVerdict),
}

/// So often something that should pass by itself is tried again.
const FEW: u32 = 3;
/// After a goal that did not work out and has no verdict, so that it is not tried in a hot loop.
const REST: Duration = Duration::from_secs(3);

/// Follows a host's goal, and the ones that come after, until there is none to follow.
pub async fn run(world: Arc<World>, place: Place, number: u64) {
    let key = place.turn_key();
    let _guard = Guard(world.hosts.turns.clone(), key.clone(), number);
    let acts = world.hosts.acts(&place.host_key());
    while let Some((drive, version)) = world.hosts.turns.goal(&key) {
        let diary = Diary::new(&world, &place, &drive);
        match follow(&world, &place, &drive, version, &diary).await {
            End::Changed => continue,
            End::Reached => diary.reached(&drive.goal),
            End::Left => tokio::time::sleep(REST).await,
            End::Failed(verdict) => {
                diary.failed(&verdict);
                record(&world, &place, &verdict).await;
            }
        }
        // What is known must be newer than the last act before the planner counts on it.
        if matches!(world.hosts.look(&place.host_key()), Look::Unknown) {
            let _ = hosts::probe(&world, &place.host_key()).await;
        }
        if world.hosts.turns.end(&key, version) {
            break;
        }
    }
    world.wakes.deployment(&place.namespace, &place.deployment);
    if world.hosts.acts(&place.host_key()) != acts {
        world.wakes.deployments_in(&place.namespace);
        world.wakes.host_group(&place.namespace, &place.group);
    }
    diary::seal(&world, &place.uid);
}

/// Whatever ends the task, a panic too, it runs no more.
struct Guard(Turns, TurnKey, u64);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.stop(&self.1, self.2);
    }
}

/// A verdict that can't be written is no verdict: without it the next turn finds the same and says it again.
async fn record(world: &World, place: &Place, verdict: &HostVerdict) {
    if let Err(error) = records::write_verdict(world, &place.uid, verdict).await {
        tracing::warn!(host = place.host, %error, "a host's failure is not on record yet");
        tokio::time::sleep(REST).await;
    }
}

async fn follow(world: &Arc<World>, place: &Place, drive: &Drive, version: u64, diary: &Diary<'_>) -> End {
    let (key, host_key) = (place.turn_key(), place.host_key());
    let wanted = || world.hosts.turns.is_goal(&key, version);
    let (mut done, mut few) = (Done::default(), 0);
    let Some(link) = connect(world, &host_key).await else {
        diary.lost();
        return End::Left;
    };
    // Seen over this very connection, so in this boot, and nothing was done since: the host itself refuses what is planned on an old view.
    // What was under way then may be over.
    let at_rest = |facts: &HostFacts| facts.folders.get(&place.folder()).is_none_or(|folder| folder.open.is_none());
    let mut known = match world.hosts.look(&host_key) {
        Look::Seen(facts) if link.has_told() && at_rest(&facts) => Some(*facts),
        _ => None,
    };
    loop {
        if !wanted() {
            return End::Changed;
        }
        // An act answers with what is true after it; else the host is asked.
        let facts = match known.take() {
            Some(facts) => facts,
            None => match hosts::probe_over(world, &host_key, &link).await {
                Ok(facts) => facts,
                Err(_) => {
                    diary.lost();
                    return End::Left;
                }
            },
        };
        let seen = observe::seen(&facts, &place.folder());
        let step = next_step(&seen, &drive.goal, done);
        if step == Step::Reached {
            return End::Reached;
        }
        if world.hosts.turns.pass(&key, step.phase()) {
            world.wakes.deployment(&place.namespace, &place.deployment);
        }
        if !matches!(step, Step::Verify { .. } | Step::Died) {
            world.hosts.begin_act(&host_key);
        }
        let turn =
            step::Turn { world, place, drive, seen: &seen, free_bytes: facts.free_bytes, host: &link.host, diary };
        let began = diary.begins(&step);
        let undone = match step::perform(&turn, &step, &mut done, wanted).await {
            Ok(Some(folder)) => {
                diary.done(&step, began);
                known = Some(hosts::after(world, &host_key, facts, &place.folder(), folder));
                continue;
            }
            // Nothing was done, only looked at: what was known of the folder is as true as before.
            Ok(None) if matches!(step, Step::Verify { .. }) => {
                diary.done(&step, began);
                known = Some(facts);
                continue;
            }
            Ok(None) => continue,
            Err(undone) => undone,
        };
        diary.undone(&step, &undone);
        match judge(undone, &step, place, drive, &mut few) {
            Next::Again => tokio::time::sleep(Duration::from_millis(200)).await,
            Next::Changed => return End::Changed,
            Next::Left => return End::Left,
            Next::Failed(failure, phase) => return failed(drive, place, phase, failure),
        }
    }
}

/// One connection for the whole turn. Why there is none is kept for the planner.
async fn connect(world: &Arc<World>, key: &HostKey) -> Option<Arc<Link>> {
    if let Ok(link) = hosts::link(world, key).await {
        return Some(link);
    }
    let _ = hosts::probe(world, key).await;
    None
}

enum Next {
    Again,
    Changed,
    Left,
    Failed(Failure, Phase),
}

fn judge(undone: Undone, step: &Step, place: &Place, drive: &Drive, few: &mut u32) -> Next {
    let error = match undone {
        Undone::Dropped => return Next::Changed,
        Undone::Failed(failure) => return Next::Failed(failure, step.phase()),
        Undone::Host(error) => error,
    };
    tracing::info!(%error, ?step, "a step on a host was not done");
    if is_anothers_end(step, &error, place, drive) {
        return Next::Again;
    }
    let (reason, phase) = step::verdict_on(step, &error);
    match then(&error, reason) {
        Then::Again => Next::Again,
        Then::Few(failure) => {
            *few += 1;
            if *few < FEW { Next::Again } else { Next::Failed(failure, phase) }
        }
        Then::Lost | Then::Leave => Next::Left,
        Then::Fail(failure) => Next::Failed(failure, phase),
    }
}

/// An act of another Deployment, rollout or attempt was waited for, and has ended not well: that says nothing about this one.
fn is_anothers_end(step: &Step, error: &HostError, place: &Place, drive: &Drive) -> bool {
    let Step::Attach(open) = step else { return false };
    let own = open.uid == place.uid && open.rollout == drive.key.rollout && open.attempt == drive.key.attempt;
    !own && matches!(error, HostError::StepFailed { .. } | HostError::DiskFull { .. } | HostError::PortInUse { .. })
}

/// Bringing a version to a host can fail for good. Healing and letting go are tried again, as the planner sees fit.
fn failed(drive: &Drive, place: &Place, phase: Phase, failure: Failure) -> End {
    let counts = matches!(drive.goal, Goal::Stage(_) | Goal::Run { heal: false, .. });
    if !counts {
        tracing::warn!(host = place.host, reason = %failure.reason, message = failure.message, "a host is tried again later");
        return End::Left;
    }
    End::Failed(HostVerdict {
        rollout: drive.key.rollout.clone(),
        attempt: drive.key.attempt,
        host: place.host.clone(),
        reason: failure.reason,
        phase,
        message: failure.message,
        at: clock::now(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::Reason, plan::facts::OpenAct};

    #[test]
    fn the_end_of_another_rollouts_turn_is_no_verdict_and_that_of_ones_own_names_the_part_that_failed() {
        let drive = Drive::new("web-01", Goal::Release, "3.0", 2, None);
        let [namespace, deployment, uid, project, group, host] =
            ["team", "shop", "u", "shop", "prod", "web-01"].map(str::to_owned);
        let place = Place { namespace, deployment, uid, project, group, host };
        let judged_of = |uid: &str, rollout: &str, attempt, part: &str| {
            let (uid, step) = (uid.to_owned(), "turn".to_owned());
            let open = OpenAct { uid, rollout: rollout.to_owned(), attempt, n: 7, step, running: true };
            let error =
                HostError::StepFailed { step: part.to_owned(), why: "it died".to_owned(), last_lines: Vec::new() };
            judge(Undone::Host(error), &Step::Attach(open), &place, &drive, &mut 0)
        };
        let judged = |rollout: &str, attempt, part: &str| judged_of("u", rollout, attempt, part);
        assert!(matches!(judged_of("of the one before", "3.0", 2, "start"), Next::Again));
        assert!(matches!(judged("2.0", 2, "start"), Next::Again));
        assert!(matches!(judged("3.0", 1, "start"), Next::Again));
        for (part, reason, phase) in [
            ("start", Reason::StartFailed, Phase::Starting),
            ("switch", Reason::SwitchFailed, Phase::Switching),
            ("turn", Reason::StopFailed, Phase::Stopping),
        ] {
            let Next::Failed(failure, at) = judged("3.0", 2, part) else { panic!("{part}: a verdict") };
            assert_eq!((failure.reason, at), (reason, phase), "{part}");
        }
    }
}
