//! The children of the first process of a process namespace.
//!
//! It must collect every process that ends in its namespace: the orphans of others, like a build that outlived its operator, fall to it.
//! So nothing here may wait for a single child: one task collects all and notifies the waiters. No `tokio::process` beside it.

use std::{collections::HashMap, io, process::Command, sync::Arc, time::Duration};

use parking_lot::{Mutex, MutexGuard};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

/// The children of this process, all of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Children(Arc<Mutex<HashMap<Pid, oneshot::Sender<WaitStatus>>>>);

/// One that is collected by [`Children`].
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    all: Children,
    end: oneshot::Receiver<WaitStatus>,
}

impl Children {
    /// Collects the children of this process from now on, until it ends.
    pub fn collect() -> io::Result<Self> {
        let children = Self::default();
        let mut died = signal(SignalKind::child())?;
        let all = children.clone();
        tokio::spawn(async move {
            while died.recv().await.is_some() {
                all.collect_dead();
            }
        });
        Ok(children)
    }

    pub fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        // Held over the spawn: it is in the list before it can be collected.
        let mut running = self.running();
        let child = command.spawn()?;
        let pid = i32::try_from(child.id())
            .ok()
            .and_then(Pid::from_raw)
            .ok_or_else(|| io::Error::other("a child without a process id"))?;
        let (sender, end) = oneshot::channel();
        running.insert(pid, sender);
        drop(running);
        Ok(Child { pid, all: self.clone(), end })
    }

    fn collect_dead(&self) {
        let mut running = self.running();
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            if let Some(sender) = running.remove(&pid) {
                let _ = sender.send(status);
            }
        }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<Pid, oneshot::Sender<WaitStatus>>> {
        self.0.lock()
    }
}

impl Child {
    /// How it ended, in words.
    pub async fn ended(&mut self) -> String {
        match (&mut self.end).await {
            Ok(status) => in_words(status),
            Err(_) => "was lost".to_owned(),
        }
    }

    /// Asks it to end, and kills it when it has not within `grace`.
    pub async fn end(mut self, grace: Duration) {
        self.signal(Signal::TERM);
        if tokio::time::timeout(grace, self.ended()).await.is_err() {
            self.signal(Signal::KILL);
            self.ended().await;
        }
    }

    /// Only while it is not collected: its pid may belong to another process after that.
    fn signal(&self, signal: Signal) {
        if self.all.running().contains_key(&self.pid) {
            let _ = rustix::process::kill_process(self.pid, signal);
        }
    }
}

fn in_words(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "unknown".to_owned(),
    }
}
