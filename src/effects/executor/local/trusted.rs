//! A script without a sandbox: the operator's user, files and processes. Only where the configuration says that everybody is trusted.
//!
//! What the script leaves is still ended: the runner adopts orphans and kills every descendant. When the runner itself is killed, the
//! script may live on; that is the price of `trusted`.

use std::{
    io,
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Command, Stdio},
};

use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, wait};

use super::{end::End, files, identity, sandbox, script, watch::Watch};
use crate::effects::clock;

pub(super) fn run(watch: &Watch<'_>, output: io::PipeWriter) -> io::Result<End> {
    set_child_subreaper(Some(getpid()))?;
    let [src, home, tmp, input] = [files::SRC, files::HOME, files::TMP, files::IN].map(|name| watch.dir.join(name));
    script::write(&input, &watch.asked.step, &src.display().to_string(), &home.display().to_string())?;
    let mut command = Command::new("prlimit");
    command
        .args(watch.limits.arguments())
        .args(["--", "/bin/sh"])
        .arg(input.join("run"))
        .env_clear()
        .env("PATH", sandbox::PATH)
        .env("TMPDIR", tmp)
        .current_dir(&src);
    command.stdin(Stdio::piped()).stdout(output.try_clone()?).stderr(output).process_group(0);
    let mut child = command.spawn()?;
    drop(command); // it holds writers of the output
    // It waits for its secrets, so it is in its groups before it does anything.
    watch.limits.take(i32::try_from(child.id()).unwrap_or_default())?;
    watch.send(&mut child, b"");
    let ended = watch.until_end(&mut child, clock::monotonic())?;
    if ended.is_err() {
        child.kill()?;
        child.wait()?;
    }
    end_descendants();
    Ok(match ended {
        Ok(status) => End::completed(status.code().or_else(|| status.signal().map(|n| 128 + n))),
        Err(reason) => End::killed(reason),
    })
}

/// Kills whatever descends from us, again and again until nobody does: a fork may outrun one round.
fn end_descendants() {
    let own = getpid().as_raw_nonzero().get();
    loop {
        let all: Vec<_> = identity::processes().map(|(pid, stat)| (pid, stat.parent)).collect();
        let mut ours = vec![own];
        let mut n = 0;
        while let Some(parent) = ours.get(n).copied() {
            ours.extend(all.iter().filter(|(_, p)| *p == parent).map(|(pid, _)| *pid));
            n += 1;
        }
        if ours.len() == 1 {
            return;
        }
        for pid in ours.into_iter().skip(1).filter_map(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
        while matches!(wait(WaitOptions::NOHANG), Ok(Some(_))) {}
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}
