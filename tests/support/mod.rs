//! What tests stand on: a real control plane, real hosts. Both test programs use a part of it.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

use std::path::Path;

pub mod builds;
pub mod crash;
pub mod gitserver;
pub mod gitsshd;
pub mod hostile;
pub mod hosts;
pub mod kstatus;
pub mod plane;
pub mod proxy;
pub mod repository;
pub mod rollout;
pub mod systemd;
pub mod wait;

/// What is left to chance comes from this: `LANDFALL_SEED`, which `make test` prints and passes on, else a number of this process's own.
pub fn seed() -> u64 {
    static SEED: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    *SEED.get_or_init(|| match std::env::var("LANDFALL_SEED") {
        Ok(given) => given.parse().expect("LANDFALL_SEED is a number"),
        Err(_) => u64::from(rand::random::<u32>()),
    })
}

/// Chance, from that seed, which is printed beside the test's name. Tests that draw in the same order draw the same.
pub fn chance(test: &str) -> rand::rngs::StdRng {
    let seed = seed();
    println!("{test}: LANDFALL_SEED={seed}");
    rand::SeedableRng::seed_from_u64(seed)
}

/// The names in a folder, in their order; none where there is no folder (yet). A file that the store is about to put into its place has a
/// `#` in its name.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.retain(|name| !name.contains('#'));
    names.sort();
    names
}

/// A port of this machine that nobody listens on, and that no connection is given by chance: those have numbers from 32768 on.
pub fn free_port() -> u16 {
    let ports = std::iter::repeat_with(|| rand::random_range(10_000..32_768));
    ports.into_iter().find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}
