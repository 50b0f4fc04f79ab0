//! Holds the arrows between the layers: each may use those that `ARCHITECTURE.md` names, and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// A layer and what it may use beside itself.
const MAY_USE: [(&str, &[&str]); 9] = [
    ("api", &[]),
    ("model", &["api"]),
    ("plan", &["model", "api"]),
    ("effects", &["model", "api"]),
    ("fleet", &["effects", "plan", "model", "api"]),
    ("controllers", &["fleet", "effects", "plan", "model", "api"]),
    ("server", &["fleet", "effects", "plan", "model", "api"]),
    ("runtime", &["controllers", "server", "fleet", "effects", "plan", "model", "api"]),
    ("cli", &["runtime", "fleet", "effects", "plan", "model", "api"]),
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
    // Their tests read cases from files.
    files.retain(|(path, _)| !path.ends_with("/tests.rs"));
    let wrong: Vec<_> = files
        .iter()
        .flat_map(|(path, text)| forbidden.iter().filter(|word| text.contains(**word)).map(move |word| (path, word)))
        .collect();
    assert!(files.len() > 5 && wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_fleet_knows_no_kubernetes() {
    let mut files = Vec::new();
    sources(&folder("fleet"), &mut files);
    let wrong: Vec<_> =
        files.iter().filter(|(_, text)| text.contains("kube::") || text.contains("k8s_openapi")).collect();
    assert!(files.len() > 5 && wrong.is_empty(), "{wrong:?}");
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

/// Folders of layers, or several beside each other, in which circles stand for now, each with the reason. The list only shrinks: one without a circle must be taken out,
/// and the test says so.
const CIRCLES: [(&str, &str, &str); 0] = [];

/// One file of a layer as a module: `["effects", "git", "mirror"]`.
type Module = Vec<String>;

/// The modules of a layer with their sources, without tests and comments.
fn modules(layer: &str) -> BTreeMap<Module, String> {
    let root = folder(layer);
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut all = BTreeMap::new();
    for (path, text) in files {
        let relative = Path::new(&path).strip_prefix(&root).unwrap().with_extension("");
        let parts = relative.components().map(|part| part.as_os_str().to_str().unwrap().to_owned());
        let mut module: Module = std::iter::once(layer.to_owned()).chain(parts).collect();
        if module.last().is_some_and(|last| last == "mod") {
            module.pop();
        }
        let is_test = text.contains("#![cfg(test)]") || is_test_module(&all_text(&root, &module), &module);
        if !is_test {
            all.insert(module, without_tests_and_comments(&text));
        }
    }
    all
}

/// The text of the file that declares this module.
fn all_text(root: &Path, module: &[String]) -> String {
    let parent =
        module.get(1..module.len() - 1).unwrap_or_default().iter().fold(root.to_owned(), |at, part| at.join(part));
    let candidates = [parent.join("mod.rs"), parent.with_extension("rs")];
    candidates.iter().find_map(|path| fs::read_to_string(path).ok()).unwrap_or_default()
}

fn is_test_module(declared_in: &str, module: &[String]) -> bool {
    let name = module.last().map(String::as_str).unwrap_or_default();
    ["mod", "pub mod", "pub(crate) mod"]
        .iter()
        .any(|word| declared_in.contains(&format!("#[cfg(test)]\n{word} {name};")))
}

fn without_tests_and_comments(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    code.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// Every path in the text that begins at `head`, groups taken apart: `super::{a::b, c}` is two.
fn paths(text: &str, head: &str) -> Vec<Vec<String>> {
    let begin = format!("{head}::");
    let starts = text.match_indices(&begin).filter(|(at, _)| {
        let before = text[..*at].chars().next_back();
        !before.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':' || c == '.')
    });
    starts.flat_map(|(at, _)| tree(&text[at..], &[]).0).collect()
}

/// The paths of one use tree, and how much of the text it takes.
fn tree(text: &str, prefix: &[String]) -> (Vec<Vec<String>>, usize) {
    let mut path = prefix.to_vec();
    let mut at = 0;
    loop {
        at += text[at..].len() - text[at..].trim_start().len();
        if text[at..].starts_with('{') {
            at += 1;
            let mut all = Vec::new();
            while at < text.len() {
                at += text[at..].len() - text[at..].trim_start().len();
                if text[at..].starts_with('}') {
                    return (all, at + 1);
                }
                let (some, taken) = tree(&text[at..], &path);
                all.extend(some);
                at += taken;
                // What stands behind a path, `as name`, and the comma.
                at += text[at..].find([',', '}']).unwrap_or(text[at..].len());
                if text[at..].starts_with(',') {
                    at += 1;
                }
            }
            return (all, at);
        }
        let name: String = text[at..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        if name.is_empty() {
            return (vec![path], at);
        }
        at += name.len();
        path.push(name);
        if !text[at..].starts_with("::") {
            return (vec![path], at);
        }
        at += 2;
    }
}

/// Text with the re-exports taken out, and these: a facade that names its parts does not use them.
fn re_exports(text: &str) -> (String, String) {
    let (mut code, mut exports) = (String::new(), String::new());
    let mut rest = text;
    while let Some(at) =
        ["pub use ", "pub(crate) use ", "pub(super) use "].iter().filter_map(|word| rest.find(word)).min()
    {
        let end = rest[at..].find(';').map_or(rest.len(), |end| at + end + 1);
        code.push_str(&rest[..at]);
        exports.push_str(&rest[at..end]);
        exports.push('\n');
        rest = &rest[end..];
    }
    code.push_str(rest);
    (code, exports)
}

struct Layer {
    modules: BTreeMap<Module, String>,
    /// Module and name → the path that it is re-exported from.
    facades: BTreeMap<(Module, String), Vec<String>>,
}

impl Layer {
    fn read(layer: &str) -> Self {
        let mut all = Self { modules: modules(layer), facades: BTreeMap::new() };
        let texts = all.modules.clone();
        for (module, text) in &texts {
            let (code, exports) = re_exports(text);
            for path in all.named(module, &exports) {
                if let Some(name) = path.last() {
                    all.facades.insert((module.clone(), name.clone()), path.clone());
                }
            }
            all.modules.insert(module.clone(), code);
        }
        all
    }

    /// Absolute paths of whatever the text of a module names within the layer.
    fn named(&self, module: &Module, text: &str) -> Vec<Vec<String>> {
        let mut all = Vec::new();
        for path in paths(text, "crate") {
            all.push(path[1..].to_vec());
        }
        for path in paths(text, "self") {
            all.push(module.iter().chain(&path[1..]).cloned().collect());
        }
        for path in paths(text, "super") {
            let ups = path.iter().take_while(|part| *part == "super").count();
            if let Some(base) = module.get(..module.len().saturating_sub(ups)) {
                all.push(base.iter().chain(&path[ups..]).cloned().collect());
            }
        }
        let children = self.modules.keys().filter(|other| other.len() == module.len() + 1 && other.starts_with(module));
        for child in children.cloned().collect::<Vec<_>>() {
            let name = child.last().unwrap();
            all.extend(paths(text, name).into_iter().map(|path| module.iter().cloned().chain(path).collect()));
        }
        all.retain(|path: &Vec<String>| path.first() == module.first());
        all
    }

    /// The module that something is defined in, through all facades.
    fn home(&self, path: &[String]) -> Option<Module> {
        let mut path = path.to_vec();
        for _ in 0..10 {
            let length = (1..=path.len()).rev().find(|length| self.modules.contains_key(&path[..*length]))?;
            let module = path[..length].to_vec();
            let facade = path.get(length).and_then(|name| self.facades.get(&(module.clone(), name.clone())));
            match facade {
                Some(target) => path = target.iter().chain(&path[length + 1..]).cloned().collect(),
                None => return Some(module),
            }
        }
        None
    }

    fn edges(&self) -> BTreeMap<Module, BTreeSet<Module>> {
        let edges_of = |(module, text): (&Module, &String)| {
            let named = self.named(module, text);
            let mut used: BTreeSet<Module> = named.iter().filter_map(|path| self.home(path)).collect();
            used.remove(module);
            (module.clone(), used)
        };
        self.modules.iter().map(edges_of).collect()
    }
}

/// Sets of modules each of which reaches every other.
fn circles(edges: &BTreeMap<Module, BTreeSet<Module>>) -> Vec<BTreeSet<Module>> {
    let reach = |from: &Module| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from.clone()]);
        while let Some(module) = next.pop() {
            for used in edges.get(&module).into_iter().flatten() {
                if seen.insert(used.clone()) {
                    next.push(used.clone());
                }
            }
        }
        seen
    };
    let reached: BTreeMap<Module, BTreeSet<Module>> =
        edges.keys().map(|module| (module.clone(), reach(module))).collect();
    let mut all = Vec::new();
    let mut done = BTreeSet::new();
    for (module, seen) in &reached {
        if !seen.contains(module) || done.contains(module) {
            continue;
        }
        let circle: BTreeSet<Module> = seen
            .iter()
            .filter(|other| reached.get(*other).is_some_and(|back| back.contains(module)))
            .cloned()
            .collect();
        done.extend(circle.iter().cloned());
        all.push(circle);
    }
    all
}

fn shown(circle: &BTreeSet<Module>) -> String {
    circle.iter().map(|module| module[1..].join("/")).collect::<Vec<_>>().join(" ")
}

#[test]
fn modules_of_a_layer_form_no_circles() {
    let mut found = Vec::new();
    let mut needed = BTreeSet::new();
    for (layer, _) in MAY_USE {
        let edges = Layer::read(layer).edges();
        for circle in circles(&edges) {
            let lies_in = |module: &Module, folder: &str| {
                let folder: Vec<&str> = folder.split('/').collect();
                module[1..].iter().map(String::as_str).take(folder.len()).eq(folder.iter().copied())
            };
            let within =
                |folders: &str| circle.iter().all(|module| folders.split(' ').any(|folder| lies_in(module, folder)));
            if let Some(known) = CIRCLES.iter().find(|(of, folder, _)| *of == layer && within(folder)) {
                needed.insert(*known);
                continue;
            }
            let arrows = circle.iter().flat_map(|module| {
                let used = edges.get(module).into_iter().flatten().filter(|used| circle.contains(*used));
                used.map(|used| format!("{} -> {}", module[1..].join("/"), used[1..].join("/"))).collect::<Vec<_>>()
            });
            found.push(format!("{layer}: {}\n    {}", shown(&circle), arrows.collect::<Vec<_>>().join("\n    ")));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    let mended: Vec<_> = CIRCLES.iter().filter(|known| !needed.contains(*known)).collect();
    assert!(mended.is_empty(), "no circle is left there, take it out of CIRCLES: {mended:?}");
}

#[test]
fn a_circle_is_seen_through_groups_and_facades_and_a_facade_alone_is_none() {
    let layer = |files: &[(&str, &str)]| {
        let modules = files.iter().map(|(path, text)| {
            let module = std::iter::once("x").chain(path.split('/').filter(|part| !part.is_empty()));
            (module.map(str::to_owned).collect::<Module>(), (*text).to_owned())
        });
        let mut all = Layer { modules: modules.collect(), facades: BTreeMap::new() };
        for (module, text) in all.modules.clone() {
            let (code, exports) = re_exports(&text);
            for path in all.named(&module, &exports) {
                all.facades.insert((module.clone(), path.last().unwrap().clone()), path.clone());
            }
            all.modules.insert(module, code);
        }
        circles(&all.edges()).iter().map(shown).collect::<Vec<_>>()
    };
    let facade = ("", "pub use self::{a::A, b::B};");
    assert_eq!(layer(&[facade, ("a", "use super::B;"), ("b", "struct B;")]), Vec::<String>::new());
    assert_eq!(layer(&[facade, ("a", "use super::{c::{D, E}, B};"), ("b", "use crate::x::a::A;")]), ["a b"]);
    assert_eq!(layer(&[("", "mod a;\nfn f() { a::g() }"), ("a", "fn g() { super::f() }")]), [" a"]);
    assert_eq!(layer(&[("a", "use super::b;"), ("b", "fn f() {}")]), Vec::<String>::new());
}
