//! `hook`: a command of the release. One that was done for this attempt of the rollout is not done again, whichever task it was in.

use std::{io, path::PathBuf, time::Duration};

use landfall_host_protocol::{Configuration, EnvValue, Reason, ReleaseName, Secrets, TaskId};
use serde::{Deserialize, Serialize};

use super::{
    Context, Done,
    command::{self, Spec},
    staged,
};
use crate::{
    failure::{StepFailure, StepResult},
    files,
    folder::Folder,
    gate,
};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(super) struct Hook<'a> {
    pub(super) name: &'a str,
    pub(super) release: &'a ReleaseName,
    pub(super) config: &'a Configuration,
    pub(super) command: &'a [String],
    pub(super) timeout: Duration,
}

/// `.landfall/hooks`: which hooks are done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    uid: String,
    rollout: String,
    attempt: i64,
    done: Vec<String>,
}

impl Record {
    /// Of the attempt that a task belongs to.
    fn read(folder: &Folder, task: &TaskId) -> Self {
        let new =
            Self { uid: task.uid.clone(), rollout: task.rollout.clone(), attempt: task.attempt, done: Vec::new() };
        let same = |found: &Self| found.uid == new.uid && found.rollout == new.rollout && found.attempt == new.attempt;
        files::read_record(&path(folder)).ok().flatten().filter(same).unwrap_or(new)
    }

    fn write(&self, folder: &Folder) -> io::Result<()> {
        gate::pass("hooks.write", || files::write_record(&path(folder), self))
    }
}

fn path(folder: &Folder) -> PathBuf {
    folder.dot().join("hooks")
}

pub(super) fn run(context: &Context<'_>, hook: &Hook<'_>) -> StepResult<Done> {
    let folder = context.folder;
    let mut record = Record::read(folder, &context.task.id);
    if record.done.iter().any(|name| name == hook.name) {
        return Ok(Done::Skipped);
    }
    staged::check(folder, hook.release, None)?;
    let spec = Spec {
        command: hook.command,
        folder: &folder.release(hook.release),
        environment: environment(hook.config, context.secrets)?,
        run_as: hook.config.run_as.as_ref(),
        timeout: hook.timeout,
    };
    let ran = gate::pass("hook.run", || Ok(command::run(context, &spec)));
    ran.map_err(|error| files::failure(Reason::HookFailed, &error, &folder.path()))?.map_err(|failed| {
        let mut failure = StepFailure::new(Reason::HookFailed, format!("hook {}: {}", hook.name, failed.why));
        failure.lines = failed.lines;
        failure
    })?;
    record.done.push(hook.name.to_owned());
    record.write(folder).map_err(|error| files::failure(Reason::HookFailed, &error, &path(folder)))?;
    Ok(Done::Ended)
}

/// The environment of a configuration's commands.
pub(super) fn environment(config: &Configuration, secrets: &Secrets) -> StepResult<Vec<(String, String)>> {
    let mut all = base();
    for variable in &config.env {
        let value = match &variable.value {
            EnvValue::Plain(value) => value.clone(),
            EnvValue::Secret(key) => {
                let value = secrets.0.get(key).ok_or_else(|| {
                    StepFailure::new(Reason::AwaitingSecrets, format!("the secret value {key} is not here"))
                })?;
                let text = value.as_text().ok_or_else(|| {
                    StepFailure::new(Reason::StartFailed, format!("the secret value {key} is no text"))
                })?;
                text.to_owned()
            }
        };
        all.push((variable.name.clone(), value));
    }
    Ok(all)
}

/// What every command gets, beside what the login of its user has.
pub(super) fn base() -> Vec<(String, String)> {
    vec![("PATH".to_owned(), PATH.to_owned()), ("LANG".to_owned(), "C.UTF-8".to_owned())]
}
