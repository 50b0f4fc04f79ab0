//! Builds the control plane from the Go module in `control-plane/`, which this program carries with it.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use sha2::{Digest, Sha256};

use super::error::DevError;

/// The programs that one folder of programs must have.
pub(crate) const PROGRAMS: [&str; 4] = ["etcd", "kube-apiserver", "kube-controller-manager", "kubectl"];

const NEED: &str = "1.26";
const BINARY: &str = "landfall-control-plane";
const SOURCES: [(&str, &str); 3] = [
    ("go.mod", include_str!("../../../control-plane/go.mod")),
    ("go.sum", include_str!("../../../control-plane/go.sum")),
    ("main.go", include_str!("../../../control-plane/main.go")),
];
/// Without them the servers call themselves v0.0.0.
const LDFLAGS: &str = "-s -w -X k8s.io/component-base/version.gitVersion=v1.36.3 -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36";
const SAY_EVERY: usize = 50;

/// Names what would be built: other sources or flags are another folder in the cache.
pub fn fingerprint() -> String {
    let mut hash = Sha256::new();
    for (name, content) in SOURCES.iter().chain([&("ldflags", LDFLAGS)]) {
        hash.update(format!("{name} {}\n", content.len()));
        hash.update(content);
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Builds into a neighbour of `target` and renames it: a build that was interrupted is never taken for one that ended. Blocks for minutes.
pub fn build(cache: &Path, target: &Path, say: &dyn Fn(&str)) -> Result<(), DevError> {
    let go = find_go()?;
    say("building the Kubernetes control plane, once for this version; this takes some minutes");
    let work = tempfile::Builder::new()
        .prefix(".build-")
        .tempdir_in(cache)
        .map_err(DevError::file("cannot create a folder in", cache))?;
    let source = work.path().join("src");
    let out = work.path().join("out");
    for folder in [&source, &out] {
        fs::create_dir(folder).map_err(DevError::file("cannot create the folder", folder))?;
    }
    for (name, content) in SOURCES {
        let path = source.join(name);
        fs::write(&path, content).map_err(DevError::file("cannot write", &path))?;
    }
    say("downloading its sources");
    run(&go, &source, &["mod", "download"], |_| {})?;
    let packages = count_packages(&go, &source);
    let mut compiled = 0;
    let binary = out.join(BINARY);
    let arguments =
        ["build", "-v", "-trimpath", "-buildvcs=false", "-ldflags", LDFLAGS, "-o", &binary.to_string_lossy(), "."];
    run(&go, &source, &arguments, |_| {
        compiled += 1;
        if compiled % SAY_EVERY == 0 {
            say(&format!("compiled {compiled} of {packages} packages"));
        }
    })?;
    for program in PROGRAMS {
        let link = out.join(program);
        fs::hard_link(&binary, &link).map_err(DevError::file("cannot link", &link))?;
    }
    fs::rename(&out, target).map_err(DevError::file("cannot put in place", target))?;
    say("the control plane is built");
    Ok(())
}

/// The `go` of the PATH, if it is new enough.
fn find_go() -> Result<PathBuf, DevError> {
    let go = PathBuf::from("go");
    let Ok(answer) = command(&go).args(["env", "GOVERSION"]).output() else {
        return Err(DevError::GoMissing { need: NEED });
    };
    let version = String::from_utf8_lossy(&answer.stdout).trim().trim_start_matches("go").to_owned();
    if is_new_enough(&version) { Ok(go) } else { Err(DevError::GoTooOld { found: version, need: NEED }) }
}

/// `1.26.8` and `1.27rc1` are; `1.9` and what can't be read are not.
fn is_new_enough(version: &str) -> bool {
    let numbers = |version: &str| -> Option<(u32, u32)> {
        let mut parts = version.split('.');
        let major = parts.next()?.parse().ok()?;
        let minor: String = parts.next()?.chars().take_while(char::is_ascii_digit).collect();
        Some((major, minor.parse().ok()?))
    };
    matches!((numbers(version), numbers(NEED)), (Some(found), Some(need)) if found >= need)
}

/// `go` with nothing of the user's settings that could change what is built; the proxy settings are the user's.
fn command(go: &Path) -> Command {
    let mut command = Command::new(go);
    command
        .env("CGO_ENABLED", "0")
        .env("GOTOOLCHAIN", "local")
        .env("GOWORK", "off")
        .env("GOFLAGS", "")
        .stdin(Stdio::null());
    command
}

/// How many packages a build compiles at most: for the progress only.
fn count_packages(go: &Path, source: &Path) -> usize {
    let listed = command(go).args(["list", "-deps", "."]).current_dir(source).stderr(Stdio::null()).output();
    listed.map(|answer| answer.stdout.iter().filter(|byte| **byte == b'\n').count()).unwrap_or(0)
}

/// Runs `go`, hands each line of its stderr to `line`, and keeps the last ones for the error.
fn run(go: &Path, folder: &Path, arguments: &[&str], mut line: impl FnMut(&str)) -> Result<(), DevError> {
    let spawn = |source| DevError::Spawn { program: go.display().to_string(), source };
    let mut child = command(go)
        .args(arguments)
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(spawn)?;
    let mut last = std::collections::VecDeque::new();
    for text in child.stderr.take().into_iter().flat_map(|pipe| BufReader::new(pipe).lines().map_while(Result::ok)) {
        line(&text);
        last.push_back(text);
        if last.len() > 10 {
            last.pop_front();
        }
    }
    let status = child.wait().map_err(spawn)?;
    if status.success() {
        return Ok(());
    }
    Err(DevError::BuildFailed { status: status.to_string(), last: Vec::from(last).join("\n") })
}

#[cfg(test)]
mod tests {
    use super::is_new_enough;

    #[test]
    fn go_is_judged_by_numbers_not_by_text() {
        assert!(is_new_enough("1.26.8"));
        assert!(is_new_enough("1.27rc1"));
        assert!(is_new_enough("2.0"));
        assert!(!is_new_enough("1.9.7"));
        assert!(!is_new_enough("1.25.3"));
        assert!(!is_new_enough("devel +abc"));
        assert!(!is_new_enough(""));
    }
}
