//! By hand on the host, for the day on which all else is down: the same acts, through the same tasks under the same lock and journal, with
//! a person as their author. It decides nothing that the person did not say.

mod act;
mod options;
mod status;
mod words;

use std::{
    ffi::OsString,
    fs, io,
    io::Write,
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use landfall_host_protocol::FolderName;
use rustix::{
    fs::{Gid, Uid},
    thread::{set_thread_gid, set_thread_groups, set_thread_uid},
};

use self::options::{Options, Verb};
use crate::{folder::Folder, keeper, logs::LogReader};

pub use self::options::USAGE;

/// Exit status of a command that was understood and failed.
const FAILED: u8 = 1;
/// Between two looks at what goes on.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Lines of a log, unless others are asked for.
const LOG_LINES: u32 = 100;

/// Runs a command; answers its exit status. `Err`: the arguments mean nothing, and why.
pub fn run(arguments: &[OsString]) -> Result<u8, String> {
    let options = Options::parse(arguments)?;
    Ok(match perform(&options, arguments) {
        Ok(status) => status,
        Err(why) => {
            complain(&why);
            FAILED
        }
    })
}

fn perform(options: &Options, arguments: &[OsString]) -> Result<u8, String> {
    let root = match &options.root {
        Some(root) => fs::canonicalize(root).map_err(|error| format!("{}: {error}", root.display()))?,
        None => own_root()?,
    };
    if options.verb == Verb::Status && options.folder.is_none() {
        let folders = folders(&root)?;
        let own = folders.first().map(|name| Folder::new(&root, name.clone()));
        if let Some(folder) = own {
            as_owner(&folder, arguments)?;
        }
        return Ok(status::all(&root, &folders));
    }
    let folder = Folder::new(&root, choose(&root, options.folder.as_deref())?);
    as_owner(&folder, arguments)?;
    match &options.verb {
        Verb::Status => Ok(status::one(&folder)),
        Verb::Logs { follow, lines } => logs(&folder, *follow, lines.unwrap_or(LOG_LINES)),
        Verb::Stop => act::stop(&folder, &options.author()),
        Verb::Start => act::start(&folder, &options.author()),
        Verb::Use { version } => act::use_version(&folder, version, &options.author()),
    }
}

/// Says a line to a person. A reader that is gone changes nothing of what is done.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

fn complain(why: &str) {
    let _ = writeln!(io::stderr(), "error: {why}");
}

/// The program lies in `<root>/.landfall/bin/`.
fn own_root() -> Result<PathBuf, String> {
    let program = std::env::current_exe().map_err(|error| format!("own path: {error}"))?;
    let bin = program.parent().filter(|bin| bin.ends_with(".landfall/bin"));
    let root = bin.and_then(Path::parent).and_then(Path::parent);
    root.map(Path::to_owned)
        .ok_or_else(|| format!("{} lies in no root of landfall: use --root ROOT", program.display()))
}

/// Folders below the root that landfall knows.
fn folders(root: &Path) -> Result<Vec<FolderName>, String> {
    let entries = fs::read_dir(root).map_err(|error| format!("{}: {error}", root.display()))?;
    let mut names: Vec<FolderName> = entries
        .flatten()
        .filter_map(|entry| FolderName::parse(entry.file_name().to_str()?))
        .filter(|name| Folder::new(root, name.clone()).dot().is_dir())
        .collect();
    names.sort();
    Ok(names)
}

/// The folder that was named, as a whole or by its project; the only one where none was named.
fn choose(root: &Path, named: Option<&str>) -> Result<FolderName, String> {
    let all = folders(root)?;
    let listed = || all.iter().map(FolderName::as_str).collect::<Vec<_>>().join(", ");
    let fits = |name: &&FolderName| match named {
        Some(text) => {
            name.as_str() == text || name.as_str().split_once('.').is_some_and(|(_, project)| project == text)
        }
        None => true,
    };
    let mut found = all.iter().filter(fits);
    match (found.next(), found.next(), named) {
        (Some(name), None, _) => Ok(name.clone()),
        (None, _, None) => Err(format!("nothing is deployed below {}", root.display())),
        (None, _, Some(text)) if all.is_empty() => Err(format!("{text} not found: nothing is deployed here")),
        (None, _, Some(text)) => Err(format!("{text} not found; there are: {}", listed())),
        (Some(_), Some(_), _) => Err(format!("name one of: {}", listed())),
    }
}

/// Records belong to the SSH user. root becomes that user and does the same, so that nothing becomes root's; anybody else is told whom to become.
fn as_owner(folder: &Folder, arguments: &[OsString]) -> Result<(), String> {
    let metadata =
        fs::symlink_metadata(folder.dot()).map_err(|error| format!("{}: {error}", folder.dot().display()))?;
    let own = rustix::process::geteuid().as_raw();
    if metadata.uid() == own {
        return Ok(());
    }
    if own != 0 {
        let (path, uid) = (folder.path(), metadata.uid());
        return Err(format!("{} belongs to uid {uid}: run the command with sudo -u '#{uid}'", path.display()));
    }
    let program = std::env::current_exe().map_err(|error| format!("own path: {error}"))?;
    let mut command = Command::new(&program);
    command.args(arguments);
    // What is started gets the login of whoever starts it, which must not be root's.
    let uid = metadata.uid();
    let passwd = passwd_of(uid);
    let login = login_of(uid, &passwd);
    for (name, value) in login {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let [_, (_, name), _] = login;
    let groups = groups_of(uid, name).unwrap_or_else(|| vec![metadata.gid()]);
    let error = become_user(uid, &groups).err().unwrap_or_else(|| command.exec());
    Err(format!("{} as uid {uid}: {error}", program.display()))
}

/// This process, which has one thread, becomes that user with all his groups, the first of which is his own.
fn become_user(uid: u32, groups: &[u32]) -> io::Result<()> {
    let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
    let own = groups.first().copied().ok_or(io::ErrorKind::NotFound)?;
    set_thread_groups(&groups)?;
    set_thread_gid(own)?;
    Ok(set_thread_uid(Uid::from_raw(uid))?)
}

/// The host's own list of users; what its name services say of one who does not stand there.
fn passwd_of(uid: u32) -> String {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let [_, (_, name), _] = login_of(uid, &passwd);
    let asked = name.is_none().then(|| said(Command::new("getent").args(["passwd", &uid.to_string()]))).flatten();
    asked.unwrap_or(passwd)
}

/// A user's groups as `id` tells them; `None`: it does not know him. They decide what an application may read, so they are those of a login.
/// What the host's records say of them is not believed: the user could write there what he likes.
fn groups_of(uid: u32, name: Option<&str>) -> Option<Vec<u32>> {
    let user = name.map_or_else(|| uid.to_string(), str::to_owned);
    // A number may be somebody's name.
    let is_he = said(Command::new("id").args(["-u", "--", &user]))?.trim() == uid.to_string();
    let groups = said(Command::new("id").args(["-G", "--", &user])).filter(|_| is_he)?;
    let groups: Vec<u32> = groups.split_ascii_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    (!groups.is_empty()).then_some(groups)
}

/// What a tool of the host prints, where it succeeds.
fn said(command: &mut Command) -> Option<String> {
    let output = command.env("PATH", keeper::PATH).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Variables of a user's login; `None` where the host's own list of users does not have him.
fn login_of(uid: u32, passwd: &str) -> [(&'static str, Option<&str>); 3] {
    let user = passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        (fields.get(2)?.parse() == Ok(uid)).then_some((*fields.first()?, *fields.get(5)?))
    });
    let name = user.map(|(name, _)| name);
    [("HOME", user.map(|(_, home)| home)), ("USER", name), ("LOGNAME", name)]
}

/// The last lines, and what follows.
fn logs(folder: &Folder, follow: bool, lines: u32) -> Result<u8, String> {
    let said = |error: io::Error| format!("{}: {error}", folder.log(0).display());
    let mut reader = LogReader::whole(folder, Some(lines), None).map_err(said)?;
    if !reader.is_open() && !follow {
        return Err(format!("{} not found: the application has not been started", folder.log(0).display()));
    }
    let mut buffer = vec![0; 64 << 10];
    let mut output = io::stdout().lock();
    loop {
        let count = reader.read(&mut buffer).map_err(said)?;
        let written = output.write_all(buffer.get(..count).unwrap_or_default()).and_then(|()| output.flush());
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(0),
            written => written.map_err(|error| format!("standard output: {error}"))?,
        }
        if count == 0 && !follow {
            return Ok(0);
        }
        if count == 0 {
            std::thread::sleep(POLL_INTERVAL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_the_login_of_the_list_of_users_or_none() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\ndeploy:x:1001:1001::/home/deploy:/bin/sh\nbroken\n";
        let deploy = [("HOME", Some("/home/deploy")), ("USER", Some("deploy")), ("LOGNAME", Some("deploy"))];
        assert_eq!(login_of(1001, passwd), deploy);
        assert_eq!(login_of(1002, passwd), [("HOME", None), ("USER", None), ("LOGNAME", None)]);
    }
}
