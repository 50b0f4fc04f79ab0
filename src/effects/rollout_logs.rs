//! Logs of rollouts: what was done on which host, when, and what came of it; one line for each. Written for people, as it happens;
//! nothing is decided by it, so no gate is passed and a full disk costs lines and nothing else.
//!
//! Each line goes into two files of `<data>/rollouts/<deployment uid>/<attempt>/`: the host's, and that of all hosts. One thread does
//! all writing, in the order of the calls: whoever writes, on threads that renew the lease as well, waits for no disk. What is not written
//! when the process is killed is lost; [`RolloutLogs::flush`] waits until everything is.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::{
    clock,
    gate::Gate,
    logs::{Log, LogError, PIECE},
    store::{Store, StoreError, keys},
};
use crate::model::{rollout::RolloutAttempt, text::clean};

/// The file of all hosts: no host's name has an underscore.
const ALL: &str = "_all";
/// The largest file of one attempt; what is beyond is not kept.
const FILE_MAX: u64 = 64 * PIECE;
/// Bytes that may wait for the disk. Lines beyond that are lost, and their number is written down.
const QUEUE_MAX: usize = 8 * 1024 * 1024;
/// Messages that are written together: each file is opened once for all of them.
const BATCH: usize = 256;

/// All logs of one operator. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct RolloutLogs {
    folder: PathBuf,
    /// The newest attempt of each Deployment that something was written of. Held while a line is queued, so that none of an older attempt
    /// comes behind its end.
    newest: Arc<Mutex<HashMap<String, RolloutAttempt>>>,
    queue: mpsc::UnboundedSender<Message>,
    queued: Arc<AtomicUsize>,
    lost: Arc<AtomicUsize>,
}

/// What the thread that writes is told, in order.
enum Message {
    /// Lines for these files of a folder.
    Append {
        folder: PathBuf,
        host: String,
        lines: String,
    },
    Remove {
        folder: PathBuf,
    },
    /// Answered when everything before it is done.
    Flush {
        done: oneshot::Sender<()>,
    },
}

impl RolloutLogs {
    /// `folder`: its own, `<data>/rollouts`. Make one for a process: the order of lines is that of one queue.
    pub fn new(folder: PathBuf) -> Self {
        let (queue, messages) = mpsc::unbounded_channel();
        let (queued, lost) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let writer = Writer { messages, queued: queued.clone(), lost: lost.clone() };
        let thread = std::thread::Builder::new().name("rollout-logs".to_owned());
        if let Err(error) = thread.spawn(move || writer.run()) {
            tracing::error!(%error, "no thread for the logs of rollouts; they are not kept");
        }
        Self { folder, newest: Arc::default(), queue, queued, lost }
    }

    /// Notes something of a host, in as many lines as it has. What an older attempt still has to say, when a newer one has begun, is lost:
    /// its log may be sealed already.
    pub fn write(&self, uid: &str, attempt: RolloutAttempt, host: &str, text: &str) {
        let now = clock::now();
        let lines: String = clean(text.as_bytes()).lines().map(|line| format!("{now} {host}: {line}\n")).collect();
        if self.queued.load(Ordering::Relaxed) + lines.len() > QUEUE_MAX {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut newest = self.newest.lock();
        let known = newest.entry(uid.to_owned()).or_insert(attempt);
        if *known > attempt {
            return;
        }
        *known = attempt;
        self.queued.fetch_add(lines.len(), Ordering::Relaxed);
        let folder = self.attempt_folder(uid, attempt);
        // Without the thread there is nobody to tell; that was said when it could not be started.
        let _ = self.queue.send(Message::Append { folder, host: host.to_owned(), lines });
    }

    /// Comes back when every line written before this call is in its file.
    pub async fn flush(&self) {
        let (done, is_done) = oneshot::channel();
        let _ = self.queue.send(Message::Flush { done });
        let _ = is_done.await;
    }

    fn attempt_folder(&self, uid: &str, attempt: RolloutAttempt) -> PathBuf {
        self.folder.join(uid).join(attempt.to_string())
    }

    /// The log of an attempt: one host's part of it, or all of it.
    pub fn log_of(
        &self,
        uid: &str,
        attempt: RolloutAttempt,
        host: Option<&str>,
        store: &Store,
    ) -> Result<Log, StoreError> {
        let name = host.unwrap_or(ALL);
        // The key is made of checked parts, so the path has them too.
        let folder = keys::host_log_folder(uid, &attempt.to_string(), name)?;
        Ok(Log { file: self.attempt_folder(uid, attempt).join(name), times: None, folder, store: store.clone() })
    }

    /// Puts the logs of a Deployment into the store, but for the newest attempt's, and removes their files.
    pub async fn seal(&self, gate: &Gate, store: &Store, uid: &str) -> Result<(), LogError> {
        let newest = self.newest.lock().get(uid).copied();
        let Some(newest) = newest else { return Ok(()) };
        self.flush().await;
        for name in names(self.folder.join(uid)).await? {
            let Some(attempt) = name.parse::<RolloutAttempt>().ok().filter(|attempt| *attempt < newest) else {
                continue;
            };
            let folder = self.attempt_folder(uid, attempt);
            for host in names(folder.clone()).await? {
                let log = self.log_of(uid, attempt, Some(&host), store)?;
                log.seal(gate, log.sealed_pieces().await?, true).await?;
            }
            let _ = self.queue.send(Message::Remove { folder });
        }
        self.flush().await;
        Ok(())
    }

    /// The attempts of which there is a log, here or in the store.
    pub async fn attempts(&self, store: &Store, uid: &str) -> Result<BTreeSet<RolloutAttempt>, LogError> {
        let sealed = store.list(&keys::logs(uid)?).await?;
        let sealed = sealed.iter().filter_map(keys::attempt_of_log).map(str::to_owned);
        let names = sealed.chain(names(self.folder.join(uid)).await?);
        Ok(names.filter_map(|name| name.parse().ok()).collect())
    }

    /// Removes the log of one attempt. Effect `log.remove`, where something was sealed.
    pub(crate) async fn remove_attempt(
        &self,
        gate: &Gate,
        store: &Store,
        uid: &str,
        attempt: RolloutAttempt,
    ) -> Result<(), LogError> {
        let _ = self.queue.send(Message::Remove { folder: self.attempt_folder(uid, attempt) });
        self.flush().await;
        store.remove_logs(gate, &keys::log_folder(uid, &attempt.to_string())?).await?;
        Ok(())
    }

    /// Removes all of them: the Deployment is deleted. Effect `log.remove`, where something was sealed.
    pub async fn remove(&self, gate: &Gate, store: &Store, uid: &str) -> Result<(), StoreError> {
        self.forget(uid);
        self.flush().await;
        store.remove_logs(gate, &keys::logs(uid)?).await
    }

    /// The Deployment is gone, and nobody can ask for its logs any more.
    pub fn forget(&self, uid: &str) {
        let mut newest = self.newest.lock();
        newest.remove(uid);
        if !uid.is_empty() {
            let _ = self.queue.send(Message::Remove { folder: self.folder.join(uid) });
        }
    }
}

/// The names in a folder; none where it is not there.
async fn names(folder: PathBuf) -> io::Result<Vec<String>> {
    let read = move || {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    };
    tokio::task::spawn_blocking(read).await.map_err(io::Error::other)
}

/// The thread that does what blocks.
struct Writer {
    messages: mpsc::UnboundedReceiver<Message>,
    queued: Arc<AtomicUsize>,
    lost: Arc<AtomicUsize>,
}

impl Writer {
    /// Until every handle is dropped and everything is written.
    fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        while self.messages.blocking_recv_many(&mut batch, BATCH) > 0 {
            let mut open = OpenFiles::default();
            for message in batch.drain(..) {
                match message {
                    Message::Append { folder, host, lines } => {
                        self.append(&mut open, &folder, &host, &lines);
                        self.queued.fetch_sub(lines.len(), Ordering::Relaxed);
                    }
                    Message::Remove { folder } => {
                        open = OpenFiles::default();
                        if let Err(error) = fs::remove_dir_all(&folder)
                            && error.kind() != io::ErrorKind::NotFound
                        {
                            tracing::warn!(folder = %folder.display(), %error, "logs of a rollout stay behind");
                        }
                    }
                    Message::Flush { done } => {
                        // Whoever asked may have gone.
                        let _ = done.send(());
                    }
                }
            }
        }
    }

    fn append(&self, open: &mut OpenFiles, folder: &Path, host: &str, lines: &str) {
        let mut written = Ok(());
        if let lost @ 1.. = self.lost.swap(0, Ordering::Relaxed) {
            let note =
                format!("{} {host}: ({lost} messages of rollouts were lost: the disk was too slow)\n", clock::now());
            written = open.append(&folder.join(ALL), &note);
        }
        let written = written
            .and_then(|()| open.append(&folder.join(host), lines))
            .and_then(|()| open.append(&folder.join(ALL), lines));
        if let Err(error) = written {
            tracing::warn!(folder = %folder.display(), host, %error, "a line of a rollout's log is lost");
        }
    }
}

/// The files of one batch, with their sizes.
#[derive(Default)]
struct OpenFiles(HashMap<PathBuf, (fs::File, u64)>);

impl OpenFiles {
    fn append(&mut self, path: &Path, lines: &str) -> io::Result<()> {
        if !self.0.contains_key(path) {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            let file = fs::File::options().create(true).append(true).open(path)?;
            let size = file.metadata()?.len();
            self.0.insert(path.to_owned(), (file, size));
        }
        if let Some((file, size)) = self.0.get_mut(path)
            && *size < FILE_MAX
        {
            file.write_all(lines.as_bytes())?;
            *size += lines.len() as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{effects::gate::LeaseTerm, model::ids::FenceToken};

    fn attempt(text: &str) -> RolloutAttempt {
        text.parse().unwrap()
    }

    fn gate() -> Gate {
        Gate::open_for(FenceToken { epoch: "e".into(), created: 0, transitions: 0 })
    }

    #[tokio::test]
    async fn a_sealed_log_reads_as_it_was_and_an_old_attempt_writes_nothing_more() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::folder(dir.path().join("store")).unwrap();
        let gate = gate();
        let rollout_logs = RolloutLogs::new(dir.path().join("rollouts"));
        rollout_logs.write("u", attempt("1.0.1"), "web-01", "stage v1");
        rollout_logs.write("u", attempt("1.0.1"), "web-02", "failed: last line\nweb-01: \u{1b}[2Jready");
        rollout_logs.flush().await;
        let all = rollout_logs.log_of("u", attempt("1.0.1"), None, &store).unwrap();
        let one = rollout_logs.log_of("u", attempt("1.0.1"), Some("web-02"), &store).unwrap();
        let before = (all.read(0, 9999).await.unwrap(), one.read(0, 9999).await.unwrap());
        let text = String::from_utf8(before.0.clone()).unwrap();
        assert_eq!(
            text.lines().filter(|line| line.contains(" web-02: ")).count(),
            2,
            "no host speaks for another: {text}"
        );
        assert!(!String::from_utf8(before.1.clone()).unwrap().contains("stage v1"));

        rollout_logs.write("u", attempt("2.0.1"), "web-01", "stage v2");
        rollout_logs.write("u", attempt("1.0.1"), "web-01", "too late");
        rollout_logs.seal(&gate, &store, "u").await.unwrap();
        assert!(!all.file.exists());
        assert_eq!((all.read(0, 9999).await.unwrap(), one.read(0, 9999).await.unwrap()), before);
        let new = rollout_logs.log_of("u", attempt("2.0.1"), None, &store).unwrap();
        assert!(new.file.exists() && new.size().await.unwrap() > 0);
        assert!(rollout_logs.log_of("u", attempt("2.0.1"), Some("../x"), &store).is_err());
    }

    #[tokio::test]
    async fn of_sealed_logs_those_that_are_named_go_and_all_when_the_deployment_goes() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::folder(dir.path().join("store")).unwrap();
        let gate = gate();
        let rollout_logs = RolloutLogs::new(dir.path().join("rollouts"));
        for uid in ["u", "other"] {
            for name in ["9.0.1", "10.0.1", "10.0.2", "10.1.1", "11.0.1"] {
                rollout_logs.write(uid, attempt(name), "web-01", name);
            }
            rollout_logs.seal(&gate, &store, uid).await.unwrap();
        }
        assert_eq!(rollout_logs.attempts(&store, "u").await.unwrap().len(), 5);
        for name in ["9.0.1", "10.0.1", "10.0.2"] {
            rollout_logs.remove_attempt(&gate, &store, "u", attempt(name)).await.unwrap();
        }
        let has = async |uid: &str, name: &str| {
            let log = rollout_logs.log_of(uid, attempt(name), Some("web-01"), &store).unwrap();
            log.size().await.unwrap() > 0
        };
        for name in ["9.0.1", "10.0.1", "10.0.2"] {
            assert!(!has("u", name).await, "{name}");
        }
        assert!(has("u", "10.1.1").await && has("u", "11.0.1").await);
        // Its namespace goes, and there is no lease any more.
        let token = FenceToken { epoch: "e".into(), created: 0, transitions: 0 };
        gate.open(LeaseTerm { until: None, token, adopt_all: None, namespace_deleting: true });
        rollout_logs.remove(&gate, &store, "u").await.unwrap();
        assert!(!has("u", "10.1.1").await && !has("u", "11.0.1").await);
        assert!(has("other", "9.0.1").await && has("other", "11.0.1").await);
    }

    /// Reads whatever comes, and keeps the pipe open for writing, so that it never ends.
    fn drain(pipe: &Path) {
        let mut pipe = fs::File::options().read(true).write(true).open(pipe).unwrap();
        std::thread::spawn(move || io::copy(&mut pipe, &mut io::sink()));
    }

    #[tokio::test]
    async fn a_disk_that_hangs_holds_up_no_thread_of_the_operator_and_costs_no_line() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("u/1.0.1");
        fs::create_dir_all(&folder).unwrap();
        // A pipe that nobody reads: to open it takes as long as a disk that does not answer.
        let pipe = folder.join("web-01");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
        let rollout_logs = RolloutLogs::new(dir.path().to_owned());
        let began = clock::monotonic();
        for n in 0..1000 {
            rollout_logs.write("u", attempt("1.0.1"), "web-01", &format!("step {n}"));
        }
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        let waiting = tokio::time::timeout(Duration::from_millis(200), rollout_logs.flush()).await;
        assert!(waiting.is_err(), "nothing is written yet");
        drain(&pipe);
        rollout_logs.flush().await;
        let text = fs::read_to_string(folder.join(ALL)).unwrap();
        let steps: Vec<&str> = text.lines().filter_map(|line| line.rsplit_once("step ")).map(|(_, n)| n).collect();
        let wanted: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
        assert_eq!(steps, wanted, "each line once, in order");
    }

    #[tokio::test]
    async fn what_the_queue_does_not_take_is_counted_and_said() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("u/1.0.1");
        fs::create_dir_all(&folder).unwrap();
        let pipe = folder.join("web-01");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
        let rollout_logs = RolloutLogs::new(dir.path().to_owned());
        let long = "x".repeat(8000);
        for _ in 0..2 * QUEUE_MAX / long.len() {
            rollout_logs.write("u", attempt("1.0.1"), "web-01", &long);
        }
        assert!(rollout_logs.queued.load(Ordering::Relaxed) <= QUEUE_MAX);
        drain(&pipe);
        rollout_logs.flush().await;
        rollout_logs.write("u", attempt("1.0.1"), "web-02", "goes on");
        rollout_logs.flush().await;
        let text = fs::read_to_string(folder.join(ALL)).unwrap();
        assert!(text.contains("messages of rollouts were lost") && text.contains("goes on"));
    }
}
