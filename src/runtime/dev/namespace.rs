//! A child in a process namespace of its own that can't outlive this process, nor anything that it starts.

use std::{
    ffi::OsString,
    os::unix::process::CommandExt,
    process::{ChildStdin, Command, ExitStatus, Stdio},
};

use tokio::sync::oneshot;

use super::error::DevError;

/// The child; dropping this closes its standard input, which asks it to end.
#[derive(Debug)]
pub struct Namespace {
    stdin: Option<ChildStdin>,
    pid: Option<rustix::process::Pid>,
    end: oneshot::Receiver<std::io::Result<ExitStatus>>,
}

impl Namespace {
    /// Starts `command` as process 1 of its namespace. Two links make a chain that `kill -9` does not break: `setpriv` has the kernel kill
    /// `unshare` when this process dies, and `unshare --kill-child` has it kill process 1 when `unshare` dies; with process 1 all others go.
    pub fn start(command: &[OsString]) -> Result<Self, DevError> {
        let mut chain = Command::new("setpriv");
        chain.args(["--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]);
        if !rustix::process::geteuid().is_root() {
            chain.args(["--user", "--map-root-user"]);
        }
        chain.arg("--").args(command).stdin(Stdio::piped());
        // Ctrl-C on the terminal is for this process alone, which passes it on in order.
        chain.process_group(0);
        let (started, start) = std::sync::mpsc::channel();
        let (ended, end) = oneshot::channel();
        // "This process" is, to the kernel, the thread that started the child: so it is one that stays until the child is gone.
        std::thread::spawn(move || match chain.spawn() {
            Ok(mut child) => {
                let _ = started.send(Ok((child.stdin.take(), child.id())));
                let _ = ended.send(child.wait());
            }
            Err(refused) => drop(started.send(Err(refused))),
        });
        let spawn = |source| DevError::Spawn { program: "setpriv and unshare (util-linux)".to_owned(), source };
        let (stdin, pid) = start.recv().unwrap_or_else(|lost| Err(std::io::Error::other(lost))).map_err(spawn)?;
        let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
        Ok(Self { stdin, pid, end })
    }

    /// Asks the child to end in order.
    pub(crate) fn ask_to_end(&mut self) {
        self.stdin = None;
    }

    /// Ends it now, and all that it started.
    pub fn kill(&self) {
        if let Some(pid) = self.pid {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }

    /// `None`: it ended well; else how.
    pub async fn ended(&mut self) -> Option<String> {
        match (&mut self.end).await {
            Ok(Ok(status)) if status.success() => None,
            Ok(Ok(status)) => Some(status.to_string()),
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("lost".to_owned()),
        }
    }
}
