//! The program puts itself into its place: it came under a temporary name, proves by its digest that it came whole, and takes its name.
//! It must not touch a project's folder.
//!
//! `<root>/.landfall/bin/<digest>`, and `landfall-host` beside it: a link to the newest, for people. What some process runs, and the two
//! newest, stay; older ones go.

use std::{
    collections::HashSet,
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use landfall_host_protocol::Digest;
use sha2::{Digest as _, Sha256};

use crate::{files, gate};

/// The link to the newest program.
const LINK: &str = "landfall-host";
/// Programs that stay whether or not something runs them.
const KEPT: usize = 2;
/// Digests of programs in the order in which they came, beside `bin`.
const ORDER: &str = "programs";
/// Held for a moment by who alters that record. Only the SSH user can open it.
const LOCK: &str = "programs.lock";
const LOCK_TIMEOUT: Duration = Duration::from_secs(20);

/// `landfall-host install ROOT DIGEST`; answers the exit status.
pub fn run(root: &Path, digest: &OsStr) -> u8 {
    let Some(digest) = digest.to_str().and_then(Digest::parse) else {
        eprintln!("landfall-host: install takes two arguments: the group's root folder and a SHA-256");
        return 2;
    };
    match install(root, &digest) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("landfall-host: {error}");
            1
        }
    }
}

/// Runs as the program that came; `digest`: what it must be.
fn install(root: &Path, digest: &Digest) -> io::Result<()> {
    let folder = root.join(".landfall/bin");
    let came = fs::read_link("/proc/self/exe")?;
    // An upload's name begins with a dot: the program in its place is not renamed by mistake.
    let is_upload = came.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with('.'));
    let is_there = came.parent().map(fs::canonicalize).transpose()? == Some(fs::canonicalize(&folder)?);
    if !is_upload || !is_there {
        return Err(io::Error::other(format!("{} is no upload below {}", came.display(), folder.display())));
    }
    let got = sha256(&mut File::open("/proc/self/exe")?)?;
    if got != digest.as_str() {
        return Err(io::Error::other(format!("the program came damaged: its SHA-256 is {got}")));
    }
    let place = folder.join(digest.as_str());
    gate::pass("program.sync", || files::sync_file(&File::open(&came)?))?;
    gate::pass("program.place", || files::rename(&came, &place).and_then(|()| files::sync_dir(&folder)))?;
    gate::pass("program.link", || files::switch_link(&folder.join(LINK), Path::new(digest.as_str())))?;
    prune(&folder, digest)
}

fn sha256(file: &mut File) -> io::Result<String> {
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 64 << 10]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            n => hash.update(buffer.get(..n).unwrap_or_default()),
        }
    }
}

/// Removes programs that nobody needs, and what uploads left that were cut.
fn prune(folder: &Path, newest: &Digest) -> io::Result<()> {
    files::collect_left_over(folder);
    let running = running();
    let order = note(folder, newest)?;
    // One that is not on record came before those that are.
    let place = |name: &str| order.iter().position(|known| known == name);
    let mut old: Vec<(Option<usize>, PathBuf)> = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (name, metadata) = (entry.file_name(), entry.metadata()?);
        let name = name.to_string_lossy();
        if Digest::parse(&name).is_some() && *name != *newest.as_str() && metadata.is_file() {
            // Files are on the same file system, and inode numbers of living ones are not given out again.
            if !running.contains(&(metadata.dev(), metadata.ino())) {
                old.push((place(&name), entry.path()));
            }
        }
    }
    old.sort_by(|a, b| b.cmp(a));
    for (_, path) in old.into_iter().skip(KEPT - 1) {
        gate::pass("program.prune", || files::remove_file(&path))?;
    }
    Ok(())
}

/// Puts the newest program on record; answers all that are, the newest last. No clock is asked: it may be wrong by years.
fn note(folder: &Path, newest: &Digest) -> io::Result<Vec<String>> {
    let path = folder.with_file_name(ORDER);
    // Two may come at once. The folder itself could be locked by anybody who can read it.
    let place = folder.with_file_name(LOCK);
    let lock = files::open_to_lock(&place)?;
    files::lock_within(&lock, &place, LOCK_TIMEOUT)?;
    let known = files::read_whole(&path)?.unwrap_or_default();
    let known = String::from_utf8_lossy(&known);
    let mut order: Vec<String> = known.lines().map(str::to_owned).collect();
    order.retain(|digest| digest != newest.as_str() && Digest::parse(digest).is_some() && folder.join(digest).exists());
    order.push(newest.as_str().to_owned());
    gate::pass("program.order", || files::write_whole(&path, format!("{}\n", order.join("\n")).as_bytes(), 0o644))?;
    Ok(order)
}

/// Programs that processes run, as far as we may see: those of the SSH user, so all sessions, runners and keepers.
fn running() -> HashSet<(u64, u64)> {
    let mut all = HashSet::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        if process.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit())
            && let Ok(metadata) = fs::metadata(process.path().join("exe"))
        {
            all.insert((metadata.dev(), metadata.ino()));
        }
    }
    all
}
