//! The other user's side: `landfall-host as-user`. Its stdin is the connection, its output the application's log.

use std::{
    fs::{File, Permissions},
    io::{self, Write as _},
    os::{
        fd::AsFd,
        unix::{fs::PermissionsExt as _, net::UnixStream, process::CommandExt},
    },
    path::Path,
    process::Command,
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, poll};

use super::ask::{Ask, Lines, Said};
use crate::{
    core_dumps, files,
    keeper::{Belonging, Hands, Own, Signals},
    process::{Identity, Stat, signal_name, signal_of},
    program,
};

/// The process stays; who became the user for us (sudo, a shell) ends.
const DETACHED: &str = "detached";

/// `landfall-host as-user`: leaves the session of sudo and goes on in one of its own.
pub fn run(arguments: &[std::ffi::OsString]) -> u8 {
    if arguments.iter().any(|argument| argument == DETACHED) {
        return u8::from(serve().is_err());
    }
    let child = Command::new(program::path()).arg0("landfall-as-user").args(["as-user", DETACHED]).spawn();
    let Ok(child) = child else { return 1 };
    let Ok(pid) = i32::try_from(child.id()) else { return 1 };
    // sudo takes what is left of its session with it; so ours is left first.
    while Stat::read(pid).is_some_and(|stat| stat.session != pid && !stat.is_dead()) {
        std::thread::sleep(Duration::from_millis(1));
    }
    0
}

fn serve() -> io::Result<()> {
    core_dumps::refuse();
    rustix::process::setsid()?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let connection = UnixStream::from(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?);
    let output = File::from(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?);
    let nothing = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&nothing)?;
    rustix::stdio::dup2_stdout(&nothing)?;
    rustix::stdio::dup2_stderr(&nothing)?;
    let mut signals = Signals::register()?;
    let mut lines = Lines::new(connection);
    lines.write(&hello(), None)?;
    let mut hands = Own::default();
    loop {
        if !lines.has_more() {
            let mut fds = [
                PollFd::from_borrowed_fd(lines.stream().as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(signals.children(), PollFlags::IN),
            ];
            let _ = poll(&mut fds, None);
            let asked = fds.first().is_some_and(|fd| !fd.revents().is_empty());
            signals.take();
            // Its own and what it took over; how the application ended is told when it is asked for.
            hands.reap_all();
            if !asked {
                continue;
            }
        }
        // The keeper is gone: the application goes on without us.
        let Ok(ask) = lines.read::<Ask>(None) else { return Ok(()) };
        let said = answer(&mut hands, ask, &output, &lines);
        lines.write(&said, None)?;
    }
}

fn hello() -> Said {
    Said::Hello { uid: rustix::process::getuid().as_raw(), pid: rustix::process::getpid().as_raw_nonzero().get() }
}

fn answer(hands: &mut Own, ask: Ask, output: &File, lines: &Lines) -> Said {
    let failed = |error: io::Error| Said::Failed(error.to_string());
    match ask {
        Ask::Nothing => hello(),
        Ask::Prepare => hands.prepare(output).map_or_else(failed, Said::Prepared),
        Ask::Go(launch) => Said::Went(hands.go(&launch)),
        Ask::Signal { process, signal } => match signal_of(&signal_name(signal)) {
            Some(signal) => hands.signal(&process, signal).map_or_else(failed, Said::Sent),
            None => Said::Failed(format!("signal {signal} is not known")),
        },
        Ask::Living(of) => Said::Living(hands.living(&with_ours(of))),
        Ask::EndAll { of, millis } => Said::EndedAll(hands.end_all(&with_ours(of), Duration::from_millis(millis))),
        Ask::Reap { pid } => Said::Reaped(hands.reap(pid)),
        Ask::Owns { of, sockets } => Said::Owns(hands.owns(&with_ours(of), &sockets)),
        Ask::Execute { launch, millis } => {
            // Whatever is asked next ends it.
            Said::Executed(hands.execute(&launch, Duration::from_millis(millis), &[lines.stream().as_fd()]))
        }
        Ask::MakeFolder { path } => make_folder(&path).map_or_else(failed, |()| Said::Made),
        Ask::HasFile { path, size, sha256, mode } => Said::Has(files::is_own(&path, size, &sha256, mode)),
        Ask::MakeFile { path, value, mode } => match make(&path, value.as_bytes(), mode) {
            Ok(()) => Said::Made,
            Err(error) => Said::NotMade { errno: error.raw_os_error(), why: error.to_string() },
        },
        Ask::EmptyFolder { path } => empty(&path).map_or_else(failed, |()| Said::Made),
    }
}

/// What this process started belongs to it as well: who asks may be hidden from us, and with it what is below it.
fn with_ours(mut of: Belonging) -> Belonging {
    of.below.extend(Identity::own());
    of
}

/// Whatever that user's umask is, he himself can use it.
fn make_folder(path: &Path) -> io::Result<()> {
    std::fs::create_dir(path)?;
    let mode = std::fs::symlink_metadata(path)?.permissions().mode();
    std::fs::set_permissions(path, Permissions::from_mode(mode | 0o700))
}

/// It has its mode before it has a byte.
fn make(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = files::create(path, mode)?;
    file.write_all(bytes)?;
    files::sync_file(&file)
}

fn empty(path: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(path)? {
        files::remove_below(path, &entry?.path())?;
    }
    Ok(())
}
