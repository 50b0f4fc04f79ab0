//! What a script is started with: its file and its environment, as files that only it reads; its secrets, through a pipe alone. Nothing
//! of it stands on a command line.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Component, Path},
};

use super::super::{
    error::ExecutorError,
    secrets::{Secrets, VALUE_MAX},
    types::BuildStep,
};
use super::{files, sandbox};
use crate::model::text::shell_quote;

/// Writes `script` and `run` (which sets the environment and executes `script`) into the folder `into`.
pub(super) fn write(into: &Path, step: &BuildStep, build: &str, home: &str) -> io::Result<()> {
    let by_itself = step.script.starts_with("#!");
    let here = if build == sandbox::BUILD { "/.landfall".to_owned() } else { into.display().to_string() };
    let mut run = String::from("# Written by landfall: the environment of this build, and its script.\n");
    let base = [
        ("CI", "true"),
        ("PATH", sandbox::PATH),
        ("HOME", home),
        ("USER", "build"),
        ("LOGNAME", "build"),
        ("SHELL", "/bin/sh"),
        ("LANG", "C.UTF-8"),
    ];
    let own = step.env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let export = |(name, value): (&str, &str)| format!("export {name}={}\n", quote(value));
    run.extend(base.into_iter().map(export));
    // The secrets come by stdin, as `secret_exports` writes them; a pipe that was read leaves nothing behind. A PATH of the project's
    // own need not have `cat`.
    run.push_str("eval \"$(cat)\"\nexec </dev/null\n");
    run.extend(own.map(export));
    let shell = if by_itself { "" } else { "/bin/sh -e " };
    let begin = format!("{build}/{}", step.folder);
    run.push_str(&format!("cd {} || exit 126\nunset OLDPWD\nexec {shell}{}/script\n", quote(&begin), quote(&here)));
    for (name, text, mode) in [("script", &step.script, 0o500), ("run", &run, 0o400)] {
        let path = into.join(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }
    fs::set_permissions(into, fs::Permissions::from_mode(0o755))?;
    fs::create_dir_all(into.with_file_name(files::HOME))
}

/// What `run` reads from its stdin.
pub(super) fn secret_exports(secrets: &Secrets) -> Vec<u8> {
    let exports = secrets.0.iter().map(|(name, value)| format!("export {name}={}\n", quote(value)));
    exports.collect::<String>().into_bytes()
}

/// Names are the shell's, values have no NUL.
pub(super) fn check(step: &BuildStep, secrets: &Secrets) -> Result<(), ExecutorError> {
    let bad = |name: &str, why| Err(ExecutorError::BadEnv { name: name.chars().take(80).collect(), why });
    if let Some((name, _)) = secrets.0.iter().find(|(_, value)| value.len() > VALUE_MAX) {
        return bad(name, "its value is longer than 64 KiB");
    }
    for (name, value) in step.env.iter().chain(&secrets.0) {
        let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
        if !first || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return bad(name, "a name has letters, digits and '_' and begins with none of the digits");
        }
        if value.contains('\0') {
            return bad(name, "its value has a NUL");
        }
    }
    let within = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    if step.folder.contains('\0') || !Path::new(&step.folder).components().all(within) {
        return bad("folder", "it leaves the checkout");
    }
    if step.script.contains('\0') {
        return bad("script", "the script has a NUL");
    }
    Ok(())
}

/// [`check`] has refused whatever holds a NUL.
fn quote(text: &str) -> String {
    shell_quote(text).unwrap_or_default()
}
