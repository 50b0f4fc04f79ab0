//! For which machine a program was built: the first bytes of an ELF file. The kernel refuses a program of another machine, and a shell
//! that started it then reads its bytes as a script.
//!
//! Pure: bytes in, a name out.

/// Bytes of a file that are needed.
pub const HEAD: usize = 20;

const MAGIC: &[u8] = b"\x7fELF";
const WIDE: u8 = 2;
const BIG_ENDIAN: u8 = 2;

/// What an ELF file says of its machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// 64-bit.
    wide: bool,
    big_endian: bool,
    /// `e_machine`.
    number: u16,
}

impl Machine {
    /// `head`: the file's first [`HEAD`] bytes. `None`: no ELF file, a script for instance.
    pub fn read(head: &[u8]) -> Option<Self> {
        if !head.starts_with(MAGIC) {
            return None;
        }
        let big_endian = *head.get(5)? == BIG_ENDIAN;
        let number = [*head.get(18)?, *head.get(19)?];
        let number = if big_endian { u16::from_be_bytes(number) } else { u16::from_le_bytes(number) };
        Some(Self { wide: *head.get(4)? == WIDE, big_endian, number })
    }

    /// Its name as `uname -m` has it there.
    pub fn name(self) -> String {
        let name = match (self.number, self.wide, self.big_endian) {
            (3, ..) => "i686",
            (62, true, _) => "x86_64",
            (62, false, _) => "x32",
            (40, ..) => "arm",
            (183, _, false) => "aarch64",
            (183, _, true) => "aarch64_be",
            (243, true, _) => "riscv64",
            (243, false, _) => "riscv32",
            (258, ..) => "loongarch64",
            (20, ..) => "ppc",
            (21, _, false) => "ppc64le",
            (21, _, true) => "ppc64",
            (22, ..) => "s390x",
            (8, true, _) => "mips64",
            (8, false, _) => "mips",
            (number, ..) => return format!("another machine ({number})"),
        };
        name.to_owned()
    }

    /// Whether a host of this machine (`uname -m`) surely can't run it. The 32-bit programs of its own family may run.
    pub fn is_foreign_to(self, host: &str) -> bool {
        match host {
            "x86_64" => !matches!(self.number, 3 | 62),
            "aarch64" => self.big_endian || !matches!(self.number, 40 | 183),
            other => self.name() != other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Read};

    use super::*;

    fn head(wide: u8, endian: u8, number: u16) -> Vec<u8> {
        let mut head = vec![0; HEAD];
        head[..4].copy_from_slice(MAGIC);
        (head[4], head[5]) = (wide, endian);
        let number = if endian == BIG_ENDIAN { number.to_be_bytes() } else { number.to_le_bytes() };
        head[18..20].copy_from_slice(&number);
        head
    }

    /// C22.
    #[test]
    fn a_program_of_another_machine_is_recognised_by_name() {
        for (wide, endian, number, name) in [
            (2, 1, 62, "x86_64"),
            (2, 1, 183, "aarch64"),
            (1, 1, 40, "arm"),
            (1, 1, 3, "i686"),
            (2, 1, 243, "riscv64"),
            (2, 1, 21, "ppc64le"),
            (2, 2, 22, "s390x"),
            (2, 2, 183, "aarch64_be"),
            (2, 1, 4711, "another machine (4711)"),
        ] {
            let machine = Machine::read(&head(wide, endian, number)).unwrap();
            assert_eq!(machine.name(), name);
            assert_eq!(machine.is_foreign_to("x86_64"), !matches!(name, "x86_64" | "i686"), "{name}");
            assert_eq!(machine.is_foreign_to("aarch64"), !matches!(name, "aarch64" | "arm"), "{name}");
        }
    }

    #[test]
    fn what_runs_here_is_not_foreign_here() {
        let mut own = vec![0; HEAD];
        File::open("/proc/self/exe").unwrap().read_exact(&mut own).unwrap();
        let machine = Machine::read(&own).unwrap();
        assert!(!machine.is_foreign_to(std::env::consts::ARCH), "{}", machine.name());
    }

    #[test]
    fn scripts_jars_and_stumps_are_no_programs_of_any_machine() {
        for bytes in [b"".as_slice(), b"#!/bin/sh\n", b"PK\x03\x04", MAGIC, &head(2, 1, 62)[..HEAD - 1]] {
            assert_eq!(Machine::read(bytes), None);
        }
    }
}
