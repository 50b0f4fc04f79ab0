//! One host as the controllers see it: its facts, and the tasks that `landfall-host` does there. The host itself checks owner, fence and
//! journal of every task. It must not decide what is to be done.
//!
//! | file | job |
//! |---|---|
//! | `bundles.rs` | a release as it comes to hosts, made once for all of them |
//! | `convert.rs` | what the program says, in the words of `model::facts` |
//! | `error.rs` | what can go wrong, and what to do about it |

mod bundles;
mod convert;
mod error;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use landfall_host_protocol::{Hello, RunAsMethod, Secrets, Task, TaskId, VERSIONS};
use tokio::sync::Mutex;

pub use self::{
    bundles::{Base, Bundle, Bundles},
    convert::folder as folder_facts,
    error::HostError,
};
use super::{
    clock,
    fresh::Fresh,
    gate::Gate,
    program::{ConnectOptions, Images, LogPart, LogStream, Program, ProgramError, Pushes, PutOptions, TaskStream},
    ssh::Connection,
};
use crate::{
    api::hostgroup::{Become, BecomeMethod},
    model::{
        facts::{HostFacts, OpenAct},
        ids::FolderName,
    },
};

/// What a host said when the session began is good for the very next question, and for a moment.
const FIRST_FACTS_TTL: Duration = Duration::from_secs(2);

/// One session with one host; cheap to clone, all clones share it. When it is lost every call answers an error; connecting again is the
/// caller's.
#[derive(Clone)]
pub struct Host {
    inner: Arc<Inner>,
}

struct Inner {
    /// The server's version banner.
    server: String,
    program: Program,
    known: Mutex<Known>,
}

/// The newest facts.
struct Known {
    seen: u64,
    facts: landfall_host_protocol::HostFacts,
    told: Instant,
    first: Option<Fresh<()>>,
}

/// Which host, and for whom.
pub struct HostOptions<'a> {
    /// The host's name in its group, for the effects ledger.
    pub name: &'a str,
    /// Only folders of this namespace are told of and acted on.
    pub namespace: &'a str,
    /// The group's root, absolute.
    pub root: &'a str,
    /// Users whose applications may run there.
    pub r#become: &'a Become,
}

impl Host {
    /// Begins a session, and brings the program where the host lacks it (effect `host.program`).
    pub async fn connect(
        gate: &Gate,
        connection: Connection,
        options: &HostOptions<'_>,
    ) -> Result<(Self, Pushes), HostError> {
        let HostOptions { name, namespace, root, r#become } = options;
        let become_method = match r#become.method {
            BecomeMethod::None => None,
            BecomeMethod::Sudo => Some(RunAsMethod::Sudo),
            BecomeMethod::Su => Some(RunAsMethod::Su),
        };
        let become_users = if become_method.is_some() { r#become.users.clone() } else { Vec::new() };
        let hello = Hello { versions: VERSIONS, namespace: (*namespace).to_owned(), become_method, become_users };
        let server = connection.server().to_owned();
        let images = Images::embedded();
        let options = ConnectOptions { name, root, images: &images, hello: &hello };
        let (program, welcome, pushes) = Program::connect(gate, Arc::new(connection), &options).await?;
        let known =
            Known { seen: welcome.seen, facts: welcome.facts, told: clock::monotonic(), first: Some(Fresh::now(())) };
        Ok((Self { inner: Arc::new(Inner { server, program, known: Mutex::new(known) }) }, pushes))
    }

    /// Whether the session is gone; a closed one never comes back.
    pub fn is_closed(&self) -> bool {
        self.inner.program.is_closed()
    }

    /// The facts of the host and of every project folder of the namespace.
    pub async fn facts(&self) -> Result<HostFacts, HostError> {
        let mut known = self.inner.known.lock().await;
        let is_first = known.first.take().is_some_and(|first| first.into_inner(FIRST_FACTS_TTL).is_some());
        if !is_first && let Some((seen, facts)) = self.inner.program.look(known.seen).await? {
            (known.seen, known.facts, known.told) = (seen, facts, clock::monotonic());
        }
        Ok(convert::host(&known.facts, &self.inner.server, known.told.elapsed().as_secs()))
    }

    /// Brings what a host needs to unpack a release; what is there already is not sent again (effect `host.put`).
    pub async fn put(
        &self,
        gate: &Gate,
        folder: &FolderName,
        bundle: &Bundle,
        options: &PutOptions,
    ) -> Result<(), HostError> {
        let folder = folder_name(folder)?;
        for (sha256, size, payload) in bundle.objects() {
            self.inner.program.put(gate, &folder, sha256, size, payload, options).await?;
        }
        Ok(())
    }

    /// Begins a task (effect `host.task`), or attaches to it where it was begun already. The values go to it alone.
    pub async fn begin(&self, gate: &Gate, task: &Task, secrets: &Secrets) -> Result<TaskStream, HostError> {
        Ok(self.inner.program.begin(gate, task, secrets).await?)
    }

    /// Listens to a task that the facts name, from its beginning. It starts nothing.
    pub async fn attach(&self, folder: &FolderName, open: &OpenAct) -> Result<TaskStream, HostError> {
        Ok(self.inner.program.attach(&folder_name(folder)?, &task_id(open), 0).await?)
    }

    /// The application's log over all its files. It changes nothing there, and passes no gate.
    pub async fn log(&self, folder: &FolderName, part: LogPart) -> Result<LogStream, ProgramError> {
        let bad =
            || ProgramError::BadInput { what: "the name of a project's folder", why: format!("{folder} is none") };
        let folder = landfall_host_protocol::FolderName::parse(folder.as_str()).ok_or_else(bad)?;
        self.inner.program.log(&folder, part).await
    }

    /// Ends a task before its next step, or within one that waits (effect `host.cancel`).
    pub async fn cancel(&self, gate: &Gate, folder: &FolderName, task: &TaskId) -> Result<(), HostError> {
        Ok(self.inner.program.cancel(gate, &folder_name(folder)?, task).await?)
    }
}

/// The id of a task that the facts name.
pub fn task_id(open: &OpenAct) -> TaskId {
    let OpenAct { uid, rollout, attempt, n, .. } = open;
    TaskId { uid: uid.clone(), rollout: rollout.clone(), attempt: *attempt, n: *n }
}

/// A folder's name as the program takes it.
pub fn folder_name(folder: &FolderName) -> Result<landfall_host_protocol::FolderName, HostError> {
    landfall_host_protocol::FolderName::parse(folder.as_str())
        .ok_or_else(|| HostError::BadInput { what: "the name of a project's folder", why: format!("{folder} is none") })
}
