//! The machine: kernel, boot, clock, and what of it decides which runtime can be used.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use landfall_host_protocol::MachineFacts;
use rustix::process::{PidfdFlags, getpid, getuid, pidfd_open};

use super::users::own_name;
use crate::{clock, process::boot_id};

/// Reads the machine's facts.
pub fn machine() -> MachineFacts {
    let system = rustix::system::uname();
    let uid = getuid().as_raw();
    MachineFacts {
        boot_id: boot_id().to_owned(),
        uptime_seconds: clock::uptime_seconds(),
        uptime_millis: clock::uptime_millis(),
        clock_millis: clock::wall_millis(),
        machine: system.machine().to_string_lossy().into_owned(),
        kernel: system.release().to_string_lossy().into_owned(),
        uid,
        pidfd: pidfd_open(getpid(), PidfdFlags::empty()).is_ok(),
        session_scoped: session_scoped(),
        systemd: systemd(uid),
    }
}

/// Whether systemd runs the machine and this user can have units of his own that stay.
fn systemd(uid: u32) -> bool {
    if !Path::new("/run/systemd/system").is_dir() {
        return false;
    }
    let lingers = || {
        let name = std::env::var("LOGNAME").unwrap_or_default();
        !name.is_empty() && !name.contains('/') && Path::new("/var/lib/systemd/linger").join(name).exists()
    };
    uid == 0 || (Path::new(&format!("/run/user/{uid}/systemd/private")).exists() && lingers())
}

/// Whether logind ends what this session started once the session is over.
pub fn session_scoped() -> bool {
    let in_scope = fs::read_to_string("/proc/self/cgroup").is_ok_and(|text| is_session_scope(&text));
    in_scope && {
        let logind = Logind::read(Path::new("/"));
        logind.kills && logind.applies_to(own_name().as_deref())
    }
}

/// The cgroup is one that logind made for a login.
fn is_session_scope(cgroup: &str) -> bool {
    cgroup.lines().any(|line| line.split('/').any(|part| part.starts_with("session-") && part.ends_with(".scope")))
}

/// What logind's configuration says of the end of a session.
#[derive(Debug, PartialEq, Eq)]
struct Logind {
    kills: bool,
    /// Empty: all users.
    only: Vec<String>,
    except: Vec<String>,
}

impl Logind {
    /// The main file and the drop-ins in the order in which systemd reads them; a later value wins.
    fn read(system: &Path) -> Self {
        let folders = ["usr/lib/systemd", "usr/local/lib/systemd", "run/systemd", "etc/systemd"];
        let main =
            folders.iter().rev().map(|folder| system.join(folder).join("logind.conf")).find(|path| path.exists());
        let mut drop_ins: BTreeMap<std::ffi::OsString, PathBuf> = BTreeMap::new();
        for folder in folders {
            for entry in fs::read_dir(system.join(folder).join("logind.conf.d")).into_iter().flatten().flatten() {
                if entry.path().extension().is_some_and(|extension| extension == "conf") {
                    drop_ins.insert(entry.file_name(), entry.path());
                }
            }
        }
        let mut logind = Self { kills: false, only: Vec::new(), except: vec!["root".to_owned()] };
        for path in main.into_iter().chain(drop_ins.into_values()) {
            logind.apply(&fs::read_to_string(path).unwrap_or_default());
        }
        logind
    }

    fn apply(&mut self, text: &str) {
        for line in text.lines() {
            let Some((key, value)) = line.split_once('=') else { continue };
            let users = || value.split_whitespace().map(str::to_owned).collect();
            match key.trim() {
                "KillUserProcesses" => {
                    self.kills =
                        matches!(value.trim().to_ascii_lowercase().as_str(), "yes" | "y" | "true" | "t" | "on" | "1");
                }
                "KillOnlyUsers" => self.only = users(),
                "KillExcludeUsers" => self.except = users(),
                _ => {}
            }
        }
    }

    /// A user whose name is not known counts as one of those that are ended.
    fn applies_to(&self, user: Option<&str>) -> bool {
        let Some(user) = user else { return true };
        let names = |users: &[String]| users.iter().any(|name| name == user);
        !names(&self.except) && (self.only.is_empty() || names(&self.only))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logind(files: &[(&str, &str)]) -> Logind {
        let system = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = system.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Logind::read(system.path())
    }

    #[test]
    fn a_login_session_is_told_from_a_service_and_a_container() {
        assert!(is_session_scope("0::/user.slice/user-1000.slice/session-7.scope\n"));
        assert!(is_session_scope("4:memory:/user.slice\n1:name=systemd:/user.slice/user-0.slice/session-c2.scope\n"));
        assert!(!is_session_scope("0::/system.slice/ssh.service\n"));
        assert!(!is_session_scope("0::/\n"));
        assert!(!is_session_scope("0::/user.slice/user-1000.slice/user@1000.service/app.slice/my-session-7.scope.d\n"));
    }

    #[test]
    fn logind_ends_processes_only_where_it_is_told_so() {
        assert!(!logind(&[]).kills);
        assert!(!logind(&[("etc/systemd/logind.conf", "[Login]\n#KillUserProcesses=yes\n")]).kills);
        assert!(logind(&[("etc/systemd/logind.conf", "[Login]\nKillUserProcesses=Yes\n")]).kills);
    }

    #[test]
    fn a_later_file_of_logind_wins() {
        let off = logind(&[
            ("etc/systemd/logind.conf", "KillUserProcesses=yes"),
            ("usr/lib/systemd/logind.conf.d/50-x.conf", "KillUserProcesses=no"),
        ]);
        assert!(!off.kills);
        let replaced = logind(&[
            ("usr/lib/systemd/logind.conf.d/50-x.conf", "KillUserProcesses=yes"),
            ("etc/systemd/logind.conf.d/50-x.conf", ""),
        ]);
        assert!(!replaced.kills);
    }

    #[test]
    fn users_that_logind_excepts_are_not_ended() {
        let all = logind(&[("etc/systemd/logind.conf", "KillUserProcesses=yes")]);
        assert!(!all.applies_to(Some("root")));
        assert!(all.applies_to(Some("deploy")));
        assert!(all.applies_to(None));
        let but = logind(&[("etc/systemd/logind.conf", "KillUserProcesses=yes\nKillExcludeUsers=ann deploy")]);
        assert!(!but.applies_to(Some("deploy")));
        assert!(but.applies_to(Some("root")));
        let only = logind(&[("etc/systemd/logind.conf", "KillUserProcesses=yes\nKillOnlyUsers=guest")]);
        assert!(!only.applies_to(Some("deploy")));
    }
}
