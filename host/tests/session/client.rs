//! A small operator's end over pipes: it writes frames and bytes as it is told, and hands out what comes back.

use std::{
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::Duration,
};

use landfall_host::clock;
use landfall_host_protocol::{
    Answer, Decoder, Digest, FolderName, Frame, Hello, Kind, Push, Request, VERSIONS, VersionRange, Welcome, encode,
};
use sha2::{Digest as _, Sha256};

/// Longer than anything takes on a loaded machine; a test that waits for it fails.
pub const PATIENCE: Duration = Duration::from_secs(120);
pub const NAMESPACE: &str = "shop";

pub fn program() -> &'static str {
    env!("CARGO_BIN_EXE_landfall-host")
}

pub struct Client {
    pub child: Child,
    stdin: Option<ChildStdin>,
    frames: Receiver<Frame>,
    next_id: u32,
}

impl Client {
    pub fn start(root: &Path) -> Self {
        let mut command = Command::new(program());
        command.arg("session").arg(root);
        Self::of(command)
    }

    pub fn of(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (sender, frames) = channel();
        let mut stdout = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            let mut decoder = Decoder::after_magic();
            let mut buffer = vec![0; 64 << 10];
            while let Ok(count) = stdout.read(&mut buffer) {
                if count == 0 {
                    break;
                }
                decoder.feed(&buffer[..count]);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    if sender.send(frame).is_err() {
                        return;
                    }
                }
            }
        });
        Self { stdin: child.stdin.take(), child, frames, next_id: 1 }
    }

    /// A session that has said hello.
    pub fn greeted(root: &Path) -> (Self, Welcome) {
        let mut client = Self::start(root);
        let id = client.send(&hello());
        let Answer::Welcome(welcome) = client.answer(id) else { panic!("no welcome") };
        (client, *welcome)
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.try_write(bytes).unwrap();
    }

    pub fn try_write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stdin.as_mut().unwrap().write_all(bytes)
    }

    pub fn send(&mut self, request: &Request) -> u32 {
        let id = self.next_id;
        self.next_id += 1;
        self.write(&message(id, request));
        id
    }

    pub fn send_bytes(&mut self, id: u32, kind: Kind, bytes: &[u8]) {
        self.write(&encode(kind, id, bytes).unwrap());
    }

    /// The input ends; what comes out can still be read.
    pub fn close(&mut self) {
        self.stdin = None;
    }

    /// The next frame; `None`: the output ended.
    pub fn frame(&mut self) -> Option<Frame> {
        self.frame_within(PATIENCE).expect("nothing came")
    }

    /// `Err`: nothing came in time.
    pub fn frame_within(&mut self, time: Duration) -> Result<Option<Frame>, RecvTimeoutError> {
        match self.frames.recv_timeout(time) {
            Ok(frame) => Ok(Some(frame)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The next answer under this id; pushes before it are passed over.
    pub fn answer(&mut self, id: u32) -> Answer {
        loop {
            let frame = self.frame().expect("the session ended");
            if frame.id == id {
                return serde_json::from_slice(&frame.payload).unwrap();
            }
            assert_eq!(frame.id, 0, "an answer to {id} was waited for: {}", String::from_utf8_lossy(&frame.payload));
        }
    }

    pub fn ask(&mut self, request: &Request) -> Answer {
        let id = self.send(request);
        self.answer(id)
    }

    pub fn push(&mut self) -> Push {
        let frame = self.frame().expect("the session ended");
        assert_eq!(frame.id, 0, "{}", String::from_utf8_lossy(&frame.payload));
        serde_json::from_slice(&frame.payload).unwrap()
    }

    /// Its exit status once it is over.
    pub fn wait(&mut self) -> std::process::ExitStatus {
        let until = clock::monotonic() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(clock::monotonic() < until, "the session does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn message(id: u32, request: &Request) -> Vec<u8> {
    encode(Kind::Message, id, &serde_json::to_vec(request).unwrap()).unwrap()
}

pub fn hello() -> Request {
    hello_of(VERSIONS)
}

pub fn hello_of(versions: VersionRange) -> Request {
    Request::Hello(Hello { versions, namespace: NAMESPACE.to_owned(), become_method: None, become_users: Vec::new() })
}

/// A root with one folder that has records.
pub struct Root {
    pub dir: tempfile::TempDir,
}

impl Root {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn folder(&self, project: &str) -> landfall_host::folder::Folder {
        let folder = landfall_host::folder::Folder::new(self.path(), name(project));
        std::fs::create_dir_all(folder.dot()).unwrap();
        folder
    }

    pub fn incoming(&self, project: &str) -> Vec<PathBuf> {
        let folder = self.folder(project);
        let mut found: Vec<PathBuf> = std::fs::read_dir(folder.dot().join("incoming"))
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().path())
            .filter(|path| Digest::parse(path.file_stem().unwrap().to_str().unwrap()).is_some())
            .collect();
        found.sort();
        found
    }
}

pub fn name(project: &str) -> FolderName {
    FolderName::new(NAMESPACE, project)
}

pub fn digest(bytes: &[u8]) -> Digest {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    Digest::parse(&hex).unwrap()
}

pub fn put(project: &str, bytes: &[u8], from: Option<u64>) -> Request {
    Request::Put { folder: name(project), sha256: digest(bytes), size: bytes.len() as u64, from }
}

/// Bytes that no compression and no zero block makes small.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
    .take(length)
    .collect()
}

/// Waits until it is so.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = clock::monotonic() + PATIENCE;
    while !is_so() {
        assert!(clock::monotonic() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
