//! Limits as the project writes them, in numbers.

use crate::api::{common, project::Resources};

/// The least that a shell and a compiler can do anything with.
const LEAST_MEMORY: u64 = 16 << 20;
const LEAST_CPU: u64 = 10;

/// `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Thousandths of a processor.
    pub cpu: Option<u64>,
    /// Bytes.
    pub memory: Option<u64>,
    pub pids: Option<u64>,
}

/// Reads them; the error names the field and what would be right.
pub fn read(resources: Option<&Resources>) -> Result<Limits, String> {
    let Some(limits) = resources.map(|resources| &resources.limits) else { return Ok(Limits::default()) };
    let cpu = limits.cpu.as_ref().map(|cpu| cpu.milli().filter(|milli| *milli >= LEAST_CPU));
    let memory = limits.memory.as_ref().map(|memory| common::bytes(memory).filter(|bytes| *bytes >= LEAST_MEMORY));
    if cpu == Some(None) {
        return Err("the project's build.resources.limits.cpu is not a valid number of processors (0.01 or more); write it as 2, 0.5 or 500m".into());
    }
    if memory == Some(None) {
        return Err(
            "the project's build.resources.limits.memory is not a valid size (16Mi or more); write it as 512Mi or 4Gi"
                .into(),
        );
    }
    let pids = limits.pids.and_then(|pids| u64::try_from(pids).ok());
    Ok(Limits { cpu: cpu.flatten(), memory: memory.flatten(), pids })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(limits: serde_json::Value) -> Result<Limits, String> {
        read(Some(&serde_json::from_value(serde_json::json!({ "limits": limits })).unwrap()))
    }

    #[test]
    fn quantities_read_as_kubernetes_writes_them() {
        let cpu = |value: serde_json::Value| of(serde_json::json!({ "cpu": value })).map(|limits| limits.cpu.unwrap());
        assert_eq!(cpu(2.into()), Ok(2000));
        assert_eq!(cpu("2".into()), Ok(2000));
        assert_eq!(cpu("1.25".into()), Ok(1250));
        assert_eq!(cpu("500m".into()), Ok(500));
        for bad in ["", ".", "m", "-1", "0.001", "1.2345", "2 ", "1e3", "+1"] {
            assert!(cpu(bad.into()).is_err(), "{bad:?}");
        }
        assert_eq!(of(serde_json::json!({ "memory": "64Mi", "pids": 32 })).unwrap().memory, Some(64 << 20));
        assert!(of(serde_json::json!({ "memory": "5" })).unwrap_err().contains("512Mi"));
        assert_eq!(read(None), Ok(Limits::default()));
    }
}
