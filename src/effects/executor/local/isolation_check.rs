//! Whether this machine can isolate a script: by making a sandbox once, not by guessing from names of tools.

use std::{
    fs,
    io::{self, BufRead, BufReader},
    path::Path,
    process::Stdio,
};

use super::super::error::ExecutorError;
use super::{config::LocalConfig, files, sandbox};

pub(super) fn isolation(config: &LocalConfig) -> Result<(), ExecutorError> {
    fs::create_dir_all(&config.folder).map_err(|error| ExecutorError::io("make the executor's folder", &error))?;
    let dir = tempfile::Builder::new()
        .prefix("trial-")
        .tempdir_in(&config.folder)
        .map_err(|error| ExecutorError::io("try the sandbox", &error))?;
    try_once(dir.path(), config).map_err(|missing| ExecutorError::ExecutorUnsafe { missing })
}

fn try_once(dir: &Path, config: &LocalConfig) -> Result<(), String> {
    let text_of = |error: io::Error| error.to_string();
    if !rustix::process::geteuid().is_root() {
        return Err("the operator is not root (in a cluster: see \"Builds in a cluster\" in the README)".into());
    }
    for name in [files::SRC, files::HOME, files::TMP, files::IN, files::ROOT] {
        fs::create_dir(dir.join(name)).map_err(text_of)?;
    }
    let mut command = sandbox::command(dir, 65_534, &config.hidden, &[]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("setpriv of util-linux: {error}"))?;
    let mut word = String::new();
    // It reads "go" from an empty input, and ends.
    child.stdout.take().map_or(Ok(0), |out| BufReader::new(out).read_line(&mut word)).map_err(text_of)?;
    let mut output = child.wait_with_output().map_err(text_of)?.stderr;
    if word.trim() == "ready" {
        return Ok(());
    }
    output.extend(fs::read(dir.join(files::RUNNER_LOG)).unwrap_or_default());
    let lines = crate::model::text::last_lines(&output, 2).join(" / ");
    Err(if lines.is_empty() { "the sandbox did not come up".into() } else { lines })
}
