//! Which process: pid, start time and boot id, on record and compared.

use std::{fs, io::Read, sync::OnceLock};

use serde::{Deserialize, Serialize};

use super::stat::Stat;

/// One process, unlike any other that ever has its pid.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    pub pid: i32,
    /// Field 22 of `/proc/PID/stat`, in clock ticks since boot. 0: it may not be seen (`hidepid`), and it is never signalled.
    pub start: u64,
    pub boot_id: String,
}

impl Identity {
    /// The process that has this pid now.
    pub fn of(pid: i32) -> Option<Self> {
        Stat::read(pid).map(|stat| Self::with(pid, &stat))
    }

    pub fn with(pid: i32, stat: &Stat) -> Self {
        Self { pid, start: stat.start, boot_id: boot_id().to_owned() }
    }

    /// The process that asks.
    pub fn own() -> Option<Self> {
        Self::of(rustix::process::getpid().as_raw_nonzero().get())
    }
}

/// Tests reboot: what this boot is called, in a debug build.
const BOOT_ID: &str = "LANDFALL_HOST_BOOT_ID";

/// What the kernel calls this boot; empty where it does not say.
pub fn boot_id() -> &'static str {
    static BOOT_ID_NOW: OnceLock<String> = OnceLock::new();
    BOOT_ID_NOW.get_or_init(|| {
        if let Some(told) = cfg!(debug_assertions).then(|| std::env::var(BOOT_ID).ok()).flatten() {
            return told;
        }
        fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|text| text.trim().to_owned()).unwrap_or_default()
    })
}

/// A value for [`super::MARK`] that no other start has.
pub fn instance_value() -> std::io::Result<String> {
    let mut bytes = [0u8; 16];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
