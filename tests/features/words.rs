//! The words of what people read: pages, manifests, descriptions of fields, help, and messages. One private phrase that comes back fails
//! here, with its place and what to say instead.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A phrase, the word that makes it harmless when it follows, and what to say instead.
const PHRASES: [(&str, &str, &str); 15] = [
    ("so many", "", "a number with its unit: \"Hosts to …\", \"Number of …\""),
    ("so often", "", "an interval: \"Seconds between …\""),
    ("so long", " as", "a duration: \"Seconds that …\""),
    ("is let go", "", "\"is released\""),
    ("are let go", "", "\"are released\""),
    ("could not be let go", "", "\"was not released\""),
    ("no more", " than", "\"no longer\", \"has ended\""),
    ("begun with", "", "\"started\""),
    ("anew", "", "\"again\""),
    ("the broom", "", "\"garbage collector\""),
    ("as whom", "", "\"user that … runs as\""),
    ("stands still", "", "\"is halted\", \"stops\""),
    ("of before", "", "\"of an earlier version\""),
    ("kept no longer", "", "\"was removed by\""),
    ("keeps no longer", "", "\"removes\""),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path, endings: &[&str], found: &mut Vec<PathBuf>) {
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            files(&path, endings, found);
        } else if path.extension().is_some_and(|end| endings.iter().any(|one| end == *one)) {
            found.push(path);
        }
    }
}

/// What is wrong with a text, by line.
fn violations(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.to_lowercase();
        for (phrase, harmless, instead) in PHRASES {
            for (at, _) in line.match_indices(phrase) {
                let before = line[..at].chars().next_back();
                let after = &line[at + phrase.len()..];
                let whole = !before.is_some_and(char::is_alphanumeric)
                    && !after.chars().next().is_some_and(char::is_alphanumeric);
                if whole && (harmless.is_empty() || !after.starts_with(harmless)) {
                    wrong.push(format!("line {}: {phrase:?}; say {instead}", number + 1));
                }
            }
        }
    }
    wrong
}

/// The string literals of a source text, one a line, and the descriptions of fields and options. Tests within it are left out.
fn read_by_people(source: &str) -> String {
    let source = source.split("#[cfg(test)]").next().unwrap_or_default();
    let mut kept = String::new();
    for line in source.lines() {
        let code = line.trim_start();
        let comment = code.starts_with("//");
        if !comment && code.matches('"').count() >= 1 || code.ends_with('\\') {
            kept.push_str(code);
        }
        kept.push('\n');
    }
    kept
}

#[test]
fn pages_and_manifests_are_in_plain_words() {
    let mut all: Vec<PathBuf> =
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|name| root().join(name)).to_vec();
    for folder in ["docs", "crds", "examples", "manifests"] {
        files(&root().join(folder), &["md", "yaml"], &mut all);
    }
    assert!(all.len() > 20, "{all:?}");
    let wrong: Vec<_> = all
        .iter()
        .flat_map(|path| {
            let place = path.strip_prefix(root()).unwrap().display().to_string();
            violations(&fs::read_to_string(path).unwrap()).into_iter().map(move |what| format!("{place}: {what}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn messages_are_in_plain_words() {
    let mut all = Vec::new();
    for folder in ["src", "core/src"] {
        files(&root().join(folder), &["rs"], &mut all);
    }
    all.retain(|path| !path.ends_with("tests.rs"));
    let wrong: Vec<_> = all
        .iter()
        .flat_map(|path| {
            let place = path.strip_prefix(root()).unwrap().display().to_string();
            let text = read_by_people(&fs::read_to_string(path).unwrap());
            violations(&text).into_iter().map(move |what| format!("{place}: {what}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn help_is_in_plain_words() {
    for command in [
        "status",
        "wait",
        "deploy",
        "plan",
        "diff",
        "retry",
        "redeploy",
        "skip-drain",
        "adopt",
        "refresh",
        "suspend",
        "resume",
        "pause",
        "abort",
        "promote",
        "logs",
        "logs app",
        "hosts",
        "matrix",
        "history",
        "commits",
        "completion",
        "crds",
        "dev",
        "run",
    ] {
        let help =
            Command::new(env!("CARGO_BIN_EXE_landfall")).args(command.split(' ')).arg("--help").output().unwrap();
        let wrong = violations(&String::from_utf8(help.stdout).unwrap());
        assert!(wrong.is_empty(), "{command}: {wrong:#?}");
    }
}

/// Every `*.md` that a text names exists here, by its path from the root or from where it is named.
#[test]
fn nothing_cites_a_document_that_is_not_in_the_repository() {
    let mut all: Vec<PathBuf> = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "Makefile"]
        .map(|name| root().join(name))
        .to_vec();
    for folder in ["docs", "crds", "examples", "manifests", "src", "core", "tests", "scripts", "bench"] {
        files(&root().join(folder), &["md", "yaml", "rs", "sh", "py", "toml"], &mut all);
    }
    let mut wrong = Vec::new();
    for path in &all {
        let text = fs::read_to_string(path).unwrap();
        for (at, _) in text.match_indices(".md") {
            let is_path = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
            let after = text[at + 3..].chars().next();
            let start = text[..at].rfind(|c| !is_path(c)).map_or(0, |before| before + 1);
            let name = text[start..at + 3].trim_start_matches("./");
            // A file that a program writes somewhere else begins with its own slash.
            let named = name.len() > 3 && !name.starts_with('/') && !after.is_some_and(|c| c.is_ascii_alphanumeric());
            let here = path.parent().unwrap().join(name);
            if named && !path.ends_with("words.rs") && !root().join(name).exists() && !here.exists() {
                wrong.push(format!("{}: {name}", path.strip_prefix(root()).unwrap().display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// `path.rs` and `path.rs::name` in prose: the file is there, and has a function or a module of that name.
#[test]
fn what_prose_cites_of_the_source_is_there() {
    let mut all: Vec<PathBuf> =
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"].map(|name| root().join(name)).to_vec();
    for folder in ["docs", "src", "core", "tests", "scripts"] {
        files(&root().join(folder), &["md", "rs", "sh"], &mut all);
    }
    let (mut wrong, mut cited) = (Vec::new(), 0);
    for path in &all {
        let text = fs::read_to_string(path).unwrap();
        for (at, _) in text.match_indices(".rs") {
            let is_path = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
            let start = text[..at].rfind(|c| !is_path(c)).map_or(0, |before| before + 1);
            let name = &text[start..at + 3];
            // Paths from the root of the repository; others are fragments.
            if !["src/", "core/", "tests/", "bench/"].iter().any(|folder| name.starts_with(folder)) {
                continue;
            }
            cited += 1;
            let file = root().join(name);
            let of_core = root().join("core").join(name);
            let function = text[at + 3..]
                .strip_prefix("::")
                .map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default());
            let source = fs::read_to_string(&file).or_else(|_| fs::read_to_string(of_core));
            let there = source.is_ok_and(|source| {
                function.is_none_or(|name| {
                    ["fn", "mod", "const"].iter().any(|kind| source.contains(&format!("{kind} {name}")))
                })
            });
            if !there && !path.ends_with("words.rs") {
                let function = function.map_or(String::new(), |name| format!("::{name}"));
                wrong.push(format!("{}: {name}{function}", path.strip_prefix(root()).unwrap().display()));
            }
        }
    }
    assert!(cited > 100, "the reader of citations found {cited}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_private_phrase_is_found_and_a_plain_one_is_not() {
    assert_eq!(violations("So many hosts\nno more than 3, so long as it runs\nrunning no more").len(), 2);
    assert!(violations("no longer; Canewood; as long as").is_empty());
    let source = "/// so many\nlet a = \"so many\";\n// anew\n#[cfg(test)]\n\"anew\"";
    assert_eq!(violations(&read_by_people(source)).len(), 1);
}
