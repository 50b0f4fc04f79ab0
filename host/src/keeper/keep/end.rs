//! The ends of an application: seen, or wanted; what it leaves, and what follows.

use std::time::Duration;

use landfall_host_protocol::{Ended, Stop, WaitingReason};
use rustix::process::Signal;

use super::{Keeper, Turn};
use crate::{
    clock,
    keeper::{
        ending::{self, Unended},
        hands::{Belonging, Exit},
        log::told_lines,
        restart::{Next, after_end},
        state::Phase,
    },
    process::{Identity, signal_name},
};

/// Between two tries to end what could not be ended.
const UNENDED_INTERVAL: Duration = Duration::from_secs(1);

impl Keeper {
    /// The application is dead: what it left is ended, and then it is started again or not.
    pub(super) fn on_end(&mut self, exit: Option<Exit>) -> Turn {
        // It may have died between the two looks.
        let exit = exit.or_else(|| self.reap());
        let ended = self.ended(exit);
        let ran = clock::monotonic().saturating_duration_since(self.started);
        self.end_leftovers();
        self.application = None;
        self.state.ready_since = None;
        self.state.probe_failure = None;
        self.state.waiting = WaitingReason::Crash;
        let next = after_end(self.runtime.restart_policy, self.state.was_ready, &ended);
        self.state.last_end = Some(ended);
        self.follow(next, ran)
    }

    pub(super) fn follow(&mut self, next: Next, ran: Duration) -> Turn {
        match next {
            Next::Completed => {
                self.state.phase = Phase::Completed;
                self.state.was_ready = true;
                self.state.ready_since = Some(clock::uptime_millis());
                self.write_last()
            }
            Next::Ended => {
                self.state.phase = Phase::Ended;
                self.write_last()
            }
            Next::Restart => {
                let delay = u64::try_from(self.backoff.next(ran).as_millis()).unwrap_or(u64::MAX);
                self.state.phase = Phase::Waiting { at: clock::uptime_millis().saturating_add(delay) };
                if !self.state.unended.is_empty() {
                    self.state.waiting = WaitingReason::Survivors;
                }
                self.write();
                Turn::On
            }
        }
    }

    /// Ends all of it; how the first process ended.
    pub(super) fn end_application(&mut self, stop: &Stop) -> Ended {
        let application = self.state.application.clone();
        self.end(application.as_ref(), stop);
        let exit = self.reap();
        self.ended(exit)
    }

    /// Ends what the dead application left, orderly; counts it.
    pub(super) fn end_leftovers(&mut self) {
        let stop = self.runtime.stop.clone();
        self.state.left = self.end(None, &stop);
    }

    /// How many were left; what could not be ended is kept in mind.
    pub(super) fn end(&mut self, application: Option<&Identity>, stop: &Stop) -> u32 {
        self.give_up_tries();
        let of = self.belonging();
        let Self { hands, rotation, .. } = self;
        let mut meanwhile = || Some(rotation.turn());
        let (left, unended) = match ending::end(hands.as_mut(), application, &of, stop, &mut meanwhile) {
            Ok(left) => (left, Vec::new()),
            Err(Unended(unended)) => (u32::try_from(unended.len()).unwrap_or(u32::MAX), unended),
        };
        self.state.set_unended(unended);
        left
    }

    /// By what the application's processes are found: our descendants, where we started it; else its session, which we see alive, and its mark.
    pub(super) fn belonging(&self) -> Belonging {
        let is_parent = self.state.keeper.as_ref().is_some_and(|record| record.parent);
        let application = self.state.application.clone().filter(|_| !is_parent);
        Belonging {
            instance: if is_parent { String::new() } else { self.state.instance.clone() },
            session_seen: self.seen_alive,
            below: Identity::own().into_iter().chain(application.clone()).collect(),
            session: application,
            except: Vec::new(),
            known: self.state.living_unended(),
            apart: self.state.apart.clone(),
        }
    }

    /// What it said last is told without its secret values.
    pub(super) fn ended(&self, exit: Option<Exit>) -> Ended {
        let lines = told_lines(&self.folder, self.configuration(), self.order.secrets.as_ref());
        Ended {
            status: exit.and_then(|exit| exit.status),
            signal: exit.and_then(|exit| exit.signal).map(signal_name),
            at: clock::uptime_millis(),
            out_of_memory: false,
            lines,
        }
    }

    /// Tries again to end what could not be ended. True: nothing of it lives.
    pub(super) fn try_unended(&mut self) -> bool {
        if self.state.unended.is_empty() {
            return true;
        }
        self.unended_due = clock::monotonic() + UNENDED_INTERVAL;
        for process in &self.state.unended {
            let _ = self.hands.signal(process, Signal::KILL);
        }
        self.state.unended = self.state.living_unended();
        self.state.unended.is_empty()
    }

    /// What the run before left was not ended: it may be by now, by an administrator or by itself.
    pub(super) fn is_rid_of_leftovers(&mut self) -> bool {
        let before = self.state.unended.len();
        if before == 0 {
            return true;
        }
        if self.try_unended() {
            // What it started meanwhile.
            self.end_leftovers();
        }
        if self.state.unended.len() != before {
            self.write();
        }
        self.state.unended.is_empty()
    }
}
