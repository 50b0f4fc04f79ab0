//! Builds `landfall-host`, the program that the operator puts on hosts, and leaves it compressed for `src/effects/program/image.rs`, with
//! its SHA-256. It must not build anything where `LANDFALL_HOST_X86_64` or `LANDFALL_HOST_AARCH64` name ready files.
//!
//! The nested cargo has a target folder of its own (`<target>/landfall-host`), so it never waits for the lock that the outer one holds.

use std::{
    env,
    error::Error,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use sha2::{Digest, Sha256};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Machines as `uname -m` says them, and the variable that names a ready file.
const MACHINES: [(&str, &str); 2] = [("x86_64", "LANDFALL_HOST_X86_64"), ("aarch64", "LANDFALL_HOST_AARCH64")];
/// Of the outer cargo, clippy or nextest: they would change what is built, or how.
const NOT_INHERITED: [&str; 10] = [
    "CARGO_ENCODED_RUSTFLAGS",
    "RUSTFLAGS",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "CLIPPY_ARGS",
    "CARGO_TARGET_DIR",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_BUILD_TARGET",
    "CARGO_BUILD_RUSTFLAGS",
    "TARGET",
];

fn main() -> Result<()> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut ready = Vec::new();
    for (machine, variable) in MACHINES {
        println!("cargo::rerun-if-env-changed={variable}");
        if let Some(path) = env::var_os(variable).filter(|path| !path.is_empty()).map(PathBuf::from) {
            println!("cargo::rerun-if-changed={}", path.display());
            ready.push((machine, path));
        }
    }
    if ready.is_empty() {
        watch(&root)?;
        ready.push((own_machine()?, build(&root, &out)?));
    }
    println!("cargo::rerun-if-changed=build.rs");

    let mut code = String::from("&[\n");
    for (machine, path) in ready {
        let program = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut digest = String::new();
        for byte in Sha256::digest(&program) {
            write!(digest, "{byte:02x}")?;
        }
        fs::write(out.join(machine), miniz_oxide::deflate::compress_to_vec(&program, 6))?;
        let size = program.len();
        writeln!(
            code,
            "    Embedded {{ machine: {machine:?}, digest: {digest:?}, size: {size}, deflated: include_bytes!({machine:?}) }},"
        )?;
    }
    code.push_str("]\n");
    fs::write(out.join("programs.rs"), code)?;
    Ok(())
}

fn own_machine() -> Result<&'static str> {
    match env::var("CARGO_CFG_TARGET_ARCH")?.as_str() {
        "x86_64" => Ok("x86_64"),
        "aarch64" => Ok("aarch64"),
        other => Err(format!("landfall-host is built for x86_64 and aarch64, not {other}").into()),
    }
}

/// Whatever `landfall-host` is made of; not its tests.
fn watch(root: &Path) -> Result<()> {
    let host = root.join("host");
    let mut crates = vec![host.clone()];
    for entry in fs::read_dir(&host)? {
        let path = entry?.path();
        if path.join("Cargo.toml").is_file() {
            crates.push(path);
        }
    }
    for folder in crates {
        for part in ["Cargo.toml", "src", "build.rs"] {
            let path = folder.join(part);
            if path.exists() {
                println!("cargo::rerun-if-changed={}", path.display());
            }
        }
    }
    for file in ["Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", root.join(file).display());
    }
    Ok(())
}

/// A static program: small in a release, quickly built otherwise.
fn build(root: &Path, out: &Path) -> Result<PathBuf> {
    let profile = if env::var("PROFILE")? == "release" { "host" } else { "host-quick" };
    let target = env::var("TARGET")?;
    // <target>/[<triple>/]<profile>/build/landfall-<hash>/out
    let build = out.ancestors().nth(2).filter(|folder| folder.ends_with("build")).ok_or("OUT_DIR is not as usual")?;
    let profiles = build.parent().and_then(Path::parent).ok_or("OUT_DIR is not as usual")?;
    let all = if profiles.ends_with(&target) { profiles.parent().unwrap_or(profiles) } else { profiles };
    let folder = all.join("landfall-host");

    // With --target the flag is not for build scripts and procedural macros, which can't be static.
    let cargo = |more: &[&str]| {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        for name in NOT_INHERITED {
            cargo.env_remove(name);
        }
        cargo
            .current_dir(root)
            .args(["build", "--quiet", "--locked", "--package", "landfall-host", "--bin", "landfall-host"])
            .args(["--profile", profile, "--target", &target, "--target-dir"])
            .arg(&folder)
            .args(more)
            .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static");
        cargo
    };
    // Offline is the rule: the outer cargo has fetched what it needs. Packages of landfall-host alone may be missing yet.
    let offline = cargo(&["--offline"]).output()?;
    if !offline.status.success() && !cargo(&[]).status()?.success() {
        return Err(format!("landfall-host can't be built: {}", String::from_utf8_lossy(&offline.stderr)).into());
    }
    Ok(folder.join(&target).join(profile).join("landfall-host"))
}
