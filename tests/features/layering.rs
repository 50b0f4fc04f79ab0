//! Holds the arrows between the layers: each may use those that `ARCHITECTURE.md` names, and nothing else.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A layer and what it may use beside itself.
const MAY_USE: [(&str, &[&str]); 8] = [
    ("api", &[]),
    ("model", &["api"]),
    ("plan", &["model", "api"]),
    ("effects", &["plan", "model", "api"]),
    ("controllers", &["effects", "plan", "model", "api"]),
    ("server", &["effects", "plan", "model", "api"]),
    ("runtime", &["controllers", "server", "effects", "plan", "model", "api"]),
    ("cli", &["runtime", "effects", "plan", "model", "api"]),
];

/// The layers that a source text names by `crate::`, with `use crate::{a::…, b::…}` taken apart.
fn used(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(group) => found.extend(heads(group)),
            None => found.extend(head(rest)),
        }
    }
    found
}

fn head(path: &str) -> Option<String> {
    let name: String = path.trim_start().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}

/// First names of the outermost list of a `{…}` group, from behind its opening brace.
fn heads(group: &str) -> Vec<String> {
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                found.extend(head(&group[start..at]));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                found.extend(head(&group[start..at]));
                start = at + 1;
            }
            _ => {}
        }
    }
    found
}

fn violations(layer: &str, text: &str) -> Vec<String> {
    let allowed = MAY_USE.iter().find(|(name, _)| *name == layer).map_or(&[][..], |(_, allowed)| allowed);
    let layers: Vec<&str> = MAY_USE.iter().map(|(name, _)| *name).collect();
    used(text)
        .into_iter()
        .filter(|name| name != layer && layers.contains(&name.as_str()) && !allowed.contains(&name.as_str()))
        .collect()
}

fn sources(folder: &Path, all: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension().is_some_and(|end| end == "rs") {
            all.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
        }
    }
}

/// Where a layer lies: the inner ones in the package `landfall-core`.
fn folder(layer: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let inner = root.join("core/src").join(layer);
    if inner.is_dir() { inner } else { root.join("src").join(layer) }
}

#[test]
fn no_arrow_points_the_wrong_way() {
    let mut wrong = Vec::new();
    for (layer, _) in MAY_USE {
        let mut files = Vec::new();
        sources(&folder(layer), &mut files);
        assert!(!files.is_empty(), "no file in the layer {layer}");
        for (path, text) in files {
            wrong.extend(violations(layer, &text).into_iter().map(|used| format!("{path} uses {used}")));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn planners_do_no_io_and_read_no_clock() {
    let mut files = Vec::new();
    sources(&folder("plan"), &mut files);
    // A file of tests may measure how long a plan takes.
    files.retain(|(path, _)| !path.ends_with("/tests.rs"));
    let forbidden = ["async fn", "tokio::", "std::fs", "std::net", "kube::Client", "Timestamp::now", "Instant::now"];
    let wrong: Vec<_> = files
        .iter()
        .flat_map(|(path, text)| forbidden.iter().filter(|word| text.contains(**word)).map(move |word| (path, word)))
        .collect();
    assert!(files.len() > 5 && wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn there_is_one_unsafe_place() {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    let unsafe_in: Vec<_> = files.iter().filter(|(_, text)| text.contains("unsafe {")).map(|(path, _)| path).collect();
    assert!(unsafe_in.len() == 1 && unsafe_in[0].ends_with("effects/git/transport/mod.rs"), "{unsafe_in:?}");
    let allowed = files.iter().filter(|(_, text)| text.contains("allow(unsafe_code)")).count();
    assert_eq!(allowed, 1);
}

#[test]
fn a_wrong_arrow_is_seen_in_every_form() {
    assert_eq!(violations("plan", "use crate::effects::git::Git;"), ["effects"]);
    assert_eq!(violations("api", "use crate::{\n    api::Reason,\n    plan::{Plan, ids::{A, B}},\n};"), ["plan"]);
    assert_eq!(violations("effects", "fn f() { crate::controllers::frame::run() }"), ["controllers"]);
    assert!(violations("controllers", "use crate::{api::Build, effects::gate::Gate, plan::Plan};").is_empty());
}
