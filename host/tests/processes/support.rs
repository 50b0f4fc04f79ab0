//! What the tests stand on: children that are ended with their test, waits that watch, and a second run of a test in other surroundings.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use landfall_host::process::Identity;

/// A loaded machine may take long; a test that passes never waits this long.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Set in the second run of a test.
const INNER: &str = "LANDFALL_TEST_INNER";

/// A process that ends with the test, with all of its session.
pub struct Guarded(pub Child);

impl Guarded {
    pub fn spawn(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).spawn().unwrap())
    }

    /// `sh -c TEXT`, leader of a session of its own.
    pub fn shell(text: &str) -> Self {
        Self::spawn(Command::new("setsid").args(["sh", "-c", text]))
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }

    pub fn identity(&self) -> Identity {
        Identity::of(self.pid()).unwrap()
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        for process in landfall_host::process::session_members(self.pid()) {
            kill(process.pid, rustix::process::Signal::KILL);
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn kill(pid: i32, signal: rustix::process::Signal) {
    let _ = rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal);
}

/// Waits until it is so.
#[track_caller]
pub fn until(what: &str, mut is: impl FnMut() -> bool) {
    let end = now() + PATIENCE;
    while !is() {
        assert!(now() < end, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until there is something.
#[track_caller]
pub fn until_some<T>(what: &str, mut get: impl FnMut() -> Option<T>) -> T {
    let end = now() + PATIENCE;
    loop {
        if let Some(got) = get() {
            return got;
        }
        assert!(now() < end, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[expect(clippy::disallowed_methods, reason = "tests look at the time")]
pub fn now() -> Instant {
    Instant::now()
}

/// A line of a file that a process writes when it has come so far.
pub fn read_when_there(path: &Path) -> String {
    until_some(&format!("{} has a line", path.display()), || {
        std::fs::read_to_string(path).ok().filter(|text| text.ends_with('\n'))
    })
}

/// Is this the second run of a test, in other surroundings?
pub fn is_inner() -> bool {
    std::env::var_os(INNER).is_some()
}

/// Runs a test of this name a second time: `surroundings` is the command that leads to it, with its variables.
#[track_caller]
pub fn run_again(test: &str, surroundings: &[&str], variables: &[(&str, &str)]) {
    let own = std::env::current_exe().unwrap();
    let mut words = surroundings.iter();
    let mut command = match words.next() {
        Some(first) => {
            let mut command = Command::new(first);
            command.args(words).arg(&own);
            command
        }
        None => Command::new(&own),
    };
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(INNER, "1").stdin(Stdio::null());
    for (name, value) in variables {
        command.env(name, value);
    }
    let output = command.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    assert!(said.contains("1 passed"), "no such test: {said}");
}
