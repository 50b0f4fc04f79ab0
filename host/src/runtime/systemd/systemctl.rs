//! `systemctl`, run with a time limit, and what its `show` says, read strictly. It decides nothing and writes no file.

use std::{
    io::{self, Read, Seek, SeekFrom},
    path::{Component, Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use rustix::{fs::MemfdFlags, process::getuid};

use crate::{
    core_dumps, keeper,
    process::{Found, Identity, find},
};

/// Time limit of what does not wait for an application.
pub(super) const QUESTION_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of an answer that are read.
const OUTPUT_MAX: u64 = 256 << 10;
/// Characters of what it says that are told.
const SHOWN_MAX: usize = 1000;
/// What [`Shown`] is made of. All of it has names since systemd 235.
const PROPERTIES: &str = "--property=LoadState,ActiveState,SubState,Result,MainPID,InvocationID,ControlGroup,FragmentPath,NRestarts,\
                          ExecMainCode,ExecMainStatus,ExecMainExitTimestampMonotonic,ActiveEnterTimestampMonotonic,\
                          InactiveEnterTimestampMonotonic";

/// By what a unit names a folder.
const NAMES: &str = "--property=WorkingDirectory,EnvironmentFiles,ExecStart";

/// Whose units are meant, and with which rights they are started and stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manager {
    /// The machine's, and we are root.
    System,
    /// The machine's, by sudo.
    Sudo,
    /// The one of the SSH user.
    User,
}

/// Why a call came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CallError {
    /// There is no such program.
    Missing(&'static str),
    TimedOut(Duration),
    /// What it said.
    Failed(String),
}

impl std::fmt::Display for CallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing(tool) => write!(f, "{tool} is not installed"),
            Self::TimedOut(limit) => write!(f, "systemctl did not answer within {} s", limit.as_secs()),
            Self::Failed(said) => f.write_str(said),
        }
    }
}

impl Manager {
    /// Asks about a unit; one that does not exist has an answer as well.
    pub(super) fn show(self, unit: &str, timeout: Duration) -> Result<Shown, CallError> {
        let asked = self.call(self.command(false, &["show", PROPERTIES, "--", unit]), timeout);
        let text = match asked {
            // Where only root may ask, sudo lets us in exactly these words.
            Err(CallError::Failed(_)) if self == Self::Sudo => {
                self.call(self.command(true, &["show", unit]), timeout)?
            }
            asked => asked?,
        };
        Shown::parse(&text).map_err(|why| CallError::Failed(format!("systemctl show {unit}: {why}")))
    }

    /// Whether a unit names one of these folders. (Asked for itself: what stands in `ExecStart` could be taken for a property of [`Shown`].)
    pub(super) fn names(self, unit: &str, folders: &[PathBuf], timeout: Duration) -> Result<bool, CallError> {
        let asked = self.call(self.command(false, &["show", NAMES, "--", unit]), timeout);
        let text = match asked {
            Err(CallError::Failed(_)) if self == Self::Sudo => {
                self.call(self.command(true, &["show", unit]), timeout)?
            }
            asked => asked?,
        };
        Ok(folders.iter().any(|folder| names_folder(&text, folder)))
    }

    /// Number of systemd's version.
    pub(super) fn version(self) -> Result<u32, CallError> {
        let text = self.call(self.command(false, &["show", "--property=Version"]), QUESTION_TIMEOUT)?;
        let digits: String = text.trim().strip_prefix("Version=").unwrap_or_default().chars().collect();
        let digits: String =
            digits.trim_start_matches(|c: char| !c.is_ascii_digit()).chars().take_while(char::is_ascii_digit).collect();
        digits
            .parse()
            .map_err(|_| CallError::Failed(format!("systemctl show told no version but {:?}", shorten(&text))))
    }

    pub(super) fn start(self, unit: &str, timeout: Duration) -> Result<(), CallError> {
        self.call(self.command(true, &["start", unit]), timeout).map(|_| ())
    }

    pub(super) fn stop(self, unit: &str, timeout: Duration) -> Result<(), CallError> {
        self.call(self.command(true, &["stop", unit]), timeout).map(|_| ())
    }

    pub(super) fn reset_failed(self, unit: &str) -> Result<(), CallError> {
        self.call(self.command(true, &["reset-failed", unit]), QUESTION_TIMEOUT).map(|_| ())
    }

    pub(super) fn reload(self) -> Result<(), CallError> {
        self.call(self.command(true, &["daemon-reload"]), QUESTION_TIMEOUT).map(|_| ())
    }

    /// Whether sudo allows a verb for a unit; else what it says.
    pub(super) fn is_allowed(self, verb: &str, unit: &str) -> Result<(), CallError> {
        if self != Self::Sudo {
            return Ok(());
        }
        let mut command = Command::new("sudo");
        command.args(["-n", "-l", "systemctl", verb, unit]);
        self.call(command, QUESTION_TIMEOUT).map(|_| ())
    }

    fn command(self, needs_rights: bool, arguments: &[&str]) -> Command {
        let mut command = match self {
            Self::Sudo if needs_rights => {
                let mut command = Command::new("sudo");
                command.args(["-n", "systemctl"]);
                command
            }
            Self::System | Self::Sudo => Command::new("systemctl"),
            Self::User => {
                let mut command = Command::new("systemctl");
                command.arg("--user");
                command
            }
        };
        command.args(arguments);
        command
    }

    /// Runs it to its end or its time limit; what it printed.
    fn call(self, mut command: Command, timeout: Duration) -> Result<String, CallError> {
        let tool = if command.get_program() == "sudo" { "sudo" } else { "systemctl" };
        let failed = |error: io::Error| CallError::Failed(format!("{tool}: {error}"));
        let file = || rustix::fs::memfd_create("systemctl", MemfdFlags::CLOEXEC).map(std::fs::File::from);
        let mut output = file().map_err(|error| failed(error.into()))?;
        let mut errors = file().map_err(|error| failed(error.into()))?;
        command.env_clear().env("PATH", keeper::PATH).env("LC_ALL", "C").envs(keeper::login());
        if self == Self::User {
            command.env("XDG_RUNTIME_DIR", runtime_folder());
        }
        command.current_dir("/").stdin(Stdio::null());
        command.stdout(output.try_clone().map_err(failed)?).stderr(errors.try_clone().map_err(failed)?);
        let mut child = match core_dumps::as_before(|| command.spawn()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(CallError::Missing(tool)),
            spawned => spawned.map_err(failed)?,
        };
        let ended = match i32::try_from(child.id()).ok().and_then(Identity::of).map(|identity| find(&identity)) {
            Some(Found::Alive(handle)) => handle.wait(timeout),
            // It is our child and not waited for: what can't be seen of it has ended.
            Some(Found::Dead | Found::Hidden) | None => true,
        };
        // sudo is root's, and may not be ended by us: then it is not waited for.
        if !ended && (child.kill().is_err() || tool == "sudo") {
            return Err(CallError::TimedOut(timeout));
        }
        let status = child.wait().map_err(failed)?;
        if !ended {
            return Err(CallError::TimedOut(timeout));
        }
        if status.success() {
            return read(&mut output).map_err(failed);
        }
        let said = [read(&mut errors), read(&mut output)].map(Result::unwrap_or_default);
        let said = said.iter().map(|text| shorten(text)).find(|text| !text.is_empty());
        Err(CallError::Failed(said.unwrap_or_else(|| format!("{tool} ended with {status}"))))
    }
}

/// Whether a unit runs in a folder, reads its environment from there, runs a program from there, or is given one of the release.
fn names_folder(text: &str, folder: &Path) -> bool {
    let is_below = |path: &str, place: &Path| {
        let path = Path::new(path);
        path.starts_with(place) && !path.components().any(|part| part == Component::ParentDir)
    };
    let current = folder.join("current");
    let value = |name: &str| {
        text.lines().filter_map(move |line| line.strip_prefix(name)?.strip_prefix('=')).collect::<Vec<_>>()
    };
    let of_folder = value("WorkingDirectory").iter().any(|path| is_below(path.trim_start_matches(['!', '-']), folder));
    let of_environment = value("EnvironmentFiles")
        .iter()
        .any(|file| is_below(file.rsplit_once(" (").map_or(*file, |(path, _)| path), folder));
    let of_command = value("ExecStart").iter().any(|command| {
        let part = |name: &str| {
            command.split(" ; ").find_map(|part| part.trim_start_matches("{ ").strip_prefix(name)).unwrap_or_default()
        };
        let words = part("argv[]=").split_whitespace().map(|word| word.trim_matches('"'));
        is_below(part("path="), folder) || words.into_iter().any(|word| is_below(word, &current))
    });
    of_folder || of_environment || of_command
}

/// Whether a limit of memory holds for units of this manager: it has the controller.
pub(super) fn limits_memory(manager: Manager) -> bool {
    let has = |folder: &str| {
        let listed = std::fs::read_to_string(format!("/sys/fs/cgroup{folder}/cgroup.controllers")).unwrap_or_default();
        listed.split_whitespace().any(|controller| controller == "memory")
    };
    let uid = getuid().as_raw();
    match manager {
        Manager::User => has(&format!("/user.slice/user-{uid}.slice/user@{uid}.service")),
        // Of version 1 root's manager has all controllers that are mounted.
        Manager::System | Manager::Sudo => has("") || Path::new("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists(),
    }
}

/// The folder in which the SSH user's manager listens.
pub(super) fn runtime_folder() -> String {
    format!("/run/user/{}", getuid().as_raw())
}

/// systemd runs this machine.
pub(super) fn is_booted() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

fn read(file: &mut std::fs::File) -> io::Result<String> {
    file.seek(SeekFrom::Start(0))?;
    let mut bytes = Vec::new();
    file.take(OUTPUT_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// On one line, and not too long.
fn shorten(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(keeper::clean).filter(|line| !line.trim().is_empty()).collect();
    lines.join("; ").chars().take(SHOWN_MAX).collect()
}

/// A unit as its manager sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) load: String,
    pub(super) active: Active,
    pub(super) sub: String,
    pub(super) result: String,
    /// 0: none.
    pub(super) main_pid: i32,
    pub(super) control_group: String,
    /// Where its file lies; empty where it has none.
    pub(super) fragment: String,
    pub(super) restarts: u32,
    pub(super) exit: Option<Exit>,
    /// Milliseconds since boot; 0: never.
    pub(super) exited_at: u64,
    pub(super) active_since: u64,
    pub(super) inactive_since: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Active {
    Up,
    Activating,
    Deactivating,
    Inactive,
    Failed,
}

/// How its main process ended the last time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    Status(i32),
    Signal(i32),
}

impl Shown {
    /// Properties that this program does not know are passed over; one that it needs must be there and be what it should be.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let get = |name: &str| {
            let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            found.ok_or_else(|| format!("{name} is missing"))
        };
        let number = |name: &str| {
            let said = get(name)?;
            said.parse::<u64>().map_err(|_| format!("{name} is {:?} and no number", shorten(said)))
        };
        // A unit that never ran, or is not there, tells none of these.
        let number_or_none = |name: &str| match get(name) {
            Err(_) | Ok("" | "[not set]") => Ok(0),
            Ok(_) => number(name),
        };
        let millis = |name: &str| number_or_none(name).map(|micros| micros / 1000);
        let small = |number: u64| i32::try_from(number).map_err(|_| format!("{number} is too large"));
        let active = match get("ActiveState")? {
            "active" | "reloading" | "refreshing" => Active::Up,
            "activating" => Active::Activating,
            "deactivating" => Active::Deactivating,
            "inactive" | "maintenance" => Active::Inactive,
            "failed" => Active::Failed,
            other => return Err(format!("ActiveState is {:?}", shorten(other))),
        };
        let status = small(number_or_none("ExecMainStatus")?)?;
        let exit = match number_or_none("ExecMainCode")? {
            // CLD_EXITED, CLD_KILLED and CLD_DUMPED of waitid.
            1 => Some(Exit::Status(status)),
            2 | 3 => Some(Exit::Signal(status)),
            _ => None,
        };
        Ok(Self {
            load: get("LoadState")?.to_owned(),
            active,
            sub: get("SubState")?.to_owned(),
            result: get("Result").unwrap_or_default().to_owned(),
            main_pid: small(number_or_none("MainPID")?)?,
            control_group: get("ControlGroup").unwrap_or_default().to_owned(),
            fragment: get("FragmentPath").unwrap_or_default().to_owned(),
            restarts: u32::try_from(number_or_none("NRestarts")?).unwrap_or(u32::MAX),
            exit,
            exited_at: millis("ExecMainExitTimestampMonotonic")?,
            active_since: millis("ActiveEnterTimestampMonotonic")?,
            inactive_since: millis("InactiveEnterTimestampMonotonic")?,
        })
    }

    /// The process that runs.
    pub(super) fn main(&self) -> Option<Identity> {
        Identity::of(self.main_pid).filter(|_| self.main_pid > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNNING: &str = "MainPID=812\nNRestarts=2\nExecMainExitTimestampMonotonic=0\nExecMainCode=0\nExecMainStatus=0\nResult=success\n\
                           ControlGroup=/system.slice/landfall-shop.web.service\nInvocationID=72112884458745e3a7da53a6aa62953d\n\
                           LoadState=loaded\nActiveState=active\nSubState=running\nActiveEnterTimestampMonotonic=37204356221\n\
                           FragmentPath=/etc/systemd/system/landfall-shop.web.service\nInactiveEnterTimestampMonotonic=0\n";

    #[test]
    fn what_runs_is_read() {
        let shown = Shown::parse(RUNNING).unwrap();
        assert_eq!((shown.active, shown.main_pid, shown.restarts, shown.exit), (Active::Up, 812, 2, None));
        assert_eq!(shown.active_since, 37_204_356);
        assert_eq!(shown.control_group, "/system.slice/landfall-shop.web.service");
    }

    #[test]
    fn an_end_is_told_from_a_signal() {
        let with = |code: &str, status: &str| {
            let text = RUNNING.replace("ExecMainCode=0", code).replace("ExecMainStatus=0", status);
            Shown::parse(&text).unwrap().exit
        };
        assert_eq!(with("ExecMainCode=1", "ExecMainStatus=3"), Some(Exit::Status(3)));
        assert_eq!(with("ExecMainCode=2", "ExecMainStatus=9"), Some(Exit::Signal(9)));
        assert_eq!(with("ExecMainCode=3", "ExecMainStatus=11"), Some(Exit::Signal(11)));
    }

    #[test]
    fn a_unit_that_is_not_there_has_few_properties() {
        let shown = Shown::parse("LoadState=not-found\nActiveState=inactive\nSubState=dead\n").unwrap();
        assert_eq!((shown.active, shown.main_pid, shown.load.as_str()), (Active::Inactive, 0, "not-found"));
        assert_eq!(shown.main(), None);
    }

    #[test]
    fn a_unit_names_a_folder_by_what_it_runs() {
        let folder = Path::new("/srv/landfall/shop.web");
        let command = |path: &str, words: &str| {
            format!(
                "ExecStart={{ path={path} ; argv[]={words} ; ignore_errors=no ; pid=0 ; code=(null) ; status=0/0 }}\n"
            )
        };
        for named in [
            "WorkingDirectory=/srv/landfall/shop.web/current\n".to_owned(),
            "WorkingDirectory=!/srv/landfall/shop.web\n".to_owned(),
            "EnvironmentFiles=/srv/other (ignore_errors=no)\nEnvironmentFiles=/srv/landfall/shop.web/.landfall/unit.env (ignore_errors=yes)\n"
                .to_owned(),
            command("/srv/landfall/shop.web/current/run", "/srv/landfall/shop.web/current/run"),
            command("/usr/bin/java", "/usr/bin/java -jar /srv/landfall/shop.web/current/app.jar"),
        ] {
            assert!(names_folder(&named, folder), "{named}");
        }
        for other in [
            String::new(),
            "WorkingDirectory=\n".to_owned(),
            "WorkingDirectory=/srv/landfall/shop.web2\n".to_owned(),
            "WorkingDirectory=/srv/landfall/shop.web/../other\n".to_owned(),
            "EnvironmentFiles=/srv/landfall/shop.other/.landfall/unit.env (ignore_errors=no)\n".to_owned(),
            "Description=/srv/landfall/shop.web\n".to_owned(),
            command("/usr/bin/tar", "/usr/bin/tar c /srv/landfall/shop.web/shared/data"),
        ] {
            assert!(!names_folder(&other, folder), "{other}");
        }
    }

    #[test]
    fn what_systemctl_never_says_is_refused() {
        for (said, instead) in [
            ("MainPID=812", "MainPID=-1"),
            ("MainPID=812", "MainPID=99999999999"),
            ("MainPID=812", "MainPID=1;2"),
            ("NRestarts=2", "NRestarts=many"),
            ("ActiveState=active", "ActiveState=fine"),
            ("LoadState=loaded\n", ""),
        ] {
            assert!(Shown::parse(&RUNNING.replace(said, instead)).is_err(), "{instead}");
        }
        assert!(Shown::parse("").is_err());
        assert!(Shown::parse("Failed to connect to bus: No medium found\n").is_err());
    }
}
