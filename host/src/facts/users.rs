//! Whether the SSH user can become other users, asked of sudo and su themselves, with a time limit. It starts nothing of a user's.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use landfall_host_protocol::RunAsMethod;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::getuid,
};

use super::root::passwd_line;
use crate::clock;

/// Time limit of one question: name services may be slow.
const TIME_LIMIT: Duration = Duration::from_secs(20);
/// Bytes of what a tool says that are read.
const MAX_OUTPUT: u64 = 4096;
/// Both ends must be ours: a sudo that passes them on ends with the shell that it started, and so would what the application hears.
const QUESTION: &str = "id -u && [ -c /proc/self/fd/0 ] && readlink /proc/self/fd/1";

/// What was found out about users to become.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrivilegeCheck {
    pub cannot_become: BTreeMap<String, String>,
    pub sudo_too_wide: bool,
}

/// Asks for each user. It blocks, at most 20 seconds for all of them together.
pub fn check_users(method: Option<RunAsMethod>, users: &[String]) -> PrivilegeCheck {
    check_until(method, users, clock::monotonic() + TIME_LIMIT)
}

fn check_until(method: Option<RunAsMethod>, users: &[String], until: Instant) -> PrivilegeCheck {
    let Some(method) = method else { return PrivilegeCheck::default() };
    let mut check = PrivilegeCheck::default();
    for user in users {
        if let Err(why) = can_become(method, user, until) {
            check.cannot_become.insert(user.clone(), why);
        }
    }
    check.sudo_too_wide = method == RunAsMethod::Sudo && getuid().as_raw() != 0 && {
        let mut sudo = Command::new("sudo");
        sudo.args(["-n", "-l", "-u", "root", "/bin/sh"]);
        run(sudo, until).is_ok_and(|answer| answer.succeeded)
    };
    check
}

/// `Err`: why not, as it was said there.
fn can_become(method: RunAsMethod, user: &str, until: Instant) -> Result<(), String> {
    if user.is_empty() || user.starts_with('-') || user.contains('\0') {
        return Err("no name of a user".to_owned());
    }
    let command = match method {
        RunAsMethod::Sudo => {
            let mut sudo = Command::new("sudo");
            sudo.args(["-n", "-u", user, "--", "/bin/sh", "-c", QUESTION]);
            sudo
        }
        RunAsMethod::Su => {
            let mut su = Command::new("su");
            su.args(["-s", "/bin/sh", "-c", QUESTION, "--", user]);
            su
        }
    };
    let mut id = Command::new("id");
    id.args(["-u", "--", user]);
    let uid = run(id, until)?;
    judge(&run(command, until)?, uid.text.trim())
}

/// The shell of that user says its number and has our own ends.
fn judge(answer: &Answer, uid: &str) -> Result<(), String> {
    let mut last = answer.text.lines().rev().map(str::trim).filter(|line| !line.is_empty());
    let (end, number) = (last.next().unwrap_or_default(), last.next().unwrap_or_default());
    if !uid.is_empty() && number == uid && end == answer.end {
        return Ok(());
    }
    if !uid.is_empty() && answer.text.lines().any(|line| line.trim() == uid) {
        return Err("sudo passes input and output on (log_input, log_output); the rule needs the tags NOLOG_INPUT: \
                    NOLOG_OUTPUT:"
            .to_owned());
    }
    let words: Vec<&str> = answer.text.split_whitespace().collect();
    if words.is_empty() { Err("no answer".to_owned()) } else { Err(words.join(" ")) }
}

/// The SSH user's name. Where the file does not know it, `id` is asked, for a static program can't ask the name services; it may be slow as
/// they are.
pub(crate) fn own_name() -> Option<String> {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let uid = getuid().as_raw();
    if let Some((name, ..)) = passwd.lines().filter_map(passwd_line).find(|(_, known, _)| *known == uid) {
        return Some(name.to_owned());
    }
    let mut id = Command::new("id");
    id.arg("-un");
    let answer = run(id, clock::monotonic() + TIME_LIMIT).ok().filter(|answer| answer.succeeded)?;
    answer.text.lines().last().map(|name| name.trim().to_owned())
}

#[derive(Debug)]
struct Answer {
    succeeded: bool,
    /// Output and errors, cut.
    text: String,
    /// The pipe that it was given as output, as `/proc` names it.
    end: String,
}

/// Runs a command to its end or its time limit.
fn run(mut command: Command, until: Instant) -> Result<Answer, String> {
    let tool = command.get_program().to_string_lossy().into_owned();
    if clock::monotonic() >= until {
        return Err(format!("{tool} was not asked: the others took all the time"));
    }
    let said = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => format!("{tool} is not installed"),
        _ => format!("{tool}: {error}"),
    };
    let (reader, writer) = io::pipe().map_err(said)?;
    let errors = writer.try_clone().map_err(said)?;
    let inode = rustix::fs::fstat(&reader).map(|found| found.st_ino).map_err(|error| said(error.into()))?;
    command.env("LC_ALL", "C").stdin(Stdio::null()).stdout(writer).stderr(errors);
    let child = command.spawn().map_err(said)?;
    drop(command);
    let (text, in_time) = read_until(reader, until);
    let succeeded = end(child, in_time);
    if !in_time {
        return Err(format!("{tool} did not answer within {} s", TIME_LIMIT.as_secs()));
    }
    Ok(Answer { succeeded, text, end: format!("pipe:[{inode}]") })
}

/// What came until the end of the stream; false: the time was up.
fn read_until(mut reader: io::PipeReader, until: Instant) -> (String, bool) {
    let mut bytes = Vec::new();
    loop {
        let left = until.saturating_duration_since(clock::monotonic());
        // One that never falls silent is late as well.
        if left.is_zero() {
            return (String::from_utf8_lossy(&bytes).into_owned(), false);
        }
        let timeout =
            Timespec { tv_sec: i64::try_from(left.as_secs()).unwrap_or(0), tv_nsec: left.subsec_nanos().into() };
        let mut fds = [PollFd::new(&reader, PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) => return (String::from_utf8_lossy(&bytes).into_owned(), false),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => break,
        }
        let mut buffer = [0; 1024];
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                let room = usize::try_from(MAX_OUTPUT).unwrap_or(usize::MAX).saturating_sub(bytes.len());
                bytes.extend(buffer.iter().take(count.min(room)));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    (String::from_utf8_lossy(&bytes).into_owned(), true)
}

/// Whether it succeeded. One that ran out of time is ended: it is our own child, not waited for yet, so its number is its own.
fn end(mut child: Child, in_time: bool) -> bool {
    // sudo is root's: one that can't be ended is not waited for.
    if !in_time && child.kill().is_err() {
        return false;
    }
    child.wait().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str) -> Answer {
        Answer { succeeded: true, text: text.to_owned(), end: "pipe:[7]".to_owned() }
    }

    #[test]
    fn a_shell_of_that_user_with_our_own_ends_is_a_yes() {
        assert_eq!(judge(&answer("Welcome\n1001\npipe:[7]\n"), "1001"), Ok(()));
    }

    #[test]
    fn a_sudo_that_passes_input_and_output_on_is_a_no() {
        assert!(judge(&answer("1001\npipe:[8]\n"), "1001").unwrap_err().contains("NOLOG_INPUT"));
    }

    #[test]
    fn what_sudo_says_is_told_on_one_line() {
        let said = judge(&answer("sudo: a password\n   is required\n"), "1001").unwrap_err();
        assert_eq!(said, "sudo: a password is required");
        assert!(judge(&answer("1000\npipe:[7]\n"), "1001").is_err(), "another user");
        assert!(judge(&answer("\npipe:[7]\n"), "").is_err(), "a user that id does not know");
    }

    fn later() -> Instant {
        clock::monotonic() + TIME_LIMIT
    }

    #[test]
    fn all_users_share_one_deadline_that_a_talkative_tool_can_not_pass() {
        let users = vec!["nobody".to_owned(); 64];
        let check = check_until(Some(RunAsMethod::Su), &users, clock::monotonic());
        assert!(check.cannot_become["nobody"].contains("was not asked"));
        let since = clock::monotonic();
        let mut yes = Command::new("yes");
        yes.arg("id");
        assert!(run(yes, since + Duration::from_millis(200)).is_err());
        assert!(since.elapsed() < TIME_LIMIT);
    }

    #[test]
    fn a_missing_tool_and_an_option_for_a_name_are_refused() {
        assert_eq!(run(Command::new("no-such-tool"), later()).unwrap_err(), "no-such-tool is not installed");
        assert!(can_become(RunAsMethod::Su, "--help", later()).is_err());
    }

    #[test]
    fn the_name_of_the_own_user_is_known() {
        if getuid().as_raw() == 0 {
            assert_eq!(own_name().as_deref(), Some("root"));
        }
    }

    #[test]
    fn root_becomes_another_user_with_su() {
        if getuid().as_raw() != 0 {
            return;
        }
        assert_eq!(can_become(RunAsMethod::Su, "nobody", later()), Ok(()));
        assert!(can_become(RunAsMethod::Su, "no-such-user", later()).is_err());
    }
}
