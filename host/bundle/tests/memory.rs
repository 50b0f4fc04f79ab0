//! What a bundle costs in memory, however large its files are: at the operator's end, and at the host's. One test, for it measures processes.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    fs::{self, File},
    io::{self, BufWriter, Read, Seek, Write},
    path::PathBuf,
    process::Command,
};

use landfall_host_bundle::{Files, Release, apply, decode, encode, write};
use landfall_host_protocol::{Digest, Entry};
use sha2::{Digest as _, Sha256};

const SIZE: usize = 40 << 20;
/// Of the operator's end: hashes of the base's blocks, zstd and windows.
const WRITE_MOST: u64 = 24 << 20;
/// Of the host's end.
const APPLY_MOST: u64 = 8 << 20;

/// Where the host's end finds its files, in the process that is measured.
const FOLDER: &str = "LANDFALL_TEST_APPLY_IN";

/// Most bytes that this process ever had.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Noise without an end, with a piece of other noise every so many bytes.
struct Noise {
    state: u64,
    at: usize,
    other: u64,
}

impl Read for Noise {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len() / 8 * 8;
        for word in buffer[..length].chunks_exact_mut(8) {
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            let changed = self.at % (4 << 20) < (200 << 10);
            let value = if changed { self.state.wrapping_mul(self.other) } else { self.state };
            word.copy_from_slice(&value.to_le_bytes());
            self.at += 8;
        }
        Ok(length)
    }
}

fn noise(version: u64) -> impl Read {
    Noise { state: 0x9e37_79b9_7f4a_7c15, at: 0, other: version * 2 + 1 }.take(SIZE as u64)
}

fn release(version: u64) -> Release {
    let mut builder = tar::Builder::new(BufWriter::new(tempfile::tempfile().unwrap()));
    let mut header = tar::Header::new_gnu();
    header.set_size(SIZE as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, "app.jar", noise(version)).unwrap();
    let mut file = builder.into_inner().unwrap().into_inner().unwrap();
    file.rewind().unwrap();
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer).unwrap() {
            0 => break,
            n => hash.update(&buffer[..n]),
        }
    }
    Release::read(file, &Digest::from_bytes(hash.finalize().into())).unwrap()
}

struct Host(PathBuf);

impl Files for Host {
    fn base(&mut self, _: &Digest) -> io::Result<Option<File>> {
        File::open(self.0.join("base")).map(Some)
    }

    fn create(&mut self, _: &Entry) -> io::Result<File> {
        File::options().read(true).write(true).create_new(true).open(self.0.join("new"))
    }

    fn finish(&mut self, _: &Entry, _: File) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn files_are_held_at_neither_end() {
    let given = std::env::var_os(FOLDER).map(PathBuf::from);
    if let Some(folder) = given {
        let manifest = decode(&fs::read(folder.join("manifest")).unwrap()).unwrap();
        let before = peak();
        apply(&manifest, File::open(folder.join("bundle")).unwrap(), &mut Host(folder)).unwrap();
        println!("\ngrew {}", peak() - before);
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    io::copy(&mut noise(1), &mut File::create(folder.path().join("base")).unwrap()).unwrap();
    let (old, new) = (release(1), release(2));
    fs::write(folder.path().join("manifest"), encode(new.manifest())).unwrap();
    let before = peak();
    let mut out = BufWriter::new(File::create(folder.path().join("bundle")).unwrap());
    let written = write(&new, Some(&old), &mut out).unwrap();
    out.flush().unwrap();
    let writing = peak() - before;
    assert!(written.size < 3 << 20, "{written:?}");

    // In a process of its own, which has nothing left over from the other end.
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "files_are_held_at_neither_end", "--nocapture"]).env(FOLDER, folder.path());
    let output = child.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let applying: u64 = text.lines().find_map(|line| line.strip_prefix("grew ")).unwrap().parse().unwrap();
    println!("the operator's end: {writing} bytes; the host's: {applying}");
    assert!(writing < WRITE_MOST && applying < APPLY_MOST, "{writing} {applying}");
    assert_eq!(fs::metadata(folder.path().join("new")).unwrap().len(), SIZE as u64);
}
