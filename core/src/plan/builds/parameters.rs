//! A Build's parameters against what its Project declares. Values are data: whatever they hold, they are never part of a command.

use std::collections::BTreeMap;

use crate::api::{
    Reason,
    project::{Parameter, ParameterType},
};

/// What is wrong with a parameter; the message names the field and what is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadParameter {
    pub reason: Reason,
    pub message: String,
}

/// The value of every declared parameter, defaults included.
pub fn resolve(
    declared: &[Parameter],
    given: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, BadParameter> {
    if let Some(unknown) = given.keys().find(|name| !declared.iter().any(|parameter| parameter.name == **name)) {
        return Err(BadParameter { reason: Reason::ParameterUnknown, message: unknown_message(declared, unknown) });
    }
    let mut values = BTreeMap::new();
    for parameter in declared {
        let name = &parameter.name;
        let Some(value) = given.get(name).or(parameter.default.as_ref()) else {
            let message = format!(
                "spec.parameters.{name} is missing: the project declares it without a default; give it {}",
                fits(parameter)
            );
            return Err(BadParameter { reason: Reason::ParameterMissing, message });
        };
        check(parameter, value)?;
        values.insert(name.clone(), value.clone());
    }
    Ok(values)
}

fn unknown_message(declared: &[Parameter], unknown: &str) -> String {
    let known: Vec<&str> = declared.iter().map(|parameter| parameter.name.as_str()).collect();
    match known.is_empty() {
        true => format!("spec.parameters.{unknown} is not declared: the project declares no parameters"),
        false => format!("spec.parameters.{unknown} is not declared by the project; it declares {}", known.join(", ")),
    }
}

fn check(parameter: &Parameter, value: &str) -> Result<(), BadParameter> {
    let allowed = parameter.choices.as_ref().is_none_or(|choices| choices.iter().any(|choice| choice == value));
    let typed = match parameter.kind {
        ParameterType::String => true,
        ParameterType::Boolean => matches!(value, "true" | "false"),
    };
    if allowed && typed && !value.contains('\0') {
        return Ok(());
    }
    let shown: String = value.chars().filter(|c| !c.is_control()).take(100).collect();
    let message = format!("spec.parameters.{} is {shown:?}, but takes {}", parameter.name, fits(parameter));
    Err(BadParameter { reason: Reason::ParameterInvalid, message })
}

fn fits(parameter: &Parameter) -> String {
    match (&parameter.choices, parameter.kind) {
        (Some(choices), _) => format!("one of {}", choices.join(", ")),
        (None, ParameterType::Boolean) => "\"true\" or \"false\"".to_owned(),
        (None, ParameterType::String) => "a text without NUL".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn declared() -> Vec<Parameter> {
        serde_json::from_value(serde_json::json!([
            { "name": "PROFILE", "default": "prod", "enum": ["prod", "test"] },
            { "name": "SKIP", "type": "Boolean", "default": "false" },
            { "name": "NOTE" },
        ]))
        .unwrap()
    }

    fn given(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn reason(pairs: &[(&str, &str)]) -> Reason {
        resolve(&declared(), &given(pairs)).unwrap_err().reason
    }

    #[test]
    fn each_kind_of_mistake_has_a_reason_of_its_own() {
        assert_eq!(reason(&[("NOTE", "x"), ("NOPE", "x")]), Reason::ParameterUnknown);
        assert_eq!(reason(&[]), Reason::ParameterMissing);
        assert_eq!(reason(&[("NOTE", "x"), ("SKIP", "yes")]), Reason::ParameterInvalid);
        assert_eq!(reason(&[("NOTE", "x"), ("PROFILE", "dev")]), Reason::ParameterInvalid);
        assert_eq!(reason(&[("NOTE", "a\0b")]), Reason::ParameterInvalid);
    }

    #[test]
    fn shell_characters_are_data_like_any_other() {
        let value = "$(id) `id` ; rm -rf / # ' \" \n | & <>";
        assert_eq!(resolve(&declared(), &given(&[("NOTE", value)])).unwrap()["NOTE"], value);
    }
}
