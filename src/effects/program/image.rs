//! The program for hosts, as it was built into this one: one for each machine. It must not know how it gets there.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

/// As `build.rs` leaves it.
struct Embedded {
    /// As `uname -m` says it.
    machine: &'static str,
    /// SHA-256 in hex.
    digest: &'static str,
    size: usize,
    deflated: &'static [u8],
}

static EMBEDDED: &[Embedded] = include!(concat!(env!("OUT_DIR"), "/programs.rs"));

/// `landfall-host` for one machine.
#[derive(Clone, Debug)]
pub struct Image {
    /// SHA-256 of `bytes` in hex; it names the program on hosts.
    pub digest: String,
    pub bytes: Bytes,
}

/// `landfall-host` for each machine that we can serve. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Images {
    all: Arc<Vec<(String, Image)>>,
}

impl Images {
    /// What was built into this program, unpacked once.
    pub fn embedded() -> Self {
        static UNPACKED: OnceLock<Images> = OnceLock::new();
        UNPACKED.get_or_init(|| Self::of(EMBEDDED.iter().filter_map(Embedded::unpack))).clone()
    }

    /// These programs; machines as `uname -m` says them.
    pub fn of(images: impl IntoIterator<Item = (String, Image)>) -> Self {
        Self { all: Arc::new(images.into_iter().collect()) }
    }

    /// The program for a machine.
    pub fn get(&self, machine: &str) -> Option<&Image> {
        self.all.iter().find(|(name, _)| name == machine).map(|(_, image)| image)
    }

    /// Machines that there is a program for.
    pub fn machines(&self) -> impl Iterator<Item = &str> {
        self.all.iter().map(|(machine, _)| machine.as_str())
    }
}

impl Embedded {
    /// `None` never happens: these are our own bytes.
    fn unpack(&self) -> Option<(String, Image)> {
        let bytes = miniz_oxide::inflate::decompress_to_vec_with_limit(self.deflated, self.size).ok()?;
        Some((self.machine.to_owned(), Image { digest: self.digest.to_owned(), bytes: bytes.into() }))
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn the_embedded_program_is_the_one_of_its_digest() {
        let images = Images::embedded();
        assert!(images.machines().count() > 0);
        for machine in images.machines() {
            let image = images.get(machine).unwrap();
            let digest: String = Sha256::digest(&image.bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(digest, image.digest, "{machine}");
            assert!(image.bytes.starts_with(b"\x7fELF"), "{machine}");
        }
    }
}
