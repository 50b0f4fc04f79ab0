//! What can be asked of `landfall-host`, as plain calls. Each waits within its own deadline, outside the SSH library.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use landfall_host_protocol::{
    Answer, Digest, FolderName, Hello, HostFacts, MAX_FRAME, Request, Runtime, Secrets, Step, Task, TaskId, Welcome,
    supports,
};
use serde::Serialize;

use super::{
    Images, ProgramError, Pushes,
    bootstrap::{self, Found},
    log::{LogPart, LogStream},
    put::{self, PutOptions},
    session::{ANSWER_TIMEOUT, Asked, FIRST_ID, Live, message},
    task::TaskStream,
};
use crate::effects::{
    gate::{Effect, Gate},
    payload::Payload,
    ssh::Connection,
};

/// The longest time of the first facts: disks may be slow.
const HELLO_TIMEOUT: Duration = Duration::from_secs(30);
/// How long sudo or su is waited for: most answer at once, and what they say is among the first facts then.
const USERS_PAUSE: Duration = Duration::from_secs(5);

/// The program on one host, over one connection. Cheap to clone; the session ends with the last clone and what came from it.
#[derive(Clone)]
pub struct Program {
    name: String,
    live: Arc<Live>,
    uploaded: bool,
    /// What the program there does: names of `welcome.supports`.
    supports: Arc<BTreeSet<String>>,
}

/// Where and how the program is to run.
pub struct ConnectOptions<'a> {
    /// The host's name in its group, for the effects ledger.
    pub name: &'a str,
    /// The group's root, absolute.
    pub root: &'a str,
    pub images: &'a Images,
    pub hello: &'a Hello,
}

impl Program {
    /// Finds the program on the host and starts it; one that is missing or damaged is brought there first (effect `host.program`).
    pub async fn connect(
        gate: &Gate,
        connection: Arc<Connection>,
        options: &ConnectOptions<'_>,
    ) -> Result<(Self, Welcome, Pushes), ProgramError> {
        let ConnectOptions { name, root, images, hello } = options;
        let root = bootstrap::quoted_root(root)?;
        let first = message(FIRST_ID, &Request::Hello((*hello).clone()))?;
        let mut uploaded = false;
        loop {
            let machine = match bootstrap::find(&connection, &root, images, first.clone()).await? {
                Found::Running(running) => {
                    let (live, mut asked) = Live::begin(running, connection, &hello.namespace);
                    let mut pushes = live.pushes();
                    let mut welcome = welcome(&mut asked, hello).await?;
                    if welcome.facts.users_pending
                        && let Ok(Some(told)) = tokio::time::timeout(USERS_PAUSE, pushes.host()).await
                    {
                        welcome.facts.replace_host(*told);
                    }
                    let supports = Arc::new(welcome.supports.clone());
                    let program = Self { name: (*name).to_owned(), live, uploaded, supports };
                    return Ok((program, welcome, pushes));
                }
                Found::Absent(_) | Found::Damaged(_) if uploaded => {
                    return Err(ProgramError::NotStarted(
                        "it was just put there and verified; look whether something removes or forbids programs there"
                            .to_owned(),
                    ));
                }
                Found::Absent(machine) => machine,
                // Only what we can send can be damaged; where that does not mend it, it says why.
                Found::Damaged(said) => match images.machines().collect::<Vec<_>>().as_slice() {
                    [machine] => (*machine).to_owned(),
                    _ => return Err(ProgramError::NotStarted(said)),
                },
            };
            let image = images.get(&machine).ok_or_else(|| ProgramError::UnsupportedMachine {
                machine,
                have: images.machines().collect::<Vec<_>>().join(" and "),
            })?;
            gate.pass(Effect::new("host.program", *name), bootstrap::put(&connection, &root, image)).await?;
            uploaded = true;
        }
    }

    /// Whether the program was missing and was brought there.
    pub fn was_uploaded(&self) -> bool {
        self.uploaded
    }

    /// The session or its connection is gone; it never comes back.
    pub fn is_closed(&self) -> bool {
        self.live.is_closed()
    }

    /// The facts and their number, where they differ from those of number `seen`. One frame each way.
    pub async fn look(&self, seen: u64) -> Result<Option<(u64, HostFacts)>, ProgramError> {
        let mut asked = self.live.ask(&Request::Look { seen })?;
        let answer = asked.answer_within("telling its facts", ANSWER_TIMEOUT).await?;
        asked.finish();
        match answer {
            Answer::Unchanged => Ok(None),
            Answer::Facts { seen, facts } => Ok(Some((seen, *facts))),
            _ => Err(asked.violation("no facts where facts are due")),
        }
    }

    /// Brings an object to `incoming/` of a folder (effect `host.put`). What is there already is not sent again.
    pub async fn put(
        &self,
        gate: &Gate,
        folder: &FolderName,
        sha256: &Digest,
        size: u64,
        payload: &Payload,
        options: &PutOptions,
    ) -> Result<(), ProgramError> {
        let effect = Effect::new("host.put", format!("{} {sha256}", self.name));
        gate.pass(effect, put::put(&self.live, folder, sha256, size, payload, options)).await
    }

    /// Bytes of an object that are there already.
    pub async fn have(&self, folder: &FolderName, sha256: &Digest, size: u64) -> Result<u64, ProgramError> {
        put::have(&self.live, folder, sha256, size).await
    }

    /// Begins a task (effect `host.task`), or attaches where it was begun already. Back once it is on record there.
    pub async fn begin(&self, gate: &Gate, task: &Task, secrets: &Secrets) -> Result<TaskStream, ProgramError> {
        // One name for steps of a kind in a row: a kill point's name stays short.
        let steps: BTreeSet<&str> = task.steps.iter().map(|step| step.name().as_str()).collect();
        let steps: Vec<&str> = steps.into_iter().collect();
        let subject = format!("{} {} {}", self.name, task.folder, steps.join(","));
        let request = begin_request(task, secrets)?;
        if !secrets.are_text() && !self.supports.contains(supports::SECRETS_BINARY) {
            let why = "one is no text, and the program on the host takes text only".to_owned();
            return Err(ProgramError::BadInput { what: "the secret values", why });
        }
        if let Some(what) = task.steps.iter().find_map(|step| lacks(&self.supports, step)) {
            return Err(ProgramError::Lacks { what });
        }
        let beginning = TaskStream::open(&self.live, task.folder.clone(), task.id.clone(), 0, &request);
        gate.pass(Effect::new("host.task", subject), beginning).await
    }

    /// Events of a task from number `offset` on, and its result. It starts nothing.
    pub async fn attach(&self, folder: &FolderName, task: &TaskId, offset: u64) -> Result<TaskStream, ProgramError> {
        let request = Request::Attach { folder: folder.clone(), task: task.clone(), offset };
        TaskStream::open(&self.live, folder.clone(), task.clone(), offset, &request).await
    }

    /// Ends a task before its next step, or within one that waits (effect `host.cancel`).
    pub async fn cancel(&self, gate: &Gate, folder: &FolderName, task: &TaskId) -> Result<(), ProgramError> {
        let request = Request::Cancel { folder: folder.clone(), task: task.clone() };
        let effect = Effect::new("host.cancel", format!("{} {folder}", self.name));
        gate.pass(effect, self.done(&request, "cancelling a task")).await
    }

    /// Secret values for an application that waits for them (effect `host.secrets`).
    pub async fn secrets(&self, gate: &Gate, folder: &FolderName, secrets: &Secrets) -> Result<(), ProgramError> {
        let request = Request::Secrets { folder: folder.clone(), secrets: secrets.clone() };
        let effect = Effect::new("host.secrets", format!("{} {folder}", self.name));
        gate.pass(effect, self.done(&request, "taking secrets")).await
    }

    /// The application's log over all its files. Back once it is open there.
    pub async fn log(&self, folder: &FolderName, part: LogPart) -> Result<LogStream, ProgramError> {
        if !self.supports.contains(supports::LOG_WHOLE) {
            let why = "the program on the host does not give a log with its older files".to_owned();
            return Err(ProgramError::BadInput { what: "the log", why });
        }
        LogStream::open(&self.live, folder.clone(), part).await
    }

    async fn done(&self, request: &Request, what: &'static str) -> Result<(), ProgramError> {
        let mut asked = self.live.ask(request)?;
        let answer = asked.answer_within(what, ANSWER_TIMEOUT).await?;
        asked.finish();
        match answer {
            Answer::Done => Ok(()),
            _ => Err(asked.violation("another answer than that it is done")),
        }
    }
}

/// The runtime of a step's application that this program does not know.
fn lacks(supports: &BTreeSet<String>, step: &Step) -> Option<&'static str> {
    let config = match step {
        Step::Start(start) => &start.config,
        Step::Hook { config, .. } => config,
        _ => return None,
    };
    let (what, needs): (_, &[&str]) = match &config.runtime {
        Runtime::Process(_) => return None,
        Runtime::Systemd(_) => ("run.systemd", &[supports::RUNTIME_SYSTEMD]),
        Runtime::Script(_) => ("run.script", &[supports::RUNTIME_SCRIPT, supports::RUNTIME_WATCHED]),
        Runtime::Static(_) => ("run.static", &[supports::RUNTIME_STATIC, supports::RUNTIME_WATCHED]),
    };
    needs.iter().any(|name| !supports.contains(*name)).then_some(what)
}

/// Why a host takes no such task, whatever host it is: it is one message, and fits one frame. To be asked before bytes are brought for it.
pub fn check_task(task: &Task, secrets: &Secrets) -> Result<(), ProgramError> {
    begin_request(task, secrets).map(drop)
}

fn begin_request(task: &Task, secrets: &Secrets) -> Result<Request, ProgramError> {
    let request = Request::Begin { task: Box::new(task.clone()), secrets: secrets.clone() };
    let size = bytes_of_json(&request);
    if size > MAX_FRAME {
        let secret = bytes_of_json(secrets);
        let why = format!(
            "with the environment, files and secret values of its configuration it is {size} bytes long ({secret} of them secret values), \
             and {MAX_FRAME} are the most; large files belong into the release, or are fetched by the application"
        );
        return Err(ProgramError::BadInput { what: "the task", why });
    }
    Ok(request)
}

fn bytes_of_json<T: Serialize>(value: &T) -> usize {
    serde_json::to_vec(value).map_or(usize::MAX, |text| text.len())
}

async fn welcome(asked: &mut Asked, hello: &Hello) -> Result<Welcome, ProgramError> {
    let answer = match asked.answer_within("telling its first facts", HELLO_TIMEOUT).await {
        Err(ProgramError::Refused(refusal)) => return Err(ProgramError::NoCommonVersion(format!("{refusal:?}"))),
        answer => answer?,
    };
    asked.finish();
    match answer {
        Answer::Welcome(welcome) if (hello.versions.min..=hello.versions.max).contains(&welcome.version) => {
            Ok(*welcome)
        }
        _ => Err(asked.violation("no welcome, or one of a version that was not offered")),
    }
}

#[cfg(test)]
mod tests {
    use landfall_host_protocol::{Author, FenceToken, Owner, Step};

    use super::*;

    #[test]
    fn a_task_that_no_frame_holds_is_refused_with_its_size() {
        let owner = Owner {
            control_plane_id: "cp".to_owned(),
            namespace: "shop".to_owned(),
            deployment: "web".to_owned(),
            uid: "uid".to_owned(),
            host: "web-01".to_owned(),
        };
        let task = Task {
            id: TaskId { uid: "uid".to_owned(), rollout: "1.0".to_owned(), attempt: 1, n: 0 },
            folder: FolderName::new("shop", "web"),
            owner,
            replaces: None,
            fence: FenceToken { epoch: "cp".to_owned(), created: 1, transitions: 0 },
            author: Author::Operator,
            steps: vec![Step::Stop],
        };
        let secrets = |length: usize| Secrets([("key".to_owned(), vec![0xff; length].into())].into());
        assert_eq!(check_task(&task, &secrets(700_000)), Ok(()));
        let refused = check_task(&task, &secrets(800_000)).unwrap_err();
        let said = refused.to_string();
        assert!(said.starts_with("the task can't be used") && said.contains("1066"), "{said}");
        assert_eq!(refused.class(), crate::model::Class::Terminal);
        assert!(!refused.ends_session());
    }
}
