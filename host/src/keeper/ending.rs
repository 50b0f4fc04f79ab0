//! The end of an application: its signal, its grace period, KILL to what is left. What is signalled is proved to be its own.

use std::time::{Duration, Instant};

use landfall_host_protocol::{Reason, Stop, StopTo};
use rustix::process::Signal;

use super::hands::{Belonging, Hands};
use crate::{
    clock,
    failure::StepFailure,
    process::{Found, Identity, describe_all, find, signal_of, user_of},
};

/// After KILL, until what is left is told.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);
const KILL_TIMEOUT_MILLIS: &str = "LANDFALL_HOST_KILL_TIMEOUT_MILLIS";
/// The same where nothing that is left may be signalled.
const REFUSED_TIMEOUT: Duration = Duration::from_millis(200);
/// Between two looks at what is left once the first process is dead: short at first, for most is over in a moment.
const LOOK_INTERVAL_MIN: Duration = Duration::from_millis(2);
const LOOK_INTERVAL_MAX: Duration = Duration::from_millis(100);

/// Nobody can cancel an end, so it takes no longer; more is not configured either.
const GRACE_MAX: Duration = Duration::from_secs(3600);

/// How long an application may take to end before it is killed.
pub fn grace(stop: &Stop) -> Duration {
    Duration::from_secs(u64::from(stop.grace_seconds)).min(GRACE_MAX)
}

/// What outlives KILL, or may not be signalled: some of another user, as setuid programs start them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unended(pub Vec<Identity>);

/// What is told of them: who they are, and who can end them.
pub fn unended(processes: &[Identity]) -> Box<StepFailure> {
    let strangers = describe_all(processes);
    let named: Vec<String> = strangers
        .iter()
        .map(|stranger| match stranger.pid {
            0 => stranger.what.clone(),
            pid => format!("pid {pid} ({})", stranger.what),
        })
        .collect();
    let pids: Vec<String> =
        strangers.iter().filter(|stranger| stranger.pid != 0).map(|stranger| stranger.pid.to_string()).collect();
    let own = rustix::process::getuid().as_raw();
    let what_to_do = if processes.iter().all(|process| user_of(process.pid) == Some(own)) {
        "SIGKILL does not end them, for they wait for a device or a file system: mend that, or reboot the host"
            .to_owned()
    } else {
        format!("end them as root (kill -KILL {}), then it goes on", pids.join(" "))
    };
    let why = format!("these processes of the application can't be ended: {}; {what_to_do}", named.join(", "));
    let mut failure = StepFailure::new(Reason::StopFailed, why);
    failure.strangers = strangers;
    failure
}

/// Ends the application and whatever belongs to it; how many of it were left when the first process was dead.
///
/// With `to: Main` the first process alone gets the signal. What it leaves gets the same once it is dead, so that a shell in front of a
/// program does not cost the program its orderly end. At the end of the grace period KILL goes to all.
///
/// `meanwhile` does what else is due, and answers when it is next.
pub fn end(
    hands: &mut dyn Hands,
    application: Option<&Identity>,
    of: &Belonging,
    stop: &Stop,
    meanwhile: &mut dyn FnMut() -> Option<Instant>,
) -> Result<u32, Unended> {
    let signal = signal_of(&stop.signal).unwrap_or(Signal::TERM);
    let grace_ends = clock::monotonic() + grace(stop);
    let mut told: Vec<Identity> = Vec::new();
    // Once its first process is dead, who belongs to it may be known from before alone.
    let mut seen = hands.living(of);
    let main = application.filter(|main| !matches!(find(main), Found::Dead));
    if let Some(main) = main {
        told.push(main.clone());
        if stop.to == StopTo::Group {
            told.extend(hands.living(of).into_iter().filter(|process| process != main));
        }
        for process in &told {
            tell(hands, process, signal);
        }
        wait(main, grace_ends, meanwhile);
    }
    let mut left: Option<u32> = None;
    let mut pause = LOOK_INTERVAL_MIN;
    loop {
        let living = everything(hands, application, of, &mut seen);
        let left = *left.get_or_insert(u32::try_from(living.len()).unwrap_or(u32::MAX));
        if living.is_empty() && hands.is_over(of) {
            return Ok(left);
        }
        if clock::monotonic() >= grace_ends {
            break;
        }
        for process in living {
            if !told.contains(&process) {
                tell(hands, &process, signal);
                told.push(process);
            }
        }
        meanwhile();
        std::thread::sleep(pause);
        pause = (pause * 2).min(LOOK_INTERVAL_MAX);
    }
    let left = left.unwrap_or(0);
    if let Some(main) = main {
        let _ = hands.signal(main, Signal::KILL);
    }
    let kill_timeout = clock::unless_told(KILL_TIMEOUT_MILLIS, KILL_TIMEOUT);
    let kill_ends = clock::monotonic() + kill_timeout;
    hands.end_all(of, kill_timeout);
    let mut refused_ends = clock::monotonic() + REFUSED_TIMEOUT;
    loop {
        let mut living = everything(hands, application, of, &mut seen);
        if living.is_empty() && hands.is_over(of) {
            return Ok(left);
        }
        let now = clock::monotonic();
        if now >= kill_ends.min(refused_ends) {
            living.extend(hands.unseen(of));
            return Err(Unended(living));
        }
        for process in &living {
            if matches!(hands.signal(process, Signal::KILL), Ok(true)) {
                refused_ends = now + REFUSED_TIMEOUT;
            }
        }
        std::thread::sleep(LOOK_INTERVAL_MIN);
    }
}

fn everything(
    hands: &mut dyn Hands,
    application: Option<&Identity>,
    of: &Belonging,
    seen: &mut Vec<Identity>,
) -> Vec<Identity> {
    let mut living = hands.living(of);
    seen.retain(|process| !living.contains(process) && matches!(find(process), Found::Alive(_)));
    living.append(seen);
    seen.extend_from_slice(&living);
    if let Some(application) = application
        && !matches!(find(application), Found::Dead)
        && !living.contains(application)
    {
        living.push(application.clone());
    }
    living
}

/// Also one that is stopped hears it. One that is dead already need not; one that can't be signalled is told in the end.
fn tell(hands: &mut dyn Hands, process: &Identity, signal: Signal) {
    let _ = hands.signal(process, signal);
    let _ = hands.signal(process, Signal::CONT);
}

fn wait(process: &Identity, end: Instant, meanwhile: &mut dyn FnMut() -> Option<Instant>) {
    loop {
        let due = meanwhile();
        let now = clock::monotonic();
        let left = end.saturating_duration_since(now);
        // One moment at least, whatever is due.
        let pause = due.map_or(left, |due| due.saturating_duration_since(now).max(LOOK_INTERVAL_MIN).min(left));
        match find(process) {
            Found::Dead => return,
            _ if left.is_zero() => return,
            Found::Alive(handle) => {
                handle.wait(pause);
            }
            Found::Hidden => std::thread::sleep(LOOK_INTERVAL_MAX.min(pause)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io, os::fd::BorrowedFd};

    use super::*;
    use crate::{
        keeper::{
            Begun, Executed, Exit, UnderWay,
            launch::{Launch, LaunchError},
        },
        process::Listening,
    };

    /// Who has a process that is missed by the first lists.
    struct Hasty {
        child: Identity,
        lists: usize,
    }

    impl Hands for Hasty {
        fn prepare(&mut self, _output: &File) -> io::Result<Identity> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn go(&mut self, _launch: &Launch) -> Result<(), LaunchError> {
            Ok(())
        }

        fn signal(&mut self, process: &Identity, signal: Signal) -> io::Result<bool> {
            match find(process) {
                Found::Alive(handle) => handle.signal(signal),
                Found::Dead | Found::Hidden => Ok(false),
            }
        }

        fn living(&mut self, _of: &Belonging) -> Vec<Identity> {
            self.lists += 1;
            let seen = self.lists > 3 && matches!(find(&self.child), Found::Alive(_));
            seen.then(|| self.child.clone()).into_iter().collect()
        }

        fn end_all(&mut self, _of: &Belonging, _timeout: Duration) -> bool {
            true
        }

        fn is_over(&mut self, _of: &Belonging) -> bool {
            matches!(find(&self.child), Found::Dead)
        }

        fn reap(&mut self, _wanted: i32) -> Option<Exit> {
            None
        }

        fn owns(&mut self, _of: &Belonging, _sockets: &[Listening]) -> Option<bool> {
            None
        }

        fn begin(&mut self, _launch: &Launch, _timeout: Duration) -> Begun {
            Begun::Later
        }

        fn look(&mut self, _command: &mut UnderWay) -> Option<Executed> {
            None
        }

        fn give_up(&mut self, _command: UnderWay) {}

        fn watched<'a>(&'a self, _command: &'a UnderWay) -> Vec<BorrowedFd<'a>> {
            Vec::new()
        }
    }

    #[test]
    fn a_grace_period_ends_within_an_hour() {
        let of = |grace_seconds| grace(&Stop { grace_seconds, ..Stop::default() });
        assert_eq!(of(u32::MAX), Duration::from_secs(3600));
        assert_eq!(of(30), Duration::from_secs(30));
    }

    #[test]
    fn what_one_list_misses_is_ended_all_the_same() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let identity = Identity::of(i32::try_from(child.id()).unwrap()).unwrap();
        let mut hands = Hasty { child: identity.clone(), lists: 0 };
        end(&mut hands, None, &Belonging::default(), &Stop::default(), &mut || None).unwrap();
        assert!(matches!(find(&identity), Found::Dead));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
