//! Programs of another machine: known by their head, before a shell takes their bytes for a script.

use std::{fs::File, io::Read, os::unix::fs::OpenOptionsExt, path::Path};

use crate::elf;

/// What the file is for and what this machine is, where that is not the same and nothing on the host emulates it.
pub fn foreign_machine(path: &Path) -> Option<String> {
    let mut head = [0u8; elf::HEAD];
    // A program may be a link; a FIFO in its place holds nobody.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let mut file = File::options().read(true).custom_flags(flags).open(path).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    file.read_exact(&mut head).ok()?;
    let machine = elf::Machine::read(&head)?;
    let own = std::env::consts::ARCH;
    if !machine.is_foreign_to(own) || is_emulated(&head) {
        return None;
    }
    let name = machine.name();
    Some(format!("{}: Exec format error: it is a program for {name}, and this host is {own}", path.display()))
}

/// Something runs such programs here (`binfmt_misc`).
fn is_emulated(head: &[u8; elf::HEAD]) -> bool {
    let entries = std::fs::read_dir("/proc/sys/fs/binfmt_misc").into_iter().flatten().flatten();
    entries.filter_map(|entry| std::fs::read_to_string(entry.path()).ok()).any(|entry| handles(&entry, head))
}

/// Does this entry of `binfmt_misc` take files with such a head?
fn handles(entry: &str, head: &[u8; elf::HEAD]) -> bool {
    let value = |name: &str| entry.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let (Some(magic), Some("0")) = (value("magic ").and_then(bytes_of), value("offset ")) else { return false };
    let mask = value("mask ").and_then(bytes_of).unwrap_or_else(|| vec![0xff; magic.len()]);
    let same = |((magic, mask), byte): ((&u8, &u8), &u8)| byte & mask == magic & mask;
    entry.starts_with("enabled") && magic.len() <= head.len() && magic.iter().zip(&mask).zip(head).all(same)
}

fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> =
        hex.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect::<Option<_>>()?;
    Some(digits.chunks(2).map(|pair| pair.iter().fold(0u8, |byte, digit| byte << 4 | digit)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_and_this_machines_programs_are_not_foreign() {
        assert_eq!(foreign_machine(Path::new("/bin/sh")), None);
        assert_eq!(foreign_machine(Path::new("/etc/passwd")), None);
    }

    #[test]
    fn what_is_emulated_here_is_no_foreign_program() {
        let mut head = [0u8; 20];
        head[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        head[16] = 2;
        head[18] = 183;
        let entry = "enabled\ninterpreter /usr/bin/qemu\nflags: F\noffset 0\nmagic 7f454c460201010000000000000000000200b700\nmask ffffffffffffff00fffffffffffffffffeffffff\n";
        assert!(handles(entry, &head));
        head[18] = 22;
        assert!(!handles(entry, &head));
        assert!(!handles("enabled", &head));
    }
}
