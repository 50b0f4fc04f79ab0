//! How a command comes to run: `landfall-host launch` in a session of its own is told what to run once its identity is on record, and
//! becomes it. It keeps pid and start time, so nothing ever runs that is not recorded; where the other end is gone before, it ends.
//!
//! The environment is exactly what was given: no shell stands in between. Nothing of it is in the arguments of a process of ours.

use std::{
    fs::File,
    io::{self, Read, Write},
    net::Shutdown,
    os::unix::{net::UnixStream, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde::{Deserialize, Serialize};

use super::executable::foreign_machine;
use crate::{core_dumps, process::Identity, program};

/// What is run.
#[derive(Serialize, Deserialize)]
pub struct Launch {
    pub command: Vec<String>,
    pub env: Vec<(String, String)>,
    pub folder: PathBuf,
}

/// Why it does not run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchError {
    /// Number of the system's error, where it is one.
    pub errno: Option<i32>,
    pub why: String,
}

impl LaunchError {
    fn new(what: &str, error: &io::Error) -> Self {
        Self { errno: error.raw_os_error(), why: format!("{what}: {error}") }
    }
}

/// A process that waits to be told what it is.
#[derive(Debug)]
pub struct Prepared {
    pub identity: Identity,
    socket: UnixStream,
}

/// Starts the process that will be the command; its output goes to `output` directly.
pub fn prepare(output: &File) -> io::Result<Prepared> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut command = Command::new(program::path());
    command
        .arg0("landfall-launch")
        .arg("launch")
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
        .stdout(output.try_clone()?)
        .stderr(output.try_clone()?);
    let child = core_dumps::as_before(|| command.spawn())?;
    // The other end is the child's alone.
    drop(command);
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    let identity = Identity::of(pid).ok_or_else(|| io::Error::other("the new process can't be seen in /proc"))?;
    Ok(Prepared { identity, socket: ours })
}

impl Prepared {
    /// Tells it what it is; back when it has become that.
    pub fn go(mut self, launch: &Launch) -> Result<(), LaunchError> {
        let text = serde_json::to_vec(launch).map_err(|error| LaunchError::new("launch", &error.into()))?;
        let mut answer = Vec::new();
        let sent = self.socket.write_all(&text).and_then(|()| self.socket.shutdown(Shutdown::Write));
        // The other end closes by becoming the command, or says why it can't.
        let heard = sent.and_then(|()| self.socket.read_to_end(&mut answer));
        match heard {
            Ok(0) => Ok(()),
            Ok(_) => Err(serde_json::from_slice(&answer)
                .unwrap_or_else(|_| LaunchError { errno: None, why: "the process died before it was one".to_owned() })),
            Err(error) => Err(LaunchError::new("the process died before it was one", &error)),
        }
    }
}

/// The other side: becomes the command that comes on stdin.
pub fn run() -> u8 {
    match become_it() {
        Ok(never) => match never {},
        Err(status) => status,
    }
}

fn become_it() -> Result<std::convert::Infallible, u8> {
    // It is the first of a session, so that whatever it starts can be found.
    rustix::process::setsid().map_err(|_| 1)?;
    let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3).map_err(|_| 1)?;
    let mut socket = UnixStream::from(socket);
    let mut text = Vec::new();
    socket.read_to_end(&mut text).map_err(|_| 1)?;
    let launch: Launch = serde_json::from_slice(&text).map_err(|_| 1)?;
    let error = replace(&launch);
    if let Ok(text) = serde_json::to_vec(&error) {
        let _ = socket.write_all(&text);
    }
    Err(if error.errno == Some(rustix::io::Errno::NOENT.raw_os_error()) { 127 } else { 126 })
}

fn replace(launch: &Launch) -> LaunchError {
    let Some((program, arguments)) = launch.command.split_first() else {
        return LaunchError { errno: None, why: "the command is empty".to_owned() };
    };
    let nothing = match File::open("/dev/null") {
        Ok(nothing) => nothing,
        Err(error) => return LaunchError::new("/dev/null", &error),
    };
    if let Err(error) = rustix::stdio::dup2_stdin(&nothing) {
        return LaunchError::new("/dev/null", &error.into());
    }
    if let Err(error) = std::env::set_current_dir(&launch.folder) {
        return LaunchError::new(&launch.folder.display().to_string(), &error);
    }
    let _ = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let program = match find(program, launch) {
        Ok(program) => program,
        Err(error) => return error,
    };
    if let Some(why) = foreign_machine(&program) {
        return LaunchError { errno: Some(rustix::io::Errno::NOEXEC.raw_os_error()), why };
    }
    let error = Command::new(&program)
        .arg0(launch.command.first().map_or("", String::as_str))
        .args(arguments)
        .env_clear()
        .envs(launch.env.iter().map(|(name, value)| (name, value)))
        .exec();
    LaunchError::new(&program.display().to_string(), &error)
}

/// The file of a command: one with a `/` as it is, else looked up in the PATH that it will have.
fn find(program: &str, launch: &Launch) -> Result<PathBuf, LaunchError> {
    if program.contains('/') {
        return match std::fs::metadata(program) {
            Ok(_) => Ok(PathBuf::from(program)),
            Err(error) => Err(LaunchError::new(program, &error)),
        };
    }
    let path = launch.env.iter().rev().find(|(name, _)| name == "PATH").map_or("", |(_, value)| value.as_str());
    let found = path.split(':').filter(|folder| !folder.is_empty()).map(|folder| Path::new(folder).join(program)).find(
        |path| {
            let executable = rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok();
            executable && path.is_file()
        },
    );
    found.ok_or_else(|| LaunchError {
        errno: Some(rustix::io::Errno::NOENT.raw_os_error()),
        why: format!("{program}: not found in PATH={path} (no profile is read; set PATH in run.env)"),
    })
}
