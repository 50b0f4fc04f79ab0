//! Keeps one child alive: restarted when it ends, with growing pauses when it ends soon, until it is stopped.

use std::{
    ffi::OsString,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use tokio::{sync::watch, task::JoinHandle};

use super::{
    error::DevError,
    files,
    reaper::{Child, Children},
    say,
};
use crate::model::backoff::Backoff;

const RESTART: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
/// A service that ran for this long is restarted after the first wait again.
const STABLE_AFTER: Duration = Duration::from_secs(60);

/// What to run, and where its output goes.
#[derive(Debug, Clone)]
pub struct Service {
    pub name: &'static str,
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
    pub environment: Vec<(&'static str, OsString)>,
    pub log: PathBuf,
    /// From TERM to KILL.
    pub grace: Duration,
}

/// A service that is kept alive. It keeps running when this is dropped: only [`Kept::stop`] ends it.
#[derive(Debug)]
pub(crate) struct Kept {
    service: Service,
    stop: watch::Sender<bool>,
    ends: watch::Receiver<u32>,
    task: JoinHandle<()>,
}

impl Service {
    pub fn keep(self, children: &Children) -> Result<Kept, DevError> {
        files::fresh_log(&self.log)?;
        let first = self.start(children)?;
        let (stop, stopped) = watch::channel(false);
        let (count, ends) = watch::channel(0);
        let task = tokio::spawn(keep(self.clone(), first, children.clone(), stopped, count));
        Ok(Kept { service: self, stop, ends, task })
    }

    fn start(&self, children: &Children) -> Result<Child, DevError> {
        let (out, err) = (files::append(&self.log)?, files::append(&self.log)?);
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).envs(self.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        children
            .spawn(&mut command)
            .map_err(|source| DevError::Spawn { program: self.program.display().to_string(), source })
    }
}

impl Kept {
    /// Returns an error when the service has ended this number of times since it was kept; else never.
    pub(crate) async fn ended_times(&self, times: u32) -> DevError {
        let mut ends = self.ends.clone();
        if ends.wait_for(|ends| *ends >= times).await.is_err() {
            std::future::pending::<()>().await;
        }
        DevError::Died {
            name: self.service.name,
            log: self.service.log.clone(),
            last: files::tail(&self.service.log, 1500),
        }
    }

    /// Number of its ends so far.
    pub fn ends(&self) -> watch::Receiver<u32> {
        self.ends.clone()
    }

    /// Ends it, and returns when it is gone.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        let _ = self.task.await;
    }
}

async fn keep(
    service: Service,
    first: Child,
    children: Children,
    mut stopped: watch::Receiver<bool>,
    ends: watch::Sender<u32>,
) {
    let mut waits = RESTART.waits();
    let mut running = Some(first);
    loop {
        let how = match running.take() {
            Some(mut child) => {
                let stable = tokio::time::sleep(STABLE_AFTER);
                tokio::pin!(stable);
                let mut is_stable = false;
                loop {
                    tokio::select! {
                        () = asked(&mut stopped) => return child.end(service.grace).await,
                        () = &mut stable, if !is_stable => {
                            is_stable = true;
                            waits.reset();
                        }
                        how = child.ended() => break how,
                    }
                }
            }
            None => "could not be started".to_owned(),
        };
        ends.send_modify(|ends| *ends += 1);
        let wait = waits.next_wait();
        say(&format!(
            "{} ended ({how}); it starts again in {} s, its log is {}",
            service.name,
            wait.as_secs_f32(),
            service.log.display()
        ));
        tokio::select! {
            () = asked(&mut stopped) => return,
            () = tokio::time::sleep(wait) => {}
        }
        running = service.start(&children).inspect_err(|error| say(&error.to_string())).ok();
    }
}

/// Also when every receiver is gone.
async fn asked(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}
