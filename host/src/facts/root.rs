//! The group's root: how much fits into it, and why nothing can be deployed there. It only asks; what follows from it is the operator's.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use landfall_host_protocol::RootFacts;
use rustix::{
    fs::{Access, StatVfsMountFlags, access, statfs, statvfs},
    process::{getegid, getuid},
};

/// Facts of the root folder.
pub fn root(path: &Path) -> RootFacts {
    let (free_bytes, free_inodes) = space(path);
    RootFacts { free_bytes, free_inodes, unfit: unfit(path) }
}

/// What of a file system changes while nobody acts, for one system call: disks fill up, and after errors they are mounted read-only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    pub free_bytes: u64,
    pub free_inodes: u64,
    pub flags: u64,
}

pub fn condition(path: &Path) -> Condition {
    let Ok(found) = statvfs(path) else { return Condition::default() };
    Condition {
        free_bytes: found.f_bavail.saturating_mul(found.f_frsize),
        free_inodes: found.f_favail,
        flags: found.f_flag.bits(),
    }
}

/// Free bytes and inodes for this user.
pub fn space(path: &Path) -> (u64, Option<u64>) {
    let Ok(space) = statvfs(path) else { return (0, None) };
    (space.f_bavail.saturating_mul(space.f_frsize), (space.f_files > 0).then_some(space.f_favail))
}

/// Why the root can't be used, for a person; the first cause.
fn unfit(path: &Path) -> Option<String> {
    let shown = path.display();
    if !path.is_absolute() {
        return Some(format!("{shown} is not an absolute path"));
    }
    let Ok(real) = fs::canonicalize(path) else { return Some(format!("{shown} does not exist or can't be entered")) };
    if !real.is_dir() {
        return Some(format!("{shown} is not a directory"));
    }
    file_system(&real).or_else(|| writable_by_others(path, &real)).or_else(|| {
        let fits = access(&real, Access::WRITE_OK | Access::EXEC_OK).is_ok();
        (!fits).then(|| format!("{shown} is not writable by uid {}", getuid().as_raw()))
    })
}

/// File systems on which an application can't be run or on which our records can't be trusted.
fn file_system(real: &Path) -> Option<String> {
    let shown = real.display();
    let kind = statfs(real).ok().and_then(|found| network_kind(found.f_type));
    if let Some(kind) = kind {
        return Some(format!("{shown} is on {kind}"));
    }
    let flags = statvfs(real).map(|found| found.f_flag).unwrap_or(StatVfsMountFlags::empty());
    if flags.contains(StatVfsMountFlags::RDONLY) {
        return Some(format!("{shown} is on a read-only file system"));
    }
    flags.contains(StatVfsMountFlags::NOEXEC).then(|| format!("{shown} is on a file system mounted noexec"))
}

/// Magic numbers of statfs(2).
fn network_kind(magic: i64) -> Option<&'static str> {
    match magic & 0xffff_ffff {
        0x6969 => Some("nfs"),
        0xff53_4d42 | 0xfe53_4d42 | 0x517b => Some("cifs"),
        0x6573_5546 => Some("fuse"),
        0x0102_1997 => Some("9p"),
        _ => None,
    }
}

/// The first component, as it is written and as it really lies, that somebody beside root and this user may write.
fn writable_by_others(path: &Path, real: &Path) -> Option<String> {
    let uid = getuid().as_raw();
    let groups = Groups::read(uid);
    let mut components: Vec<PathBuf> = path.ancestors().map(Path::to_path_buf).collect();
    components.extend(real.ancestors().map(Path::to_path_buf));
    components.sort();
    components.dedup();
    components.iter().find_map(|component| {
        let metadata = fs::metadata(component).ok()?;
        let shown = component.display();
        if metadata.uid() != 0 && metadata.uid() != uid {
            return Some(format!("{shown} belongs to uid {}", metadata.uid()));
        }
        let mode = metadata.permissions().mode();
        // In a sticky folder others can't replace what is ours; the root itself must not even take new names from them.
        let sticky = mode & 0o1000 != 0 && component != real && component != path;
        if sticky {
            return None;
        }
        if mode & 0o002 != 0 {
            return Some(format!("{shown} is writable by everybody (mode {:04o})", mode & 0o7777));
        }
        (mode & 0o020 != 0 && groups.has_others(metadata.gid()))
            .then(|| format!("{shown} is writable by group {} (mode {:04o})", metadata.gid(), mode & 0o7777))
    })
}

/// Who is in a group, as far as the files tell; a group that they do not know may have anybody in it.
struct Groups {
    uid: u32,
    passwd: String,
    group: String,
}

impl Groups {
    fn read(uid: u32) -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self { uid, passwd: read("/etc/passwd"), group: read("/etc/group") }
    }

    /// Somebody beside root and this user is a member.
    fn has_others(&self, gid: u32) -> bool {
        let users: Vec<(&str, u32, u32)> = self.passwd.lines().filter_map(passwd_line).collect();
        let harmless = |uid: u32| uid == 0 || uid == self.uid;
        let by_login = users.iter().any(|(_, uid, primary)| *primary == gid && !harmless(*uid));
        let Some(members) = self.group.lines().find_map(|line| group_line(line, gid)) else {
            return gid != 0 && gid != getegid().as_raw();
        };
        let by_name = members.split(',').filter(|name| !name.is_empty()).any(|name| {
            let known = users.iter().find(|(user, ..)| *user == name);
            known.is_none_or(|(_, uid, _)| !harmless(*uid))
        });
        by_login || by_name
    }
}

/// Name, uid and gid.
pub(super) fn passwd_line(line: &str) -> Option<(&str, u32, u32)> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    Some((name, uid, gid))
}

/// The members of the group, if the line is of that group.
fn group_line(line: &str, gid: u32) -> Option<&str> {
    let mut fields = line.split(':');
    let found: u32 = fields.nth(2)?.parse().ok()?;
    (found == gid).then(|| fields.next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_folder_of_our_own_is_fit() {
        let parent = tempfile::tempdir().unwrap();
        let facts = root(parent.path());
        assert_eq!(facts.unfit, None);
        assert!(facts.free_bytes > 0);
    }

    #[test]
    fn a_root_that_others_may_write_is_named_with_its_path() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("root");
        fs::create_dir(&path).unwrap();
        for bits in [0o777, 0o1777] {
            mode(&path, bits);
            let said = root(&path).unfit.unwrap();
            assert!(said.contains(path.to_str().unwrap()) && said.contains("writable by everybody"), "{said}");
        }
        mode(&path, 0o755);
        mode(parent.path(), 0o777);
        let said = root(&path).unfit.unwrap();
        assert!(said.starts_with(&format!("{} is writable by everybody", parent.path().display())), "{said}");
        mode(parent.path(), 0o1777);
        assert_eq!(root(&path).unfit, None, "others can't replace what is ours in a sticky folder");
    }

    #[test]
    fn a_link_on_the_way_hides_no_folder_of_others() {
        let parent = tempfile::tempdir().unwrap();
        let open = parent.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::create_dir(open.join("root")).unwrap();
        mode(&open, 0o777);
        let link = parent.path().join("link");
        std::os::unix::fs::symlink(open.join("root"), &link).unwrap();
        assert!(root(&link).unfit.unwrap().contains("open is writable by everybody"));
    }

    #[test]
    fn a_missing_or_relative_root_is_named() {
        assert!(root(Path::new("/no/such/root")).unfit.unwrap().contains("does not exist"));
        assert!(root(Path::new("srv")).unfit.unwrap().contains("not an absolute path"));
        assert!(root(Path::new("/etc/hostname")).unfit.unwrap().contains("not a directory"));
    }

    #[test]
    fn network_file_systems_are_told_by_their_magic() {
        for (magic, name) in [(0x6969, "nfs"), (0xff53_4d42, "cifs"), (0x6573_5546, "fuse"), (0x0102_1997, "9p")] {
            assert_eq!(network_kind(magic), Some(name));
        }
        assert_eq!(network_kind(-11_317_950), Some("cifs"), "a sign that 32 bits make");
        for fit in [0xef53, 0x9123_683e, 0x5846_5342, 0x0102_1994, 0x794c_7630] {
            assert_eq!(network_kind(fit), None);
        }
    }

    #[test]
    fn a_group_of_this_user_alone_is_no_stranger() {
        let groups =
            |passwd: &str, group: &str| Groups { uid: 1000, passwd: passwd.to_owned(), group: group.to_owned() };
        let passwd = "root:x:0:0::/:/bin/sh\ndeploy:x:1000:1000::/:/bin/sh\nann:x:1001:1001::/:/bin/sh\n";
        assert!(!groups(passwd, "deploy:x:1000:\n").has_others(1000));
        assert!(!groups(passwd, "deploy:x:1000:root,deploy\n").has_others(1000));
        assert!(groups(passwd, "deploy:x:1000:ann\n").has_others(1000));
        assert!(groups(passwd, "deploy:x:1000:stranger\n").has_others(1000));
        assert!(groups(&format!("{passwd}bob:x:1002:1000::/:/bin/sh\n"), "deploy:x:1000:\n").has_others(1000));
        assert!(groups(passwd, "").has_others(4_000_000), "a group of a name service");
    }
}
