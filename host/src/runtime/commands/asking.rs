//! The questions to an application that nobody keeps, by who waits for it and by its watcher: its status command and its readiness probe.

use std::time::{Duration, Instant};

use landfall_host_protocol::{Probe, ProbeAction};

use super::{
    Commands,
    run::{Runs, Surroundings},
};
use crate::{
    clock,
    keeper::{Hands, Tries},
    probe::{self, Tried},
};

/// Between two questions for its status once it runs.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);
/// The same by who waits for it.
const WAITING_INTERVAL: Duration = Duration::from_secs(1);
/// The first and the last pause until it runs for the first time.
const FAST: Duration = Duration::from_millis(10);
/// Before a no is asked again.
const CONFIRM_PAUSE: Duration = Duration::from_millis(500);
/// Once something of it has ended.
const ALARM_TIME: Duration = Duration::from_secs(3);
const ALARM_INTERVAL: Duration = Duration::from_millis(200);
/// Answers in a row that count.
const NOES: u32 = 2;
const UNKNOWNS: u32 = 3;

/// What a look comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Ready,
    /// Too few answers yet, and what was said last.
    NotYet(String),
    NotReady(String),
    /// It had been running, and its status command says that it does not.
    Down(String),
}

pub(super) struct Asking {
    /// Of its user: got once, for the sign-in of every question would fill a log.
    hands: Box<dyn Hands>,
    begun: Instant,
    interval: Duration,
    due: Instant,
    /// Until then it is asked more often.
    alarmed: Instant,
    noes: u32,
    unknowns: u32,
    /// Its status command said so, at any time; of files it is always so.
    has_run: bool,
    said: String,
    /// `None`: it has no probe, and is ready while it runs.
    tries: Option<Tries>,
    last: Tried,
}

impl Asking {
    /// By who waits until it is ready.
    pub(super) fn new(hands: Box<dyn Hands>, readiness: Option<&Probe>) -> Self {
        let now = clock::monotonic();
        Self {
            hands,
            begun: now,
            interval: WAITING_INTERVAL,
            due: now,
            alarmed: now,
            noes: 0,
            unknowns: 0,
            has_run: false,
            said: "its status command was not asked yet".to_owned(),
            tries: readiness.map(|probe| Tries::new(probe, now)),
            last: Tried::Unasked("its readiness probe was not asked yet".to_owned()),
        }
    }

    /// Of one that was ready when it was asked last.
    pub(super) fn of_ready(hands: Box<dyn Hands>, readiness: Option<&Probe>) -> Self {
        let mut asking = Self::new(hands, readiness);
        asking.has_run = true;
        if let Some(tries) = &mut asking.tries {
            (tries.answer, tries.due) = (Some(true), asking.begun);
        }
        asking
    }

    /// By who stays beside it once it was started.
    pub(super) fn at_leisure(self) -> Self {
        Self { interval: STATUS_INTERVAL, has_run: true, ..self }
    }

    /// Something of it has ended; for a moment its status command may not have seen that.
    pub(super) fn ask_now(&mut self) {
        self.due = clock::monotonic();
        self.alarmed = self.due + ALARM_TIME;
    }

    /// When the next question is due.
    pub(super) fn due(&self, commands: &Commands) -> Instant {
        let tries = self.tries.as_ref().map(|tries| tries.due);
        let status = matches!(commands, Commands::Script { .. }).then_some(self.due);
        // (Of files without a probe nothing is asked.)
        status.into_iter().chain(tries).min().unwrap_or_else(|| clock::monotonic() + self.interval)
    }

    /// Asks what is due.
    pub(super) fn look(&mut self, around: &Surroundings<'_>, commands: &Commands) -> Look {
        if let Commands::Script { status, .. } = commands
            && let Some(look) = self.status(around, status)
        {
            return look;
        }
        self.readiness(around)
    }

    /// `None`: it runs, as far as is known.
    fn status(&mut self, around: &Surroundings<'_>, status: &super::Command) -> Option<Look> {
        let began = clock::monotonic();
        if began >= self.due {
            match around.runs(self.hands.as_mut(), status, status.limit) {
                Runs::Yes => {
                    (self.noes, self.unknowns, self.has_run) = (0, 0, true);
                    self.due = began + if began < self.alarmed { ALARM_INTERVAL } else { self.interval };
                }
                Runs::No(why) => {
                    self.noes += 1;
                    self.unknowns = 0;
                    self.said = why;
                    self.due = self.again(began);
                }
                Runs::Unknown(why) => {
                    self.unknowns += 1;
                    self.said = why;
                    self.due = clock::monotonic() + self.interval;
                }
            }
        }
        match self.has_run {
            true if self.noes >= NOES => Some(Look::Down(self.said.clone())),
            true if self.unknowns >= UNKNOWNS => Some(Look::NotReady(self.said.clone())),
            true => None,
            false => Some(Look::NotYet(self.said.clone())),
        }
    }

    /// Often at first, by the time gone and by what a question costs.
    fn again(&self, began: Instant) -> Instant {
        let now = clock::monotonic();
        if self.has_run {
            return now + CONFIRM_PAUSE;
        }
        let gone = now.saturating_duration_since(self.begun) / 32;
        let cost = now.saturating_duration_since(began) * 4;
        now + gone.max(cost).clamp(FAST, WAITING_INTERVAL)
    }

    fn readiness(&mut self, around: &Surroundings<'_>) -> Look {
        let Some(tries) = &mut self.tries else { return Look::Ready };
        let began = clock::monotonic();
        if began >= tries.due {
            let limit = probe::timeout(&tries.probe);
            let tried = match &tries.probe.action {
                ProbeAction::Exec { command } => around.try_command(self.hands.as_mut(), command, limit),
                action => probe::connect(action, limit, &[]),
            };
            self.last = tried.masked(around.secrets);
            tries.take(&self.last, began, clock::monotonic(), true);
        }
        let why = match &self.last {
            Tried::No(why) | Tried::Unasked(why) => why.clone(),
            Tried::Yes | Tried::Interrupted => tries.progress().unwrap_or_default(),
        };
        match tries.answer {
            Some(true) => Look::Ready,
            Some(false) => Look::NotReady(why),
            None => Look::NotYet(why),
        }
    }
}
