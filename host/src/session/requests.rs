//! What each request leads to. A request is a stranger's input: its size, names and numbers were checked while it was read, and whether it
//! may be made at all is checked here.

use std::sync::mpsc::sync_channel;

use landfall_host_protocol::{Answer, Digest, FolderName, Hello, Refusal, Request};

use super::{Done, Greeting, Look, Session, agree, view::View};
use crate::{
    facts,
    folder::Folder,
    incoming::{self, Object},
};

/// Puts at once.
const MAX_PUTS: usize = 4;
/// Pieces that wait for a put's thread.
const PIECES: usize = 2;
/// Looks that wait for one survey.
const MAX_LOOKS: usize = 64;
/// Users that a hello may ask for.
const MAX_USERS: usize = 64;

impl Session {
    pub(super) fn take_request(&mut self, id: u32, payload: &[u8]) {
        if id == 0 {
            return self.out.refuse(0, "id", "0 is what the host says unasked");
        }
        let request: Request = match serde_json::from_slice(payload) {
            Ok(request) => request,
            Err(error) => return self.out.refuse(id, "request", unreadable(&error)),
        };
        if let Request::Hello(hello) = request {
            return self.hello(id, hello);
        }
        let Some(view) = &mut self.view else {
            return self.out.refuse(id, "hello", "the first request is hello");
        };
        match request {
            Request::Hello(_) => {}
            Request::Look { seen } => self.look(id, seen),
            Request::Put { folder, sha256, size, from } => match own_folder(view, &folder, &self.root) {
                Ok(folder) => self.put(id, folder, sha256, size, from),
                Err(refusal) => self.out.answer(id, &Answer::Refused(refusal)),
            },
            Request::Begin { .. }
            | Request::Attach { .. }
            | Request::Cancel { .. }
            | Request::Secrets { .. }
            | Request::Log { .. }
            | Request::Close { .. } => {
                let why = "this program can't do that yet".to_owned();
                self.out.answer(id, &Answer::Refused(Refusal::Unsupported { why }));
            }
        }
    }

    fn hello(&mut self, id: u32, hello: Hello) {
        if self.view.is_some() {
            return self.out.refuse(id, "hello", "the session has begun already");
        }
        let version = match agree(hello.versions) {
            Ok(version) => version,
            Err(why) => return self.out.refuse(id, "versions", why),
        };
        if FolderName::parse(&format!("{}.project", hello.namespace)).is_none() {
            return self.out.refuse(id, "namespace", "no name of a namespace");
        }
        if hello.become_users.len() > MAX_USERS {
            return self.out.refuse(id, "becomeUsers", format!("{MAX_USERS} users are the most"));
        }
        self.view = Some(View::new(&self.root, &hello.namespace, &mut self.watch));
        self.greeting = Some(Greeting { id, version });
        let Hello { become_method, become_users, .. } = hello;
        self.start(id, move || {
            Done::Machine(Box::new(facts::machine()), facts::check_users(become_method, &become_users))
        });
    }

    fn look(&mut self, id: u32, seen: u64) {
        if self.looks.len() >= MAX_LOOKS {
            return self.out.refuse(id, "look", format!("{MAX_LOOKS} looks wait already"));
        }
        // What changed just before the request is part of the answer.
        self.read_changes();
        let survey = self.view.as_ref().and_then(View::needed_survey).unwrap_or(0);
        self.looks.push(Look { id, seen, survey });
    }

    fn put(&mut self, id: u32, folder: Folder, sha256: Digest, size: u64, from: Option<u64>) {
        let object = Object { sha256, size };
        let Some(from) = from else {
            return self.start(id, move || {
                let have = incoming::have(&folder, &object);
                Done::Answered(id, have.map_or_else(Answer::Refused, |bytes| Answer::Have { bytes }))
            });
        };
        if self.puts.contains_key(&id) {
            return self.out.refuse(id, "id", "bytes are coming under this id");
        }
        if self.puts_running >= MAX_PUTS {
            return self.out.refuse(id, "put", format!("{MAX_PUTS} objects are on their way already"));
        }
        let (sender, receiver) = sync_channel(PIECES);
        let wake = self.jobs.waker();
        self.puts.insert(id, sender);
        self.puts_running += 1;
        let started = self.jobs.start(move || {
            let pieces = std::iter::from_fn(|| {
                let piece = receiver.recv().ok();
                wake.wake();
                piece
            });
            Done::Put(id, incoming::receive(&folder, &object, from, pieces))
        });
        if !started {
            self.puts.remove(&id);
            self.puts_running -= 1;
            self.no_thread(id);
        }
    }

    /// Does in a thread what answers the request.
    fn start(&mut self, id: u32, work: impl FnOnce() -> Done + Send + 'static) {
        if !self.jobs.start(work) {
            self.no_thread(id);
        }
    }

    fn no_thread(&mut self, id: u32) {
        let why = "no thread can be started: the user's limit of processes is reached".to_owned();
        self.out.answer(id, &Answer::Refused(Refusal::Failed { why }));
    }
}

/// A folder of the namespace that the hello named.
fn own_folder(view: &View, name: &FolderName, root: &std::path::Path) -> Result<Folder, Refusal> {
    if name.namespace() != view.namespace() {
        let why = format!("{name} is not of namespace {}", view.namespace());
        return Err(Refusal::BadInput { field: "folder".to_owned(), why });
    }
    Ok(Folder::new(root, name.clone()))
}

/// Why a request can't be read, without its content: it may hold secret values.
fn unreadable(error: &serde_json::Error) -> String {
    let kind = match error.classify() {
        serde_json::error::Category::Syntax => "no JSON",
        serde_json::error::Category::Eof => "JSON that ends too early",
        serde_json::error::Category::Data => "none that this program knows",
        serde_json::error::Category::Io => "unreadable",
    };
    format!("{kind} (column {})", error.column())
}
