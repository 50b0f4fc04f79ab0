//! landfall's own unit: its name, its text, where it lies, and whether a file of that name is ours. No process is asked or touched.
//!
//! A unit is ours where it names our folder; it is as we wrote it where the digest in its second line is that of what follows.

use std::{
    io,
    path::{Path, PathBuf},
};

use landfall_host_protocol::{FolderName, Reason, RestartPolicy, Start, StopTo, SystemdRuntime};
use rustix::process::getuid;
use sha2::{Digest as _, Sha256};

use super::{ended, systemctl::Manager};
use crate::{
    failure::{StepFailure, StepResult},
    files,
    folder::Folder,
    gate, keeper,
    process::signal_of,
};

/// The key in `[Unit]` by which we know our own; systemd passes over keys with `X-`.
const MARK: &str = "X-Landfall-Folder=";
const DIGEST: &str = "# landfall: SHA-256 of what follows: ";
/// Seconds between an end and the next start.
const RESTART_SECONDS: u32 = 2;
/// From this version of systemd on the pause grows.
const WITH_BACKOFF: u32 = 254;

/// The name of a folder's own unit.
pub(super) fn name(folder: &FolderName) -> String {
    format!("landfall-{folder}.service")
}

/// Where the SSH user's own units lie.
pub(super) struct Place {
    folder: PathBuf,
    target: &'static str,
}

/// A file with a unit's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnDisk {
    None,
    /// As we wrote it.
    Ours,
    /// Ours, and changed since.
    Edited,
    Foreign,
    /// A link to nothing.
    Masked,
}

impl Place {
    /// `None`: the user has no home that is known.
    pub(super) fn of(manager: Manager) -> Option<Self> {
        if manager != Manager::User {
            return Some(Self { folder: PathBuf::from("/etc/systemd/system"), target: "multi-user.target" });
        }
        let home = PathBuf::from(std::env::var_os("HOME")?);
        home.is_absolute().then(|| Self { folder: home.join(".config/systemd/user"), target: "default.target" })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn link(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{}.wants", self.target)).join(name)
    }

    pub(super) fn look(&self, name: &str, folder: &Folder) -> OnDisk {
        let path = self.path(name);
        if std::fs::read_link(&path).is_ok_and(|target| target == Path::new("/dev/null")) {
            return OnDisk::Masked;
        }
        match files::read_whole(&path) {
            Ok(None) => OnDisk::None,
            Ok(Some(text)) => judge(&String::from_utf8_lossy(&text), folder),
            Err(_) => OnDisk::Foreign,
        }
    }

    /// Puts the unit there, to be started at boot as well. systemd hears of it by a reload.
    pub(super) fn write(&self, name: &str, text: &str) -> StepResult<()> {
        let path = self.path(name);
        let link = self.link(name);
        let write = || {
            files::create_folder(&self.folder, 0o755)?;
            files::write_whole(&path, text.as_bytes(), 0o644)
        };
        gate::pass("unit.write", write).map_err(|error| files::failure(Reason::StartFailed, &error, &path))?;
        let enable = || {
            if std::fs::read_link(&link).is_ok_and(|target| target == path) {
                return Ok(());
            }
            if let Some(parent) = link.parent() {
                files::create_folder(parent, 0o755)?;
                files::sync_parent(parent)?;
            }
            files::switch_link(&link, &path)
        };
        gate::pass("unit.enable", enable).map_err(|error| files::failure(Reason::StartFailed, &error, &link))
    }

    /// Takes away what is ours. True: there was something.
    pub(super) fn remove(&self, name: &str, folder: &Folder) -> io::Result<bool> {
        let is_ours = matches!(self.look(name, folder), OnDisk::Ours | OnDisk::Edited);
        let mut was_there = false;
        for (gate, path) in [("unit.disable", self.link(name)), ("unit.remove", self.path(name))] {
            let stays = path == self.path(name) && !is_ours;
            if stays || std::fs::symlink_metadata(&path).is_err() {
                continue;
            }
            was_there = true;
            gate::pass(gate, || {
                files::remove_file(&path)?;
                files::sync_parent(&path)
            })?;
        }
        // What one left who died while he wrote it.
        if let Ok(entries) = std::fs::read_dir(&self.folder) {
            for entry in entries.flatten() {
                let file = entry.file_name();
                if files::is_left_over(&file) && file.to_string_lossy().starts_with(&format!(".{name}.")) {
                    let _ = std::fs::remove_file(entry.path());
                }
            }
        }
        Ok(was_there)
    }
}

fn judge(text: &str, folder: &Folder) -> OnDisk {
    let mark = format!("{MARK}{}", folder.path().display());
    if !text.lines().any(|line| line.trim_end() == mark) {
        return OnDisk::Foreign;
    }
    let untouched = text.split_once('\n').and_then(|(_, rest)| {
        let (line, rest) = rest.split_once('\n')?;
        Some(line.strip_prefix(DIGEST)? == digest(rest))
    });
    if untouched == Some(true) { OnDisk::Ours } else { OnDisk::Edited }
}

fn digest(text: &str) -> String {
    landfall_host_protocol::Digest::from_bytes(Sha256::digest(text).into()).to_string()
}

/// Where the environment of the application lies.
pub(super) fn environment_path(folder: &Folder) -> PathBuf {
    folder.dot().join("unit.env")
}

/// Paths in units know no quotes, have specifiers and patterns: what is not plain is not written.
pub(super) fn is_plain(path: &Path) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._+-,=@:~".contains(&b);
    path.is_absolute() && path.to_str().is_some_and(|path| path.bytes().all(plain))
}

/// The program of the command: in the release, absolute, or of a name that is looked up in PATH.
pub(super) fn program(folder: &Folder, start: &Start, word: &str) -> Result<PathBuf, String> {
    if word.contains('/') {
        let relative = word.strip_prefix("./").unwrap_or(word);
        return Ok(folder.release(&start.release).join(relative));
    }
    let found = keeper::PATH.split(':').map(|place| Path::new(place).join(word)).find(|path| path.is_file());
    found.filter(|_| !word.is_empty()).ok_or_else(|| format!("{word:?} is in no folder of PATH ({})", keeper::PATH))
}

/// The unit of a start.
pub(super) fn text(
    folder: &Folder,
    start: &Start,
    runtime: &SystemdRuntime,
    manager: Manager,
    version: u32,
) -> StepResult<String> {
    let failed = |why: String| StepFailure::new(Reason::StartFailed, why);
    let (word, arguments) = runtime.command.split_first().ok_or_else(|| failed("run.command is empty".to_owned()))?;
    let program = program(folder, start, word).map_err(failed)?;
    if !is_plain(&program) || !is_plain(&folder.path()) {
        let why = format!("{} has characters that can't stand in a unit of systemd", program.display());
        return Err(StepFailure::new(Reason::HostUnsupported, why));
    }
    let mut command = quoted(&program.display().to_string());
    for argument in arguments {
        if argument.contains('\0') {
            return Err(failed("an argument of run.command has a zero byte".to_owned()));
        }
        command.push(' ');
        command.push_str(&quoted(argument));
    }
    let path = folder.path();
    let (path, release) = (path.display(), folder.release(&start.release));
    let log = folder.log(0);
    let mut lines = vec![
        "[Unit]".to_owned(),
        format!("Description={} {}", folder.name(), start.release.version()),
        format!("{MARK}{path}"),
        format!("RequiresMountsFor={path}"),
        "After=network-online.target".to_owned(),
        "StartLimitIntervalSec=0".to_owned(),
    ];
    if manager != Manager::User {
        lines.push("Wants=network-online.target".to_owned());
    }
    lines.extend([
        String::new(),
        "[Service]".to_owned(),
        "Type=exec".to_owned(),
        format!("ExecStart={command}"),
        format!("WorkingDirectory={}", release.display()),
        format!("EnvironmentFile={}", environment_path(folder).display()),
        "StandardInput=null".to_owned(),
        format!("StandardOutput=append:{}", log.display()),
        format!("StandardError=append:{}", log.display()),
    ]);
    if let Some(run_as) = &start.config.run_as {
        lines.push(format!("User={}", run_as.user));
    }
    match runtime.restart_policy {
        RestartPolicy::Always => lines.push("Restart=always".to_owned()),
        // Who ended with 0 has done its work, and is told from one that somebody stopped.
        RestartPolicy::OnFailure => lines.extend(["Restart=on-failure", "RemainAfterExit=yes"].map(str::to_owned)),
    }
    lines.push(format!("RestartSec={RESTART_SECONDS}"));
    if version >= WITH_BACKOFF {
        lines.extend(["RestartSteps=8", "RestartMaxDelaySec=300"].map(str::to_owned));
    }
    let stop = &runtime.stop;
    if signal_of(&stop.signal).is_none() {
        return Err(StepFailure::new(Reason::HostUnsupported, format!("signal {} is not known", stop.signal)));
    }
    let kill_mode = match stop.to {
        StopTo::Main => "mixed",
        StopTo::Group => "control-group",
    };
    // 0 would be without end.
    let grace = match keeper::grace(stop).as_secs() {
        0 => "100ms".to_owned(),
        seconds => format!("{seconds}s"),
    };
    lines.extend([
        format!("KillMode={kill_mode}"),
        format!("KillSignal=SIG{}", stop.signal.trim_start_matches("SIG")),
        format!("TimeoutStopSec={grace}"),
    ]);
    if let Some(bytes) = runtime.memory_max_bytes {
        lines.push(format!("MemoryMax={bytes}"));
    }
    // With the application's rights, for it has the application's environment.
    lines.push(format!("ExecStopPost=-/bin/sh -c {}", quoted(&ended::command(folder))));
    let target = if manager == Manager::User { "default.target" } else { "multi-user.target" };
    lines.extend([String::new(), "[Install]".to_owned(), format!("WantedBy={target}"), String::new()]);
    let body = lines.join("\n");
    let name = name(folder.name());
    let user = if manager == Manager::User { "--user " } else { "" };
    Ok(format!(
        "# Written by landfall at every start. Changes belong into a drop-in: systemctl {user}edit {name}\n{DIGEST}{}\n{body}",
        digest(&body)
    ))
}

/// A word that systemd reads as it is: no specifier, no variable, no escape.
fn quoted(word: &str) -> String {
    let mut text = String::from("\"");
    for c in word.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            '%' | '$' => text.extend([c, c]),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            c if c.is_ascii_control() => text.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => text.push(c),
        }
    }
    text.push('"');
    text
}

/// A name that an administrator may give to a unit.
pub(super) fn is_administrators(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b);
    name.len() <= 255
        && !name.starts_with("landfall-")
        && name.ends_with(".service")
        && !name.starts_with(['-', '.'])
        && name.bytes().all(plain)
}

/// Which manager has landfall's own unit, and which one an administrator's.
pub(super) fn manager_of(is_own: bool) -> Manager {
    match (getuid().is_root(), is_own) {
        (true, _) => Manager::System,
        (false, true) => Manager::User,
        (false, false) => Manager::Sudo,
    }
}

#[cfg(test)]
mod tests {
    use landfall_host_protocol::{
        ConfigHash, Configuration, Digest, LogLimits, ReleaseName, RunAs, RunAsMethod, Runtime, Stop,
    };

    use super::*;

    fn folder() -> Folder {
        Folder::new(Path::new("/srv/landfall"), FolderName::new("shop", "web"))
    }

    fn runtime(command: &[&str]) -> SystemdRuntime {
        SystemdRuntime {
            unit: None,
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            memory_max_bytes: None,
            restart_policy: RestartPolicy::Always,
            stop: Stop::default(),
        }
    }

    fn unit(runtime: &SystemdRuntime, user: Option<&str>, manager: Manager, version: u32) -> StepResult<String> {
        let digest = Digest::parse(&"ab".repeat(32)).unwrap();
        let start = Start {
            release: ReleaseName::new("v1", digest.as_str()),
            digest,
            config: Configuration {
                hash: ConfigHash::parse("1:0123456789abcdef").unwrap(),
                runtime: Runtime::Systemd(runtime.clone()),
                env: Vec::new(),
                files: Vec::new(),
                run_as: user.map(|user| RunAs { method: RunAsMethod::Su, user: user.to_owned() }),
                readiness: None,
                liveness: None,
                log: LogLimits::default(),
                keep_secrets_on_host: false,
            },
            revision: 1,
            redeploys: 0,
            attempt: 1,
        };
        text(&folder(), &start, runtime, manager, version)
    }

    fn has(text: &str, line: &str) -> bool {
        text.lines().any(|found| found == line)
    }

    #[test]
    fn a_unit_says_what_the_configuration_does() {
        let mut app = runtime(&["./run", "--name", "a b", "100%", "$HOME", "\"q\"", ";", "back\\slash", "two\nlines"]);
        app.memory_max_bytes = Some(64 << 20);
        app.stop = Stop { signal: "INT".to_owned(), to: StopTo::Group, grace_seconds: 30 };
        let text = unit(&app, Some("app"), Manager::System, 252).unwrap();
        let command = "ExecStart=\"/srv/landfall/shop.web/releases/v1-abababababab/run\" \"--name\" \"a b\" \"100%%\" \"$$HOME\" \
                       \"\\\"q\\\"\" \";\" \"back\\\\slash\" \"two\\nlines\"";
        for line in [
            command,
            "WorkingDirectory=/srv/landfall/shop.web/releases/v1-abababababab",
            "EnvironmentFile=/srv/landfall/shop.web/.landfall/unit.env",
            "User=app",
            "Restart=always",
            "KillMode=control-group",
            "KillSignal=SIGINT",
            "TimeoutStopSec=30s",
            "MemoryMax=67108864",
            "WantedBy=multi-user.target",
            "X-Landfall-Folder=/srv/landfall/shop.web",
        ] {
            assert!(has(&text, line), "{line}\n{text}");
        }
        assert!(!text.contains("RestartSteps") && !text.contains("Environment="));
        assert!(unit(&app, None, Manager::System, 255).unwrap().contains("RestartSteps"));
        // Every command of a unit has the environment that the application's owner chose.
        let mut commands = text.lines().filter_map(|line| line.strip_prefix("Exec")?.split_once('='));
        assert!(commands.all(|(_, command)| command.trim_start_matches('-').starts_with(['/', '"'])), "{text}");
        let own = unit(&app, None, Manager::User, 252).unwrap();
        assert!(has(&own, "WantedBy=default.target") && !own.contains("User="));
    }

    #[test]
    fn one_that_ends_its_work_is_not_started_again() {
        let mut app = runtime(&["/usr/bin/true"]);
        app.restart_policy = RestartPolicy::OnFailure;
        app.stop.grace_seconds = 0;
        let text = unit(&app, None, Manager::System, 252).unwrap();
        assert!(has(&text, "Restart=on-failure") && has(&text, "RemainAfterExit=yes"));
        assert!(has(&text, "TimeoutStopSec=100ms") && has(&text, "KillMode=mixed"));
        app.stop.grace_seconds = u32::MAX;
        let text = unit(&app, None, Manager::System, 252).unwrap();
        assert!(has(&text, "TimeoutStopSec=3600s"), "as long as a keeper waits");
    }

    #[test]
    fn a_program_is_looked_up_and_its_path_is_plain() {
        assert!(
            unit(&runtime(&["sh"]), None, Manager::System, 252).unwrap().contains("ExecStart=\"/usr/bin/sh\"")
                || unit(&runtime(&["sh"]), None, Manager::System, 252).unwrap().contains("/bin/sh\"")
        );
        assert_eq!(
            unit(&runtime(&["no-such-program"]), None, Manager::System, 252).unwrap_err().reason,
            Reason::StartFailed
        );
        for command in ["./a b", "./%n", "./$x", "./a*", "/opt/\u{e4}/run"] {
            let failure = unit(&runtime(&[command]), None, Manager::System, 252).unwrap_err();
            assert_eq!(failure.reason, Reason::HostUnsupported, "{command}");
        }
        assert!(unit(&runtime(&[]), None, Manager::System, 252).is_err());
    }

    #[test]
    fn our_unit_is_known_again_and_an_edit_is_seen() {
        let text = unit(&runtime(&["./run"]), None, Manager::System, 252).unwrap();
        assert_eq!(judge(&text, &folder()), OnDisk::Ours);
        assert_eq!(judge(&text.replace("RestartSec=2", "RestartSec=9"), &folder()), OnDisk::Edited);
        assert_eq!(judge(&format!("{text}# note\n"), &folder()), OnDisk::Edited);
        let mark = "X-Landfall-Folder=/srv/landfall/shop.web";
        assert_eq!(judge(&text.replace(mark, ""), &folder()), OnDisk::Foreign);
        assert_eq!(judge("[Service]\nExecStart=/bin/true\n", &folder()), OnDisk::Foreign);
        let other = Folder::new(Path::new("/srv/other"), FolderName::new("shop", "web"));
        assert_eq!(judge(&text, &other), OnDisk::Foreign, "another group's root on the same host");
    }

    #[test]
    fn names_of_units_lead_nowhere_else() {
        for name in ["web.service", "app@1.service", "my-app_2.service"] {
            assert!(is_administrators(name), "{name}");
        }
        for name in [
            "web",
            "-.service",
            "../web.service",
            "a b.service",
            "web.socket",
            "--help.service",
            "landfall-shop.web.service",
            "",
        ] {
            assert!(!is_administrators(name), "{name}");
        }
    }
}
