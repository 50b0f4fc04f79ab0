//! What reaches a build's script as its environment: declared parameters, texts, and keys of Secrets.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::common::{SecretKeyRef, VARIABLE_NAME, VARIABLE_NAME_RULE};

/// Parameter that a Build may set. It reaches the script as an environment variable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!self.name.startsWith('LANDFALL_')").message("LANDFALL_… variables are set by landfall; choose another name").field_path(".name"))]
#[x_kube(validation = Rule::new("!has(self.type) || self.type != 'Boolean' || !has(self.default) || self.default in ['true', 'false']").message("a default for type Boolean is \"true\" or \"false\"").field_path(".default"))]
#[x_kube(validation = Rule::new("!has(self.enum) || !has(self.default) || self.default in self.enum").message("the default must be one of enum").field_path(".default"))]
#[x_kube(validation = Rule::new(r"!has(self.default) || !self.default.contains('\x00')").message("a value has no NUL character, which no environment variable can hold").field_path(".default"))]
pub struct Parameter {
    /// Name of the parameter and of its environment variable. Example: `PROFILE`.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new(VARIABLE_NAME_RULE).message(VARIABLE_NAME))]
    pub name: String,
    /// Kind of values that are taken. `String`: any text. `Boolean`: `"true"` or `"false"`. Default: `String`.
    #[serde(default, rename = "type")]
    pub kind: ParameterType,
    /// Value where a Build gives none. Without it, every Build has to give a value. Example: `prod`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub default: Option<String>,
    /// Values that may be given, and no others. Default: any. Example: `[prod, test]`.
    #[serde(default, rename = "enum", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 50), inner(length(max = 1024)))]
    #[x_kube(validation = Rule::new(r"!self.exists(value, value.contains('\x00'))").message("a value has no NUL character, which no environment variable can hold"))]
    pub choices: Option<Vec<String>>,
    /// Purpose of the parameter, for people. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
}

/// Kind of values that a parameter takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ParameterType {
    #[default]
    String,
    Boolean,
}

/// Environment variable of a build's script: a text, or one key of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!self.name.startsWith('LANDFALL_')").message("LANDFALL_… variables are set by landfall; choose another name").field_path(".name"))]
#[x_kube(validation = Rule::new("!has(self.value) || !has(self.valueFrom)").message("a variable has either value or valueFrom"))]
pub struct BuildEnvVar {
    /// Name of the variable: a letter or `_`, then letters, digits and `_`. Example: `TOKEN`.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new(VARIABLE_NAME_RULE).message(VARIABLE_NAME))]
    pub name: String,
    /// Value of the variable, at most 8192 characters of any kind but NUL. Default: empty, unless `valueFrom` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8192))]
    #[x_kube(validation = Rule::new(r"!self.contains('\x00')").message("a value has no NUL character, which no environment variable can hold"))]
    pub value: Option<String>,
    /// Source of the value, in place of `value`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<EnvSource>,
}

/// Source of a variable's value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvSource {
    /// Key of a Secret in the same namespace that is labelled `use.landfall.dev/build` with the Project's name as value, or empty for
    /// every Project of the namespace. It is read when an attempt begins.
    pub secret_key_ref: SecretKeyRef,
}
