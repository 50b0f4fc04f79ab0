//! A file system of the test's own, by FUSE: its root is a folder, and whoever looks for a file in it is never answered. A process that does
//! can't be ended, not by KILL either, until the file system goes.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::AsRawFd,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const STATFS: u32 = 17;
const INIT: u32 = 26;
const ENOSYS: i32 = 38;

/// Mounted until it is dropped; to be made in a mount namespace of the test's own.
pub struct Fuse {
    device: File,
    server: Option<JoinHandle<()>>,
    asked: Arc<AtomicBool>,
}

impl Fuse {
    /// `None`: this kernel has no FUSE.
    pub fn mount(place: &Path) -> Option<Self> {
        let device = File::options().read(true).write(true).open("/dev/fuse").ok()?;
        // The command that mounts inherits it.
        rustix::io::fcntl_setfd(&device, rustix::io::FdFlags::empty()).unwrap();
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
        let mut mount = Command::new("mount");
        mount.args(["-i", "-t", "fuse", "-o", &options, "landfall-test"]).arg(place).stdin(Stdio::null());
        assert!(mount.status().unwrap().success());
        rustix::io::fcntl_setfd(&device, rustix::io::FdFlags::CLOEXEC).unwrap();
        let end = device.try_clone().unwrap();
        let asked = Arc::new(AtomicBool::new(false));
        let is_asked = asked.clone();
        let server = std::thread::spawn(move || serve(end, &is_asked));
        Some(Self { device, server: Some(server), asked })
    }

    /// Somebody waits for an answer that does not come: from now on nothing ends him.
    pub fn is_asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }

    /// It is gone, and everybody who waits for it hears that.
    pub fn end(mut self, place: &Path) {
        assert!(Command::new("umount").args(["-f", "-l"]).arg(place).status().unwrap().success());
        self.server.take().unwrap().join().unwrap();
        drop(self.device);
    }
}

fn serve(mut device: File, asked: &AtomicBool) {
    let mut request = vec![0; 256 << 10];
    // An error: it was unmounted.
    while let Ok(count) = device.read(&mut request) {
        let number = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().unwrap());
        assert!(count >= 40);
        let unique = u64::from_ne_bytes(request[8..16].try_into().unwrap());
        let (error, body) = match number(4) {
            LOOKUP => {
                asked.store(true, Ordering::SeqCst);
                continue;
            }
            FORGET => continue,
            INIT => (0, words(&[7, number(44).min(31), 0, 0, 0, 4096, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0])),
            GETATTR => (0, attributes()),
            STATFS => (0, words(&[0; 20])),
            _ => (-ENOSYS, Vec::new()),
        };
        let mut answer = Vec::new();
        answer.extend(u32::try_from(16 + body.len()).unwrap().to_ne_bytes());
        answer.extend(error.to_ne_bytes());
        answer.extend(unique.to_ne_bytes());
        answer.extend(body);
        if device.write_all(&answer).is_err() {
            return;
        }
    }
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// Of the root, for a second.
fn attributes() -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(1u64.to_ne_bytes());
    bytes.extend(words(&[0, 0]));
    bytes.extend(1u64.to_ne_bytes());
    bytes.extend([0u8; 40]);
    bytes.extend(words(&[0, 0, 0, 0o040_755, 2, 0, 0, 0, 4096, 0]));
    bytes
}
