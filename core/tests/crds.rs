//! The schemas as users meet them: every field is described, no refusal is a bare pattern, and `crds/` is what the types generate.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{fs, path::PathBuf};

use landfall_core::api::crds;
use serde_json::Value;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../crds")
}

/// `LANDFALL_WRITE_CRDS=1` (`make crds`) writes them.
#[test]
fn crds_on_disk_are_what_the_types_generate() {
    for (name, text) in crds::files().unwrap() {
        let path = folder().join(&name);
        if std::env::var_os("LANDFALL_WRITE_CRDS").is_some() {
            fs::write(&path, &text).unwrap();
        }
        assert!(fs::read_to_string(&path).unwrap() == text, "crds/{name} is stale; run: make crds");
    }
}

/// Every schema below this one, with its path as `kubectl explain` writes it. Items of a list end in `[]`, values of a map in `{}`.
fn walk(schema: &Value, path: &str, visit: &mut dyn FnMut(&str, &Value)) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        visit(&path, field);
        walk(field, &path, visit);
    }
    for (inner, end) in [("items", "[]"), ("additionalProperties", "{}")] {
        if schema[inner].is_object() {
            let path = format!("{path}{end}");
            visit(&path, &schema[inner]);
            walk(&schema[inner], &path, visit);
        }
    }
}

/// Of all kinds, beginning with the kind's name; what belongs to Kubernetes itself is left out.
fn schemas() -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for crd in crds::all() {
        let root = serde_json::to_value(&crd.spec.versions[0].schema).unwrap()["openAPIV3Schema"].clone();
        let kind = crd.spec.names.kind.to_lowercase();
        all.push((kind.clone(), root.clone()));
        walk(&root, &kind, &mut |path, schema| all.push((path.to_owned(), schema.clone())));
    }
    let foreign = |path: &str| path.contains(".metadata") || path.ends_with(".apiVersion") || path.ends_with("t.kind");
    all.retain(|(path, _)| !foreign(path));
    assert!(all.len() > 200, "the schemas were not read: {}", all.len());
    all
}

#[test]
fn every_field_has_a_description() {
    // A text or number in a list or map has no name; its list or map describes it.
    let named = |path: &str, schema: &Value| !path.ends_with(['}', ']']) || schema["type"] == "object";
    let missing: Vec<String> = schemas()
        .into_iter()
        .filter(|(path, schema)| named(path, schema) && schema["description"].as_str().is_none_or(str::is_empty))
        .map(|(path, _)| path)
        .collect();
    assert!(missing.is_empty(), "without a description: {missing:#?}");
}

#[test]
fn descriptions_and_messages_are_plain_prose() {
    // As CONTRIBUTING.md says: noun first, present tense; never these.
    let forbidden = [
        "so many",
        "so long",
        "who is",
        "of what",
        "is no ",
        "no more",
        "anew",
        "begun with",
        "as whom",
        "whom ",
        "by what",
    ];
    let mut odd = Vec::new();
    for (path, schema) in schemas() {
        let rules = schema["x-kubernetes-validations"].as_array().cloned().unwrap_or_default();
        let messages = rules.iter().map(|rule| rule["message"].as_str().unwrap_or_default().to_owned());
        let description = schema["description"].as_str().unwrap_or_default().to_owned();
        if !description.is_empty() && !description.ends_with(['.', '?', ':']) {
            odd.push(format!("{path}: no sentence: {description}"));
        }
        for text in messages.chain([description]) {
            let text = text.to_lowercase();
            odd.extend(
                forbidden
                    .iter()
                    .filter(|words| text.contains(**words))
                    .map(|words| format!("{path}: {words:?} in {text:?}")),
            );
        }
    }
    assert!(odd.is_empty(), "{odd:#?}");
}

#[test]
fn a_default_is_told_by_its_description() {
    let silent: Vec<String> = schemas()
        .into_iter()
        .filter(|(path, schema)| {
            let default = &schema["default"];
            let plain = default.is_string() || default.is_i64() || default.is_boolean();
            let told = schema["description"].as_str().is_some_and(|text| text.contains("Default: "));
            path.contains(".spec") && plain && !told
        })
        .map(|(path, _)| path)
        .collect();
    assert!(silent.is_empty(), "the description lacks `Default: …`: {silent:#?}");
}

#[test]
fn no_refusal_is_a_bare_pattern() {
    for (path, schema) in schemas() {
        assert!(schema.get("pattern").is_none(), "{path} has a pattern; write a rule with a sentence");
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            assert!(rule["message"].as_str().is_some_and(|text| !text.is_empty()), "{path}: a rule without message");
        }
    }
}

#[test]
fn every_text_list_and_map_of_a_spec_has_a_bound() {
    let unbounded: Vec<String> = schemas()
        .into_iter()
        .filter(|(path, _)| path.contains(".spec"))
        .filter(|(_, schema)| match schema["type"].as_str() {
            Some("string") => ["maxLength", "enum", "format"].iter().all(|bound| schema[bound].is_null()),
            Some("array") => schema["maxItems"].is_null(),
            Some("integer") => schema["maximum"].is_null() || schema["minimum"].is_null(),
            Some("object") => {
                schema["properties"].is_null()
                    && schema["additionalProperties"].is_object()
                    && schema["maxProperties"].is_null()
            }
            _ => false,
        })
        .map(|(path, _)| path)
        .collect();
    assert!(unbounded.is_empty(), "without a bound: {unbounded:#?}");
}

#[test]
fn no_union_sets_a_member_by_default() {
    let executor = schemas().into_iter().find(|(path, _)| path == "project.spec.build.executor").unwrap().1;
    assert!(executor["default"].is_null() && executor["properties"]["local"]["default"].is_null(), "{executor}");
    let run = schemas().into_iter().find(|(path, _)| path == "project.spec.run").unwrap().1;
    assert!(!run["required"].to_string().contains("process"), "{run}");
}
