//! `Project.spec.build.resources`: what a script may take of the machine.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Limits on what a script, with all its children, takes of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// Upper bounds, all optional. Example: `{ cpu: 2, memory: 4Gi, pids: 1024 }`.
    pub limits: Limits,
}

/// Upper bounds of what a script takes of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.cpu) || (type(self.cpu) == int ? self.cpu > 0 && self.cpu <= 1024 : self.cpu.matches('^([1-9][0-9]{1,6}m|[0-9]{1,4}([.][0-9]{1,3})?)$') && self.cpu.matches('[1-9]'))").message("cpu is a number of processors, at least 0.01: 2, 0.5 or 500m").field_path(".cpu"))]
#[x_kube(validation = Rule::new("!has(self.memory) || (self.memory.matches('^[1-9][0-9]{0,14}(Ki|Mi|Gi|Ti)?$') && quantity(self.memory).compareTo(quantity('16Mi')) >= 0 && quantity(self.memory).compareTo(quantity('1024Ti')) <= 0)").message("memory is written as 512Mi or 4Gi, and is at least 16Mi: no shell starts with less").field_path(".memory"))]
pub struct Limits {
    /// Processor time, in processors: `2`, `0.5`, `500m`. Beyond it the script is slowed down. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    /// Memory in bytes, at least 16Mi: `512Mi`, `4Gi`. Beyond it the script is ended (`OutOfMemory`). Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 20))]
    pub memory: Option<String>,
    /// Processes and threads at one time. Beyond it none can be started (`ProcessLimit`). Default: 4096.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 16, max = 4194304))]
    pub pids: Option<i64>,
}

/// Number of processors, as Kubernetes writes it: a whole number, or a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Cpu {
    Whole(i64),
    Text(String),
}

impl JsonSchema for Cpu {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Cpu".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "x-kubernetes-int-or-string": true,
            "anyOf": [{ "type": "integer" }, { "type": "string" }],
            "maxLength": 10,
        })
    }
}

impl Cpu {
    /// In thousandths of a processor; `None` where it is no such number.
    pub(crate) fn milli(&self) -> Option<u64> {
        let text = match self {
            Self::Whole(n) => return u64::try_from(*n).ok()?.checked_mul(1000),
            Self::Text(text) => text,
        };
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then_some(());
        if let Some(milli) = text.strip_suffix('m') {
            digits(milli)?;
            return milli.parse().ok();
        }
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        digits(whole).and(digits(part))?;
        let whole: u64 = if whole.is_empty() && !part.is_empty() { 0 } else { whole.parse().ok()? };
        let part = if part.len() <= 3 { format!("{part:0<3}").parse::<u64>().ok()? } else { return None };
        whole.checked_mul(1000)?.checked_add(part)
    }
}
