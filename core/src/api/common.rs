//! Pieces that several kinds share.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The name of an object in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalRef {
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}

/// One environment variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!self.name.startsWith('LANDFALL_')").message("LANDFALL_… variables are set by landfall; choose another name"))]
pub struct EnvVar {
    /// A letter or `_`, then letters, digits and `_`.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub name: String,
    /// Anything but NUL; at most 8 KiB.
    #[serde(default)]
    #[schemars(length(max = 8192))]
    pub value: String,
}

/// How often something that may pass has failed in a row, and when it is tried again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Backoff {
    #[schemars(range(min = 1))]
    pub failures: i32,
    pub retry_at: Time,
}

impl Backoff {
    /// Whether the wait is over.
    pub fn is_over(&self, now: Timestamp) -> bool {
        now >= self.retry_at.0
    }
}

/// Reads `500`, `64Ki`, `100Mi`, `5Gi`, `1Ti` as bytes; `None` where it is none of those.
pub fn bytes(text: &str) -> Option<u64> {
    let units = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40)];
    let unit = units.into_iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, shift)));
    let (digits, shift) = unit.unwrap_or((text, 0));
    let fits = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse::<u64>().ok().filter(|_| fits)?.checked_mul(1 << shift)
}

/// Reads `90s`, `10m`, `1h30m`, `90d` as seconds; `None` where it is none of those.
pub fn seconds(text: &str) -> Option<i64> {
    let mut total: i64 = 0;
    let mut digits = String::new();
    for c in text.chars() {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        let unit = match c {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86400,
            _ => return None,
        };
        total = total.checked_add(digits.parse::<i64>().ok()?.checked_mul(unit)?)?;
        digits.clear();
    }
    (digits.is_empty() && !text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_go_writes_them() {
        assert_eq!(seconds("1m"), Some(60));
        assert_eq!(seconds("1h30m5s"), Some(5405));
        assert_eq!(seconds("5"), None);
        assert_eq!(seconds(""), None);
        assert_eq!(seconds("90d"), Some(7_776_000));
        assert_eq!(seconds("1w"), None);
    }

    #[test]
    fn bytes_read_as_kubernetes_writes_them() {
        assert_eq!(bytes("1000"), Some(1000));
        assert_eq!(bytes("100Mi"), Some(100 << 20));
        assert_eq!(bytes("5Gi"), Some(5 << 30));
        for bad in ["", "Mi", "+1", "1M", "1.5Gi", "99999999999999Ti"] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
    }
}
