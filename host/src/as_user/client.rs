//! Our side: the hands of another user.

use std::{
    fs::File,
    io::{self, Read},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use landfall_host_protocol::{RunAs, SecretValue};
use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Signal, getuid},
};

use super::{
    ask::{Ask, Lines, Said},
    become_command,
};
use crate::{
    clock, core_dumps, files,
    keeper::{
        Begun, Belonging, Executed, Exit, Hands, Own, UnderWay,
        launch::{Launch, LaunchError},
    },
    process::{Found, Identity, Listening, Stat, find, is_dead, timespec, user_of},
};

/// sudo and su may ask name services that are slow.
const BECOME_TIMEOUT: Duration = Duration::from_secs(20);
/// The other user's process does what it is asked at once; but the machine may be slow.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Processes of that user that are taken from him.
const LIVING_MAX: usize = 10_000;
/// Characters of what sudo says.
const SHOWN_MAX: usize = 500;

/// The hands of a user. They are got at the first need, and again where they were lost.
pub struct AsUser {
    run_as: RunAs,
    output: Output,
    connection: Option<Lines>,
    hand: Option<Hand>,
    /// Number of the command whose answer is still to come. Whatever is asked next ends it.
    executes: Option<u64>,
    /// Commands that were begun.
    begun: u64,
    own: Own,
}

/// That user's process, as it says itself.
#[derive(Clone, Copy)]
struct Hand {
    uid: u32,
    pid: i32,
}

impl Hand {
    /// A process that it names lives, and is of its user where that may be seen. Of root's and ours it names none: who has those is seen.
    fn may_have(self, process: &Identity) -> bool {
        let is_his = |user: u32| user == self.uid && user != 0 && user != getuid().as_raw();
        !matches!(find(process), Found::Dead) && user_of(process.pid).is_none_or(is_his)
    }
}

/// Where the output goes of what is started.
enum Output {
    Log(PathBuf),
    Pipe(File),
}

impl Output {
    fn open(&self) -> io::Result<File> {
        match self {
            Self::Log(path) => files::open_plain(path, File::options().append(true)).or_else(|_| nothing()),
            Self::Pipe(pipe) => pipe.try_clone(),
        }
    }
}

fn nothing() -> io::Result<File> {
    File::options().write(true).open("/dev/null")
}

impl AsUser {
    /// `log`: of the application that is started.
    pub fn new(run_as: &RunAs, log: &Path) -> Self {
        Self::with(run_as, Output::Log(log.to_owned()), None)
    }

    /// What it starts prints to this pipe.
    pub fn to_pipe(run_as: &RunAs, pipe: File) -> Self {
        Self::with(run_as, Output::Pipe(pipe), None)
    }

    /// Goes on with a connection that an earlier program of this process had.
    pub fn resumed(run_as: &RunAs, log: &Path, connection: OwnedFd) -> Self {
        Self::with(run_as, Output::Log(log.to_owned()), Some(Lines::new(UnixStream::from(connection))))
    }

    fn with(run_as: &RunAs, output: Output, connection: Option<Lines>) -> Self {
        Self { run_as: run_as.clone(), output, connection, hand: None, executes: None, begun: 0, own: Own::default() }
    }

    fn connect(&mut self) -> Result<&mut Lines, String> {
        if self.connection.is_none() {
            let output = self.output.open().map_err(|error| format!("output: {error}"))?;
            let (lines, hand) = connect(&self.run_as, output)?;
            self.connection = Some(lines);
            self.hand = Some(hand);
        }
        self.connection.as_mut().ok_or_else(|| "no connection".to_owned())
    }

    /// That user's process, which is none of the application.
    fn hand(&mut self) -> Option<Hand> {
        if self.hand.is_none()
            && self.connection.is_some()
            && let Ok(Said::Hello { uid, pid }) = self.ask(&Ask::Nothing, ANSWER_TIMEOUT)
        {
            self.hand = Some(Hand { uid, pid });
        }
        self.hand
    }

    /// Did that user's process start this one, as far as that may be seen?
    fn has_started(&mut self, identity: &Identity) -> bool {
        let Some(Stat { parent, .. }) = Stat::read(identity.pid) else { return true };
        let Ok(Said::Hello { uid, pid }) = self.ask(&Ask::Nothing, ANSWER_TIMEOUT) else { return false };
        parent == pid && [pid, identity.pid].into_iter().all(|pid| user_of(pid) == Some(uid))
    }

    /// What was started by these hands, and lives.
    pub fn started(&mut self) -> Belonging {
        let hand = self.hand().and_then(|hand| Identity::of(hand.pid));
        Belonging { below: hand.into_iter().collect(), ..Belonging::default() }
    }

    /// A question and its answer; a connection that broke is made again once.
    fn ask(&mut self, ask: &Ask, timeout: Duration) -> Result<Said, String> {
        for _ in 0..2 {
            let executes = self.executes.take().is_some();
            let lines = self.connect()?;
            let end = Some(clock::monotonic() + timeout);
            let answered = lines.write(ask, end).and_then(|()| match executes {
                // The command that this ended answers first.
                true => lines.read::<Said>(end).and_then(|_| lines.read::<Said>(end)),
                false => lines.read::<Said>(end),
            });
            match answered {
                Ok(Said::Failed(why)) => return Err(why),
                Ok(said) => return Ok(said),
                Err(_) => self.connection = None,
            }
        }
        Err(format!("the process of {} does not answer", self.run_as.user))
    }

    /// Makes a folder that is that user's, below one that is ours: it is open to all for that moment, and sticky.
    pub fn make_folder(&mut self, path: &Path) -> Result<(), String> {
        use std::os::unix::fs::PermissionsExt;
        let parent = path.parent().ok_or("no parent")?;
        let open = |mode| std::fs::set_permissions(parent, std::fs::Permissions::from_mode(mode));
        let said = |error: io::Error| format!("{}: {error}", parent.display());
        // sudo may take its time: only then is it open.
        self.connect()?;
        open(0o1777).map_err(said)?;
        let made = self.ask(&Ask::MakeFolder { path: path.to_owned() }, ANSWER_TIMEOUT);
        open(0o755).map_err(said)?;
        made.map(|_| ())
    }

    /// A file of that user's lies there, with these bytes and this mode.
    pub fn has_file(&mut self, path: &Path, size: usize, sha256: &str, mode: u32) -> io::Result<bool> {
        let ask = Ask::HasFile { path: path.to_owned(), size, sha256: sha256.to_owned(), mode };
        match self.ask(&ask, ANSWER_TIMEOUT).map_err(io::Error::other)? {
            Said::Has(has) => Ok(has),
            _ => Err(io::Error::other("an answer to nothing")),
        }
    }

    /// Writes a new file that is that user's, in a folder that takes it.
    pub fn make_file(&mut self, path: &Path, value: &SecretValue, mode: u32) -> io::Result<()> {
        let ask = Ask::MakeFile { path: path.to_owned(), value: value.clone(), mode };
        match self.ask(&ask, ANSWER_TIMEOUT).map_err(io::Error::other)? {
            Said::Made => Ok(()),
            Said::NotMade { errno: Some(errno), .. } => Err(io::Error::from_raw_os_error(errno)),
            Said::NotMade { why, .. } => Err(io::Error::other(why)),
            _ => Err(io::Error::other("an answer to nothing")),
        }
    }

    /// What that user's process says its user is.
    pub fn uid(&mut self) -> Result<u32, String> {
        match self.ask(&Ask::Nothing, ANSWER_TIMEOUT)? {
            Said::Hello { uid, .. } => Ok(uid),
            _ => Err("an answer to nothing".to_owned()),
        }
    }

    /// Ends a command that is under way: the next question does.
    fn end(&mut self, number: u64) {
        if self.executes == Some(number) {
            let _ = self.ask(&Ask::Nothing, ANSWER_TIMEOUT);
        }
    }

    /// Removes what the user put into a folder of his.
    pub fn empty_folder(&mut self, path: &Path) -> Result<(), String> {
        self.ask(&Ask::EmptyFolder { path: path.to_owned() }, Duration::from_secs(600)).map(|_| ())
    }
}

/// Becomes the user and lets go again; the error is what was said there.
pub fn try_become(run_as: &RunAs) -> Result<(), String> {
    let output = nothing().map_err(|error| error.to_string())?;
    connect(run_as, output).map(|_| ())
}

/// The connection, and that user's process.
fn connect(run_as: &RunAs, output: File) -> Result<(Lines, Hand), String> {
    let could_not = |why: &str| format!("could not become {}: {why}", run_as.user);
    let mut command = become_command(run_as).map_err(|why| could_not(&why))?;
    let tool = command.get_program().to_string_lossy().into_owned();
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => could_not(&format!("{tool} is not installed")),
        _ => could_not(&error.to_string()),
    };
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    let (errors, writer) = io::pipe().map_err(failed)?;
    command.env("LC_ALL", "C").current_dir("/").stdin(OwnedFd::from(theirs)).stdout(output).stderr(writer);
    let mut child = core_dumps::as_before(|| command.spawn()).map_err(failed)?;
    drop(command);
    // By the end of its errors it has ended, or it has become the user and detached.
    let said = read_until_end(errors, BECOME_TIMEOUT);
    let Some(said) = said else {
        // sudo is root's: one that can't be ended is not waited for.
        if child.kill().is_ok() {
            let _ = child.wait();
        }
        return Err(could_not(&format!("{tool} did not answer within {} s", BECOME_TIMEOUT.as_secs())));
    };
    let end = clock::monotonic() + BECOME_TIMEOUT;
    while matches!(child.try_wait(), Ok(None)) && clock::monotonic() < end {
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut lines = Lines::new(ours);
    match lines.read::<Said>(Some(end)) {
        Ok(Said::Hello { uid, pid }) => Ok((lines, Hand { uid, pid })),
        _ if said.is_empty() => Err(could_not("no answer")),
        _ => Err(could_not(&said)),
    }
}

/// What a tool says, in one line; `None`: the time was up.
fn read_until_end(mut pipe: io::PipeReader, timeout: Duration) -> Option<String> {
    let end = clock::monotonic() + timeout;
    let mut text = Vec::new();
    let mut buffer = [0u8; 1024];
    loop {
        let left = end.saturating_duration_since(clock::monotonic());
        if left.is_zero() {
            return None;
        }
        let mut fds = [PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN)];
        if matches!(poll(&mut fds, Some(&timespec(left))), Ok(ready) if ready > 0) {
            match pipe.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(read) if text.len() < 8192 => text.extend_from_slice(buffer.get(..read).unwrap_or_default()),
                Ok(_) => {}
            }
        }
    }
    let text = String::from_utf8_lossy(&text);
    let words: Vec<&str> = text.split_whitespace().collect();
    Some(words.join(" ").chars().filter(|c| !c.is_control()).take(SHOWN_MAX).collect())
}

impl Hands for AsUser {
    fn prepare(&mut self, _output: &File) -> io::Result<Identity> {
        // The output was given to that user's process when it was started.
        match self.ask(&Ask::Prepare, ANSWER_TIMEOUT) {
            // What a stranger says must be a process that lives, and his.
            Ok(Said::Prepared(identity)) if !matches!(find(&identity), Found::Dead) => {
                match self.has_started(&identity) {
                    true => Ok(identity),
                    false => Err(io::Error::other("the process is not that user's")),
                }
            }
            Ok(_) => Err(io::Error::other("the process died before it was one")),
            Err(why) => Err(io::Error::other(why)),
        }
    }

    fn go(&mut self, launch: &Launch) -> Result<(), LaunchError> {
        let ask =
            Ask::Go(Launch { command: launch.command.clone(), env: launch.env.clone(), folder: launch.folder.clone() });
        match self.ask(&ask, ANSWER_TIMEOUT) {
            Ok(Said::Went(went)) => went,
            Ok(_) => Err(LaunchError { errno: None, why: "an answer to nothing".to_owned() }),
            Err(why) => Err(LaunchError { errno: None, why }),
        }
    }

    fn signal(&mut self, process: &Identity, signal: Signal) -> io::Result<bool> {
        match self.ask(&Ask::Signal { process: process.clone(), signal: signal.as_raw() }, ANSWER_TIMEOUT) {
            Ok(Said::Sent(sent)) => Ok(sent),
            Ok(_) => Err(io::Error::other("an answer to nothing")),
            Err(why) => Err(io::Error::other(why)),
        }
    }

    fn living(&mut self, of: &Belonging) -> Vec<Identity> {
        let mut found = match self.ask(&Ask::Living(of.clone()), ANSWER_TIMEOUT) {
            Ok(Said::Living(living)) => living,
            _ => Vec::new(),
        };
        // Ours see what the user's may not, and the other way round. What only he names is a stranger's word: as far as it can be seen it
        // must live and be his.
        let hand = self.hand();
        let mut ours = of.living();
        found.truncate(LIVING_MAX);
        found.retain(|process| ours.contains(process) || hand.is_some_and(|hand| hand.may_have(process)));
        ours.retain(|process| Some(process.pid) != hand.map(|hand| hand.pid));
        found.append(&mut ours);
        found.sort_by_key(|process| process.pid);
        found.dedup();
        found
    }

    fn end_all(&mut self, of: &Belonging, timeout: Duration) -> bool {
        let millis = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let ask = Ask::EndAll { of: of.clone(), millis };
        matches!(self.ask(&ask, timeout + ANSWER_TIMEOUT), Ok(Said::EndedAll(true)))
    }

    fn reap(&mut self, wanted: i32) -> Option<Exit> {
        // What sudo left, and the application itself where the user's process is gone, became ours.
        if let Some(exit) = self.own.reap(wanted) {
            return Some(exit);
        }
        // To ask ends what is under way: only of one that is dead, and not of one that merely may not be seen (`hidepid`).
        if wanted <= 0 || self.connection.is_none() || !is_dead(wanted) {
            return None;
        }
        match self.ask(&Ask::Reap { pid: wanted }, ANSWER_TIMEOUT) {
            Ok(Said::Reaped(exit)) => exit,
            _ => None,
        }
    }

    fn owns(&mut self, of: &Belonging, sockets: &[Listening]) -> Option<bool> {
        match self.ask(&Ask::Owns { of: of.clone(), sockets: sockets.to_vec() }, ANSWER_TIMEOUT) {
            Ok(Said::Owns(owns)) => owns,
            _ => None,
        }
    }

    fn begin(&mut self, launch: &Launch, timeout: Duration) -> Begun {
        if self.executes.is_some() {
            return Begun::Later;
        }
        let millis = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let launch = Launch { command: launch.command.clone(), env: launch.env.clone(), folder: launch.folder.clone() };
        let lines = match self.connect() {
            Ok(lines) => lines,
            Err(why) => return Begun::Failed(why),
        };
        let now = clock::monotonic();
        if let Err(error) = lines.write(&Ask::Execute { launch, millis }, Some(now + ANSWER_TIMEOUT)) {
            self.connection = None;
            return Begun::Failed(error.to_string());
        }
        self.begun += 1;
        self.executes = Some(self.begun);
        // The other end says when its time is over.
        Begun::UnderWay(UnderWay::Other { number: self.begun, end: now + timeout + ANSWER_TIMEOUT })
    }

    fn look(&mut self, command: &mut UnderWay) -> Option<Executed> {
        let UnderWay::Other { number, .. } = *command else { return Some(Executed::Interrupted) };
        let lines = match &mut self.connection {
            Some(lines) if self.executes == Some(number) => lines,
            _ => return Some(Executed::Interrupted),
        };
        if !lines.is_readable() {
            if clock::monotonic() < command.end() {
                return None;
            }
            self.end(number);
            return Some(Executed::TimedOut);
        }
        self.executes = None;
        Some(match lines.read::<Said>(Some(clock::monotonic() + ANSWER_TIMEOUT)) {
            Ok(Said::Executed(executed)) => executed,
            Ok(Said::Failed(why)) => Executed::Failed(why),
            said => {
                self.connection = None;
                Executed::Failed(
                    said.err().map_or_else(|| "an answer to nothing".to_owned(), |error| error.to_string()),
                )
            }
        })
    }

    fn give_up(&mut self, command: UnderWay) {
        if let UnderWay::Other { number, .. } = command {
            self.end(number);
        }
    }

    fn watched<'a>(&'a self, _command: &'a UnderWay) -> Vec<BorrowedFd<'a>> {
        self.connection.iter().map(|lines| lines.stream().as_fd()).collect()
    }

    fn connection(&self) -> Option<BorrowedFd<'_>> {
        self.connection.as_ref().map(|lines| lines.stream().as_fd())
    }
}

#[cfg(test)]
mod tests {
    use landfall_host_protocol::RunAsMethod;

    use super::*;

    /// The other end says whatever it likes.
    #[test]
    fn processes_that_another_user_names_are_not_believed_to_be_his() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut sleep = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let of_ours = Identity::of(i32::try_from(sleep.id()).unwrap()).unwrap();
        let first = Identity::of(1).unwrap();
        let dead = Identity { start: of_ours.start + 1, ..of_ours.clone() };
        let named = vec![first, of_ours.clone(), dead];
        let uid = getuid().as_raw();
        let stranger = std::thread::spawn(move || {
            let mut lines = Lines::new(theirs);
            while let Ok(ask) = lines.read::<Ask>(None) {
                let said = match ask {
                    Ask::Living(_) => Said::Living(named.clone()),
                    _ => Said::Hello { uid, pid: 1 },
                };
                let _ = lines.write(&said, None);
            }
        });
        let run_as = RunAs { method: RunAsMethod::Sudo, user: "app".to_owned() };
        let mut hands = AsUser::resumed(&run_as, Path::new("/dev/null"), OwnedFd::from(ours));
        assert_eq!(hands.living(&Belonging::default()), []);
        // What is seen to belong to it is told all the same.
        let of = Belonging { below: Identity::own().into_iter().collect(), ..Belonging::default() };
        assert!(hands.living(&of).contains(&of_ours));
        drop(hands);
        stranger.join().unwrap();
        sleep.kill().unwrap();
        sleep.wait().unwrap();
    }
}
