//! The probes of a running application: their tries, and what an answer changes.

use std::time::{Duration, Instant};

use landfall_host_protocol::{Probe, ProbeAction, Secrets, WaitingReason};

use super::{Keeper, Turn, WORDS_INTERVAL};
use crate::{
    clock,
    keeper::{
        asked::{Asked, By, Connecting, Try},
        environment::environment,
        hands::{Begun, Executed},
        launch::Launch,
        restart::Next,
    },
    probe::{self, Tried},
    process::{listening, whose},
};

/// Before a probe is asked again for which there was no room.
const LATER: Duration = Duration::from_millis(50);

impl Keeper {
    pub(super) fn ask_readiness(&mut self) {
        let Some(mut asked) = self.readiness.take() else { return };
        let came = self.try_probe(&mut asked);
        let Some((mut tried, began)) = came else {
            self.readiness = Some(asked);
            return;
        };
        let is_ready = self.state.is_ready();
        if tried == Tried::Yes
            && !is_ready
            && let Some(why) = self.foreign_listener(&asked.tries.probe)
        {
            tried = Tried::No(why);
        }
        let after = clock::monotonic();
        asked.tries.take(&tried, began, after, true);
        let settled = asked.tries.answer;
        let progress = asked.tries.progress();
        self.readiness = Some(asked);
        match (&tried, settled) {
            (Tried::Yes, Some(true)) if !is_ready => {
                self.state.ready_since = Some(clock::uptime_millis());
                self.state.unready_since = None;
                self.state.was_ready = true;
                self.state.probe_failure = None;
                self.state.strangers.clear();
                self.write();
            }
            (Tried::No(why), Some(false)) if is_ready => {
                self.state.ready_since = None;
                self.state.unready_since = Some(clock::uptime_millis());
                self.state.probe_failure = Some(why.clone());
                self.write();
            }
            (Tried::No(why), _) if !is_ready => self.tell_not_ready(why.clone(), after),
            (Tried::Yes, _) if !is_ready => self.tell_not_ready(progress.unwrap_or_default(), after),
            (Tried::Unasked(why), _) => self.tell_unasked(why),
            _ => {}
        }
    }

    /// Only of what was ready: who starts slowly is not ended for it.
    pub(super) fn ask_liveness(&mut self) -> Turn {
        if !self.was_ready_in_this_run() {
            return Turn::On;
        }
        let Some(mut asked) = self.liveness.take() else { return Turn::On };
        let came = self.try_probe(&mut asked);
        let Asked { tries, .. } = self.liveness.insert(asked);
        let Some((tried, began)) = came else { return Turn::On };
        tries.take(&tried, began, clock::monotonic(), false);
        let settled = tries.answer;
        if let Tried::Unasked(why) = &tried {
            self.tell_unasked(why);
        }
        let (Tried::No(why), Some(false)) = (tried, settled) else { return Turn::On };
        let stop = self.runtime.stop.clone();
        let mut ended = self.end_application(&stop);
        ended.lines.push(format!("landfall: ended, for its liveness probe failed: {why}"));
        let ran = clock::monotonic().saturating_duration_since(self.started);
        self.application = None;
        self.state.ready_since = None;
        self.state.last_end = Some(ended);
        self.state.waiting = WaitingReason::Liveness;
        let next = if self.state.was_ready { Next::Restart } else { Next::Ended };
        self.follow(next, ran)
    }

    /// What a probe's try came to, where one has, and when it began. One that is due is begun.
    pub(super) fn try_probe(&mut self, asked: &mut Asked) -> Option<(Tried, Instant)> {
        let (tried, began) = self.come_to(asked)?;
        let told = match &self.order.secrets {
            Some(secrets) => tried.masked(secrets),
            None => tried,
        };
        Some((told, began))
    }

    fn come_to(&mut self, asked: &mut Asked) -> Option<(Tried, Instant)> {
        if asked.under_way.is_none() {
            let now = clock::monotonic();
            if now < asked.tries.due {
                return None;
            }
            match self.begin_try(&asked.tries.probe) {
                Ok(Some(by)) => asked.under_way = Some(Try { began: now, by }),
                Ok(None) => asked.tries.due = now + LATER,
                Err(tried) => return Some((tried, now)),
            }
        }
        let Try { began, by } = asked.under_way.as_mut()?;
        let tried = match by {
            By::Connection(connecting) => connecting.look(),
            By::Command(command) => {
                let executed = self.hands.look(command);
                executed.map(|executed| by_command(executed, &asked.tries.probe))
            }
        };
        let came = tried.map(|tried| (tried, *began))?;
        asked.under_way = None;
        Some(came)
    }

    /// `None`: not now. The error is what the try came to already.
    pub(super) fn begin_try(&mut self, probe: &Probe) -> Result<Option<By>, Tried> {
        let timeout = probe::timeout(probe);
        let unasked = |why: String| Tried::Unasked(format!("its probe can't be asked: {why}"));
        let ProbeAction::Exec { command } = &probe.action else {
            let connecting = Connecting::begin(&probe.action, timeout).map_err(|error| unasked(error.to_string()))?;
            return Ok(Some(By::Connection(connecting)));
        };
        let nothing = Secrets::default();
        let secrets = self.order.secrets.as_ref().unwrap_or(&nothing);
        let env = environment(&self.order.start.config, secrets, &self.state.instance).map_err(unasked)?;
        let folder = self.folder.release(&self.order.start.release);
        match self.hands.begin(&Launch { command: command.clone(), env, folder }, timeout) {
            Begun::UnderWay(command) => Ok(Some(By::Command(command))),
            Begun::Later => Ok(None),
            Begun::Failed(why) => Err(Tried::No(why)),
        }
    }

    /// What is asked now counts for nothing: something that matters more happens.
    pub(super) fn give_up_tries(&mut self) {
        for asked in self.readiness.iter_mut().chain(&mut self.liveness) {
            asked.give_up(self.hands.as_mut());
        }
    }

    /// Who answered is somebody else, where that can be seen. Beside an application its processes may be more than we see.
    pub(super) fn foreign_listener(&mut self, probe: &Probe) -> Option<String> {
        let (address, port) = probe::target(probe)?;
        if !address.is_loopback() || !self.state.keeper.as_ref()?.parent {
            return None;
        }
        let sockets = listening(address, port).filter(|sockets| !sockets.is_empty())?;
        let of = self.belonging();
        if self.hands.owns(&of, &sockets) != Some(false) {
            return None;
        }
        self.state.strangers = whose(&sockets);
        let named = self.state.strangers.first().map_or_else(
            || "a process that is not this application".to_owned(),
            |stranger| format!("pid {} ({}), which is not this application", stranger.pid, stranger.what),
        );
        Some(format!("port {port} is answered by {named}"))
    }

    pub(super) fn tell_not_ready(&mut self, why: String, now: Instant) {
        self.words_unwritten |= self.state.probe_failure.as_ref() != Some(&why);
        self.state.probe_failure = Some(why);
        let urgent = !self.state.strangers.is_empty();
        let rested = now.saturating_duration_since(self.words_written) >= WORDS_INTERVAL;
        if self.words_unwritten && (urgent || rested) {
            self.words_written = now;
            self.write();
        }
    }

    pub(super) fn tell_unasked(&mut self, why: &str) {
        if self.state.probe_failure.as_deref() != Some(why) {
            self.state.probe_failure = Some(why.to_owned());
            self.write();
        }
    }
}

fn by_command(executed: Executed, probe: &Probe) -> Tried {
    match &probe.action {
        ProbeAction::Exec { command } => executed.tried(command, probe::timeout(probe)),
        _ => Tried::Interrupted,
    }
}
