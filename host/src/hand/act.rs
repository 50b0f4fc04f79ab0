//! The acts by hand: each makes a task of what is on the host, begins it, and tells how it goes until its end.

use landfall_host_protocol::{
    Author, EventKind, FenceToken, FolderFacts, Outcome, Owner, ProcessFacts, ProcessState, ReleaseFacts, Runtime,
    Secrets, Start, Step, Task, TaskId,
};

use super::{FAILED, POLL_INTERVAL, complain, say, words};
use crate::{
    facts,
    folder::Folder,
    keeper,
    runtime::configuration::{self, Kept},
    task,
};

/// How long readiness is waited for.
const READY_SECONDS: u32 = 300;
/// The tasks of people, told from those of the operator by this in place of a rollout.
const ROLLOUT: &str = "hand";

pub(super) fn stop(folder: &Folder, author: &Author) -> Result<u8, String> {
    let facts = look(folder)?;
    let is_over = facts.process.as_ref().is_none_or(|process| process.state == ProcessState::Stopped);
    if is_over && facts.survivors.is_empty() {
        say(&format!("{} is not running", folder.name()));
        return Ok(0);
    }
    if serves_files(folder, &facts) {
        return Err(format!(
            "{} is files that something else serves: nothing of it can be stopped here; stop what serves {}",
            folder.name(),
            folder.current().display()
        ));
    }
    run(folder, &facts, author, vec![Step::Stop], &Secrets::default(), "stopped")
}

fn serves_files(folder: &Folder, facts: &FolderFacts) -> bool {
    let hash = facts.process.as_ref().and_then(|process| process.config.as_ref());
    let kept = hash.and_then(|hash| configuration::load(folder, hash).ok().flatten());
    kept.is_some_and(|kept| matches!(kept.configuration.runtime, Runtime::Static(_)))
}

/// ` (process 7)`; nothing where no process stands for it.
fn shown(process: &ProcessFacts) -> String {
    if process.pid > 0 { format!(" (process {})", process.pid) } else { String::new() }
}

pub(super) fn start(folder: &Folder, author: &Author) -> Result<u8, String> {
    let facts = look(folder)?;
    let process = started_before(folder, &facts)?;
    if process.state == ProcessState::Running {
        say(&format!("{} is running already{}", folder.name(), shown(process)));
        return Ok(0);
    }
    let current = facts.current.as_ref().ok_or("no release is chosen: use landfall-host use VERSION")?;
    let release = facts.releases.iter().find(|release| &release.name == current);
    let release = release.ok_or_else(|| format!("release {current} is not whole: use another version"))?;
    let (begin, secrets) = begin(folder, process, release)?;
    run(folder, &facts, author, vec![begin, wait_ready()], &secrets, "started")
}

pub(super) fn use_version(folder: &Folder, version: &str, author: &Author) -> Result<u8, String> {
    let facts = look(folder)?;
    let process = started_before(folder, &facts)?;
    let release = find(&facts, version)?;
    if process.state == ProcessState::Running && process.digest == release.digest {
        say(&format!("{} runs {version} already{}", folder.name(), shown(process)));
        return Ok(0);
    }
    let (begin, secrets) = begin(folder, process, release)?;
    let switch = Step::Switch { release: release.name.clone() };
    run(folder, &facts, author, vec![Step::Stop, switch, begin, wait_ready()], &secrets, &format!("uses {version}"))
}

fn look(folder: &Folder) -> Result<FolderFacts, String> {
    facts::folder(folder).ok_or_else(|| format!("{} not found", folder.path().display()))
}

/// How an application runs is known from its last start.
fn started_before<'a>(folder: &Folder, facts: &'a FolderFacts) -> Result<&'a ProcessFacts, String> {
    let unknown = || format!("{} was never started: how it runs is not known here", folder.name());
    facts.process.as_ref().ok_or_else(unknown)
}

fn find<'a>(facts: &'a FolderFacts, version: &str) -> Result<&'a ReleaseFacts, String> {
    let fits = |release: &&ReleaseFacts| release.name.version() == version || release.name.as_str() == version;
    let mut found = facts.releases.iter().filter(fits);
    match (found.next(), found.next()) {
        (Some(release), None) => Ok(release),
        (Some(first), Some(second)) => Err(format!("name one of: {}, {}", first.name, second.name)),
        (None, _) => {
            let versions: Vec<&str> = facts.releases.iter().map(|release| release.name.version()).collect();
            Err(format!("{version} is not on this host; there are: {}", versions.join(", ")))
        }
    }
}

/// The step that starts a release as the last one was started, and the secret values that were kept for it.
fn begin(folder: &Folder, process: &ProcessFacts, release: &ReleaseFacts) -> Result<(Step, Secrets), String> {
    let hash =
        process.config.as_ref().ok_or("its configuration was never written here; let the operator deploy once")?;
    let path = folder.config(hash);
    let kept = configuration::load(folder, hash).map_err(|error| format!("{}: {error}", path.display()))?;
    let Kept { configuration: config, secrets } = kept.ok_or_else(|| format!("{} is gone", path.display()))?;
    // Before anything stops: what can't be started again by hand is left running.
    if let Some(key) = keeper::missing_secret(&config, secrets.as_ref()) {
        return Err(format!("the secret value {key} is not kept on this host: only the operator can start it"));
    }
    let start = Start {
        release: release.name.clone(),
        digest: release.digest.clone(),
        config,
        revision: process.revision,
        redeploys: process.redeploys,
        attempt: process.attempt,
    };
    Ok((Step::Start(Box::new(start)), secrets.unwrap_or_default()))
}

fn wait_ready() -> Step {
    Step::WaitReady { timeout_seconds: READY_SECONDS }
}

/// Begins the task and follows it to its end. It goes on where the person leaves.
fn run(
    folder: &Folder,
    facts: &FolderFacts,
    author: &Author,
    steps: Vec<Step>,
    secrets: &Secrets,
    done: &str,
) -> Result<u8, String> {
    let owner: Owner = facts.owner.clone().ok_or("the folder belongs to no Deployment")?;
    let unfenced = || FenceToken { epoch: owner.control_plane_id.clone(), created: 0, transitions: 0 };
    let id = TaskId { uid: owner.uid.clone(), rollout: ROLLOUT.to_owned(), attempt: 1, n: facts.journal };
    let task = Task {
        id: id.clone(),
        folder: folder.name().clone(),
        replaces: None,
        fence: facts.fence.clone().unwrap_or_else(unfenced),
        owner,
        author: author.clone(),
        steps,
    };
    task::begin(folder, &task, secrets).map_err(|refusal| words::refusal(&refusal))?;
    follow(folder, &id, done)
}

fn follow(folder: &Folder, id: &TaskId, done: &str) -> Result<u8, String> {
    let mut offset = 0;
    loop {
        let result = task::result(folder, id);
        let events = task::events(folder, id, offset).unwrap_or_default();
        offset += events.len() as u64;
        for event in &events {
            let step = event.step.as_str();
            let line = match &event.kind {
                EventKind::Begun => format!("{step} …"),
                EventKind::Line { text, .. } | EventKind::Progress { text } => format!("  {text}"),
                EventKind::Cut { bytes } => format!("  ({bytes} bytes of output left out)"),
                EventKind::Skipped | EventKind::Ended | EventKind::Failed { .. } | EventKind::Unknown(_) => continue,
            };
            say(&line);
        }
        match result.filter(|_| events.is_empty()).map(|result| result.outcome) {
            None if events.is_empty() => std::thread::sleep(POLL_INTERVAL),
            None => {}
            Some(Outcome::Succeeded) => {
                say(&format!("{} {done}", folder.name()));
                return Ok(0);
            }
            Some(Outcome::Cancelled) => return Err("cancelled by the operator".to_owned()),
            Some(Outcome::Unknown(later)) => {
                return Err(format!("it ended in a way that this program does not know: {later}"));
            }
            Some(Outcome::Failed(failure)) => {
                complain(&words::failure(&failure));
                return Ok(FAILED);
            }
        }
    }
}
