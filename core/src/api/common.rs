//! Pieces that several kinds share.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Rules in CEL that several fields share, each with the sentence that a user reads where it is broken.
pub(super) const OBJECT_NAME_RULE: &str = "self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')";
pub(super) const OBJECT_NAME: &str =
    "a name of an object takes a-z 0-9 - and ., and begins and ends with a letter or digit";
pub(super) const LABEL_RULE: &str = "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')";
pub(super) const LABEL: &str = "a name takes at most 63 of a-z 0-9 -, and begins and ends with a letter or digit";
pub(super) const USER_NAME_RULE: &str = "self.matches('^[a-z_][a-z0-9_-]*$')";
pub(super) const USER_NAME: &str = "a user is a login name of at most 32 of a-z 0-9 _ -, and begins with a letter or _";
pub(super) const VARIABLE_NAME_RULE: &str = "self.matches('^[A-Za-z_][A-Za-z0-9_]*$')";
pub(super) const VARIABLE_NAME: &str = "the name of a variable takes A-Z a-z 0-9 _, and begins with a letter or _; \
     a name with a dot or dash can't be passed through a shell: write SPRING_DATASOURCE_URL for spring.datasource.url";
pub(super) const SECRET_KEY: &str = "a key of a Secret takes A-Z a-z 0-9 - _ and .";
pub(super) const CONFIG_MAP_KEY: &str = "a key of a ConfigMap takes A-Z a-z 0-9 - _ and .";
pub(super) const VERSION_RULE: &str = "self.matches('^[A-Za-z0-9][A-Za-z0-9._+-]*$') && !self.contains('..') \
     && !self.endsWith('.') && !self.endsWith('.lock')";
pub(super) const VERSION: &str = "a version takes 1 to 63 of A-Z a-z 0-9 . _ + -, begins with a letter or digit, \
     has no '..' and does not end in '.' or '.lock'";
pub(super) const LABEL_KEYS_RULE: &str =
    "self.all(key, key.matches('^([A-Za-z0-9][-A-Za-z0-9.]*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'))";
pub(super) const LABEL_KEY: &str = "a label key takes at most 63 of A-Z a-z 0-9 - _ ., begins and ends with a letter or digit, \
     and may have a DNS name and '/' before it";
/// Shorter than Kubernetes' own rule, which costs more than an API server grants for 1000 hosts.
pub(super) const LABEL_VALUES_RULE: &str = "self.all(key, self[key].matches('^([A-Za-z0-9][-A-Za-z0-9_.]*)?$'))";
pub(super) const LABEL_VALUE: &str =
    "a label value takes at most 63 of A-Z a-z 0-9 - _ ., and begins with a letter or digit";
pub(super) const BYTES_RULE: &str = "self.matches('^[1-9][0-9]{0,14}(Ki|Mi|Gi|Ti)?$')";
pub(super) const BYTES: &str = "a size is a number of bytes, or of Ki, Mi, Gi or Ti: 500Mi, 5Gi";

/// RFC 3339. The second half refuses days that a month does not have.
pub(super) const TIME_RULE: &str = "self.matches('^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3])(:[0-5][0-9]){2}([.][0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$') && timestamp(self) > timestamp('0001-01-01T00:00:00Z')";
pub(super) const UNTIL: &str = "until is a time with its zone: 2026-12-01T08:00:00Z or 2026-12-01T16:00:00+08:00";

/// Every entry of a list can be a glob over branch names: brackets and braces are closed, and no character is in it that git forbids.
pub(super) const BRANCH_GLOBS_RULE: &str = r"self.all(glob, glob.matches(r'^([^\[\]{}\\\x00-\x20\x7f~^:]|\[[^\[\]]+\]|\{([^\[\]{}\\\x00-\x20\x7f~^:]|\[[^\[\]]+\])*\})+$'))";
pub(super) const BRANCH_GLOBS: &str = "a branch glob is a branch name with *, **, ?, [a-z] or {a,b}; brackets and braces are closed, \
     and blanks, '\\', '~', '^' and ':' do not occur in branch names";

/// Variables that the shell which starts a process on a host sets by itself: their values would be lost, or stop the shell.
const SHELL_VARIABLES_RULE: &str = "!(self.name in ['UID', 'EUID', 'PPID', 'GROUPS', 'SHELLOPTS', 'BASHOPTS', \
     'BASHPID', 'BASH_VERSINFO', 'BASH_COMMAND', 'BASH_SUBSHELL', 'RANDOM', 'SRANDOM', 'SECONDS', 'EPOCHSECONDS', \
     'EPOCHREALTIME', 'LINENO', 'FUNCNAME', 'DIRSTACK', 'HISTCMD', 'IFS', 'OPTIND', 'PWD', 'OLDPWD', 'SHLVL', '_'])";
const SHELL_VARIABLES: &str = "a shell starts the process on a host and sets this variable itself, so the value would be lost; choose another name";

/// Schema of a label's value, as Kubernetes has it.
pub(super) fn label_value() -> serde_json::Value {
    serde_json::json!({ "type": "string", "maxLength": 63 })
}

/// Reference to an object in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalRef {
    /// Name of the object, in the same namespace.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new(OBJECT_NAME_RULE).message(OBJECT_NAME))]
    pub name: String,
}

/// Environment variable of the process that runs on the hosts: a text, or one key of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!self.name.lowerAscii().startsWith('landfall_')").message("LANDFALL_… variables are set by landfall; choose another name").field_path(".name"))]
#[x_kube(validation = Rule::new(SHELL_VARIABLES_RULE).message(SHELL_VARIABLES).field_path(".name"))]
#[x_kube(validation = Rule::new("!has(self.valueFrom) || !has(self.value) || self.value == ''").message("a variable has either value or valueFrom"))]
pub struct EnvVar {
    /// Name of the variable: a letter or `_`, then letters, digits and `_`. Example: `JAVA_OPTS`.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new(VARIABLE_NAME_RULE).message(VARIABLE_NAME))]
    pub name: String,
    /// Value of the variable, at most 8192 characters of any kind but NUL. Default: empty, unless `valueFrom` is set.
    #[serde(default)]
    #[schemars(length(max = 8192), transform = without_default)]
    #[x_kube(validation = Rule::new(r"!self.contains('\x00')").message("a value has no NUL character, which no environment variable can hold"))]
    pub value: String,
    /// Source of the value, in place of `value`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<RunEnvSource>,
}

/// With a default in the schema, a variable with `valueFrom` would be shown with an empty `value` beside it.
fn without_default(schema: &mut schemars::Schema) {
    schema.remove("default");
}

impl EnvVar {
    /// The key of a Secret that holds the value.
    pub fn secret(&self) -> Option<&SecretKeyRef> {
        self.value_from.as_ref().map(|source| &source.secret_key_ref)
    }
}

/// Source of a variable's value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunEnvSource {
    /// Key of a Secret in the same namespace that is labelled `use.landfall.dev/run` with the Project's name as value, or empty for every
    /// Project of the namespace. Its value reaches the process alone. A changed value rolls out within a minute: processes restart within
    /// `strategy`.
    pub secret_key_ref: SecretKeyRef,
}

/// Key of a Secret in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new(OBJECT_NAME_RULE).message(OBJECT_NAME))]
    pub name: String,
    /// Key within the Secret. Example: `token`.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[-._a-zA-Z0-9]+$')").message(SECRET_KEY))]
    pub key: String,
}

/// Key of a ConfigMap in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapKeyRef {
    /// Name of the ConfigMap.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new(OBJECT_NAME_RULE).message(OBJECT_NAME))]
    pub name: String,
    /// Key within the ConfigMap, in `data` or `binaryData`. Example: `application.yaml`.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[-._a-zA-Z0-9]+$')").message(CONFIG_MAP_KEY))]
    pub key: String,
}

/// Retries for errors expected to be transient.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetryAt {
    /// Failures in a row.
    #[schemars(range(min = 1))]
    pub failures: i32,
    /// Time of the next try.
    pub retry_at: Time,
}

impl RetryAt {
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
