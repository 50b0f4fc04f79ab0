//! What each request leads to. A request is a stranger's input: its size, names and numbers were checked while it was read, and whether it
//! may be made at all is checked here.

use std::sync::mpsc::sync_channel;

use landfall_host_protocol::{Answer, Digest, FolderName, Hello, LogRequest, Refusal, Request, Secrets, Task, TaskId};

use super::{
    Done, Greeting, Look, Session, agree,
    streams::{Log, MAX_LOGS},
    view::View,
};
use crate::{
    facts::PrivilegeCheck,
    files,
    folder::Folder,
    incoming::{self, Object},
    logs::LogReader,
    task,
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
            Request::Begin { task, secrets } => {
                match own_folder(view, &task.folder, &self.root)
                    .and_then(|folder| own_task(view, &task).map(|()| folder))
                {
                    Ok(folder) => self.begin(id, folder, *task, secrets),
                    Err(refusal) => self.out.answer(id, &Answer::Refused(refusal)),
                }
            }
            Request::Attach { folder, task, offset } => match own_folder(view, &folder, &self.root) {
                Ok(folder) => self.attach(id, folder, task, offset),
                Err(refusal) => self.out.answer(id, &Answer::Refused(refusal)),
            },
            Request::Cancel { folder, task } => match own_folder(view, &folder, &self.root) {
                Ok(folder) => self.start(id, move || {
                    let cancelled = task::cancel(&folder, &task);
                    Done::Answered(id, cancelled.map_or_else(Answer::Refused, |()| Answer::Done))
                }),
                Err(refusal) => self.out.answer(id, &Answer::Refused(refusal)),
            },
            Request::Secrets { .. } => {
                let why = "secret values come with a task that starts the application".to_owned();
                self.out.answer(id, &Answer::Refused(Refusal::Unsupported { why }));
            }
            Request::Log(log) => match own_folder(view, &log.folder, &self.root) {
                Ok(folder) => self.log(id, folder, log),
                Err(refusal) => self.out.answer(id, &Answer::Refused(refusal)),
            },
            Request::More { bytes } => self.streams.more(id, bytes),
            Request::Close { id: closed } => {
                self.puts.remove(&closed);
                self.streams.close(closed, &mut self.out, &mut self.watch);
                self.out.answer(id, &Answer::Done);
            }
        }
    }

    /// Another stream may begin under this id; else the request was refused.
    fn may_stream(&mut self, id: u32) -> bool {
        if self.streams.has(id) {
            self.out.refuse(id, "id", "something is under way under this id");
            return false;
        }
        if self.streams.is_full() {
            self.out.refuse(id, "id", "too many logs and tasks are followed");
            return false;
        }
        self.streams.open(id);
        true
    }

    fn begin(&mut self, id: u32, folder: Folder, task: Task, secrets: Secrets) {
        if !self.may_stream(id) {
            return;
        }
        // The runner that it starts is reaped by the loop.
        self.start(id, move || match task::begin(&folder, &task, &secrets) {
            Ok(begun) => Done::Following(id, folder, begun.id, 0),
            Err(refusal) => Done::Answered(id, Answer::Refused(refusal)),
        });
    }

    fn attach(&mut self, id: u32, folder: Folder, task: TaskId, offset: u64) {
        if !self.may_stream(id) {
            return;
        }
        self.start(id, move || {
            if folder.task(&task).exists() || task::result(&folder, &task).is_some() {
                return Done::Following(id, folder, task, offset);
            }
            let what = format!("task {} of rollout {}", task.n, task.rollout);
            Done::Answered(id, Answer::Refused(Refusal::NotFound { what }))
        });
    }

    fn log(&mut self, id: u32, folder: Folder, request: LogRequest) {
        if self.streams.has_most_logs() {
            return self.out.refuse(id, "logs", format!("{MAX_LOGS} logs are read already"));
        }
        if !self.may_stream(id) {
            return;
        }
        self.streams.open_log(id);
        let LogRequest { folder: _, file, last_lines, follow, older, since_seconds, window } = request;
        self.start(id, move || {
            let opened = match older && file.0 == 0 {
                true => LogReader::whole(&folder, last_lines, since_seconds),
                false => LogReader::open(&folder, file.0, last_lines),
            };
            match opened {
                // What is followed may come later.
                Ok(reader) if reader.is_open() || follow => {
                    Done::LogOpened(id, Log::new(folder, reader, follow, window))
                }
                Ok(_) => {
                    let what = folder.log(file.0).display().to_string();
                    Done::Answered(id, Answer::Refused(Refusal::NotFound { what }))
                }
                Err(error) => Done::Answered(id, Answer::Refused(files::refusal(&error, &folder.log(file.0), 0))),
            }
        });
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
        self.ask_machine();
        if !self.asking.machine {
            (self.view, self.greeting) = (None, None);
            return self.no_thread(id);
        }
        self.asking.method = become_method;
        self.asking.become_users = become_users;
        match become_method {
            // sudo may be slow, and the welcome does not wait for it.
            Some(_) => self.ask_users(),
            None => self.view.iter_mut().for_each(|view| view.set_users(PrivilegeCheck::default())),
        }
    }

    fn look(&mut self, id: u32, seen: u64) {
        if self.looks.len() >= MAX_LOOKS {
            return self.out.refuse(id, "look", format!("{MAX_LOOKS} looks wait already"));
        }
        // What changed just before the request is part of the answer.
        self.read_changes();
        let survey = self.view.as_mut().and_then(|view| {
            view.look_at_runners();
            view.needed_survey()
        });
        let survey = survey.unwrap_or(0);
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
    pub(super) fn start(&mut self, id: u32, work: impl FnOnce() -> Done + Send + 'static) {
        if !self.jobs.start(work) {
            self.no_thread(id);
        }
    }

    fn no_thread(&mut self, id: u32) {
        self.streams.opened(id);
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

/// A task of this namespace's own, and one that takes over from no other.
fn own_task(view: &View, task: &Task) -> Result<(), Refusal> {
    let owners = [Some(&task.owner), task.replaces.as_ref()];
    match owners.into_iter().flatten().find(|owner| owner.namespace != view.namespace()) {
        Some(owner) => {
            let why = format!("{:?} is not namespace {}", owner.namespace, view.namespace());
            Err(Refusal::BadInput { field: "owner".to_owned(), why })
        }
        None => Ok(()),
    }
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
