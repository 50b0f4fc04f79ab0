//! The gate that every durable effect passes, and the kill points of the tests: in a debug build the process ends just before or just
//! after the effect that the environment names. A release build does the effect and nothing else.
//!
//! `LANDFALL_HOST_GATE_LOG`: a file to which a line `NAME PID COMMAND` is appended before each effect. `LANDFALL_HOST_KILL`:
//! `NAME:N:before` or `NAME:N:after`, the N-th (from 1) effect of that name in this process, which then ends as by SIGKILL;
//! `COMMAND/NAME:…` only in processes that were started with this command. A number for `before` is the error (errno) by which the effect
//! fails, undone; `stop` stops the process there. `LANDFALL_HOST_UNSYNCED`: see [`crate::unsynced`].

use std::io;

/// Does one durable effect. `name`: of a closed list, `<thing>.<act>`.
pub fn pass<T>(name: &'static str, effect: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    #[cfg(debug_assertions)]
    let point = kill_points::reach(name)?;
    let done = effect();
    #[cfg(debug_assertions)]
    point.leave();
    #[cfg(not(debug_assertions))]
    let _ = name;
    done
}

#[cfg(debug_assertions)]
mod kill_points {
    use std::{
        collections::BTreeMap,
        fs::OpenOptions,
        io::{self, Write as _},
        sync::{LazyLock, Mutex, PoisonError},
    };

    struct Kill {
        name: String,
        count: u32,
        when: When,
    }

    enum When {
        Before,
        After,
        /// It does not die: the effect fails.
        Fails(i32),
        /// It does not die: it is stopped before the effect, as by SIGSTOP.
        Stops,
    }

    static KILL: LazyLock<Option<Kill>> = LazyLock::new(|| parse(&std::env::var("LANDFALL_HOST_KILL").ok()?));
    static LOG: LazyLock<Option<std::ffi::OsString>> = LazyLock::new(|| std::env::var_os("LANDFALL_HOST_GATE_LOG"));
    static REACHED: Mutex<BTreeMap<&'static str, u32>> = Mutex::new(BTreeMap::new());

    fn parse(text: &str) -> Option<Kill> {
        let mut words = text.split(':');
        let (name, count, when) = (words.next()?, words.next()?, words.next()?);
        let name = match name.split_once('/') {
            Some((wanted, _)) if wanted != command() => return None,
            Some((_, name)) => name,
            None => name,
        };
        let when = match when {
            "before" => When::Before,
            "after" => When::After,
            "stop" => When::Stops,
            errno => When::Fails(errno.parse().ok()?),
        };
        Some(Kill { name: name.to_owned(), count: count.parse().ok()?, when })
    }

    /// What this process was started for: `session`, `run-task`, `keep`.
    fn command() -> String {
        std::env::args().nth(1).unwrap_or_default()
    }

    pub(super) struct Point {
        dies_after: bool,
    }

    pub(super) fn reach(name: &'static str) -> io::Result<Point> {
        let count = {
            let mut reached = REACHED.lock().unwrap_or_else(PoisonError::into_inner);
            let count = reached.entry(name).or_default();
            *count += 1;
            *count
        };
        if let Some(path) = LOG.as_ref() {
            let line = format!("{name} {} {}\n", std::process::id(), command());
            let log = OpenOptions::new().create(true).append(true).open(path);
            let _ = log.and_then(|mut log| log.write_all(line.as_bytes()));
        }
        let Some(kill) = KILL.as_ref().filter(|kill| kill.name == name && kill.count == count) else {
            return Ok(Point { dies_after: false });
        };
        match kill.when {
            When::Before => die(),
            When::After => Ok(Point { dies_after: true }),
            When::Stops => {
                let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::STOP);
                Ok(Point { dies_after: false })
            }
            When::Fails(errno) => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    impl Point {
        pub(super) fn leave(self) {
            if self.dies_after {
                die();
            }
        }
    }

    fn die() -> ! {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        std::process::abort()
    }
}
