//! The command that runs a script in a sandbox: what it sees, and what it does not. It must not start it.
//!
//! The script's root is made of an allow-list (`usr`, `etc`, …, read-only) and three folders of its own; everything else, the data
//! folder, keys, tokens and the operator's processes included, is not there. The network is the machine's.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::files;

/// Where a script finds its checkout and its home.
pub(super) const BUILD: &str = "/build";
pub(super) const HOME: &str = "/home/build";
/// What the programs of the system are found by, for the runner as for scripts.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/go/bin";

const SCRIPT: &str = include_str!("sandbox.sh");
/// Folders of the system that a compiler needs and that hold no secret that an ordinary user could read.
const SEEN: [&str; 7] = ["usr", "bin", "sbin", "etc", "opt", "nix", "gnu"];
/// Below those, what an ordinary user might read and a script must not.
const NEVER: [&str; 3] = ["/etc/kubernetes", "/etc/rancher", "/etc/landfall"];
/// File systems whose mounts below a seen folder are left out: they hold no files of a toolchain, but tokens and sockets.
const VIRTUAL: [&str; 9] = ["tmpfs", "ramfs", "proc", "sysfs", "devtmpfs", "devpts", "cgroup", "cgroup2", "mqueue"];

/// One operation of `sandbox.sh`.
type Op = (&'static str, String, String);

/// The command whose process 1 runs `<dir>/in/run` as `uid`. It dies with its parent, and all of the sandbox with it.
/// Its stdin takes "go", its stdout says "ready" and "exit CODE", its stderr is the script's output. What goes wrong before that is
/// said in the runner's log.
pub(super) fn command(dir: &Path, uid: u32, hidden: &[PathBuf], limits: &[String]) -> Command {
    let own = rustix::process::getpid().as_raw_nonzero().to_string();
    let mut command = Command::new("setpriv");
    // The parent may have died before the death signal was set: look, and go no further then.
    command.args(["--pdeathsig", "KILL", "--", "/bin/sh", "-c"]);
    // `unshare` has words of its own when it is killed: they belong to the runner's log, not to the script's output.
    command.args([
        "test \"$PPID\" = \"$1\" || exit 125; log=$2; shift 2; exec 3>&2 2>>\"$log\"; exec \"$@\"",
        "sh",
        &own,
    ]);
    command.arg(dir.join(files::RUNNER_LOG));
    command.args(["unshare", "--mount", "--pid", "--ipc", "--fork", "--kill-child=KILL", "--"]);
    command
        .args(["/bin/sh", "-c", SCRIPT, "sandbox.sh"])
        .arg(dir.join(files::ROOT))
        .arg(uid.to_string())
        .arg(limits.join(" "));
    let operations = operations(dir, hidden);
    command.arg(folders(&operations).join("\n"));
    for (op, a, b) in operations {
        command.args([op, &a, &b]);
    }
    command.env_clear().env("PATH", PATH).env("LC_ALL", "C").current_dir("/");
    command
}

fn operations(dir: &Path, hidden: &[PathBuf]) -> Vec<Op> {
    let mut ops = Vec::new();
    let tops = system(&mut ops);
    submounts(&tops, &mut ops);
    name_resolution(&tops, &mut ops);
    for device in ["null", "zero", "full", "random", "urandom"] {
        ops.push(("device", format!("/dev/{device}"), format!("/dev/{device}")));
    }
    for (target, name) in [("fd", "fd"), ("fd/0", "stdin"), ("fd/1", "stdout"), ("fd/2", "stderr")] {
        ops.push(("link", format!("/proc/self/{target}"), format!("/dev/{name}")));
    }
    ops.push(("tmpfs", "/dev/shm".into(), "mode=1777,size=256m".into()));
    ops.push(("dir", "/var".into(), "0755".into()));
    ops.push(("link", "/tmp".into(), "/var/tmp".into()));
    for (source, target) in [(files::SRC, BUILD), (files::HOME, HOME), (files::TMP, "/tmp")] {
        ops.push(("rw", dir.join(source).display().to_string(), target.into()));
    }
    ops.push(("ro", dir.join(files::IN).display().to_string(), "/.landfall".into()));
    let seen = |path: &Path| tops.iter().any(|top| path.starts_with(top));
    let hidden = hidden.iter().map(|path| path.canonicalize().unwrap_or_else(|_| path.clone()));
    for path in hidden.chain(NEVER.iter().map(PathBuf::from)).filter(|path| seen(path)) {
        ops.push(("hide", path.display().to_string(), String::new()));
    }
    ops
}

/// The folders of the root that those operations need, relative to it. What is not among them is made where it is needed.
fn folders(operations: &[Op]) -> Vec<String> {
    let mut folders = BTreeSet::from(["proc".to_owned(), ".old".to_owned()]);
    for (op, a, b) in operations {
        let folder = match *op {
            "dir" | "tmpfs" => Some(Path::new(a)),
            "ro" | "rw" if Path::new(a).is_dir() => Some(Path::new(b)),
            "ro" | "rw" | "device" => Path::new(b).parent(),
            _ => None,
        };
        let shown = folder.map(|folder| folder.display().to_string());
        folders.extend(shown.map(|text| text.trim_start_matches('/').to_owned()).filter(|text| !text.contains('\n')));
    }
    folders.into_iter().filter(|text| !text.is_empty()).collect()
}

/// The allowed folders of `/`, and the links among them (`/bin` is one on merged systems). Returns the folders.
fn system(ops: &mut Vec<Op>) -> Vec<PathBuf> {
    let mut tops = Vec::new();
    let mut names: Vec<String> =
        fs::read_dir("/").into_iter().flatten().flatten().filter_map(|e| e.file_name().into_string().ok()).collect();
    names.sort();
    for name in names.iter().filter(|name| SEEN.contains(&name.as_str()) || name.starts_with("lib")) {
        let path = PathBuf::from(format!("/{name}"));
        let shown = path.display().to_string();
        match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_symlink() => {
                if let Ok(target) = fs::read_link(&path) {
                    ops.push(("link", target.display().to_string(), shown));
                }
            }
            Ok(meta) if meta.is_dir() => {
                ops.push(("ro", shown.clone(), shown));
                tops.push(path);
            }
            _ => {}
        }
    }
    tops
}

/// Mounts below the allowed folders: a bind takes one file system alone.
fn submounts(tops: &[PathBuf], ops: &mut Vec<Op>) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for line in mounts.lines() {
        let Some((point, kind)) = mount_of(line) else { continue };
        let below = tops.iter().any(|top| point.starts_with(top) && point != *top);
        if below && !VIRTUAL.contains(&kind) && point.exists() {
            let point = point.display().to_string();
            ops.push(("ro", point.clone(), point));
        }
    }
}

/// Mount point and type of a line of mountinfo. Points with blanks are escaped there; no toolchain lies below one.
fn mount_of(line: &str) -> Option<(PathBuf, &str)> {
    let (left, right) = line.split_once(" - ")?;
    let point = left.split(' ').nth(4)?;
    (!point.contains('\\')).then(|| (PathBuf::from(point), right.split(' ').next().unwrap_or_default()))
}

/// `/etc/resolv.conf` often leads into `/run`, which is not seen: its one file is.
fn name_resolution(tops: &[PathBuf], ops: &mut Vec<Op>) {
    let Ok(path) = fs::canonicalize("/etc/resolv.conf") else { return };
    if !tops.iter().any(|top| path.starts_with(top)) {
        ops.push(("ro", path.display().to_string(), path.display().to_string()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hidden_folder_below_a_seen_one_is_covered_after_everything_else() {
        let ops = operations(Path::new("/srv/x"), &[PathBuf::from("/usr/share"), PathBuf::from("/srv")]);
        let hide = ops.iter().position(|op| op.0 == "hide" && op.1 == "/usr/share");
        let seen = ops.iter().position(|op| op.0 == "ro" && op.1 == "/usr");
        assert!(hide > seen && seen.is_some());
        assert!(!ops.iter().any(|op| op.0 == "hide" && op.1 == "/srv"), "what is not seen need not be hidden");
    }
}
