//! What a new version of a 37 MB jar costs: bytes and seconds of a bundle with and without a base, beside rsync where it is installed.
//!
//!     cargo run --release -p landfall-host-bundle --example jar [FOLDER]
//!
//! Three jars: one holds 120 libraries whole, as Spring Boot packs them; the others 14,000 compressed classes. Of each the next version has
//! one module of 300 KB new, and all zip times; of the third three classes are added as well, so that every number in its table is new.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::panic)]

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use landfall_host_bundle::{Files, Release, apply, digest, write};
use landfall_host_protocol::{Digest, Entry, EntryKind};

const ROUNDS: usize = 5;

fn main() {
    let folder = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from).join("landfall-jar-bench");
    fs::create_dir_all(&folder).unwrap();
    println!("| jar | bytes of it | bundle | bytes | write, s | apply, s |\n|---|---|---|---|---|---|");
    for (name, shape) in [("libraries", Shape::LIBRARIES), ("classes", Shape::CLASSES), ("classes added", Shape::ADDED)]
    {
        bench(&folder, name, &shape);
    }
    fs::remove_dir_all(&folder).unwrap();
}

fn bench(folder: &Path, name: &str, shape: &Shape) {
    let (old, new) = (shape.jar(1, 0x5a21), shape.jar(2, 0x5b42));
    let size = new.len();
    let jars = folder.join(name);
    fs::create_dir_all(&jars).unwrap();
    fs::write(jars.join("old.jar"), &old).unwrap();
    fs::write(jars.join("new.jar"), &new).unwrap();
    let (base, read) = timed(|| release(&jars.join("old.tar"), &old));
    let release = release(&jars.join("new.tar"), &new);
    println!("| {name} | {size} | tar read, hashed | | {:.3} | |", read.as_secs_f64());
    for (what, base) in [("every file", None), ("delta", Some(&base))] {
        let (mut written, mut applied) = (Vec::new(), Vec::new());
        let mut bytes = Vec::new();
        for _ in 0..ROUNDS {
            bytes.clear();
            written.push(timed(|| write(&release, base, &mut bytes).unwrap()).1);
            let mut host = Host { folder: jars.join("host"), base: jars.join("old.jar"), sha256: digest(&old) };
            fs::create_dir_all(&host.folder).unwrap();
            applied.push(timed(|| apply(release.manifest(), bytes.as_slice(), &mut host).unwrap()).1);
            fs::remove_dir_all(&host.folder).unwrap();
        }
        let (written, applied) = (median(written), median(applied));
        println!("| {name} | {size} | {what} | {} | {written:.3} | {applied:.3} |", bytes.len());
    }
    rsync(&jars, name, size);
}

/// rsync to a copy of the old jar; both ends run here.
fn rsync(jars: &Path, name: &str, size: usize) {
    let target = jars.join("copy.jar");
    let mut seconds = Vec::new();
    let mut bytes = String::new();
    for _ in 0..ROUNDS {
        fs::copy(jars.join("old.jar"), &target).unwrap();
        let mut command = Command::new("rsync");
        command.args(["--no-whole-file", "--ignore-times", "--stats", "-z"]).arg(jars.join("new.jar")).arg(&target);
        let (output, time) = timed(|| command.output());
        let Ok(output) = output else { return println!("| {name} | {size} | rsync -z: not installed | | | |") };
        let stats = String::from_utf8_lossy(&output.stdout).into_owned();
        let sent = |line: &str| line.split(':').nth(1).unwrap_or_default().trim().replace(',', "");
        let both = stats.lines().filter(|line| line.starts_with("Total bytes ")).map(sent);
        bytes = both.collect::<Vec<_>>().join(" + ");
        seconds.push(time);
    }
    println!("| {name} | {size} | rsync -z | {bytes} | {:.3} | |", median(seconds));
}

fn release(path: &Path, jar: &[u8]) -> Release {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in [("app.jar", jar), ("run.json", b"{}")] {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, bytes).unwrap();
    }
    let tar = builder.into_inner().unwrap();
    fs::write(path, &tar).unwrap();
    Release::read(File::open(path).unwrap(), &digest(&tar)).unwrap()
}

struct Host {
    folder: PathBuf,
    base: PathBuf,
    sha256: Digest,
}

impl Files for Host {
    fn base(&mut self, sha256: &Digest) -> io::Result<Option<File>> {
        if *sha256 == digest(b"{}") {
            let path = self.folder.join("base-run.json");
            fs::write(&path, "{}")?;
            return File::open(path).map(Some);
        }
        if *sha256 == self.sha256 { File::open(&self.base).map(Some) } else { Ok(None) }
    }

    fn create(&mut self, entry: &Entry) -> io::Result<File> {
        assert!(matches!(entry.kind, EntryKind::File { .. }));
        File::options().read(true).write(true).create_new(true).open(self.folder.join(&entry.path))
    }

    fn finish(&mut self, _: &Entry, _: File) -> io::Result<()> {
        Ok(())
    }
}

fn timed<T>(what: impl FnOnce() -> T) -> (T, Duration) {
    let begin = Instant::now();
    (what(), begin.elapsed())
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64()
}

/// How a jar is made up.
struct Shape {
    entries: usize,
    /// Bytes of an entry that stay.
    entry: usize,
    /// Entries of the module that is new, and bytes of each.
    module: (usize, usize),
    /// Entries that the module has more of in each version.
    added: usize,
}

impl Shape {
    const LIBRARIES: Self = Self { entries: 120, entry: 306_000, module: (1, 300_000), added: 0 };
    const CLASSES: Self = Self { entries: 14_000, entry: 2_480, module: (120, 2_500), added: 0 };
    const ADDED: Self = Self { added: 3, ..Self::CLASSES };

    /// The same for the same version; what stays is the same in all. `time`: of every entry.
    fn jar(&self, version: u64, time: u16) -> Vec<u8> {
        let mut zip = Zip::default();
        for n in 0..self.entries {
            // Modules lie in the middle; their entries are not as long as they were.
            if n == self.entries / 2 {
                for module in 0..self.module.0 + self.added * version as usize {
                    let length = self.module.1 + (version as usize * 37 + module * 11) % 200;
                    zip.add(
                        &format!("com/example/shop/orders/Order{module}.class"),
                        time,
                        &noise(version << 32 | module as u64, length),
                    );
                }
            }
            let length = self.entry / 2 + (n * 7919) % self.entry;
            zip.add(
                &format!("org/framework/package{}/part{n}/Component{n}.class", n % 50),
                time,
                &noise(n as u64, length),
            );
        }
        zip.finish()
    }
}

/// Bytes that don't compress, as entries of a jar are compressed already.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = (seed ^ 0x1234_5678_9abc_def0).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// A zip archive with the headers that matter here.
#[derive(Default)]
struct Zip {
    bytes: Vec<u8>,
    central: Vec<u8>,
    entries: BTreeMap<String, ()>,
}

impl Zip {
    fn add(&mut self, name: &str, time: u16, content: &[u8]) {
        let offset = self.bytes.len() as u32;
        let crc = content.iter().fold(0u32, |sum, byte| sum.rotate_left(5) ^ u32::from(*byte));
        // Entries are written one after another; so are their times.
        let time = u32::from(time) << 16 | (self.entries.len() as u32 / 40);
        let mut common = Vec::new();
        common.extend([20u8, 0, 0, 8, 8, 0]);
        common.extend(time.to_le_bytes());
        common.extend(crc.to_le_bytes());
        common.extend((content.len() as u32).to_le_bytes());
        common.extend((content.len() as u32 * 2).to_le_bytes());
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0, 0]);
        self.bytes.extend(b"PK\x03\x04");
        self.bytes.extend(&common);
        self.bytes.write_all(name.as_bytes()).unwrap();
        self.bytes.extend(content);
        self.central.extend(b"PK\x01\x02\x14\x00");
        self.central.extend(&common);
        self.central.extend([0; 10]);
        self.central.extend(offset.to_le_bytes());
        self.central.extend(name.as_bytes());
        self.entries.insert(name.to_owned(), ());
    }

    fn finish(mut self) -> Vec<u8> {
        let (size, offset, count) = (self.central.len() as u32, self.bytes.len() as u32, self.entries.len() as u16);
        self.bytes.extend(&self.central);
        self.bytes.extend(b"PK\x05\x06\0\0\0\0");
        self.bytes.extend(count.to_le_bytes());
        self.bytes.extend(count.to_le_bytes());
        self.bytes.extend(size.to_le_bytes());
        self.bytes.extend(offset.to_le_bytes());
        self.bytes.extend([0, 0]);
        self.bytes
    }
}
