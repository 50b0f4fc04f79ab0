//! The session's two tasks: one writes frames, one reads them and hands each to the request that it answers. A host that breaks the
//! protocol, and a panic here, end this session and nothing else.

use std::{
    collections::{HashMap, VecDeque},
    panic::AssertUnwindSafe,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use futures::FutureExt;
use landfall_host_protocol::{Answer, Decoder, Frame, Kind, Push, Request, encode};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    ProgramError,
    bootstrap::Running,
    inbox::{Closed, Inbox, Incoming},
    pushes::{PushSlot, Pushes},
    text,
};
use crate::{
    effects::{
        clock,
        ssh::{Connection, PipeReader, PipeWriter},
    },
    model::text::one_line,
};

/// The longest time in which the host takes nothing of a frame.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest time of an answer that the host has at hand, or that takes it a lock and some files.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// Requests under way at once.
const REQUESTS_MAX: usize = 256;
/// Requests that we ended and whose last frames may still be on the line, and bytes of each.
const ENDED_MAX: usize = 256;
const ENDED_BYTES: usize = 8 << 20;
/// Frames of bytes that wait to be written: few, so that a request never waits long behind an upload.
const BULK_MAX: usize = 2;

/// A session and what it needs: it ends when this is dropped.
pub(super) struct Live {
    session: Arc<Session>,
    connection: Arc<Connection>,
}

impl Live {
    /// Begins with the program running; the first request was sent, and its answers come to what is returned.
    pub fn begin(running: Running, connection: Arc<Connection>, namespace: &str) -> (Arc<Self>, Asked) {
        let (session, first) = Session::begin(running, namespace);
        (Arc::new(Self { session, connection }), first)
    }

    pub fn ask(&self, request: &Request) -> Result<Asked, ProgramError> {
        self.session.ask(request)
    }

    pub fn is_closed(&self) -> bool {
        self.session.has_ended() || self.connection.is_closed()
    }

    pub fn pushes(&self) -> Pushes {
        Pushes::new(self.session.pushes.clone())
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.session.end(ProgramError::Ended("we ended the session".to_owned()));
    }
}

/// What the tasks and the requests share.
struct Session {
    routes: Mutex<Routes>,
    control: mpsc::UnboundedSender<Bytes>,
    bulk: mpsc::Sender<Bytes>,
    pushes: Arc<PushSlot>,
    namespace: String,
    /// Why it ended.
    ended: OnceLock<ProgramError>,
    cut: CancellationToken,
}

#[derive(Default)]
struct Routes {
    last: u32,
    open: HashMap<u32, Arc<Inbox>>,
    /// Ended by us, the oldest first: id, and bytes that came since.
    ended: VecDeque<(u32, usize)>,
}

impl Routes {
    fn next_id(&mut self) -> u32 {
        loop {
            self.last = self.last.wrapping_add(1);
            if self.last != 0 && !self.open.contains_key(&self.last) {
                return self.last;
            }
        }
    }

    fn end(&mut self, id: u32) {
        self.ended.push_back((id, 0));
        if self.ended.len() > ENDED_MAX {
            self.ended.pop_front();
        }
    }
}

/// The id of the first request, which `bootstrap` sends together with the command.
pub(super) const FIRST_ID: u32 = 1;

impl Session {
    /// Begins with the program running; the first request was sent.
    fn begin(running: Running, namespace: &str) -> (Arc<Self>, Asked) {
        let (control, control_queue) = mpsc::unbounded_channel();
        let (bulk, bulk_queue) = mpsc::channel(BULK_MAX);
        let session = Arc::new(Self {
            routes: Mutex::default(),
            control,
            bulk,
            pushes: Arc::new(PushSlot::new(clock::monotonic())),
            namespace: namespace.to_owned(),
            ended: OnceLock::new(),
            cut: CancellationToken::new(),
        });
        let inbox = Arc::new(Inbox::default());
        {
            let mut routes = session.routes.lock();
            let id = routes.next_id();
            debug_assert_eq!(id, FIRST_ID);
            routes.open.insert(id, inbox.clone());
        }
        let first = Asked { session: session.clone(), id: FIRST_ID, inbox, over: false };
        let Running { reader, writer, rest } = running;
        session.spawn(write(writer, control_queue, bulk_queue));
        let reading = session.clone();
        session.spawn(async move { reading.read(reader, rest).await });
        (session, first)
    }

    /// Runs until it ends, is cut or panics; each ends the session.
    fn spawn(self: &Arc<Self>, work: impl Future<Output = ProgramError> + Send + 'static) {
        let session = self.clone();
        tokio::spawn(async move {
            let cut = session.cut.clone();
            let why = tokio::select! {
                () = cut.cancelled() => return,
                why = AssertUnwindSafe(work).catch_unwind() => why,
            };
            session.end(why.unwrap_or_else(|_| ProgramError::protocol("reading what it said failed here")));
        });
    }

    /// Ends it for all who wait.
    fn end(&self, why: ProgramError) {
        let _ = self.ended.set(why);
        let open = std::mem::take(&mut self.routes.lock().open);
        for inbox in open.values() {
            inbox.close(Closed::Session);
        }
        self.pushes.close();
        self.cut.cancel();
    }

    fn has_ended(&self) -> bool {
        self.ended.get().is_some()
    }

    fn why_ended(&self) -> ProgramError {
        self.ended.get().cloned().unwrap_or_else(|| ProgramError::Ended(String::new()))
    }

    /// Sends a request. Its answers come to what is returned.
    fn ask(self: &Arc<Self>, request: &Request) -> Result<Asked, ProgramError> {
        let inbox = Arc::new(Inbox::default());
        let id = {
            let mut routes = self.routes.lock();
            if self.has_ended() {
                return Err(self.why_ended());
            }
            if routes.open.len() >= REQUESTS_MAX {
                return Err(ProgramError::BadInput {
                    what: "a request",
                    why: format!("{REQUESTS_MAX} of this host are under way"),
                });
            }
            let id = routes.next_id();
            routes.open.insert(id, inbox.clone());
            id
        };
        let asked = Asked { session: self.clone(), id, inbox, over: false };
        self.control.send(message(id, request)?).map_err(|_| self.why_ended())?;
        Ok(asked)
    }

    /// Whatever comes under this id from now on counts for nothing; the host is asked to end it.
    fn close(&self, id: u32) {
        let close = {
            let mut routes = self.routes.lock();
            if routes.open.remove(&id).is_none() {
                return;
            }
            let close = routes.next_id();
            routes.end(id);
            routes.end(close);
            close
        };
        if let Ok(frame) = message(close, &Request::Close { id }) {
            let _ = self.control.send(frame);
        }
    }

    async fn read(&self, mut reader: PipeReader, rest: Vec<u8>) -> ProgramError {
        let mut decoder = Decoder::at_once();
        decoder.feed(&rest);
        loop {
            loop {
                match decoder.next_frame() {
                    Ok(Some(frame)) => {
                        if let Err(error) = self.route(frame).await {
                            return error;
                        }
                    }
                    Ok(None) => break,
                    Err(error) => return ProgramError::protocol(error.to_string()),
                }
            }
            match reader.read().await {
                Ok(Some(bytes)) => decoder.feed(&bytes),
                Ok(None) => return ProgramError::Ended(one_line(reader.stderr().0, 300)),
                Err(error) => return error.into(),
            }
        }
    }

    async fn route(&self, frame: Frame) -> Result<(), ProgramError> {
        let Frame { kind, id, payload } = frame;
        if id == 0 {
            return self.push(kind, &payload);
        }
        let size = payload.len() + 16;
        let inbox = {
            let mut routes = self.routes.lock();
            match routes.open.get(&id) {
                Some(inbox) => inbox.clone(),
                None => {
                    let ended = routes.ended.iter_mut().find(|(ended, _)| *ended == id);
                    let (_, came) = ended.ok_or_else(|| ProgramError::protocol("it answers what nobody asked"))?;
                    *came += size;
                    let enough = *came <= ENDED_BYTES;
                    return enough
                        .then_some(())
                        .ok_or_else(|| ProgramError::protocol("it goes on after it was told to end"));
                }
            }
        };
        let incoming = match kind {
            Kind::Message => {
                let mut answer: Answer = text::read(&payload)?;
                match &mut answer {
                    Answer::Welcome(welcome) => text::keep_namespace(&mut welcome.facts, &self.namespace),
                    Answer::Facts { facts, .. } => text::keep_namespace(facts, &self.namespace),
                    _ => {}
                }
                Incoming::Answer(answer)
            }
            Kind::Bytes => Incoming::Bytes { bytes: payload.into(), last: false },
            Kind::LastBytes => Incoming::Bytes { bytes: payload.into(), last: true },
        };
        if !inbox.put(incoming, size).await {
            self.close(id);
        }
        Ok(())
    }

    fn push(&self, kind: Kind, payload: &[u8]) -> Result<(), ProgramError> {
        if kind != Kind::Message {
            return Err(ProgramError::protocol("bytes that belong to no request"));
        }
        let mut push: Push = text::read(payload)?;
        text::keep_namespace_of_push(&mut push, &self.namespace);
        self.pushes.put(push, clock::monotonic())
    }
}

/// A request as a frame.
pub(super) fn message(id: u32, request: &Request) -> Result<Bytes, ProgramError> {
    let bad = |why: String| ProgramError::BadInput { what: "a request", why };
    let json = serde_json::to_vec(request).map_err(|error| bad(error.to_string()))?;
    Ok(encode(Kind::Message, id, &json).map_err(|error| bad(error.to_string()))?.into())
}

/// Requests go before bytes.
async fn write(
    writer: PipeWriter,
    mut control: mpsc::UnboundedReceiver<Bytes>,
    mut bulk: mpsc::Receiver<Bytes>,
) -> ProgramError {
    loop {
        let frame = tokio::select! {
            biased;
            frame = control.recv() => frame,
            frame = bulk.recv() => frame,
        };
        let Some(frame) = frame else { return ProgramError::Ended(String::new()) };
        match tokio::time::timeout(WRITE_TIMEOUT, writer.write(frame)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return error.into(),
            Err(_) => {
                return ProgramError::Deadline { what: "taking what it is sent", seconds: WRITE_TIMEOUT.as_secs() };
            }
        }
    }
}

/// A request under way. Dropped before its last answer it is ended on the host as well.
pub(super) struct Asked {
    session: Arc<Session>,
    id: u32,
    inbox: Arc<Inbox>,
    over: bool,
}

impl Asked {
    /// The next frame for it.
    pub async fn next(&mut self) -> Result<Incoming, ProgramError> {
        match self.inbox.take().await {
            Ok(incoming) => Ok(incoming),
            Err(Closed::Lagged) => Err(ProgramError::Lagged),
            Err(Closed::Session) => Err(self.session.why_ended()),
        }
    }

    /// Back when something came for it, or never will; nothing is taken.
    pub async fn arrived(&self) {
        self.inbox.arrived().await;
    }

    /// The next answer. A refusal is an error, and the last of it.
    pub async fn answer(&mut self) -> Result<Answer, ProgramError> {
        match self.next().await? {
            Incoming::Answer(Answer::Refused(refusal)) => {
                self.finish();
                Err(ProgramError::Refused(refusal))
            }
            Incoming::Answer(answer) => Ok(answer),
            Incoming::Bytes { .. } => Err(self.violation("bytes where an answer is due")),
        }
    }

    /// The same within a time; a host that lets it pass is given up.
    pub async fn answer_within(&mut self, what: &'static str, limit: Duration) -> Result<Answer, ProgramError> {
        match tokio::time::timeout(limit, self.answer()).await {
            Ok(answer) => answer,
            Err(_) => {
                let late = ProgramError::Deadline { what, seconds: limit.as_secs() };
                self.session.end(late.clone());
                Err(late)
            }
        }
    }

    /// The same, where the host may take longer for this one and be well: whoever drops this then ends it alone.
    pub async fn answer_in_time(&mut self, what: &'static str, limit: Duration) -> Result<Answer, ProgramError> {
        let late = |_| ProgramError::TooLate { what, seconds: limit.as_secs() };
        tokio::time::timeout(limit, self.answer()).await.map_err(late)?
    }

    /// Sends bytes that belong to it.
    pub async fn send(&self, bytes: &[u8], last: bool) -> Result<(), ProgramError> {
        let kind = if last { Kind::LastBytes } else { Kind::Bytes };
        let frame = encode(kind, self.id, bytes).map_err(|error| ProgramError::protocol(error.to_string()))?;
        let sent = self.session.bulk.send(frame.into());
        tokio::select! {
            sent = sent => sent.map_err(|_| self.session.why_ended()),
            () = self.session.cut.cancelled() => Err(self.session.why_ended()),
        }
    }

    /// So many bytes more may come for it.
    pub fn more(&self, bytes: u64) -> Result<(), ProgramError> {
        let frame = message(self.id, &Request::More { bytes })?;
        self.session.control.send(frame).map_err(|_| self.session.why_ended())
    }

    /// That was its last answer.
    pub fn finish(&mut self) {
        self.over = true;
    }

    /// Ends the session: what came can't be trusted.
    pub fn violation(&self, why: &str) -> ProgramError {
        let error = ProgramError::protocol(why);
        self.session.end(error.clone());
        error
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if self.over {
            self.session.routes.lock().open.remove(&self.id);
        } else {
            self.session.close(self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_takes_too_long_to_open_ends_alone() {
        let (control, mut control_queue) = mpsc::unbounded_channel();
        let (bulk, _bulk_queue) = mpsc::channel(BULK_MAX);
        let session = Arc::new(Session {
            routes: Mutex::default(),
            control,
            bulk,
            pushes: Arc::new(PushSlot::new(clock::monotonic())),
            namespace: "shop".to_owned(),
            ended: OnceLock::new(),
            cut: CancellationToken::new(),
        });
        let request = Request::More { bytes: 1 };
        let _other = session.ask(&request).unwrap();
        let mut late = session.ask(&request).unwrap();
        let id = late.id;
        let error = late.answer_in_time("opening a log", Duration::from_millis(1)).await.unwrap_err();
        assert!(matches!(error, ProgramError::TooLate { .. }) && !error.ends_session(), "{error}");
        drop(late);
        assert!(!session.has_ended() && session.routes.lock().open.len() == 1);
        let sent: Vec<Bytes> = std::iter::from_fn(|| control_queue.try_recv().ok()).collect();
        assert_eq!(sent.last(), Some(&message(id + 1, &Request::Close { id }).unwrap()));
    }
}
